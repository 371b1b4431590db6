"""I/O budgets: what is read is counted, bounded, and the same wherever it is chosen."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.changes import Whole
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import BadInputError, FaultyContributionError
from crdtmerge.formats.progress import Progress
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.adapter import on_zeros
from crdtmerge.resolve.budget import Account, Reading, account_of, choose, floor_of
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.norms import Measuring, measure, unread_within
from crdtmerge.resolve.parse import parse_resolution
from crdtmerge.resolve.plan import Plan, Unread, make_plan
from crdtmerge.resolve.resolution import make_resolution, model_tensors
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import STRATEGIES
from tests.models import (
    IDS,
    SHAPES,
    UNIT,
    Merge,
    Tensors,
    contribution,
    contribution_of,
    describe,
    make_merge,
    make_tensors,
    recipe_of,
    told,
)
from tests.sums import Counting, Sink

NAMES = sorted(STRATEGIES)


@dataclass
class Norms:
    """Norms in a dict, counting questions."""

    held: dict[bytes, float] = field(default_factory=dict)
    asked: int = 0

    def load(self, keys: Iterable[bytes]) -> dict[bytes, float]:
        """Return those that are kept."""
        self.asked += 1
        return {key: self.held[key] for key in keys if key in self.held}

    def save(self, norms: Mapping[bytes, float]) -> None:
        """Keep some."""
        self.held |= norms


def counting(merge: Merge) -> Counting:
    return Counting(merge.blobs.held)


def budgeted(recipe: Recipe, budget: int) -> Recipe:
    return replace(recipe, extras=(("io_budget", str(budget)),))


def plan_of(merge: Merge, recipe: Recipe, norms: Norms | None = None) -> Plan:
    """The plan within the recipe's budget."""
    given = told(merge, recipe)
    unread = unread_within(
        recipe, merge.base, given, Measuring(merge.blobs, norms or Norms())
    )
    return make_plan(recipe, merge.base, given, unread=unread)


def made(plan: Plan, source: Counting) -> tuple[dict[str, bytes], int]:
    """The output of a plan, and the bytes that were read for it."""
    sink = Sink()
    before = source.bytes_read
    execute(plan, source, sink)
    return sink.held, source.bytes_read - before


def unread_of(plan: Plan) -> list[tuple[bytes, str]]:
    """The pairs that a plan leaves unread."""
    return [
        (content, name)
        for content, found in zip(plan.contents, plan.unread, strict=True)
        for name in found
    ]


# --- what is counted ---------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_account_is_what_is_read(name: str) -> None:
    """To the byte, of every strategy: no more and no less than the source is asked for."""
    merge = make_merge()
    recipe = recipe_of(name)
    plan = make_plan(recipe, merge.base, told(merge, recipe))
    account = account_of(plan)
    _, read = made(plan, counting(merge))
    assert account.total == read
    evidence = sum(
        entry.tensor.size
        for item in plan.contributions
        for entry in item.manifest.evidence
    )
    assert account.floor == floor_of(recipe, merge.base) + evidence


@pytest.mark.parametrize("name", ["linear", "ties", "metagpt", "model_stock", "median"])
def test_never_more_is_read_than_the_budget(name: str) -> None:
    """At every budget from the base alone to all; at the end everything is read."""
    merge = make_merge()
    recipe = recipe_of(name)
    account = account_of(make_plan(recipe, merge.base, told(merge, recipe)))
    norms, reads = Norms(), []
    for budget in range(account.floor, account.total + 160, 157):
        plan = plan_of(merge, budgeted(recipe, budget), norms)
        _, read = made(plan, counting(merge))
        assert read <= budget
        assert read == account_of(plan).total
        reads.append(read)
    assert reads[0] == account.floor
    assert reads[-1] == account.total
    assert len(set(reads)) > 5


def test_budget_below_the_base_is_refused_with_numbers() -> None:
    """Nothing is read for that."""
    merge = make_merge()
    source, norms = counting(merge), Norms()
    floor = floor_of(recipe_of("linear"), merge.base)
    recipe = budgeted(recipe_of("linear"), floor - 1)
    with pytest.raises(BadInputError, match=f"{floor - 1} bytes is below the {floor}"):
        unread_within(recipe, merge.base, merge.contributions, Measuring(source, norms))
    assert not source.asked


def test_budget_for_everything_measures_nothing() -> None:
    """And a plan that nobody told what is unread is refused."""
    merge = make_merge()
    plain = recipe_of("linear")
    total = account_of(make_plan(plain, merge.base, merge.contributions)).total
    source, norms = counting(merge), Norms()
    measuring = Measuring(source, norms)
    recipe = budgeted(plain, total)
    assert unread_within(recipe, merge.base, merge.contributions, measuring) == {}
    assert unread_within(plain, merge.base, merge.contributions, measuring) is None
    assert not source.asked
    assert not norms.asked
    with pytest.raises(BadInputError, match="is not told"):
        make_plan(recipe, merge.base, merge.contributions)


def test_what_several_say_alike_is_read_once_and_together() -> None:
    """Of equal tensors either all count or none, at the cost of one."""
    merge = make_merge()
    first, second, _ = merge.contributions
    name = "block.weight"
    (same,) = [e for e in first.manifest.tensors if e.name == name]
    tensors = tuple(same if e.name == name else e for e in second.manifest.tensors)
    alike = contribution_of(replace(second.manifest, tensors=tensors), second.weight)
    merge = replace(merge, contributions=(first, alike))
    recipe = recipe_of("linear")
    account = account_of(make_plan(recipe, merge.base, merge.contributions))
    (found,) = [r for r in account.readings if r.entry.name == name]
    assert found.weight == first.weight + alike.weight
    assert found.cost == same.size
    for budget in range(account.floor, account.total, 101):
        plan = plan_of(merge, budgeted(recipe, budget))
        left = {content for content, tensor in unread_of(plan) if tensor == name}
        assert len(left) in {0, 2}


# --- what is chosen ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "ties", "dare_ties", "metagpt"])
def test_unread_counts_as_left_as_in_the_base(name: str) -> None:
    """The bytes are those of contributions that never changed these tensors."""
    merge = make_merge()
    recipe = recipe_of(name)
    account = account_of(make_plan(recipe, merge.base, merge.contributions))
    budget = (account.floor + account.total) // 2
    plan = plan_of(merge, budgeted(recipe, budget))
    gone = set(unread_of(plan))
    assert gone
    base = {entry.name: entry for entry in merge.base.tensors}
    less: list[Contribution] = []
    for item in merge.contributions:
        entries = tuple(
            base[e.name] if (item.content, e.name) in gone else e
            for e in item.manifest.tensors
        )
        manifest = replace(item.manifest, tensors=entries)
        less.append(contribution_of(manifest, item.weight))
    output, _ = made(plan, counting(merge))
    if STRATEGIES[plan.strategy.full_name].draws:  # other contents draw other masks
        untouched = {n for n in base if not any(n == tensor for _, tensor in gone)}
        assert untouched != set(base)
        return
    expected, _ = made(make_plan(recipe, merge.base, less), counting(merge))
    assert output == expected


def test_choice_does_not_depend_on_order_threads_or_what_was_kept() -> None:
    """All of that gives one set of unread tensors, and one set of norms to the bit."""
    merge = make_merge()
    recipe = recipe_of("linear")
    account = account_of(make_plan(recipe, merge.base, merge.contributions))
    recipe = budgeted(recipe, account.floor + (account.total - account.floor) // 3)
    first = Norms()
    expected = unread_within(
        recipe, merge.base, merge.contributions, Measuring(merge.blobs, first)
    )
    assert expected
    some = dict(list(first.held.items())[::2])
    with ThreadPoolExecutor(3) as executor:
        for order in permutations(merge.contributions):
            norms = Norms(dict(some))
            measuring = Measuring(merge.blobs, norms, executor, threads=3)
            assert unread_within(recipe, merge.base, order, measuring) == expected
            assert norms.held == first.held


def test_kept_norms_need_no_reading() -> None:
    """The second time the budget bounds all that is read."""
    merge = make_merge()
    plain = recipe_of("task_arithmetic")
    account = account_of(make_plan(plain, merge.base, merge.contributions))
    recipe = budgeted(plain, (account.floor + account.total) // 2)
    source, norms = counting(merge), Norms()
    reports: list[Progress] = []
    measuring = Measuring(source, norms, report=reports.append)
    unread_within(recipe, merge.base, merge.contributions, measuring)
    measured = source.bytes_read
    assert measured
    assert reports[-1].work == "measuring norms"
    assert reports[-1].done == reports[-1].total
    unread_within(recipe, merge.base, merge.contributions, measuring)
    assert source.bytes_read == measured


def test_choice_is_that_of_this_list() -> None:
    """By hand: shares of squared norm first, then what a byte brings; weights squared."""
    tensors = {"a": 100, "b": 10}
    squares = {("a", 1): 9.0, ("a", 2): 1.0, ("b", 1): 1.0, ("b", 2): 4.0}
    weights = {1: UNIT, 2: 2 * UNIT}  # so they bring: a 9 and 4, b 1 and 16
    readings = {
        (name, who): _reading(name, who, tensors[name], weights[who])
        for name, who in squares
    }
    norms = {readings[pair].key: square for pair, square in squares.items()}
    account = Account(1000, tuple(readings.values()))
    # Per byte b2 brings 1.6 and a1 .09: both come first, as no tensor has kept anything.
    # Then a has kept 9 of 13 and b 16 of 17.
    expected = [("b", 2), ("a", 1), ("a", 2), ("b", 1)]
    for count in range(len(expected) + 1):
        taken = expected[:count]
        budget = 1000 + sum(readings[pair].cost for pair in taken)
        assert left_of(choose(account, norms, budget)) == set(expected) - set(taken)
    only_small = choose(account, norms, 1000 + 20)
    assert left_of(only_small) == {("a", 1), ("a", 2)}


def left_of(unread: Unread) -> set[tuple[str, int]]:
    return {(name, content[0]) for content, names in unread.items() for name in names}


def _reading(name: str, who: int, size: int, weight: int) -> Reading:
    entry = TensorEntry(name, "U8", (size,), BlobId(name.encode() * 32))
    change = Whole(replace(entry, blob=BlobId(f"{name}{who}".encode() * 16)))
    return Reading(entry, change, (ContentId(bytes([who]) * 32),), weight, size)


def test_tensors_that_bring_nothing_come_last() -> None:
    """A weight or a task vector of zero is read only if there is room."""
    idle, loud = _reading("a", 1, 10, 0), _reading("b", 2, 10, UNIT)
    account = Account(0, (idle, loud))
    norms = {idle.key: 5.0, loud.key: 1e-30}
    assert left_of(choose(account, norms, 10)) == {("a", 1)}
    assert not choose(account, norms, 20)


# --- norms -------------------------------------------------------------------------------


def measured(merge: Merge) -> dict[str, dict[bytes, float]]:
    """The squared norms by tensor and content."""
    plan = make_plan(recipe_of("linear"), merge.base, merge.contributions)
    readings = account_of(plan).readings
    norms = measure(plan, readings, Measuring(merge.blobs, Norms()))
    found: dict[str, dict[bytes, float]] = {}
    for reading in readings:
        for content in reading.contents:
            found.setdefault(reading.entry.name, {})[content] = norms[reading.key]
    return found


def test_norm_is_that_of_numpy() -> None:
    """The float32 task vector's squares, summed, in every dtype."""
    merge = make_merge()
    found = measured(merge)
    blobs = merge.blobs.held
    base = {e.name: blobs[e.blob] for e in merge.base.tensors}
    for item in merge.contributions:
        for entry in item.manifest.tensors:
            data, ground = blobs[entry.blob], base[entry.name]
            if entry.name in {"positions", "empty"} or data == ground:
                assert item.content not in found.get(entry.name, {})
                continue
            theta = numerics.upcast(data, entry.dtype)
            tau = (theta - numerics.upcast(ground, entry.dtype)).astype(np.float32)
            squares = tau.astype(np.float64) ** 2
            expected = pytest.approx(float(squares.sum()), rel=1e-14)
            assert found[entry.name][item.content] == expected


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F64"])
@pytest.mark.parametrize("items", [1, 64, 65_537, 300_001])
def test_norm_has_the_bits_of_the_contract_tree(items: int, dtype: str) -> None:
    """Read block by block, it is the sum over the whole task vector along the tree."""
    rng = np.random.default_rng(items)
    blobs = Counting()
    base = rng.standard_normal(items).astype(np.float32)
    theta = numerics.downcast(base + rng.standard_normal(items) / 8, dtype)
    ground = TensorEntry("w", "F32", (items,), blobs.put(base.tobytes()))
    entry = TensorEntry("w", dtype, (items,), blobs.put(bytes(theta)))
    manifest = Manifest("base", b"", (ground,))
    tuned = contribution_of(Manifest("full", manifest.content_id, (entry,)))
    (norms,) = measured(Merge(manifest, (tuned,), blobs)).values()
    tau = numerics.task_vector(numerics.upcast(theta, dtype), base.astype(np.float64))
    assert norms[tuned.content].hex() == numerics.sum_of_squares(tau).hex()


def test_norm_of_deltas_and_pairs_is_that_of_what_they_stand_for() -> None:
    """The same whatever form a task vector comes in; no base is read for them."""
    merge, change = _low_rank_merge()
    plan = make_plan(recipe_of("linear"), merge.base, merge.contributions)
    source = counting(merge)
    readings = account_of(plan).readings
    norms = measure(plan, readings, Measuring(source, Norms()))
    (pair,) = [r for r in readings if r.entry.name == "block.weight"]
    tau = change.astype(np.float32).astype(np.float64)
    assert norms[pair.key] == pytest.approx(float((tau * tau).sum()), rel=1e-6)
    bases = {entry.blob for entry in merge.base.tensors}
    assert not bases & {blob for blob, _ in source.asked}
    # For an adapter, which reads no base, a budget has the factors alone to count.
    exponents = dict.fromkeys(SHAPES, 2)
    account = account_of(
        make_plan(
            recipe_of("linear"), merge.base, merge.contributions, on_zeros(exponents)
        )
    )
    assert account.floor == 0
    assert account.readings == readings


def _low_rank_merge() -> tuple[
    Merge, np.ndarray[tuple[int, ...], np.dtype[np.float64]]
]:
    """A merge of one adapter with a pair for `block.weight`, and what it changes there."""
    rng = np.random.default_rng(5)
    blobs = Counting()
    base = describe(make_tensors(0), blobs)
    a, b = rng.standard_normal((2, 7)), rng.standard_normal((33, 2))
    parts = {"lora_A": a.astype("<f4"), "lora_B": b.astype("<f4")}
    entries = [
        TensorEntry(f"block.weight.{end}", "F32", v.shape, blobs.put(v.tobytes()))
        for end, v in parts.items()
    ]
    scale = blobs.put(np.float64(0.5).tobytes())
    entries.append(TensorEntry("block.weight.lora_scale", "F64", (), scale))
    manifest = Manifest("lora", base.content_id, tuple(entries))
    change = 0.5 * parts["lora_B"].astype(np.float64) @ parts["lora_A"]
    return Merge(base, (contribution_of(manifest),), blobs), change


def test_norm_is_kept_by_what_it_is_of() -> None:
    """The base counts for whole tensors; the tensor's name and the author do not."""
    reading = _reading("a", 1, 8, UNIT)
    other_base = replace(reading, entry=replace(reading.entry, blob=BlobId(b"z" * 32)))
    renamed = replace(reading, entry=replace(reading.entry, name="q"), contents=())
    assert other_base.key != reading.key == renamed.key


def test_what_is_no_task_vector_is_its_authors_fault() -> None:
    """Found when it is measured, and named."""
    merge = make_merge()
    tensors: Tensors = make_tensors(9)
    tensors["block.weight"] = np.full(33 * 7, np.nan, "<f4").tobytes()
    bad = contribution(tensors, merge.blobs, merge.base)
    merge = replace(merge, contributions=(*merge.contributions, bad))
    floor = floor_of(recipe_of("linear"), merge.base)
    with pytest.raises(FaultyContributionError) as found:
        plan_of(merge, budgeted(recipe_of("linear"), floor))
    assert found.value.content == bad.content


# --- what is recorded --------------------------------------------------------------------


def test_resolution_tells_how_much_was_left_and_reads_back() -> None:
    """Of each contribution; what does not fit the form is refused."""
    merge = make_merge()
    recipe = recipe_of("linear")
    budget = floor_of(recipe, merge.base) + 1000
    plan = plan_of(merge, budgeted(recipe, budget))
    sink = Sink()
    digests = execute(plan, merge.blobs, sink)
    merge_id = plan.recipe.merge_id(merge.base.content_id, b"v" * 32, ())
    ids: dict[str, Any] = {**IDS, "merge_id": merge_id}
    resolution = make_resolution(plan, model_tensors(plan, digests), **ids)
    text = resolution.to_json()
    assert parse_resolution(text) == resolution
    assert f'"io_budget": "{budget}"' in text
    for source, found in zip(resolution.contributions, plan.unread, strict=True):
        assert source.unread is not None
        assert source.unread.tensors == len(found)
        assert source.unread.size == sum(change.size for change in found.values())
    for wrong in ('"tensors": 0', '"tensors": true'):
        first = resolution.contributions[0].unread
        assert first is not None
        broken = text.replace(f'"tensors": {first.tensors}', wrong)
        assert broken != text
        with pytest.raises(BadInputError):
            parse_resolution(broken)
