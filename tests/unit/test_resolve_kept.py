"""The file of kept sums: verified on load, versioned, and never able to change a byte."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from crdtmerge.digest import Domain, digest
from crdtmerge.errors import (
    ContractError,
    DamagedStateError,
    MachineError,
    NotAllowedError,
    UpgradeNeededError,
)
from crdtmerge.formats.sums import SumsFolder
from crdtmerge.recipe import Rule
from crdtmerge.resolve import kept
from crdtmerge.resolve.accumulators import Accumulator, Entry, member_of_key
from crdtmerge.resolve.ground import Footing
from crdtmerge.resolve.incremental import resolve_incrementally
from crdtmerge.resolve.plan import make_plan
from crdtmerge.strategies import make_recipe
from crdtmerge.strategies.sums import Share
from crdtmerge.strategies.table import SUMS
from tests.models import UNIT, contribution, describe, make_tensors
from tests.sums import FLOATS, Sink, Store, World

WORLD = World.make(5)
RECIPE = make_recipe("ties", {"density": "0.4"})
CHOSEN = [(0, UNIT), (1, UNIT // 3), (2, UNIT)]


def stored() -> Store:
    store = Store()
    WORLD.again(RECIPE, WORLD.offers(CHOSEN), store)
    return store


def test_a_file_says_what_was_written() -> None:
    """Sums, members, last output: there and back, and the same bytes again."""
    for tensor, data in stored().held.items():
        found = kept.from_bytes(data)
        sums = found.accumulator()
        assert b"".join(kept.to_bytes(sums, found.last)) == data
        assert sums.counts.total() == len(CHOSEN), tensor
        weights = Counter(member_of_key(key).weight for key in sums.counts.elements())
        assert weights == Counter(weight for _, weight in CHOSEN)


def test_any_bit_that_fell_over_is_found() -> None:
    """Every byte of a file, one bit each: no accumulator comes out of it."""
    data = stored().held["scale"]
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        with pytest.raises((DamagedStateError, UpgradeNeededError)):
            kept.from_bytes(bytes(damaged)).accumulator()


def test_any_cut_is_found() -> None:
    """A file that ends early, or goes on, holds nothing."""
    data = stored().held["scale"]
    for size in range(len(data)):
        with pytest.raises(DamagedStateError):
            kept.from_bytes(data[:size]).accumulator()
    with pytest.raises(DamagedStateError):
        kept.from_bytes(data + bytes(8))


def forged(data: bytes, old: bytes, new: bytes) -> bytes:
    """A file whose header was changed, and its digest made to fit."""
    size = int.from_bytes(data[12:16], "little")
    header = data[16 : 16 + size]
    assert header.count(old) == 1
    header = header.replace(old, new)
    head = data[:12] + len(header).to_bytes(4, "little") + header
    head += digest(Domain.SUMS_HEADER, header)
    planes = data[-(-(16 + size + 32) // 8 * 8) :]
    return head + bytes(-len(head) % 8) + planes


def test_a_header_that_makes_no_sense_is_refused_though_its_digest_fits() -> None:
    """Sizes, grids and members are checked too: a bug of a writer is not a crash here."""
    data = stored().held["scale"]
    sums = kept.from_bytes(data).accumulator()
    first, last = sums.members.keys() - {None}, max(sums.members)
    assert len(first) == len(CHOSEN)
    rows, items = sums.planes.shape
    shape = bytes([0x94, (sums.grid.step_exponent + 256) % 256, 2, rows, items])
    for old, new in (
        (shape, shape[:-1] + b"\x02"),
        (shape, shape[:-2] + b"\x05\x01"),
        (shape, shape[:-3] + b"\x03" + shape[-2:]),
        (last, b"\xc1" + last[1:]),
        (last, b"\x90" + last[1:]),
        (last, bytes(len(last))),
    ):
        with pytest.raises(DamagedStateError):
            kept.from_bytes(forged(data, old, new))
    assert kept.from_bytes(forged(data, last, last)).accumulator().counts == sums.counts


def test_a_file_of_a_later_version_says_upgrade() -> None:
    """It is not taken for damage, and not guessed at."""
    data = bytearray(stored().held["scale"])
    data[8] = kept.VERSION + 1
    with pytest.raises(UpgradeNeededError, match="version 2") as caught:
        kept.from_bytes(bytes(data))
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("place", [0, 8, 20, -1], ids=["magic", "version", "", "plane"])
def test_damaged_sums_are_dropped_with_a_reason_and_change_no_byte(place: int) -> None:
    """Whatever is wrong with what was kept, the model is that of a fresh resolve."""
    store = stored()
    for name, data in store.held.items():
        if name != "empty":
            damaged = bytearray(data)
            damaged[place] ^= 4
            store.held[name] = bytes(damaged)
    after = WORLD.offers([*CHOSEN, (4, UNIT)])
    outcome, sink = WORLD.again(RECIPE, after, store)
    assert sink.held == WORLD.whole(RECIPE, after)
    assert set(outcome.afresh) == {name for name in FLOATS if name != "empty"}
    assert all(reason for reason in outcome.afresh.values())
    fresh = Store()
    WORLD.again(RECIPE, after, fresh)
    assert store.held == fresh.held


def test_sums_of_another_tensor_or_recipe_are_not_gone_on_with() -> None:
    """A file in the wrong place is whole, and still is none of this tensor's."""
    store = stored()
    held = store.held
    held["scale"], held["head.bias"] = held["head.bias"], held["scale"]
    after = WORLD.offers(CHOSEN[:2])
    outcome, sink = WORLD.again(RECIPE, after, store)
    assert sink.held == WORLD.whole(RECIPE, after)
    assert set(outcome.afresh) == {"scale", "head.bias"}
    for recipe in (
        make_recipe("ties", {"density": "0.5"}),
        make_recipe("linear", {}),
        make_recipe("ties", {"density": "0.4"}, [Rule("*", (("normalize", "false"),))]),
    ):
        outcome, sink = WORLD.again(recipe, after, store)
        assert set(outcome.afresh) == set(FLOATS)
        assert "another recipe" in outcome.afresh["scale"]
        assert sink.held == WORLD.whole(recipe, after)


def test_another_base_is_another_sum() -> None:
    """Only the tensors that differ between two bases are summed afresh."""
    world, store = World.make(2), Store()
    recipe = make_recipe("linear", {})
    tensors = make_tensors(0)
    first = contribution(make_tensors(1, tensors), world.blobs, world.base)
    world.again(recipe, [first], store)
    tensors["scale"] = make_tensors(9)["scale"]
    world.base = describe(tensors, world.blobs)
    moved = contribution(make_tensors(1, make_tensors(0)), world.blobs, world.base)
    outcome, sink = world.again(recipe, [moved], store)
    assert sink.held == world.whole(recipe, [moved])
    assert set(outcome.afresh) == {"scale"}


def test_a_contribution_that_is_gone_for_good_does_not_stop_its_removal() -> None:
    """Its bytes were collected: those that stay are summed afresh, and it is said why."""
    world, store = World.make(3), Store()
    recipe = make_recipe("linear", {})
    world.again(recipe, world.offers([(0, UNIT), (1, UNIT)]), store)
    for entry in world.models[1].tensors:
        if entry.name == "block.weight":
            del world.blobs.held[entry.blob]
    after = world.offers([(0, UNIT)])
    outcome, sink = world.again(recipe, after, store)
    assert sink.held == world.whole(recipe, after)
    assert set(outcome.afresh) == {"block.weight"}
    assert "cannot be read" in outcome.afresh["block.weight"]


def test_who_is_no_member_cannot_be_taken_out() -> None:
    """Neither a stranger, nor a member with another share, nor one of two twice."""
    sums = SUMS["ties/1"]
    held = kept.from_bytes(stored().held["scale"]).accumulator()
    key, (share, _) = next(iter(held.members.items()))
    for leave in (
        [Entry(b"stranger", share)],
        [Entry(key, Share(share.weight + 1))],
        [Entry(key, share), Entry(key, share)],
    ):
        with pytest.raises(ContractError, match="do not hold it so"):
            held.changed(sums, leave, [])
    with pytest.raises(ContractError, match="another share"):
        held.changed(sums, [], [Entry(key, Share(share.weight + 1))])


def test_more_members_than_a_sum_has_terms_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit is named, and holds for members that weigh nothing too."""
    monkeypatch.setattr("crdtmerge.resolve.accumulators.MEMBERS_MAX", 3)
    held = kept.from_bytes(stored().held["scale"]).accumulator()
    with pytest.raises(ContractError, match="at most 3 contributions"):
        held.changed(SUMS["ties/1"], [], [Entry(b"k", Share(0))])


def test_threads_and_a_merge_of_task_vectors_alone_keep_the_same_sums() -> None:
    """On zeros (for adapters) and in a pool: the same bytes and the same files."""
    recipe = make_recipe("task_arithmetic", {})
    models = [m for m in World.make(9).models if m.kind != "full"]
    world = World.make(9)
    world.models = models
    chosen, stores = [(0, UNIT), (1, UNIT // 7), (2, -UNIT)], []
    for threads in (1, 4):
        store, sink = Store(), Sink()
        for offers in (world.offers(chosen[:2]), world.offers(chosen[1:])):
            plan = make_plan(recipe, world.base, offers, Footing("zero"))
            with ThreadPoolExecutor(threads) as pool:
                outcome = resolve_incrementally(
                    plan, world.blobs, sink, store, executor=pool, threads=threads
                )
        stores.append(store.held)
        assert not outcome.afresh
    plan = make_plan(recipe, world.base, world.offers(chosen[1:]), Footing("zero"))
    fresh, again = Store(), Sink()
    resolve_incrementally(plan, world.blobs, again, fresh)
    assert stores[0] == stores[1] == fresh.held
    assert again.held == sink.held


def test_a_folder_keeps_sums_as_a_dict_does(tmp_path: Path) -> None:
    """Files: made for the user alone, replaced whole, looked at only where needed."""
    folder, store = SumsFolder(tmp_path / "sums"), Store()
    for offers in (WORLD.offers(CHOSEN), WORLD.offers(CHOSEN[1:])):
        plan = make_plan(RECIPE, WORLD.base, offers)
        sink = Sink()
        first = resolve_incrementally(plan, WORLD.blobs, sink, folder)
        WORLD.again(RECIPE, offers, store)
    for name, data in store.held.items():
        found = folder.load(name)
        assert found is not None
        assert bytes(found) == data
    assert not first.afresh
    assert len(list((tmp_path / "sums").iterdir())) == len(FLOATS)
    assert (tmp_path / "sums").stat().st_mode & 0o77 == 0
    assert folder.load("another tensor") is None


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    """Kept sums are verified against accidents, not against someone who forges them."""
    tmp_path.chmod(0o777)
    with pytest.raises(NotAllowedError, match="other users may write"):
        SumsFolder(tmp_path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    """The machine's refusal is said as such; an empty file is a damaged one."""
    folder = SumsFolder(tmp_path / "sums")
    folder.save("w", [b""])
    found = folder.load("w")
    assert found is not None
    with pytest.raises(DamagedStateError):
        kept.from_bytes(found)
    next((tmp_path / "sums").glob("*.sums")).with_suffix(".partial").mkdir()
    with pytest.raises(MachineError, match="cannot write"):
        folder.save("w", [b"more"])
    assert folder.load("w") == b""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError, match="cannot use"):
        SumsFolder(tmp_path / "file")


def test_planes_are_never_written_to() -> None:
    """What was loaded stays as it was while another is made of it."""
    held = kept.from_bytes(stored().held["block.weight"]).accumulator()
    assert isinstance(held, Accumulator)
    with pytest.raises(ValueError, match="read-only"):
        np.negative(held.planes, out=held.planes)
