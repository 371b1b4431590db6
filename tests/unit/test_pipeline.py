"""Recipes as pipelines: steps before and after a strategy, against plain NumPy.

The oracle computes in rationals on tensors of small dyadic numbers, where every sum is
exact: so bytes are compared, whatever order of summation either side has.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from crdtmerge.digest import ContentId
from crdtmerge.errors import BadInputError, ContractError
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.ground import ON_BASE, Footing
from crdtmerge.resolve.incremental import why_not
from crdtmerge.resolve.plan import Plan, make_plan
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import STRATEGIES, Values, find, make_recipe, whole_of
from crdtmerge.strategies.pipeline import emit, measure
from tests.models import Blobs
from tests.strategies import reduced, sample, task

UNIT = 10**9
Vector = list[Fraction]


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def write(self, name: str, data: bytes | memoryview, offset: int = 0) -> None:
        """Keep a tensor."""
        self.held[name] = self.held.get(name, b"")[:offset] + bytes(data)


class Small:
    """A base of some tensors of 24 float32 items and its fine-tunes, in 64ths."""

    def __init__(self, names: Sequence[str] = ("w",), tunes: int = 2) -> None:
        self.names, self.blobs = names, Blobs()
        generator = np.random.default_rng(7)
        self.base = drawn(generator, names)
        self.taus = [drawn(generator, names) for _ in range(tunes)]
        self.manifest = self._manifest("base", b"", self.base)
        whole = [{n: add(self.base[n], tau[n]) for n in names} for tau in self.taus]
        self.contributions = [self._offer("full", tensors) for tensors in whole]
        self.deltas = [self._offer("delta", tau) for tau in self.taus]

    def _manifest(self, kind: str, base: bytes, tensors: dict[str, Vector]) -> Manifest:
        entries = [
            TensorEntry(name, "F32", (6, 4), self.blobs.put(singles(values)))
            for name, values in sorted(tensors.items())
        ]
        return Manifest(kind, base, tuple(entries))

    def _offer(self, kind: str, tensors: dict[str, Vector]) -> Contribution:
        manifest = self._manifest(kind, self.manifest.content_id, tensors)
        return Contribution(ContentId(manifest.content_id), 2 * UNIT, manifest)

    def plan(
        self,
        recipe: Recipe,
        footing: Footing = ON_BASE,
        given: Sequence[Contribution] | None = None,
    ) -> Plan:
        """Return the plan of a recipe."""
        chosen = self.contributions if given is None else given
        return make_plan(recipe, self.manifest, chosen, footing)

    def run(self, plan: Plan) -> dict[str, bytes]:
        """Return the tensors that a plan makes."""
        sink = Kept()
        execute(plan, self.blobs, sink)
        return sink.held


def drawn(generator: np.random.Generator, names: Sequence[str]) -> dict[str, Vector]:
    """Return a vector for each name."""
    return {
        name: [Fraction(int(n), 64) for n in generator.integers(-99, 99, 24)]
        for name in names
    }


def singles(values: Vector) -> bytes:
    return np.array([float(v) for v in values], "<f4").tobytes()


def add(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]


def trimmed(values: Vector, share: Fraction) -> Vector:
    """Keep the largest magnitudes, and all that tie with the least of them."""
    k = -(-len(values) * share.numerator // share.denominator)
    least = sorted((abs(v) for v in values), reverse=True)[k - 1]
    return [v if abs(v) >= least else Fraction(0) for v in values]


def mean(vectors: Sequence[Vector]) -> Vector:
    columns = zip(*vectors, strict=True)
    return [sum(column, Fraction(0)) / len(vectors) for column in columns]


# --- steps before ----------------------------------------------------------------------


def test_trim_before_linear_is_the_mean_of_trimmed_task_vectors() -> None:
    """A sparsifier goes with a strategy that has none."""
    small = Small()
    recipe = make_recipe("linear", {"trim.density": "0.25"}, pre=["trim"])
    expected = add(
        small.base["w"], mean([trimmed(tau["w"], Fraction(1, 4)) for tau in small.taus])
    )
    found = small.run(small.plan(recipe))
    assert found["w"] == singles(expected)
    assert found["w"] != small.run(small.plan(make_recipe("linear", {})))["w"]


def test_each_step_is_given_what_the_one_before_left() -> None:
    """Scaling by a half and trimming give the same in both orders."""
    small = Small()
    words = {"trim.density": "0.25", "scale.by": "0.5"}
    halves = [[v / 2 for v in trimmed(tau["w"], Fraction(1, 4))] for tau in small.taus]
    expected = singles(add(small.base["w"], mean(halves)))
    for order in (["trim", "scale"], ["scale", "trim"]):
        plan = small.plan(make_recipe("linear", words, pre=order))
        assert small.run(plan)["w"] == expected


def test_a_rule_gives_one_contribution_another_step_parameter() -> None:
    small = Small()
    first, second = small.contributions
    rule = Rule("*", (("trim.density", "1"),), f"content:{second.content.hex()}")
    recipe = make_recipe("linear", {"trim.density": "0.25"}, [rule], pre=["trim"])
    cut = [trimmed(small.taus[0]["w"], Fraction(1, 4)), small.taus[1]["w"]]
    assert small.run(small.plan(recipe))["w"] == singles(
        add(small.base["w"], mean(cut))
    )
    assert first.content != second.content


def test_a_gradient_gives_each_layer_another_density() -> None:
    names = [f"h.{n}.w" for n in range(3)]
    small = Small(names)
    recipe = make_recipe("linear", {"trim.density": "0.25,0.75"}, pre=["trim"])
    found = small.run(small.plan(recipe))
    for n, share in enumerate((Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))):
        cut = [trimmed(tau[names[n]], share) for tau in small.taus]
        assert found[names[n]] == singles(add(small.base[names[n]], mean(cut)))


def test_a_step_before_metagpt_enters_its_norms() -> None:
    """Coefficients are those of what the step leaves, over the whole model."""
    small = Small(("u", "v"))
    recipe = make_recipe("metagpt", {"trim.density": "0.25"}, pre=["trim"])
    cut = [
        {name: trimmed(tau[name], Fraction(1, 4)) for name in small.names}
        for tau in small.taus
    ]
    norms = [sum(v * v for t in model.values() for v in t) for model in cut]
    shares = [round(norm / sum(norms) * UNIT) for norm in norms]
    found = small.run(small.plan(recipe))
    for name in small.names:
        exact = [
            b
            + sum(s * model[name][i] for s, model in zip(shares, cut, strict=True))
            / UNIT
            for i, b in enumerate(small.base[name])
        ]
        got = np.frombuffer(found[name], "<f4")
        assert np.abs(got - np.array(exact, float)).max() <= 2.0**-23 * 4
        untouched = small.run(small.plan(make_recipe("metagpt", {})))[name]
        assert found[name] != untouched


def test_who_weighs_nothing_passes_the_steps_before_a_map() -> None:
    """A reduce may give it a coefficient, so a map must measure what the steps leave."""
    base, tunes = sample(300, 2, seed=3)
    inputs = task("metagpt", "F32", tunes, base)
    values = Values((("trim.density", "0.1"),))
    inputs = replace(inputs, values=values, own=(values,) * 2)
    idle = replace(inputs, weights=(0, UNIT))
    found = measure(find("metagpt"), ("trim/1",), idle)
    assert found == measure(find("metagpt"), ("trim/1",), inputs)
    assert found != measure(find("metagpt"), (), inputs)


# --- steps after -----------------------------------------------------------------------


def test_scale_after_a_strategy_scales_the_merged_task_vector() -> None:
    small = Small()
    recipe = make_recipe("linear", {"scale.by": "-0.5"}, post=["scale"])
    merged = [-v / 2 for v in mean([tau["w"] for tau in small.taus])]
    assert small.run(small.plan(recipe))["w"] == singles(add(small.base["w"], merged))


def test_a_step_after_has_nothing_of_one_contribution() -> None:
    """A rule that would give it to one would be passed over in silence."""
    rule = Rule("*", (("scale.by", "2"),), "tag:math")
    with pytest.raises(BadInputError, match="cannot differ between") as caught:
        make_recipe("linear", {}, [rule], post=["scale"])
    assert "without content, author or tag" in caught.value.hint
    assert make_recipe("linear", {}, [rule], pre=["scale"]).rules


# --- no steps, other steps -------------------------------------------------------------


@pytest.mark.parametrize("name", STRATEGIES)
def test_without_steps_no_bit_changes(name: str) -> None:
    """The pipeline is then the strategy itself, map and emit."""
    strategy = find(name)
    base, tunes = sample(300, 3, seed=3)
    inputs = task(name, "BF16", tunes, base)
    if strategy.map is not None:
        assert measure(strategy, (), inputs) == strategy.map(inputs)
    (inputs,) = reduced(strategy, [inputs])
    assert whole_of(emit(strategy, (), (), inputs)) == whole_of(strategy.emit(inputs))


@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16", "F16"])
@pytest.mark.parametrize("name", ["linear", "ties", "dare_ties", "median"])
def test_steps_that_leave_all_change_float32_rounding_at_most(
    name: str, dtype: str
) -> None:
    """Scaling by one before and after gives the strategy's result, rounded again."""
    base, tunes = sample(300, 3, seed=5)
    inputs = task(name, dtype, tunes, base)
    steps = (*inputs.values.parameters, ("scale.by", "1"))
    values = Values(tuple(sorted(steps)))
    inputs = replace(inputs, values=values, own=(values,) * 3, output_dtype="F64")
    plain = np.frombuffer(whole_of(emit(find(name), (), (), inputs)), "<f8")
    after = np.frombuffer(whole_of(emit(find(name), (), ("scale/1",), inputs)), "<f8")
    assert np.abs(after - plain).max() <= 2.0**-22 * np.abs(plain).max()


def test_keys_of_plans_with_other_steps_differ() -> None:
    """Steps, their order, place and parameters can change a bit: they are in the key."""
    small = Small()
    trim, both = {"trim.density": "0.5"}, {"trim.density": "0.5", "scale.by": "1"}
    recipes = [
        make_recipe("metagpt", {}),
        make_recipe("metagpt", trim, pre=["trim"]),
        make_recipe("metagpt", {"trim.density": "0.25"}, pre=["trim"]),
        make_recipe("metagpt", trim, post=["trim"]),
        make_recipe("metagpt", both, pre=["trim", "scale"]),
        make_recipe("metagpt", both, pre=["scale", "trim"]),
        make_recipe("metagpt", both, pre=["scale"], post=["trim"]),
    ]
    for kind in ("map", "reduce", "emit"):
        keys = {
            next(t.key for t in small.plan(r).tasks if t.kind == kind) for r in recipes
        }
        # A map sees no step after: but its parameters are among the recipe's.
        assert len(keys) == len(recipes), kind
    assert "steps" in why_not(small.plan(make_recipe("linear", trim, pre=["trim"])))


# --- what steps need -------------------------------------------------------------------


def test_steps_of_task_vectors_alone_give_the_merged_task_vector() -> None:
    """As an adapter's merge does: deltas on zeros, in the base's grid."""
    small = Small()
    recipe = make_recipe(
        "task_arithmetic",
        {"trim.density": "0.25", "scale.by": "0.5"},
        pre=["trim"],
        post=["scale"],
    )
    on_zero = Footing("zero", {"w": 2})
    found = small.run(small.plan(recipe, on_zero, small.deltas))["w"]
    cut = [trimmed(tau["w"], Fraction(1, 4)) for tau in small.taus]
    weighed = [2 * (a + b) / 2 for a, b in zip(*cut, strict=True)]
    assert found == singles(weighed)
    # On the base the same deltas and the whole models make one model.
    models = [small.run(small.plan(recipe, ON_BASE, g)) for g in (small.deltas, None)]
    assert models[0] == models[1]


def test_whole_models_and_steps_make_no_adapter() -> None:
    """A step needs the difference, which whole weights without the base do not tell."""
    small = Small()
    recipe = make_recipe("linear", {}, pre=["trim"])
    with pytest.raises(BadInputError, match="without reading the base"):
        small.plan(recipe, Footing("zero", {"w": 2}))


@pytest.mark.parametrize("stage", ["pre", "post"])
def test_steps_are_refused_without_a_base(stage: str) -> None:
    small = Small()
    pre, post = (["scale"], []) if stage == "pre" else ([], ["scale"])
    recipe = make_recipe("linear", {}, pre=pre, post=post)
    small.run(small.plan(make_recipe("linear", {}), Footing("none")))
    with pytest.raises(BadInputError, match="a recipe with steps"):
        small.plan(recipe, Footing("none"))
    base, tunes = sample(30, 2)
    values = Values((("normalize", "true"), ("scale.by", "1")))
    inputs = replace(
        task("linear", "F32", tunes, base), base=None, values=values, own=()
    )
    before, after = (("scale/1",), ()) if stage == "pre" else ((), ("scale/1",))
    with pytest.raises(ContractError, match="need a base"):
        whole_of(emit(find("linear"), before, after, inputs))


def test_a_scale_out_of_the_headroom_is_refused() -> None:
    """What leaves the exact sums is an error, not a sum that is nearly right."""
    base, tunes = sample(30, 2)
    inputs = task("linear", "F32", [t * 2.0**20 for t in tunes], base)
    values = Values((("normalize", "true"), ("scale.by", "100")))
    inputs = replace(inputs, values=values, own=(values,) * 2)
    with pytest.raises(ContractError, match="headroom"):
        whole_of(emit(find("linear"), ("scale/1",), (), inputs))


def test_weights_of_rules_are_under_the_contract_too() -> None:
    """Refused by the plan, before anything is read."""
    small = Small(tunes=2)
    recipe = make_recipe("linear", {}, [Rule("*", (("weight", "1000"),))])
    with pytest.raises(ContractError, match="sum of \\|weights\\|"):
        small.plan(recipe)
    own = [replace(c, weight=2000 * UNIT) for c in small.contributions]
    smaller = make_recipe("linear", {}, [Rule("*", (("weight", "1"),))])
    assert small.run(small.plan(smaller, given=own)) == small.run(
        small.plan(make_recipe("linear", {}))
    )


def test_a_weight_below_zero_subtracts() -> None:
    """A rule may give what no contribution can: the negation of a task vector."""
    small = Small()
    first = small.contributions[0].content.hex()
    rule = Rule("*", (("weight", "-2"),), f"content:{first}")
    recipe = make_recipe("task_arithmetic", {}, [rule])
    found = small.run(small.plan(recipe))["w"]
    a, b = (tau["w"] for tau in small.taus)
    merged = [2 * y - 2 * x for x, y in zip(a, b, strict=True)]
    assert found == singles(add(small.base["w"], merged))
