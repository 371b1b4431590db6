"""`store pack`: what is cold takes fewer bytes, and every resolve gives the same model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crdtmerge.digest import BlobId
from crdtmerge.errors import CorruptBlobError
from nodes.home import open_home
from nodes.store.holdings import Holding
from nodes.upkeep.references import check_references, watch
from tests.homes import Fleet
from tests.tunes import SHAPES, base_weights, tuned_weights, write_weights

DAY = 24 * 3600
LARGE = 2
"""Tensors of a model that are large enough to be packed."""


@dataclass
class Setting:
    """One home with a space whose base lies in the user's folder, and a fine-tune."""

    fleet: Fleet
    home: Path
    base: Path
    content: str

    def call(self, verb: str, **arguments: object) -> dict[str, Any]:
        """Run one verb."""
        return self.fleet.call(self.home, verb, **arguments)

    def resolve(self, name: str) -> str:
        """Resolve into a new folder; return the model's digest."""
        out = self.fleet.folder / name
        return str(self.call("resolve", out=out)["model_digest"])

    def holdings(self, form: str) -> list[Holding]:
        """Return what lies there in a form."""
        with open_home(self.home, write=False) as home:
            return [h for h in home.blobs.holdings() if h.form == form]


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    fleet = Fleet.at(tmp_path)
    home = fleet.init("home")
    weights = base_weights()
    base = write_weights(tmp_path / "base", weights)
    fleet.call(
        home,
        "space_create",
        name="words",
        base=base,
        mode="members",
        strategy="linear",
        reference=True,
    )
    tune = write_weights(tmp_path / "tune", tuned_weights(weights, 1))
    content = str(fleet.call(home, "contribute", path=tune)["content"])
    return Setting(fleet, home, base, content)


def test_packing_changes_no_model(setting: Setting) -> None:
    """Large tensors of the contribution are packed, small ones and the base's are not."""
    before = setting.resolve("before")
    found = setting.call("store_pack", older_than=0)
    assert found["packed"]["count"] == found["cold"]["count"] == LARGE
    assert found["packed"]["stored_bytes"] < 0.65 * found["packed"]["bytes"]
    assert found["notes"] == []
    assert found["forms"] == {"GROUPED": LARGE}
    assert len(setting.holdings("packed")) == LARGE
    assert len(setting.holdings("referenced")) == len(SHAPES)
    assert setting.resolve("after") == before
    shown = setting.call("store_show")["packed"]
    assert shown == found["packed"]
    unpacked = setting.call("store_unpack")["unpacked"]
    assert unpacked["count"] == LARGE
    assert setting.holdings("packed") == []
    assert setting.resolve("again") == before


def test_what_a_resolve_used_lately_stays_raw(setting: Setting) -> None:
    """Seven days after the last resolve it is cold, by default; any use counts anew."""
    setting.resolve("one")
    assert setting.call("store_pack")["cold"]["count"] == 0
    setting.fleet.clock += 6.9 * DAY
    assert setting.call("store_pack")["cold"]["count"] == 0
    setting.resolve("two")
    setting.fleet.clock += 6.9 * DAY
    assert setting.call("store_pack")["cold"]["count"] == 0
    setting.fleet.clock += 0.2 * DAY
    assert setting.call("store_pack")["packed"]["count"] == LARGE
    assert setting.call("store_pack")["cold"]["count"] == 0


def test_a_resolve_beside_a_node_notes_what_it_uses(setting: Setting) -> None:
    """It reads without the home's lock, which another process holds."""
    with (
        setting.fleet.open(setting.home),
        setting.fleet.open(setting.home, write=False) as (_, _, verbs),
    ):
        asked = {"out": str(setting.fleet.folder / "out")}
        verbs.call("resolve", asked, lambda _: None)
    used = {holding.used for holding in setting.holdings("own") if holding.used}
    assert used == {int(setting.fleet.clock)}


def test_a_dry_run_writes_nothing(setting: Setting) -> None:
    """It tells about what would be saved, with every file as it was."""
    before = sorted(setting.home.rglob("*"))
    dry = setting.call("store_pack", older_than=0, dry_run=True)
    assert dry["dry_run"]
    assert dry["packed"]["count"] == LARGE
    assert sorted(setting.home.rglob("*")) == before
    assert setting.holdings("packed") == []
    real = setting.call("store_pack", older_than=0)
    assert real["packed"]["bytes"] == dry["packed"]["bytes"]
    difference = real["packed"]["stored_bytes"] - dry["packed"]["stored_bytes"]
    assert abs(difference) < real["packed"]["stored_bytes"] / 20


def test_an_edited_base_is_named_and_nothing_is_packed(setting: Setting) -> None:
    """What cannot be read stays as it is; the other tensors are packed all the same."""
    path = setting.base / "model.safetensors"
    good = path.read_bytes()
    largest = max(setting.holdings("referenced"), key=lambda holding: holding.size)
    with open_home(setting.home, write=False) as home:
        at = home.blobs.rows.find(largest.blob).offset
    bad = bytearray(good)
    bad[at] ^= 1
    path.write_bytes(bad)
    found = setting.call("store_pack", older_than=0)
    assert found["packed"]["count"] == LARGE - 1
    (note,) = found["notes"]
    assert "changed since it was referenced" in note
    path.write_bytes(good)
    assert setting.call("store_pack", older_than=0)["packed"]["count"] == 1


def test_deltas_have_no_base_beside_them(setting: Setting, tmp_path: Path) -> None:
    """Differences are packed by planes alone."""
    small = {
        name: (value / np.float32(512)).astype(np.float32)
        for name, value in base_weights(5).items()
    }
    folder = write_weights(tmp_path / "delta", small)
    setting.call("contribute", path=folder, kind="delta")
    found = setting.call("store_pack", older_than=0)
    assert found["forms"] == {"GROUPED": LARGE, "PLANES": LARGE}
    with open_home(setting.home, write=False) as home:
        rows = [home.blobs.rows.find(h.blob) for h in home.blobs.holdings()]
    alone: list[BlobId] = [r.blob for r in rows if r.packed and r.against is None]
    assert len(alone) == LARGE


def test_what_is_gone_from_the_merge_is_left_to_collection(setting: Setting) -> None:
    """A removed contribution is not packed; packed ones are collected like others."""
    setting.call("store_pack", older_than=0)
    setting.call("remove", id=setting.content)
    assert setting.call("store_gc", grace=0)["count"] > LARGE
    assert setting.holdings("packed") == []
    assert not list((setting.home / "blobs").rglob("*.packed"))


def test_a_check_blames_the_base_and_repair_loses_no_packed_blob(
    setting: Setting,
) -> None:
    """Packed tensors whose base was edited wait for it; put back, all is right."""
    before = setting.resolve("before")
    setting.call("store_pack", older_than=0)
    path = setting.base / "model.safetensors"
    good = path.read_bytes()
    path.write_bytes(bytes(reversed(good)))
    found = setting.call("store_fsck", repair=True)
    outcomes = {item["blob"]: item for item in found["damaged"]}
    packed = [h.blob.hex() for h in setting.holdings("packed")]
    assert len(packed) == LARGE
    assert {outcomes[blob]["kind"] for blob in packed} == {"base"}
    path.write_bytes(good)
    assert setting.call("store_fsck")["damaged"] == []
    assert setting.resolve("after") == before


def test_an_archive_of_packed_blobs_is_the_same_file(setting: Setting) -> None:
    """Who reads blobs never sees how they lie here."""
    files = [setting.fleet.folder / name for name in ("raw.tar", "packed.tar")]
    setting.call("space_export", space="words", file=files[0])
    setting.call("store_pack", older_than=0)
    setting.call("space_export", space="words", file=files[1])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_packed_model_that_is_contributed_again_stays_packed(
    setting: Setting,
) -> None:
    """Its bytes are read and found to be right, so nothing is written."""
    setting.call("store_pack", older_than=0)
    before = setting.holdings("packed")
    again = setting.fleet.folder / "tune"
    assert setting.call("contribute", path=again)["content"] == setting.content
    assert setting.holdings("packed") == before
    assert setting.holdings("leftover") == []


def test_a_use_that_meets_an_edited_base_forgets_no_packed_blob(
    setting: Setting,
) -> None:
    """It may be the only copy: it stays packed, and is read once the base is back."""
    before = setting.resolve("before")
    setting.call("store_pack", older_than=0)
    path = setting.base / "model.safetensors"
    good = path.read_bytes()
    path.write_bytes(bytes(reversed(good)))
    with setting.fleet.open(setting.home) as (home, spaces, _):
        watch(home, spaces)
        for holding in home.blobs.holdings():
            if holding.form == "packed":
                with pytest.raises(CorruptBlobError, match="packed against another"):
                    home.blobs.read(holding.blob, holding.size)
    assert len(setting.holdings("packed")) == LARGE
    path.write_bytes(good)
    assert setting.resolve("after") == before


def test_repair_waits_for_a_base_that_was_set_aside(setting: Setting) -> None:
    """A base that peers are asked for again takes nothing that is packed with it."""
    before = setting.resolve("before")
    setting.call("store_pack", older_than=0)
    packed = setting.holdings("packed")
    with setting.fleet.open(setting.home) as (home, _, verbs):
        bases = {h.against for h in packed if h.against is not None}
        for base in bases:
            home.blobs.removal.set_aside(base)
        found: Any = verbs.call("store_fsck", {"repair": True}, lambda _: None)
        assert {item["kind"] for item in found["damaged"]} == {"base"}
    assert setting.holdings("packed") == packed
    folder = setting.base
    with setting.fleet.open(setting.home) as (home, spaces, _):
        check_references(home, spaces)
        assert not home.blobs.missing(bases)
    assert folder.is_dir()
    assert setting.resolve("after") == before
