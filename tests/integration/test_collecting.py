"""Collection beside real work: a resolve under way reads on, whatever is taken back."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crdtmerge.digest import blob_id_of
from crdtmerge.errors import NoRoomError
from nodes.home import open_home
from nodes.operations.verbs import Operations
from tests.homes import Fleet, write_model
from tests.integration.test_cli_node import ROOT

TENSORS = 40


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.at(tmp_path)


@pytest.fixture
def home(fleet: Fleet, tmp_path: Path) -> Path:
    """Return a home with a space and two contributions of some forty tensors."""
    many = {
        f"t{i}": np.full(
            (64, 64), i + 1, np.float32
        )  # one of each, so that none is shared
        for i in range(TENSORS)
    }
    base = write_model(tmp_path / "base", 0, **many)  # type: ignore[arg-type]
    path = fleet.init("home")
    fleet.call(path, "space_create", name="digits", base=base, strategy="linear")
    for n in (1, 2):
        changed = {name: values + n / 16 for name, values in many.items()}
        tune = write_model(tmp_path / f"tune{n}", n, near=base, **changed)
        fleet.call(path, "contribute", path=tune)
    return path


def digest_of(fleet: Fleet, home: Path, out: Path) -> str:
    """Return the digest of the model that both contributions make."""
    return str(fleet.call(home, "resolve", out=out)["model_digest"])


def take_back(verbs: Operations) -> None:
    """Remove both contributions."""
    facts: Any = verbs.call("status", {}, lambda _: None)
    for found in facts["spaces"][0]["contributions"]:
        verbs.call("remove", {"id": found["content"]}, lambda _: None)


def test_a_quota_is_for_all_tensors_of_a_model_together(
    fleet: Fleet, home: Path, tmp_path: Path
) -> None:
    """Each alone would fit: the model is refused whole, and comes once there is room."""
    shown = fleet.call(home, "store_quota", bytes=0)
    stored = int(str(shown["stored_bytes"]))
    tune = write_model(
        tmp_path / "more",
        7,
        near=tmp_path / "base",
        **{f"t{i}": np.full((64, 64), i + 1.25, np.float32) for i in range(TENSORS)},
    )
    fleet.call(home, "store_quota", bytes=stored + 4 * (64 * 64 * 4))
    with pytest.raises(NoRoomError, match="the blobs of this home may take"):
        fleet.call(home, "contribute", path=tune)
    after: Any = fleet.call(home, "store_show")
    forms = ("own", "packed", "partial")
    assert stored == sum(after[form]["stored_bytes"] for form in forms)
    fleet.call(home, "store_quota", bytes=-1)
    fleet.call(home, "contribute", path=tune)
    assert fleet.call(home, "store_show")["quota_bytes"] is None


def collect(verbs: Operations) -> Any:
    """Collect at once."""
    return verbs.call("store_gc", {"grace": 0}, lambda _: None)


def test_a_resolve_of_this_process_keeps_what_it_reads(
    fleet: Fleet, home: Path, tmp_path: Path
) -> None:
    """As one that a running node does: its contributions go while it reads them."""
    expected = digest_of(fleet, home, tmp_path / "before")
    for remembered in home.glob("memo.sqlite*"):
        remembered.unlink()  # else nothing is read, for all is there already
    with fleet.open(home) as (opened, _, verbs):
        before, went = opened.blobs.ids(), list[int]()

        def tell(_: Mapping[str, object]) -> None:
            if not went:
                take_back(verbs)
            went.append(int(collect(verbs)["count"]))

        asked = {"out": str(tmp_path / "during"), "threads": 2}
        answer = verbs.call("resolve", asked, tell)
        assert answer["model_digest"] == expected
        assert len(went) > TENSORS
        assert sum(went) == 2, "the manifests: they are read by then"
        assert collect(verbs)["count"] == 2 * (TENSORS + 3)
        assert len(opened.blobs.ids()) == len(before) - 2 * (TENSORS + 4)


def test_a_resolve_of_another_process_keeps_everything(
    fleet: Fleet, home: Path, tmp_path: Path
) -> None:
    """It reads the home beside a writer that takes back all and collects all the time."""
    expected = digest_of(fleet, home, tmp_path / "before")
    argv = [sys.executable, "-m", "nodes.cli", "--home", str(home), "resolve", "--json"]
    with fleet.open(home) as (opened, _, verbs):
        reads = threading.Event()
        with subprocess.Popen(
            [*argv, "--out", str(tmp_path / "during"), "--threads", "1"],
            cwd=ROOT,
            env={**os.environ, "CRDTMERGE_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as other:
            before = opened.blobs.ids()
            # the other process has the records as they are now once it has begun to write
            while other.poll() is None and not list(tmp_path.glob("*during*")):
                reads.wait(0.01)
            take_back(verbs)
            counts = []
            while other.poll() is None:
                counts.append(collect(verbs)["count"])
            out, err = other.communicate()
        assert other.returncode == 0, err
        assert json.loads(out)["model_digest"] == expected
        assert sum(counts) + collect(verbs)["count"] == 2 * (TENSORS + 4)
        assert len(opened.blobs.ids()) == len(before) - 2 * (TENSORS + 4)


def test_blobs_that_come_while_collections_run_stay(
    fleet: Fleet, home: Path, tmp_path: Path
) -> None:
    """A model is contributed while another thread collects: all of it is there after."""
    base = tmp_path / "base"
    with fleet.open(home) as (_, spaces, verbs):
        done = threading.Event()

        def collects() -> None:
            while not done.is_set():
                collect(verbs)

        thread = threading.Thread(target=collects)
        thread.start()
        try:
            for n in range(3, 8):
                tune = write_model(tmp_path / f"tune{n}", n, near=base)
                changed = {
                    f"t{i}": np.full((64, 64), i + 1 + n / 16, np.float32)
                    for i in range(TENSORS)
                }
                write_model(tune, n, near=base, **changed)
                verbs.call("contribute", {"path": str(tune)}, lambda _: None)
        finally:
            done.set()
            thread.join()
        [space] = spaces.all()
        assert len(spaces.view(space).visible) == 7
        assert spaces.missing(space) == {}
        assert all(spaces.progress(space).values())


def test_a_reader_finds_what_it_was_told_of(fleet: Fleet, home: Path) -> None:
    """Whoever has the home open to read finds every blob of its list, to the last."""
    with fleet.open(home) as (_, _, verbs):
        take_back(verbs)
        with open_home(home, write=False) as reader:
            ids = reader.blobs.ids()
            assert collect(verbs)["in_the_way"]
            for blob in ids:
                size, _ = reader.blobs.chunk_list(blob)
                assert blob_id_of(reader.blobs.read(blob, size)) == blob
        assert collect(verbs)["count"] > 0
