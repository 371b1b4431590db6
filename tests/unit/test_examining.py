"""The check of everything finds all damage at rest, and repairs what this machine can."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crdtmerge.digest import CHUNK_BYTES, BlobId, chunk_digests
from crdtmerge.errors import BadInputError, NodeNeededError, NoRoomError
from nodes.home import Home, open_home
from nodes.store.download import Download
from nodes.upkeep.sources import Place, Sources
from tests.homes import Fleet, write_model
from tests.unit.test_collecting import Setting
from tests.unit.test_store_blobs import content

BIG = 3 * CHUNK_BYTES + 8


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """Return a home with a space and one contribution that has a tensor of four chunks."""
    fleet = Fleet.at(tmp_path)
    home = fleet.init("home")
    big = (np.frombuffer(content(BIG, 1), np.uint32) % 1000).astype(np.float32)
    base = write_model(tmp_path / "base", 0, big=big)
    tune = write_model(tmp_path / "tune", 1, near=base, big=big + 1)
    setting = Setting(fleet, home, base, [tune])
    setting.call(
        "space_create", name="digits", base=base, mode="members", strategy="linear"
    )
    setting.call("contribute", path=tune)
    return setting


def path_of(setting: Setting, size: int = BIG) -> tuple[BlobId, Path]:
    """Return the one blob of this size that lies in the home, and its file."""
    with open_home(setting.home, write=False) as home:
        [holding] = [
            h for h in home.blobs.holdings() if h.form == "own" and h.size == size
        ]
        return holding.blob, home.blobs.path_of(holding.blob)


def flip(path: Path, place: int) -> None:
    """Flip one bit of a file."""
    with path.open("r+b") as file:
        file.seek(place)
        [byte] = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 4]))


def fsck(setting: Setting, **arguments: object) -> dict[str, Any]:
    """Check everything."""
    return setting.call("store_fsck", **arguments)


def only(found: dict[str, Any]) -> dict[str, Any]:
    """Return the one damage that was found."""
    [damage] = found["damaged"]
    assert isinstance(damage, dict)
    return damage


def test_a_sound_store_is_sound(setting: Setting) -> None:
    """All is read, to the last byte, and progress ends at the total."""
    told: list[Any] = []
    with setting.fleet.open(setting.home) as (_, _, verbs):
        found: Any = verbs.call("store_fsck", {}, told.append)
    assert (found["damaged"], found["leftovers"], found["sound"]) == ([], [], True)
    assert told[-1]["done"] == told[-1]["total"] == found["bytes"] > 2 * BIG


Damage = Callable[[Path, Path], None]


def _append(path: Path, _: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize(
    ("kind", "chunks", "damage"),
    [
        ("bytes", [1], lambda p, _: flip(p, CHUNK_BYTES)),
        ("bytes", [3], lambda p, _: flip(p, BIG - 1)),
        ("bytes", [2, 3], lambda p, _: os.truncate(p, 2 * CHUNK_BYTES + 1)),
        ("bytes", [0, 1, 2, 3], lambda p, _: os.truncate(p, 0)),
        ("length", [], _append),
        ("swapped", [0, 1, 2, 3], lambda p, other: shutil.copy(other, p)),
        ("gone", [0, 1, 2, 3], lambda p, _: p.unlink()),
    ],
)
def test_each_damage_is_named_with_who_needs_it(
    setting: Setting, kind: str, chunks: list[int], damage: Damage
) -> None:
    """A bit, an end, all of it; and nothing else is said to be damaged."""
    blob, path = path_of(setting)
    other, other_path = path_of(setting, 17 * 5 * 4)
    damage(path, other_path)
    found = fsck(setting)
    assert not found["sound"]
    named = only(found)
    assert (named["blob"], named["kind"]) == (blob.hex(), kind)
    assert named["chunks"] == chunks
    assert [n["kind"] for n in named["needed_by"]] == ["contribution"]
    assert named["holds"] == (other.hex() if kind == "swapped" else None)


@pytest.mark.parametrize("place", [0, CHUNK_BYTES + 7, BIG - 1])
def test_one_bad_chunk_costs_one_chunk(setting: Setting, place: int) -> None:
    """What is right of the file is kept: only the rest is to be fetched."""
    blob, path = path_of(setting)
    flip(path, place)
    done = only(fsck(setting, repair=True))
    lost = min(CHUNK_BYTES, BIG - place // CHUNK_BYTES * CHUNK_BYTES)
    assert (done["outcome"], done["fetch_bytes"]) == ("wanted", lost)
    with open_home(setting.home, write=True) as home:
        assert not home.blobs.has(blob)
        resumed = home.blobs.resumable(blob)
        assert resumed is not None
        home.blobs.begin(blob, *resumed)
        assert home.blobs.missing_chunks(blob) == [place // CHUNK_BYTES]


def test_what_is_wanted_again_comes_and_the_blob_is_whole(setting: Setting) -> None:
    """As a download that goes on: the same bytes at the end."""
    blob, path = path_of(setting)
    right = path.read_bytes()
    flip(path, CHUNK_BYTES)
    fsck(setting, repair=True)
    with open_home(setting.home, write=True) as home:
        home.blobs.begin(blob, BIG, chunk_digests(right))
        home.blobs.write_chunk(blob, 1, right[CHUNK_BYTES : 2 * CHUNK_BYTES])
        home.blobs.finish(blob)
        assert home.blobs.read(blob, BIG) == right
    assert fsck(setting)["sound"]


def test_a_file_that_is_too_long_is_cut_here(setting: Setting) -> None:
    """All of its chunks are right: nothing is fetched."""
    _, path = path_of(setting)
    right = path.read_bytes()
    _append(path, path)
    found = fsck(setting, repair=True)
    assert (only(found)["outcome"], found["sound"]) == ("repaired", True)
    assert path.read_bytes() == right


def test_a_damaged_list_is_made_of_the_file_again(setting: Setting) -> None:
    """The row was wrong and the bytes right."""
    blob, _ = path_of(setting)
    with open_home(setting.home, write=True) as home, home.database.writing() as sql:
        query = "UPDATE blobs SET chunks = zeroblob(128) WHERE blob = ?"
        sql.execute(query, [blob])
    assert only(fsck(setting))["kind"] == "list"
    found = fsck(setting, repair=True)
    assert (only(found)["outcome"], found["sound"]) == ("repaired", True)
    assert fsck(setting)["damaged"] == []


def test_a_damaged_list_and_file_are_wanted_whole(setting: Setting) -> None:
    """Nothing tells what of the file is right before a peer says the list."""
    blob, path = path_of(setting)
    flip(path, 0)
    with open_home(setting.home, write=True) as home, home.database.writing() as sql:
        query = "UPDATE blobs SET chunks = zeroblob(128) WHERE blob = ?"
        sql.execute(query, [blob])
    done = only(fsck(setting, repair=True))
    assert (done["outcome"], done["fetch_bytes"]) == ("wanted", BIG)


def test_equal_chunks_of_another_blob_repair_it(setting: Setting) -> None:
    """What lies elsewhere in the home is not fetched."""
    blob, path = path_of(setting)
    right = path.read_bytes()
    with open_home(setting.home, write=True) as home:
        # as a tensor of another model that shares a stretch of this one
        home.blobs.put(content(CHUNK_BYTES, 9) + right[CHUNK_BYTES : 2 * CHUNK_BYTES])
    flip(path, CHUNK_BYTES)
    found = fsck(setting, repair=True)
    done = only(found)
    assert (done["outcome"], done["local_bytes"]) == ("repaired", CHUNK_BYTES)
    assert found["sound"]
    assert path.read_bytes() == right
    assert done["blob"] == blob.hex()


def test_the_base_s_own_folder_repairs_a_copy_of_its_tensor(
    setting: Setting, tmp_path: Path
) -> None:
    """A copied tensor of the base is had from the base, even if all of it is gone."""
    with open_home(setting.home, write=True) as home:
        blob = _import_from_base(home, setting)
    with open_home(setting.home, write=True) as home:
        home.blobs.path_of(blob).unlink()
    found = fsck(setting, repair=True)
    done = only(found)
    assert (done["outcome"], done["local_bytes"]) == ("repaired", BIG)
    assert fsck(setting)["sound"]


def _import_from_base(home: Home, setting: Setting) -> BlobId:
    """Copy the large tensor of the base into the home, in place of the reference."""
    [holding] = [
        h for h in home.blobs.holdings() if h.form == "referenced" and h.size == BIG
    ]
    stored = home.blobs.rows.find(holding.blob)
    home.blobs.forget(holding.blob)
    return home.blobs.import_range(stored.path, stored.offset, BIG)


def test_an_edited_base_is_reported_and_left(setting: Setting) -> None:
    """Nobody serves a base: its row stays, so that the file put back is right again."""
    model = setting.base / "model.safetensors"
    right = model.read_bytes()
    model.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    found = fsck(setting, repair=True)
    done = only(found)
    assert (done["form"], done["outcome"]) == ("referenced", "beyond")
    assert "join" in done["hint"]
    assert [n["kind"] for n in done["needed_by"]] == ["base"]
    model.write_bytes(right)
    assert fsck(setting)["sound"]


def test_a_referenced_contribution_is_set_aside_with_what_is_right(
    setting: Setting, tmp_path: Path
) -> None:
    """Of the edited file the right chunks are copied; only the rest is fetched."""
    big = np.frombuffer(content(BIG, 6), np.uint16)[: BIG // 4].astype(np.float32)
    tune = write_model(tmp_path / "other", 5, near=setting.base, big=big / 99)
    setting.call("contribute", path=tune, reference=True)
    found = [h for h in _holdings(setting) if h[1] == "referenced" and h[2] == BIG]
    model = tune / "model.safetensors"
    with open_home(setting.home, write=False) as home:
        places = {b: home.blobs.rows.find(b).path for b, _, _ in found}
        [blob] = [b for b, path in places.items() if path == model]
        offset = home.blobs.rows.find(blob).offset
    flip(model, offset + CHUNK_BYTES)
    done = only(fsck(setting, repair=True))
    assert (done["outcome"], done["fetch_bytes"]) == ("wanted", CHUNK_BYTES)
    assert done["local_bytes"] == BIG - CHUNK_BYTES


def _holdings(setting: Setting) -> list[tuple[BlobId, str, int]]:
    with open_home(setting.home, write=False) as home:
        return [(h.blob, h.form, h.size) for h in home.blobs.holdings()]


def test_damage_that_nothing_needs_is_removed(setting: Setting) -> None:
    """There is no use in fetching it."""
    with open_home(setting.home, write=True) as home:
        blob = home.blobs.put(content(CHUNK_BYTES, 3))
        path = home.blobs.path_of(blob)
    flip(path, 5)
    found = fsck(setting, repair=True)
    assert (only(found)["outcome"], found["sound"]) == ("removed", True)
    assert not path.exists()


def test_files_without_a_row_are_named_and_taken_in_if_needed(setting: Setting) -> None:
    """A crash came between the file and its row."""
    blob, path = path_of(setting)
    with open_home(setting.home, write=True) as home:
        home.blobs.rows.delete([blob])
    found = fsck(setting)
    assert found["sound"]
    assert [item["blob"] for item in found["leftovers"]] == [blob.hex()]
    found = fsck(setting, repair=True)
    assert [item["adopted"] for item in found["leftovers"]] == [True]
    assert path_of(setting) == (blob, path)


def test_a_packed_blob_whose_base_is_not_here_is_named(setting: Setting) -> None:
    """It cannot be decoded, so its own file does not matter."""
    blob, _ = path_of(setting)
    with open_home(setting.home, write=True) as home, home.database.writing() as sql:
        query = "UPDATE blobs SET form = 1, against = ?, stored = 9 WHERE blob = ?"
        sql.execute(query, [bytes(32), blob])
    assert only(fsck(setting))["kind"] == "base"


def test_a_damaged_manifest_takes_nothing_with_it(setting: Setting) -> None:
    """While it cannot be read its tensors may be needed: none is removed."""
    blob, path = path_of(setting)
    with open_home(setting.home, write=False) as home:
        [record] = [
            r
            for s in home.records.spaces()
            for r in home.records.load(s)
            if r.record.kind == "add"
        ]
        manifest = record.record.body.manifest  # type: ignore[union-attr]
        manifest_path = home.blobs.path_of(manifest)
    flip(manifest_path, 3)
    flip(path, 3)
    found = fsck(setting, repair=True)
    outcomes = {d["blob"]: d["outcome"] for d in found["damaged"]}
    assert outcomes == {manifest.hex(): "wanted", blob.hex(): "unknown"}
    assert path.exists()


def test_waiting_takes_a_node_and_names_of_blobs(setting: Setting) -> None:
    """Without a node nothing comes."""
    with pytest.raises(NodeNeededError):
        setting.call("store_await", blobs=["ab" * 32])
    for wrong in ("x", "ab"):
        with pytest.raises(BadInputError):
            setting.call("store_await", blobs=[wrong])


def _equal_chunks(setting: Setting) -> BlobId:
    """Damage a tensor of which another blob has all chunks but the last; return it."""
    blob, path = path_of(setting)
    data = path.read_bytes()
    with setting.fleet.open(setting.home) as (home, _, _):
        home.blobs.put(data[: 2 * CHUNK_BYTES])
    flip(path, 0)
    flip(path, CHUNK_BYTES)
    return blob


def test_a_repair_that_finds_no_room_gives_back_what_it_reserved(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The download that it opened is closed again, and what came of it is kept."""
    blob = _equal_chunks(setting)

    def full(*_: object) -> None:
        raise NoRoomError("the disk is full")

    with setting.fleet.open(setting.home) as (home, _, verbs):
        monkeypatch.setattr(Download, "write", full)
        with pytest.raises(NoRoomError):
            verbs.call("store_fsck", {"repair": True}, lambda _: None)
        assert home.blobs._arrivals.missing_bytes == 0
        assert blob not in home.blobs.leases.held()


def test_a_fetch_that_ends_amid_a_repair_does_no_harm(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is set aside is fetched at once: both share one download, and one ends it."""
    blob = _equal_chunks(setting)
    read = Sources.read
    with setting.fleet.open(setting.home) as (home, _, verbs):

        def ended(sources: Sources, place: Place, digest: bytes) -> bytes | None:
            home.blobs.pause(blob)
            return read(sources, place, digest)

        monkeypatch.setattr(Sources, "read", ended)
        found: Any = verbs.call("store_fsck", {"repair": True}, lambda _: None)
        assert only(found)["outcome"] == "wanted"
        assert not home.blobs.has(blob)
        assert home.blobs._arrivals.missing_bytes == 0
