"""A space as one file, between real homes that never met."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    BadInputError,
    BaseMismatchError,
    ConflictError,
    CorruptBlobError,
    NoRoomError,
    NotAllowedError,
    NotFoundError,
)
from crdtmerge.manifest import Manifest, TensorEntry
from nodes import cli
from nodes.archive.writing import ArchiveWriter
from nodes.home import open_home
from nodes.store.disk import SYSTEM_DISK, SystemDisk
from tests.archives import Shared, blobs_of, entries, files_of
from tests.homes import Fleet, records_of, snapshot, write_model
from tests.integration.living import BASE, found, homes, offer
from tests.integration.test_cli_node import Person

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared.at(tmp_path)


def test_who_never_met_resolves_to_equal_bytes(shared: Shared) -> None:
    """The file alone brings records and contents; the base is the importer's own copy."""
    made = shared.export()
    copy = write_model(shared.folder / "copy", 0)
    taken = shared.import_(base=copy)
    assert (taken["new"], taken["rank"]) == (True, None)
    assert taken["new_records"] == taken["records"] == made["records"]
    assert taken["contributions"] == taken["complete"] == 2
    assert records_of(shared.ben) == records_of(shared.ann)
    assert shared.resolved(shared.ben) == shared.resolved(shared.ann)
    assert "no rights" in taken["notes"][0]
    tune = write_model(shared.folder / "tune9", 9, near=shared.base)
    with pytest.raises(NotAllowedError):
        shared.fleet.call(shared.ben, "contribute", path=tune)


def test_a_base_in_the_file_is_unpacked_to_a_model_folder(shared: Shared) -> None:
    """It has the tensors of the base, what lies beside them, and serves resolve."""
    made = shared.export(with_base=True)
    assert made["with_base"]
    unpacked = shared.folder / "new" / "base"
    taken = shared.import_(base=unpacked)
    assert taken["unpacked"]
    assert (unpacked / "config.json").read_text() == '{"model_type": "small"}\n'
    assert {p.name for p in unpacked.iterdir()} == {"config.json", "model.safetensors"}
    assert shared.resolved(shared.ben) == shared.resolved(shared.ann)
    # The base stays where it is: nothing of it was copied into the home.
    with open_home(shared.ben, write=False) as home:
        (space,) = home.records.spaces()
        facts = home.local.base(space)
    assert facts is not None
    assert facts.folder == unpacked


def test_a_base_in_the_file_may_wait(shared: Shared) -> None:
    """Without a folder for it the space comes alone; the same command unpacks it later."""
    shared.export(with_base=True)
    first = shared.import_()
    assert (first["base_known"], first["complete"]) == (False, 2)
    assert any("--base DIR unpacks" in note for note in first["notes"])
    second = shared.import_(base=shared.folder / "unpacked")
    assert second["new_blobs"] > 0
    assert second["new_bytes"] > 0
    # the base's three tensors where they lie, and its manifest
    assert (second["new_records"], second["new_blobs"]) == (0, 4)
    assert shared.resolved(shared.ben) == shared.resolved(shared.ann)


def test_another_base_is_refused(shared: Shared) -> None:
    shared.export()
    other = write_model(shared.folder / "other", 5)
    before = snapshot(shared.ben)
    with pytest.raises(BaseMismatchError):
        shared.import_(base=other)
    with pytest.raises(BadInputError):
        shared.import_(base=shared.folder / "nowhere")
    assert snapshot(shared.ben) == before


def test_a_second_import_changes_nothing(shared: Shared) -> None:
    shared.export()
    shared.import_()
    before = snapshot(shared.ben)
    again = shared.import_()
    assert (again["new"], again["new_records"], again["new_blobs"]) == (False, 0, 0)
    assert snapshot(shared.ben) == before


def test_equal_spaces_make_equal_files(shared: Shared) -> None:
    """No time, host, user or order of arrival is in it; nor is a folder's name."""
    shared.export(with_base=True)
    first = shared.file.read_bytes()
    shared.import_(base=shared.folder / "elsewhere")
    shared.export(shared.ben, with_base=True)
    assert shared.file.read_bytes() == first


def test_a_file_completes_a_space_that_is_here(shared: Shared) -> None:
    """Records join by union, in both directions; only blobs that lack are copied."""
    shared.export()
    shared.import_()
    third = shared.contribute(3)
    shared.export()
    taken = shared.import_()
    assert taken["new_records"] == 1
    assert taken["new_blobs"] == len(blobs_of(shared.ben)) - 8
    assert third["record"] not in (None, "")
    assert records_of(shared.ben) == records_of(shared.ann)


def test_what_was_removed_since_is_not_brought_back(shared: Shared) -> None:
    """A file from before the removal joins as a set: the contribution stays out."""
    third = shared.contribute(3)
    shared.export()
    shared.fleet.call(shared.ann, "remove", id=third["content"][:12])
    old = shared.file.rename(shared.folder / "old.tar")
    shared.export()
    shared.import_()
    held = blobs_of(shared.ben)
    taken = shared.import_(file=old)
    assert (taken["new_records"], taken["new_blobs"]) == (0, 0)
    assert taken["contributions"] == 2
    assert blobs_of(shared.ben) == held


def test_records_alone(shared: Shared) -> None:
    made = shared.export(without_contents=True)
    assert made["blobs"] == 0
    taken = shared.import_()
    assert (taken["complete"], taken["contributions"]) == (0, 2)
    assert records_of(shared.ben) == records_of(shared.ann)


def test_what_is_not_whole_is_exported_as_far_as_it_is_here(shared: Shared) -> None:
    """And both say so: the file is no less true for what it lacks."""
    shared.export()
    name, _ = entries(shared.file.read_bytes())[-1]
    with open_home(shared.ann, write=True) as home:
        home.blobs.forget(BlobId(bytes.fromhex(name.removeprefix("blobs/"))))
    made = shared.export()
    assert len(made["incomplete"]) == 1
    assert made["incomplete"][0] in made["notes"][0]
    assert shared.import_()["complete"] == 1


def test_the_file_holds_no_secret(shared: Shared) -> None:
    """No seed of a key, no invite, no address that the user keeps for a peer."""
    secret, address = b"\x17" * 16, "private.example:1234"
    with open_home(shared.ann, write=True) as home:
        (space,) = home.records.spaces()
        home.local.add_invite(space, secret)
        home.local.set_addresses(b"\x09" * 32, [address])
        home.local.add_peer(space, b"\x08" * 32, [address])
        home.local.set_value("listen", b"10.9.8.7:6543")
    shared.export(with_base=True)
    data = shared.file.read_bytes()
    seeds = [file.read_bytes() for file in shared.ann.glob("*.key")]
    assert len(seeds) == 2
    for key in seeds:
        for start in range(0, len(key) - 16, 8):
            assert key[start : start + 16] not in data
    for hidden in (secret, address.encode(), b"10.9.8.7", str(shared.folder).encode()):
        assert hidden not in data
    assert os.environ.get("USER", "nobody at all").encode() not in data


# --- refusals that leave nothing ----------------------------------------------------------


def test_an_export_replaces_nothing_unasked(shared: Shared) -> None:
    shared.file.write_bytes(b"mine")
    with pytest.raises(ConflictError):
        shared.export(force=False)
    assert shared.file.read_bytes() == b"mine"
    with pytest.raises(NotFoundError):
        shared.export(file=shared.folder / "no" / "folder.tar")
    with pytest.raises(ConflictError):
        shared.export(file=shared.base)
    shared.export()
    assert len(entries(shared.file.read_bytes())) > 3
    assert not list(shared.folder.glob("*.partial"))


def test_damage_in_the_store_is_never_exported(shared: Shared) -> None:
    """Bytes are verified while they are read; nothing takes the name of the file."""
    (path,) = [p for p in (shared.ann / "blobs").rglob("*") if p.is_file()][:1]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptBlobError):
        shared.export()
    assert not shared.file.exists()
    assert not list(shared.folder.glob("*.partial"))


def test_a_second_export_to_one_place_is_refused_while_the_first_runs(
    shared: Shared,
) -> None:
    beside = shared.folder / "space.tar.partial"
    beside.write_bytes(b"under way")
    with pytest.raises(ConflictError, match="another export"):
        shared.export(force=False)
    assert beside.read_bytes() == b"under way"


def test_two_forced_exports_to_one_place_make_one_whole_file(tmp_path: Path) -> None:
    """The first takes no name with what the second has only begun to write."""
    path = tmp_path / "space.tar"
    first = ArchiveWriter(path, SYSTEM_DISK, overwrite=True)
    second = ArchiveWriter(path, SYSTEM_DISK, overwrite=True)
    first.__enter__()
    first.add("one", 5, [b"first"])
    with second:
        second.add("two", 6, [b"sec", b"ond"])
        second.add("three", 1, [b"x"])
        with pytest.raises(ConflictError, match="another export"):
            first.__exit__(None, None, None)
        assert not path.exists()
    assert entries(path.read_bytes()) == [("two", b"second"), ("three", b"x")]
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let the system refuse to make a file larger than that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def large(shared: Shared, mebibytes: int = 4) -> None:
    """Contribute a fine-tune of this size to a space of its own, and export it."""
    items = mebibytes << 18
    for name, seed in (("big", 0), ("bigger", 1)):
        values = np.random.default_rng(seed).standard_normal(items) / 64
        folder = shared.folder / name
        folder.mkdir()
        save_file({"w": values.astype(np.float32)}, folder / "model.safetensors")
    call, base = shared.fleet.call, shared.folder / "big"
    call(shared.ann, "space_create", name="big", base=base, strategy="linear")
    call(shared.ann, "contribute", path=shared.folder / "bigger", space="big")
    shared.export(space="big")


def test_a_full_disk_amid_an_import_leaves_nothing(shared: Shared) -> None:
    """The system refuses to write on; records and small blobs had come by then."""
    large(shared)
    before = snapshot(shared.ben)
    with files_up_to(2 << 20), pytest.raises(NoRoomError):
        shared.import_()
    assert snapshot(shared.ben) == before
    assert files_of(shared.ben) == []
    assert shared.import_()["complete"] == 1


def test_a_full_disk_amid_an_export_leaves_nothing(shared: Shared) -> None:
    large(shared)
    shared.file.unlink()
    with files_up_to(2 << 20), pytest.raises(NoRoomError):
        shared.export(space="big")
    assert not list(shared.folder.glob("space.tar*"))


def test_room_is_asked_for_before_anything_is_written(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a byte more than is lacking: a second import needs no room."""
    shared.export()
    before = snapshot(shared.ben)
    monkeypatch.setattr(SystemDisk, "free", lambda *_: 100)
    with pytest.raises(NoRoomError):
        shared.import_()
    assert snapshot(shared.ben) == before
    monkeypatch.undo()
    shared.import_()
    monkeypatch.setattr(SystemDisk, "free", lambda *_: 100)
    assert shared.import_()["new_blobs"] == 0


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_a_kill_amid_an_import_leaves_a_sound_home(
    shared: Shared, share: float
) -> None:
    """No record came; the next import brings all of it."""
    large(shared, mebibytes=24)
    records = records_of(shared.ben)
    argv = [sys.executable, "-m", "nodes.cli", "space", "import", str(shared.file)]
    env = {**os.environ, "CRDTMERGE_HOME": str(shared.ben)}
    process = subprocess.Popen(argv, env=env, cwd=ROOT, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while written(shared.ben) < share * (24 << 20) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.001)
    process.kill()
    process.wait()
    if process.returncode == -signal.SIGKILL:
        assert records_of(shared.ben) == records
    taken = shared.import_()
    assert taken["complete"] == 1
    assert files_of(shared.ben) == []
    assert records_of(shared.ben).keys() < records_of(shared.ann).keys()


def written(home: Path) -> int:
    """Return how many bytes lie in files that have no name yet."""
    found = 0
    for path in (home / "temporary").iterdir():
        try:
            found += path.stat().st_size
        except FileNotFoundError:
            continue
    return found


# --- the command line, beside running nodes -----------------------------------------------


def test_both_commands_work_beside_a_running_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who imported joins by ticket like anybody else, and then contributes."""
    base = write_model(tmp_path / "base", 0)
    tunes = [write_model(tmp_path / f"tune{i}", i, near=base) for i in (1, 2)]
    ann, ben = Person(tmp_path / "ann", capsys), Person(tmp_path / "ben", capsys)
    file = tmp_path / "space.tar"
    try:
        ann.start()
        ben.start()
        ann.json("space", "create", "digits", "--base", base)
        ann.json("contribute", tunes[0])
        ann.json("space", "export", "digits", file)
        words = ["--home", ben.home, "space", "import", file, "--base", base]
        assert cli.run(list(map(str, words))) == 0
        assert "imported space digits" in capsys.readouterr().out
        error = ben.refused("contribute", tunes[1])
        assert error["type"] == "NotAllowedError"
        ticket = ann.json("space", "ticket")["ticket"]
        joined = ben.json("space", "join", ticket, "--base", base)
        assert (joined["joined"], joined["rank"]) == (True, "contributor")
        ben.json("contribute", tunes[1])
        assert ann.wait(2, "digits")["merge_id"] == ben.wait(2, "digits")["merge_id"]
    finally:
        for person in (ann, ben):
            if person.node is not None:
                person.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_tensor_of_over_four_gibibytes_goes_through(tmp_path: Path) -> None:
    """Its size needs more than 32 bits, and so does the place of what comes after it."""
    size = (4 << 30) + (1 << 20) + 1
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(size)
        file.seek(size - 1)
        file.write(b"\x01")
    with homes(tmp_path, "ann", "ben") as (ann, ben):
        space = found(ann)
        blob = ann.blobs.reference_range(sparse, 0, size)
        entry = TensorEntry("t", "U8", (size,), blob)
        add = offer(ann, space, Manifest("full", BASE, (entry,)))
        ann.records.append(space, [add])
        name = space.hex()
        ann_path, ben_path = ann.path, ben.path
    fleet, tar = Fleet.at(tmp_path), tmp_path / "space.tar"
    made = fleet.call(ann_path, "space_export", space=name, file=tar)
    assert int(str(made["file_bytes"])) > size
    assert fleet.call(ben_path, "space_import", file=tar)["complete"] == 1
    with open_home(ben_path, write=False) as home:
        assert home.blobs.read_chunk(blob, 4097) == b"\x01"
    for path in (sparse, tar):
        path.unlink()


def test_packed_contents_are_exported_as_they_were(shared: Shared) -> None:
    """The file always holds raw bytes, so that it is the same whoever packed what."""
    for name, value in (("even", 0.25), ("odd", 0.5)):
        (shared.folder / name).mkdir()
        tensors = {"w": np.full(1 << 19, value, np.float32)}
        save_file(tensors, shared.folder / name / "model.safetensors")
    call, base = shared.fleet.call, shared.folder / "even"
    call(shared.ann, "space_create", name="even", base=base, strategy="linear")
    call(shared.ann, "contribute", path=shared.folder / "odd", space="even")
    shared.export(space="even")
    raw = shared.file.read_bytes()
    packed: Any = call(shared.ann, "store_pack", older_than=0)
    assert packed["packed"]["count"] > 0
    shared.export(space="even")
    assert shared.file.read_bytes() == raw
