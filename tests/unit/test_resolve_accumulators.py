"""Kept sums: the bytes of a fresh resolve, at the cost of what changed."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtmerge import numerics
from crdtmerge.digest import blob_id_of
from crdtmerge.errors import ContractError, FaultyContributionError
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.incremental import FIRST, why_not
from crdtmerge.resolve.plan import make_plan
from crdtmerge.strategies import STRATEGIES, Values, make_recipe
from tests.models import SHAPES, UNIT, contribution
from tests.sums import FLOATS, Sink, Store, World, own

WORLD = World.make(8)
WIDE = 123_456_789_012

KEPT = {
    "linear": make_recipe("linear", {}),
    "linear sum": make_recipe("linear", {"normalize": "false"}),
    "task_arithmetic": make_recipe("task_arithmetic", {"lambda": "0.333333333"}),
    "task_arithmetic mean": make_recipe("task_arithmetic", {"normalize": "true"}),
    "ties": make_recipe("ties", {"density": "0.4"}),
    "ties sum": make_recipe("ties", {"normalize": "false", "lambda": "0.7"}),
    "dare_linear": make_recipe("dare_linear", {"p": "0.5"}, seed_scope="contribution"),
    "dare_linear l1": make_recipe(
        "dare_linear",
        {"p": "0.5", "rescale": "l1", "normalize": "true"},
        seed_scope="contribution",
    ),
    "breadcrumbs": make_recipe("breadcrumbs", {"density": "0.7", "gamma": "0.1"}),
    "breadcrumbs_ties": make_recipe("breadcrumbs_ties", {"density": "0.7"}),
    "della": make_recipe("della", {}, seed_scope="contribution"),
    "della l1": make_recipe("della", {"rescale": "l1"}, seed_scope="contribution"),
    "della_linear": make_recipe("della_linear", {}, seed_scope="contribution"),
    "dare_ties": make_recipe("dare_ties", {"p": "0.5"}, seed_scope="contribution"),
    "dare_ties l1": make_recipe(
        "dare_ties", {"p": "0.5", "rescale": "l1"}, seed_scope="contribution"
    ),
    "ties to bf16": make_recipe("ties", {}, output_dtype="BF16"),
}
kept = pytest.mark.parametrize("recipe", KEPT.values(), ids=KEPT)

offers = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.sampled_from((UNIT, UNIT // 3, 7, 0, -UNIT // 9, WIDE)),
    ),
    min_size=1,
    max_size=5,
)


@kept
@settings(max_examples=max(10, settings().max_examples // 3))
@given(history=st.lists(offers, min_size=1, max_size=4))
def test_any_history_gives_the_bytes_of_a_fresh_resolve(
    recipe: Recipe, history: list[list[tuple[int, int]]]
) -> None:
    """Models come, go, change their weights and are listed twice; sums go on.

    After each step model and kept sums are those of somebody who kept nothing. What a
    fresh resolve refuses (weights that sum to nothing, or too much) is refused, and the
    next step goes on from what there was.
    """
    store, sink = Store(), Sink()
    for chosen in history:
        contributions = WORLD.offers(chosen)
        held = {name: blob_id_of(data) for name, data in sink.held.items()}
        try:
            whole = WORLD.whole(recipe, contributions)
        except ContractError:
            with pytest.raises(ContractError):
                WORLD.again(recipe, contributions, store, sink, held)
            continue
        outcome, _ = WORLD.again(recipe, contributions, store, sink, held)
        assert sink.held == whole
        assert outcome.digests == {n: blob_id_of(d) for n, d in sink.held.items()}
        fresh = Store()
        WORLD.again(recipe, contributions, fresh)
        if STRATEGIES[recipe.strategy].passes_over(Values(recipe.parameters)):
            # Who can change no bit may be told or not: no task ran to tell it.
            assert planes(store) == planes(fresh)
        else:
            assert store.held == fresh.held


def planes(store: Store) -> dict[str, bytes]:
    return {name: bytes(data) for name, (_, data) in store.held.items()}


def test_sums_that_leave_the_contract_by_and_by_are_refused() -> None:
    """The limit is on all members: five may pass, and the sixth not, as in a whole."""
    for name, parameters in (
        ("task_arithmetic", {"lambda": "100"}),
        ("dare_linear", {"lambda": "100", "p": "0.5"}),
    ):
        recipe = make_recipe(name, parameters, seed_scope="contribution")
        chosen, store = [(m, UNIT) for m in (0, 1, 3, 4, 6, 7)], Store()
        WORLD.again(recipe, WORLD.offers(chosen[:5]), store)
        reason = r"tensor '.*the sum of \|weights"
        with pytest.raises(ContractError, match=reason):
            WORLD.whole(recipe, WORLD.offers(chosen))
        with pytest.raises(ContractError, match=reason):
            WORLD.again(recipe, WORLD.offers(chosen), store)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@kept
def test_backends_keep_the_same_sums(backend: str, recipe: Recipe) -> None:
    """Sums that one backend began another can go on with."""
    chosen = [(0, UNIT), (1, UNIT // 3), (2, WIDE), (4, -7)]
    store = Store()
    WORLD.again(recipe, WORLD.offers(chosen[:3]), store)
    with numerics.forced(backend):
        _, sink = WORLD.again(recipe, WORLD.offers(chosen[1:]), store)
    assert sink.held == WORLD.whole(recipe, WORLD.offers(chosen[1:]))


def size_of(names: Sequence[str]) -> int:
    return sum(e.size for e in WORLD.base.tensors if e.name in names)


@pytest.mark.parametrize("members", [(0, 1, 2), (0, 1, 2, 3, 4, 5, 6, 8)])
@pytest.mark.parametrize("name", ["linear", "ties", "dare_ties", "dare_linear"])
def test_one_more_contribution_is_read_and_none_that_stays(
    name: str, members: tuple[int, ...]
) -> None:
    """To 3 and to 8 a whole model is added: its bytes, and at most the base's."""
    world, store = World.make(9), Store()
    _, sink = world.again(KEPT[name], world.offers([(m, UNIT) for m in members]), store)
    held = {n: blob_id_of(d) for n, d in sink.held.items()}
    after = world.offers([(m, UNIT) for m in (*members, 7)])
    outcome, _ = world.again(KEPT[name], after, store, sink, held)
    theirs = {e.name: e.blob for e in world.models[7].tensors}
    base = {e.name: e.blob for e in world.base.tensors}
    changed = [n for n in FLOATS if theirs[n] != base[n]]
    # linear reads the base where a task vector was given, which it counts as base + tau.
    grounds = ["block.weight", "embed.weight", "scale"] if name == "linear" else changed
    expected = [theirs[n] for n in changed] + [base[n] for n in grounds]
    if name == "linear":
        expected.append(base["empty"])
    assert Counter(blob for blob, _ in world.blobs.asked) == Counter(expected)
    assert world.blobs.bytes_read == size_of(changed) + size_of(grounds)
    assert set(outcome.written) == set(FLOATS if name == "linear" else changed)
    assert not outcome.afresh
    assert sink.held == world.whole(KEPT[name], after)


@pytest.mark.parametrize("name", ["linear", "ties"])
def test_one_that_leaves_is_read_and_none_that_stays(name: str) -> None:
    """Removal costs the same, and leaves the bytes of a set that never held it."""
    store = Store()
    whole = [(m, UNIT) for m in (0, 1, 4, 6, 7)]
    _, sink = WORLD.again(KEPT[name], WORLD.offers(whole), store)
    after = WORLD.offers(whole[:3] + whole[4:])
    outcome, _ = WORLD.again(KEPT[name], after, store, sink)
    stays = {e.blob for m in (0, 1, 4, 7) for e in WORLD.models[m].tensors}
    base = {e.blob for e in WORLD.base.tensors}
    assert not (stays - base) & {blob for blob, _ in WORLD.blobs.asked}
    assert not outcome.afresh
    assert sink.held == WORLD.whole(KEPT[name], after)


@kept
def test_nothing_changed_costs_nothing(recipe: Recipe) -> None:
    """No task runs, no blob is read, nothing is written or saved."""
    store = Store()
    contributions = WORLD.offers([(0, UNIT), (2, UNIT)])
    first, sink = WORLD.again(recipe, contributions, store)
    saved = store.saved
    second, empty = WORLD.again(recipe, contributions, store, None, first.digests)
    assert WORLD.blobs.asked == []
    assert second.written == ()
    assert empty.held == {}
    assert second.digests == first.digests
    assert store.saved == saved
    assert set(first.written) == set(sink.held) == set(SHAPES)
    assert first.afresh == dict.fromkeys(FLOATS, FIRST)


def test_a_tensor_that_the_newcomer_leaves_alone_is_not_read() -> None:
    """ties: who changes nothing brings nothing, and moves no divisor."""
    store, recipe = Store(), KEPT["ties"]
    first, sink = WORLD.again(recipe, WORLD.offers([(0, UNIT), (4, UNIT)]), store)
    more = WORLD.offers([(0, UNIT), (1, UNIT), (4, UNIT)])
    outcome, _ = WORLD.again(recipe, more, store, sink, first.digests)
    assert sorted(outcome.written) == ["block.weight", "embed.weight"]
    alone = {e.blob for e in WORLD.base.tensors if e.name in ("scale", "head.bias")}
    assert not alone & {blob for blob, _ in WORLD.blobs.asked}
    assert sink.held == WORLD.whole(recipe, more)


@pytest.mark.parametrize("name", ["linear", "ties"])
def test_a_new_weight_reads_its_contribution_once(name: str) -> None:
    """A weight change is a removal and an addition of one model."""
    store = Store()
    _, sink = WORLD.again(KEPT[name], WORLD.offers([(0, UNIT), (4, UNIT)]), store)
    after = WORLD.offers([(0, UNIT), (4, 3 * UNIT)])
    WORLD.again(KEPT[name], after, store, sink)
    asked = [blob for blob, _ in WORLD.blobs.asked]
    assert len(asked) == len(set(asked))
    assert not {e.blob for e in WORLD.models[0].tensors if e.name in FLOATS} & (
        set(asked) - {e.blob for e in WORLD.base.tensors}
    )
    assert sink.held == WORLD.whole(KEPT[name], after)


def test_outputs_that_the_caller_lost_are_made_of_the_kept_sums() -> None:
    """Without the old output nothing but integer tensors is read: the sums suffice."""
    store, recipe = Store(), KEPT["linear"]
    contributions = WORLD.offers([(0, UNIT), (1, UNIT)])
    WORLD.again(recipe, contributions, store)
    outcome, sink = WORLD.again(recipe, contributions, store)
    base = {e.name: e.blob for e in WORLD.base.tensors}
    assert {blob for blob, _ in WORLD.blobs.asked} == {base["positions"]}
    assert not outcome.afresh
    assert sink.held == WORLD.whole(recipe, contributions)


def test_parameters_of_one_contribution_are_part_of_its_membership() -> None:
    """A density of its own trims its task vector and no other, going and coming."""
    store, recipe = Store(), KEPT["ties"]
    plain, other = WORLD.offers([(0, UNIT), (4, UNIT)])
    for density in ("0.1", "0.9", "0.2"):
        contributions = [plain, own(other, density=density)]
        outcome, sink = WORLD.again(recipe, contributions, store)
        assert sink.held == WORLD.whole(recipe, contributions)
        first = density == "0.1"
        assert bool(outcome.afresh) == first


def test_a_factor_that_all_share_is_left_out_only_while_all_share_it() -> None:
    """dare_ties: one whose rescale is another changes the coefficients of all."""
    store, recipe = Store(), KEPT["dare_ties"]
    plain = WORLD.offers([(0, UNIT), (4, UNIT // 3)])
    other = own(WORLD.offers([(6, UNIT)])[0], p="0.7")
    for contributions, reason in (
        (plain, FIRST),
        (plain[:1], ""),
        ([*plain, other], "the factor that all contributions share is another now"),
        ([plain[0], other], ""),
        (plain, "the factor that all contributions share is another now"),
        ([other], ""),
    ):
        outcome, sink = WORLD.again(recipe, contributions, store)
        assert sink.held == WORLD.whole(recipe, contributions)
        assert outcome.afresh.get("block.weight", "") == reason


def test_masks_of_the_set_are_refused_with_the_reason() -> None:
    """In seed scope `set` every mask changes with the set; so do metagpt's weights."""
    contributions = WORLD.offers([(0, UNIT)])
    for name, reason in (
        ("dare_ties", "masks by the set"),
        ("dare_linear", "masks by the set"),
        ("metagpt", "no sum that takes one contribution by itself"),
        ("median", "no sum that takes one contribution by itself"),
    ):
        plan = make_plan(make_recipe(name, {}), WORLD.base, contributions)
        assert reason in why_not(plan)


@pytest.mark.parametrize("weight", [UNIT, 0])
def test_a_faulty_newcomer_is_named_and_the_sums_stay(weight: int) -> None:
    """What cannot be merged is refused as in a whole resolve, of weight zero too."""
    world = World.make(2)
    store, recipe = Store(), KEPT["linear"]
    good = world.offers([(0, UNIT)])
    world.again(recipe, good, store)
    before = dict(store.held)
    tensors = {e.name: world.blobs.held[e.blob] for e in world.models[1].tensors}
    tensors["block.weight"] = b"\xff" * len(tensors["block.weight"])
    bad = [*good, contribution(tensors, world.blobs, world.base, weight)]
    with pytest.raises(FaultyContributionError, match=r"block\.weight.*NaN"):
        world.whole(recipe, bad)
    with pytest.raises(FaultyContributionError, match=r"block\.weight.*NaN"):
        world.again(recipe, bad, store)
    assert store.held["block.weight"] == before["block.weight"]
