"""The file of kept sums: verified on load, versioned, and never able to change a byte."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crdtmerge.digest import Domain, digest
from crdtmerge.errors import (
    ContractError,
    DamagedStateError,
    MachineError,
    NotAllowedError,
    UpgradeNeededError,
)
from crdtmerge.formats.sums import PLANES_SUFFIX, SUFFIX, SumsFolder
from crdtmerge.numerics import Data
from crdtmerge.recipe import Rule
from crdtmerge.resolve import kept
from crdtmerge.resolve.accumulators import (
    Accumulator,
    Entry,
    member_of_key,
    parts_of,
)
from crdtmerge.resolve.ground import Footing
from crdtmerge.resolve.plan import make_plan
from crdtmerge.strategies import make_recipe
from crdtmerge.strategies.sums import Share
from crdtmerge.strategies.table import SUMS
from tests.models import UNIT, contribution, describe, make_tensors
from tests.sums import FLOATS, Sink, Store, World, resolve_with_sums

WORLD = World.make(5)
RECIPE = make_recipe("ties", {"density": "0.4"})
CHOSEN = [(0, UNIT), (1, UNIT // 3), (2, UNIT)]


def stored() -> Store:
    store = Store()
    WORLD.again(RECIPE, WORLD.offers(CHOSEN), store)
    return store


def whole(data: tuple[bytes, bytes]) -> Accumulator:
    """Return sums, all of them looked at."""
    found = kept.from_bytes(*data)
    found.verify()
    return found.sums


def test_a_file_says_what_was_written() -> None:
    """Sums, members, last output: there and back, and the same bytes again."""
    for tensor, data in stored().held.items():
        found = kept.from_bytes(*data)
        sums, again = whole(data), list[Data]()
        packing = kept.Packing(sums.grid, again.append)
        for part in parts_of(sums.shape[1]):
            packing.add(sums.part(part))
        assert (
            kept.header_of(sums, found.last, packing.packed),
            b"".join(again),
        ) == data
        assert sums.counts.total() == len(CHOSEN), tensor
        weights = Counter(member_of_key(key).weight for key in sums.counts.elements())
        assert weights == Counter(weight for _, weight in CHOSEN)


def test_any_bit_that_fell_over_is_found() -> None:
    """Every byte of both files, one bit each: no accumulator comes out of it."""
    header, planes = stored().held["scale"]
    assert planes
    for place in range(len(header) + len(planes)):
        damaged = bytearray(header + planes)
        damaged[place] ^= 1 << (place % 8)
        with pytest.raises((DamagedStateError, UpgradeNeededError)):
            whole((bytes(damaged[: len(header)]), bytes(damaged[len(header) :])))


def test_any_cut_is_found() -> None:
    """A file that ends early, or goes on, holds nothing."""
    header, planes = stored().held["scale"]
    for size in range(len(header)):
        with pytest.raises(DamagedStateError):
            whole((header[:size], planes))
    for size in range(len(planes)):
        with pytest.raises(DamagedStateError):
            whole((header, planes[:size]))
    for more in ((header + bytes(8), planes), (header, planes + bytes(8))):
        with pytest.raises(DamagedStateError):
            whole(more)


def test_planes_of_several_parts_are_read_part_by_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With parts of a few items: the same model, and each part is looked at."""
    for module in ("accumulators", "kept"):
        monkeypatch.setattr(f"crdtmerge.resolve.{module}.PART_ITEMS", 1 << 5)
    store = stored()
    data = store.held["block.weight"]
    found = kept.from_bytes(*data)
    assert len(found.packed.widths) == -(-33 * 7 // 32)
    after = WORLD.offers([*CHOSEN, (4, UNIT)])
    outcome, sink = WORLD.again(RECIPE, after, store)
    assert not outcome.afresh
    assert sink.held == WORLD.whole(RECIPE, after)
    for place in range(0, len(data[1]), 37):
        damaged = bytearray(data[1])
        damaged[place] ^= 1
        with pytest.raises(DamagedStateError):
            whole((data[0], bytes(damaged)))


def forged(data: tuple[bytes, bytes], old: bytes, new: bytes) -> tuple[bytes, bytes]:
    """A header that was changed, and its digest made to fit."""
    header = data[0][16:-32]
    assert header.count(old) == 1
    header = header.replace(old, new)
    head = data[0][:12] + len(header).to_bytes(4, "little") + header
    return head + digest(Domain.SUMS_HEADER, header), data[1]


def test_a_header_that_makes_no_sense_is_refused_though_its_digest_fits() -> None:
    """Sizes, grids and members are checked too: a bug of a writer is not a crash here."""
    data = stored().held["scale"]
    sums = whole(data)
    last = max(sums.members)
    assert len(sums.members) == len(CHOSEN)
    rows, items = sums.shape
    shape = bytes([0x94, (sums.grid.step_exponent + 256) % 256, 2, rows, items])
    widths = kept.from_bytes(*data).packed.widths[0]
    for old, new in (
        (shape, shape[:-1] + b"\x02"),
        (shape, shape[:-2] + b"\x05\x01"),
        (shape, shape[:-3] + b"\x03" + shape[-2:]),
        (last, b"\xc1" + last[1:]),
        (last, b"\x90" + last[1:]),
        (last, bytes(len(last))),
        (widths, bytes([*widths[:-1], widths[-1] ^ 1])),
    ):
        with pytest.raises(DamagedStateError):
            whole(forged(data, old, new))
    assert whole(forged(data, last, last)).counts == sums.counts


def test_a_file_of_a_later_version_says_upgrade() -> None:
    """It is not taken for damage, and not guessed at."""
    header, planes = stored().held["scale"]
    later = bytearray(header)
    later[8] = kept.VERSION + 1
    with pytest.raises(UpgradeNeededError, match="version 3") as caught:
        kept.from_bytes(bytes(later), planes)
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("place", [0, 8, 20, -1], ids=["magic", "version", "", "plane"])
def test_damaged_sums_are_dropped_with_a_reason_and_change_no_byte(place: int) -> None:
    """Whatever is wrong with what was kept, the model is that of a fresh resolve."""
    store = stored()
    for name, (header, planes) in store.held.items():
        if name != "empty":
            damaged = bytearray(header + planes)
            damaged[place] ^= 4
            store.held[name] = (
                bytes(damaged[: len(header)]),
                bytes(damaged[len(header) :]),
            )
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
    held = whole(stored().held["scale"])
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
    held = whole(stored().held["scale"])
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
                outcome = resolve_with_sums(
                    plan, world.blobs, sink, store, executor=pool, threads=threads
                )
        stores.append(store.held)
        assert not outcome.afresh
    plan = make_plan(recipe, world.base, world.offers(chosen[1:]), Footing("zero"))
    fresh, again = Store(), Sink()
    resolve_with_sums(plan, world.blobs, again, fresh)
    assert stores[0] == stores[1] == fresh.held
    assert again.held == sink.held


def test_a_folder_keeps_sums_as_a_dict_does(tmp_path: Path) -> None:
    """Files: made for the user alone, replaced whole, looked at only where needed."""
    folder, store = SumsFolder(tmp_path / "sums"), Store()
    for offers in (WORLD.offers(CHOSEN), WORLD.offers(CHOSEN[1:])):
        plan = make_plan(RECIPE, WORLD.base, offers)
        sink = Sink()
        first = resolve_with_sums(plan, WORLD.blobs, sink, folder)
        WORLD.again(RECIPE, offers, store)
    for name, data in store.held.items():
        found = folder.load(name)
        assert found is not None
        assert tuple(map(bytes, found)) == data
    assert not first.afresh
    files = list((tmp_path / "sums").iterdir())
    assert len(files) == 2 * len(FLOATS)
    assert all(file.stat().st_mode & 0o77 == 0 for file in files)
    assert (tmp_path / "sums").stat().st_mode & 0o77 == 0
    assert folder.load("another tensor") is None


def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    """Kept sums are verified against accidents, not against someone who forges them."""
    tmp_path.chmod(0o777)
    with pytest.raises(NotAllowedError, match="other users may write"):
        SumsFolder(tmp_path)


def test_one_at_a_time_uses_a_folder(tmp_path: Path) -> None:
    """A second process is told, and what a dead one left half written is removed."""
    with SumsFolder(tmp_path / "sums"):
        with pytest.raises(BlockingIOError):
            SumsFolder(tmp_path / "sums")
        (tmp_path / "sums" / "x.planes.partial").write_bytes(b"half")
    with SumsFolder(tmp_path / "sums"):
        assert not list((tmp_path / "sums").iterdir())


@pytest.mark.parametrize("at", ["planes", "header"])
def test_a_disk_that_takes_no_sums_is_no_error(tmp_path: Path, at: str) -> None:
    """The model is made all the same; what was kept before still serves, or is dropped."""
    folder = SumsFolder(tmp_path / "sums")
    offers = WORLD.offers(CHOSEN)
    plan = make_plan(RECIPE, WORLD.base, offers)
    resolve_with_sums(plan, WORLD.blobs, Sink(), folder)
    suffix = PLANES_SUFFIX if at == "planes" else SUFFIX
    for file in (tmp_path / "sums").glob(f"*{suffix}"):
        (tmp_path / "sums" / f"{file.name}.partial").mkdir()
    after = WORLD.offers([*CHOSEN, (4, UNIT)])
    sink = Sink()
    resolve_with_sums(make_plan(RECIPE, WORLD.base, after), WORLD.blobs, sink, folder)
    assert sink.held == WORLD.whole(RECIPE, after)
    sink = Sink()
    again = resolve_with_sums(plan, WORLD.blobs, sink, folder)
    assert sink.held == WORLD.whole(RECIPE, offers)
    assert not again.afresh if at == "planes" else again.afresh


def test_an_empty_file_is_a_damaged_one(tmp_path: Path) -> None:
    """What a crash leaves of a file is never taken for sums."""
    folder = SumsFolder(tmp_path / "sums")
    with folder.replacing("w") as file:
        file.write(b"")
        file.finish(b"")
    found = folder.load("w")
    assert found is not None
    with pytest.raises(DamagedStateError):
        kept.from_bytes(*found)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError, match="cannot use"):
        SumsFolder(tmp_path / "file")
