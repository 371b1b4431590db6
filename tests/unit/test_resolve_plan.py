"""Plans: canonical order, seeds, keys, and what is refused before a byte is read."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import pytest

from crdtmerge import numerics
from crdtmerge.changes import key_of
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import (
    BadInputError,
    ContractError,
    FaultyContributionError,
    NothingToResolveError,
    UpgradeNeededError,
)
from crdtmerge.manifest import Manifest
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.resolve import plan as planning
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.ground import Footing
from crdtmerge.resolve.plan import Plan, make_plan, tensor_seed
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import STRATEGIES, make_recipe
from crdtmerge.trie import Trie
from tests.models import UNIT, Merge, contribution_of, make_merge, recipe_of, told
from tests.sums import Sink

NAMES = sorted(STRATEGIES)


def plan_of(merge: Merge, recipe: Recipe | str = "ties") -> Plan:
    recipe = recipe_of(recipe) if isinstance(recipe, str) else recipe
    return make_plan(recipe, merge.base, told(merge, recipe))


def key(plan: Plan, tensor: str = "block.weight", kind: str = "emit") -> bytes:
    """The key of one task of a plan."""
    (found,) = [t.key for t in plan.tasks if (t.kind, t.tensor) == (kind, tensor)]
    return found


def with_blob(manifest: Manifest, name: str, blob: bytes) -> Manifest:
    """The manifest with another blob for one tensor."""
    entries = tuple(
        replace(e, blob=BlobId(blob)) if e.name == name else e for e in manifest.tensors
    )
    return replace(manifest, tensors=entries)


def with_contribution_blob(merge: Merge, name: str, blob: bytes) -> Merge:
    """The merge with the first contribution changed in one tensor."""
    first, *rest = merge.contributions
    changed = contribution_of(with_blob(first.manifest, name, blob), first.weight)
    return replace(merge, contributions=(changed, *rest))


@pytest.mark.parametrize("name", NAMES)
def test_order_given_does_not_change_a_plan(name: str) -> None:
    """All orders give one plan, with contributions sorted by content id."""
    merge = make_merge()
    plans = [
        plan_of(replace(merge, contributions=order), name)
        for order in permutations(merge.contributions)
    ]
    assert all(plan == plans[0] for plan in plans)
    assert list(plans[0].contents) == sorted(plans[0].contents)


def test_what_a_strategy_cannot_use_makes_no_plan() -> None:
    """Weights are judged before a byte is read, those too that rules give one tensor."""
    merge = make_merge((UNIT, -UNIT))
    with pytest.raises(ContractError, match=r"'block.weight': the weights sum to zero"):
        plan_of(merge, "linear")
    with pytest.raises(
        ContractError, match="a negative weight has no meaning to median"
    ):
        plan_of(merge, "median")
    zero = Rule("embed.*", parameters=(("weight", "0"),))
    ruled = replace(make_recipe("linear", {}), rules=(zero,))
    with pytest.raises(ContractError, match=r"'embed.weight': all weights are zero"):
        plan_of(make_merge(), ruled)


@pytest.mark.parametrize("name", NAMES)
def test_tasks_follow_what_they_need(name: str) -> None:
    """One emit for each tensor; maps over float tensors only, then the reduce."""
    plan = plan_of(make_merge(), name)
    emitted = [task.tensor for task in plan.tasks if task.kind == "emit"]
    assert emitted == [name for name, _, _ in plan.outputs]
    mapped = [task.tensor for task in plan.tasks if task.kind == "map"]
    floats = [tensor for tensor in emitted if tensor != "positions"]
    assert mapped == (floats if plan.strategy.map else [])
    known: set[bytes] = set()
    for task in plan.tasks:
        assert known.issuperset(task.needs)
        known.add(task.key)


def test_output_dtype_is_that_of_the_recipe_for_floats_only() -> None:
    """Indices keep their dtype; without a wish every tensor keeps the base's."""
    merge = make_merge()
    wanted = plan_of(merge, make_recipe("linear", {}, output_dtype="F16"))
    assert {dtype for _, dtype, _ in wanted.outputs} == {"F16", "I64"}
    kept = [(e.name, e.dtype, e.shape) for e in merge.base.tensors]
    assert list(plan_of(merge).outputs) == kept


# --- refusals --------------------------------------------------------------------------


def test_nothing_to_resolve_is_said() -> None:
    """A space without visible contributions has no merged model."""
    with pytest.raises(NothingToResolveError):
        make_plan(make_recipe("linear", {}), make_merge().base, [])


def test_recipe_is_checked_first() -> None:
    """An unknown strategy and an unknown parameter are refused."""
    with pytest.raises(UpgradeNeededError):
        plan_of(make_merge(), Recipe("linear/999"))
    recipe = make_recipe("linear", {})
    with pytest.raises(BadInputError):
        plan_of(make_merge(), replace(recipe, parameters=(("depth", "1"),)))


def test_weights_beyond_the_contract_are_refused() -> None:
    """sum|W| below 2**40 passes, at it is refused."""
    half = 1 << 39
    plan = plan_of(make_merge((half, half - 1)))
    assert sum(plan.settings.of_whole().weights) == 2**40 - 1
    with pytest.raises(ContractError):
        plan_of(make_merge((half, half)))


def _of_kind(kind: str) -> Callable[[Contribution], Contribution]:
    return lambda c: contribution_of(replace(c.manifest, kind=kind))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_of_kind("base"), "kind 'base' is no contribution"),
        (
            lambda c: contribution_of(replace(c.manifest, base=b"x" * 32)),
            "another base",
        ),
        (lambda c: replace(c, content=ContentId(b"y" * 32)), "another content"),
        (
            lambda c: contribution_of(
                replace(c.manifest, tensors=c.manifest.tensors[1:])
            ),
            "lacks 1 tensor",
        ),
        (
            lambda c: contribution_of(
                replace(
                    c.manifest,
                    tensors=(
                        replace(c.manifest.tensors[0], shape=(7, 33)),
                        *c.manifest.tensors[1:],
                    ),
                )
            ),
            r"\[7, 33\]",
        ),
    ],
)
def test_faulty_manifest_is_its_authors_fault(
    change: Callable[[Contribution], Contribution], said: str
) -> None:
    """The error names the contribution, so that it can be banned or left out."""
    merge = make_merge()
    bad = change(merge.contributions[1])
    both = (merge.contributions[0], bad)
    with pytest.raises(FaultyContributionError, match=said) as caught:
        make_plan(make_recipe("linear", {}), merge.base, both)
    assert caught.value.content == bad.content


# --- seeds -----------------------------------------------------------------------------


def test_seed_follows_the_root_of_those_that_changed_the_tensor() -> None:
    """All contributions count for `block.weight`; the last left `scale` alone."""
    merge = make_merge()
    plan = plan_of(merge, "dare_ties")
    contents = [c.content for c in merge.contributions]
    assert plan.seeds["block.weight"] == tensor_seed(
        plan.recipe, "block.weight", contents
    )
    assert plan.seeds["scale"] == tensor_seed(plan.recipe, "scale", contents[:2])
    roots = {Trie.build(some).root for some in (contents, contents[:2])}
    assert len(roots) == 2
    assert len(set(plan.seeds.values())) == len(plan.seeds) == 5


def test_seed_changes_with_set_recipe_and_tensor() -> None:
    """Each of the three inputs enters."""
    recipe = make_recipe("dare_ties", {})
    other = make_recipe("dare_ties", {"p": "0.5"})
    seeds = {
        tensor_seed(recipe, "a", [b"1" * 32]),
        tensor_seed(recipe, "a", [b"1" * 32, b"2" * 32]),
        tensor_seed(recipe, "a", []),
        tensor_seed(recipe, "b", [b"1" * 32]),
        tensor_seed(other, "a", [b"1" * 32]),
    }
    assert len(seeds) == 5


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_there_only_where_the_set_draws(name: str) -> None:
    """A strategy that draws nothing, or by contribution, has no seed to show.

    The order of a fold is the set's in either scope.
    """
    merge, strategy = make_merge(), STRATEGIES[name]
    seeds = plan_of(merge, name).seeds
    assert bool(seeds) == (strategy.draws or strategy.order_dependent)
    scoped = make_recipe(name, {}, seed_scope="contribution")
    assert bool(plan_of(merge, scoped).seeds) == strategy.order_dependent


# --- keys ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_key_changes_with_every_input_that_can_change_a_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blobs, base, weights, parameters, dtype, version of the contract, the set."""
    merge = make_merge((UNIT, 2 * UNIT, UNIT // 2, UNIT))
    recipe = make_recipe(name, {})
    first, *rest = merge.contributions
    heavier = replace(merge, contributions=(replace(first, weight=7), *rest))
    plans = [
        plan_of(merge, recipe),
        plan_of(heavier, recipe),
        plan_of(replace(merge, contributions=tuple(rest)), recipe),
        plan_of(with_contribution_blob(merge, "block.weight", b"z" * 32), recipe),
        plan_of(merge, replace(recipe, output_dtype="BF16")),
        plan_of(make_merge((UNIT,) * 3), recipe),
    ]
    monkeypatch.setattr(planning, "CONTRACT_VERSION", numerics.CONTRACT_VERSION + 1)
    plans.append(plan_of(merge, recipe))
    keys = {key(plan) for plan in plans}
    assert len(keys) == len(plans)


def test_keys_of_strategies_and_parameters_differ() -> None:
    """Whoever computes something else has another key; rules count where they fit."""
    merge = make_merge()
    plans = [plan_of(merge, name) for name in NAMES]
    plans.append(plan_of(merge, make_recipe("ties", {"density": "0.3"})))
    rules = [Rule("block.*", (("density", "0.4"),))]
    ruled = plan_of(merge, make_recipe("ties", {}, rules))
    plans.append(ruled)
    assert len({key(plan) for plan in plans}) == len(plans)
    assert key(ruled, "embed.weight") == key(plan_of(merge, "ties"), "embed.weight")


@pytest.mark.parametrize("name", ["linear", "ties"])
def test_key_keeps_where_no_input_changed(name: str) -> None:
    """Another tensor's change, authors, and a wish that changes nothing leave it."""
    merge = make_merge((UNIT,))
    before = key(plan_of(merge, name))
    others = with_contribution_blob(merge, "embed.weight", b"z" * 32)
    assert key(plan_of(others, name)) == before
    anonymous = tuple(replace(c, authors=()) for c in merge.contributions)
    assert key(plan_of(replace(merge, contributions=anonymous), name)) == before
    same = make_recipe(name, {}, output_dtype="F32")
    assert key(plan_of(merge, same)) == before


def with_twins(*names: str) -> Merge:
    """The merge with tensors of these names that have the bytes of `block.weight`."""
    merge = make_merge()

    def twins(manifest: Manifest) -> Manifest:
        first = next(e for e in manifest.tensors if e.name == "block.weight")
        added = [replace(first, name=name) for name in names]
        entries = sorted((*manifest.tensors, *added), key=lambda e: e.name)
        return replace(manifest, tensors=tuple(entries))

    base = twins(merge.base)
    made = tuple(
        contribution_of(replace(twins(c.manifest), base=base.content_id), c.weight)
        for c in merge.contributions
    )
    return Merge(base, made, merge.blobs)


@pytest.mark.parametrize("name", NAMES)
def test_who_leaves_a_tensor_alone_is_in_the_key_where_it_counts(name: str) -> None:
    """The last contribution of a merge leaves `scale` as it is; with it or without."""
    merge = make_merge((UNIT, UNIT, UNIT, UNIT, UNIT))
    whole = plan_of(merge, recipe_of(name))
    entry = next(e for e in merge.base.tensors if e.name == "scale")
    idle = [
        c
        for c, said in zip(whole.contributions, whole.changes, strict=True)
        if key_of(said.get("scale"), entry) == entry.blob
    ]
    assert len(idle) == 1
    left = tuple(c for c in merge.contributions if c.content != idle[0].content)
    few = plan_of(replace(merge, contributions=left), recipe_of(name))
    passes = STRATEGIES[name].passes_over(whole.settings.of_whole().values)
    assert (key(whole, "scale") == key(few, "scale")) == passes
    assert key(whole) != key(few)


def test_name_is_in_the_key_only_where_masks_use_it() -> None:
    """Two tensors with equal bytes share a task, unless the strategy takes a seed."""
    merge = with_twins("block.weight2", "block.weight3")
    for name in NAMES:
        plan = plan_of(merge, name)
        same = key(plan, "block.weight2") == key(plan, "block.weight3")
        strategy = STRATEGIES[name]
        assert same != (strategy.draws or strategy.order_dependent)


def test_layer_is_in_the_key_only_where_it_changes_a_bit() -> None:
    """Equal bytes in two layers are two tasks to a strategy by depth."""
    merge = with_twins(*(f"layers.{i}.weight" for i in range(8)))
    for name in NAMES:
        first, *rest = told(merge, recipe_of(name))
        if name == "layer_swap/1":
            first = replace(first, parameters=(("part", "inner"),))
        plan = make_plan(recipe_of(name), merge.base, [first, *rest])
        same = key(plan, "layers.0.weight") == key(plan, "layers.1.weight")
        strategy = STRATEGIES[name]
        keyed = strategy.draws or strategy.order_dependent
        assert same != (keyed or name == "layer_swap/1")


def test_set_reaches_masks_only_in_seed_scope_set() -> None:
    """By set, a newcomer that leaves a tensor alone keeps its seed but adds its input."""
    merge = make_merge()
    by_set = make_recipe("dare_ties", {})
    by_content = replace(by_set, seed_scope="contribution")
    assert key(plan_of(merge, by_set)) != key(plan_of(merge, by_content))


def test_reduce_covers_all_maps_and_emits_cover_the_reduce() -> None:
    """A change in one tensor reaches every emit of a whole-model strategy."""
    merge = make_merge()
    changed = with_contribution_blob(merge, "embed.weight", b"z" * 32)
    before, after = plan_of(merge, "metagpt"), plan_of(changed, "metagpt")
    assert key(before, "", "reduce") != key(after, "", "reduce")
    assert key(before, "scale") != key(after, "scale")
    # What is no float is copied from the base, whoever contributes and however.
    assert key(before, "positions") == key(after, "positions")
    assert key(before, "positions") == key(plan_of(merge, "linear"), "positions")


@pytest.mark.parametrize("name", NAMES)
def test_whole_tensors_stand_on_nothing_only_where_that_changes_no_bit(
    name: str,
) -> None:
    """Without the base, an arc of task vectors would silently be one of whole weights."""
    merge, strategy = make_merge(), STRATEGIES[name]
    recipe = recipe_of(name)
    given = told(merge, recipe)
    if strategy.needs_base or strategy.prefers_base:
        with pytest.raises(BadInputError, match="without reading the base"):
            make_plan(recipe, merge.base, given, footing=Footing("zero"))
    else:
        plan = make_plan(recipe, merge.base, given, footing=Footing("zero"))
        assert {frame.ground for frame in plan.frames.values()} == {"none"}


@pytest.mark.parametrize(
    ("name", "parameters", "needed"),
    [
        ("krum", {}, 3),
        ("krum", {"f": "1"}, 5),
        ("multi_krum", {"f": "1"}, 5),
        ("bulyan", {}, 3),
        ("bulyan", {"f": "1"}, 7),
        ("consensus", {"k": "4"}, 4),
        ("model_stock", {}, 2),
        ("linear", {}, 1),
    ],
)
def test_too_few_contributions_are_refused_before_any_is_read(
    name: str, parameters: dict[str, str], needed: int
) -> None:
    """One of weight zero is none; so many as are needed make a plan, and a model."""
    recipe = make_recipe(name, parameters)
    enough = make_merge((UNIT,) * needed + (0,))
    plan = make_plan(recipe, enough.base, enough.contributions)
    execute(plan, enough.blobs, Sink())
    if needed > 1:
        few = make_merge((UNIT,) * (needed - 1) + (0,))
        with pytest.raises(BadInputError, match=f"needs {needed} .* there are"):
            make_plan(recipe, few.base, few.contributions)
