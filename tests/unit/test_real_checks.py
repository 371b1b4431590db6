"""The checks of real homes look at every node, whichever it is that is wrong."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from simulations.real.checks import (
    different,
    disagreement,
    lost,
    records_on_disk,
    unseen,
)

NAMES = ("ann", "ben", "cem")
EACH = pytest.mark.parametrize("name", NAMES)


def spaces() -> dict[str, dict[str, Any]]:
    said = {"record_root": "r", "visible_root": "v", "merge_id": "m"}
    contents = [{"content": "a"}, {"content": "b"}]
    return {n: {**said, "missing_blobs": 0, "contributions": contents} for n in NAMES}


def record(data: bytes) -> str:
    return blake3(data, derive_key_context="crdtmerge v1 record id").hexdigest()


@EACH
@pytest.mark.parametrize("root", ["record_root", "visible_root", "merge_id"])
def test_another_root_anywhere_is_seen(name: str, root: str) -> None:
    seen = spaces()
    assert not disagreement(seen)
    seen[name][root] = "another"
    assert root in disagreement(seen)


@EACH
def test_a_missing_blob_anywhere_is_seen(name: str) -> None:
    seen = spaces()
    seen[name]["missing_blobs"] = 1
    assert name in disagreement(seen)


@EACH
@pytest.mark.parametrize("found", [["a"], ["a", "b", "c"], []])
def test_a_content_too_few_or_too_many_is_seen(name: str, found: list[str]) -> None:
    seen = spaces()
    assert not unseen(seen, frozenset("ab"))
    seen[name]["contributions"] = [{"content": content} for content in found]
    assert name in unseen(seen, frozenset("ab"))


@EACH
def test_a_lost_record_anywhere_is_seen(name: str) -> None:
    data = {record(text): text for text in (b"one", b"two")}
    disks = {n: dict(data) for n in NAMES}
    wanted = frozenset(data)
    assert not lost(disks, wanted)
    del disks[name][record(b"two")]
    assert name in lost(disks, wanted)


@EACH
def test_other_bytes_of_a_record_are_seen(name: str) -> None:
    disks = {n: {record(b"one"): b"one"} for n in NAMES}
    disks[name] = {record(b"one"): b"two"}
    assert name in lost(disks, frozenset())


def altered(files: dict[str, bytes]) -> None:
    files["model.safetensors"] = b"one bit more"


def removed(files: dict[str, bytes]) -> None:
    del files["config.json"]


def added(files: dict[str, bytes]) -> None:
    files["more"] = b""


@EACH
@pytest.mark.parametrize("harm", [altered, removed, added])
def test_another_file_anywhere_is_seen(
    name: str, harm: Callable[[dict[str, bytes]], None]
) -> None:
    files = {"model.safetensors": b"model", "config.json": b"{}"}
    models = {n: dict(files) for n in NAMES}
    assert not different(models)
    harm(models[name])
    assert different(models)


def test_no_model_at_all_is_no_agreement() -> None:
    assert "no model" in different({name: {} for name in NAMES})


def test_a_store_is_read_without_our_code(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.sqlite") as sql:
        sql.execute("CREATE TABLE records (record BLOB, data BLOB)")
        sql.execute("INSERT INTO records VALUES (x'01', x'02')")
    sql.close()
    assert records_on_disk(tmp_path) == {"01": b"\x02"}
