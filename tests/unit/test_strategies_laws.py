"""What every strategy promises: order, identity, weights, seeds, limits."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats, formulas
from crdtmerge.numerics.reference import reading
from crdtmerge.strategies import STRATEGIES, Inputs, whole_of
from tests.strategies import (
    DTYPES,
    UNIT,
    base_of,
    data_of,
    defaults_of,
    resolve,
    sample,
    shuffled,
    task,
)

ROBUST = {
    "bulyan/1",
    "centered_clip/1",
    "geometric_median/1",
    "krum/1",
    "median/1",
    "multi_krum/1",
    "trimmed_mean/1",
}

AVERAGES = (
    "aoe/1",
    "arcee_fusion/1",
    "karcher/1",
    "layer_swap/1",
    "model_stock/1",
    "multislerp/1",
    "nearswap/1",
    "nuslerp/1",
    "passthrough/1",
    "pma/1",
    "slerp/1",
    "wsm/1",
)
"""Those that do not go on beyond a model, and make nothing of nobody."""

SIZES = (0, 1, 63, 64, 65, 65_535, 65_536, 65_537)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_order_of_contributions_changes_no_byte(name: str, dtype: str) -> None:
    """All 24 orders of four contributions with different weights give one output.

    Those that depend on an order take it from digests, never from the list.
    """
    base, tunes = sample(257, 4)
    inputs = replace(
        task(name, dtype, tunes, base), weights=(UNIT, 3 * UNIT // 7, 7, 2 * UNIT)
    )
    seen = {resolve(name, shuffled(inputs, o)) for o in permutations(range(4))}
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in STRATEGIES if STRATEGIES[n].nameless])
def test_names_change_no_byte_where_that_is_said(name: str, dtype: str) -> None:
    """Canonical order follows names, so any names in place of any others may stand in."""
    base, tunes = sample(257, 4)
    inputs = replace(
        task(name, dtype, tunes, base), weights=(UNIT, 3 * UNIT // 7, 7, 2 * UNIT)
    )
    named = [tuple(inputs.contents[i] for i in o) for o in permutations(range(4))]
    seen = {resolve(name, replace(inputs, contents=names)) for names in named}
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["ties/1", "breadcrumbs/1", "breadcrumbs_ties/1"])
def test_who_changes_nothing_is_passed_over(name: str, dtype: str) -> None:
    """Beside two who change a tensor, or alone, with any weights: no bit of it."""
    base, tunes = sample(257, 2)
    few = replace(task(name, dtype, tunes, base), weights=(UNIT, 3 * UNIT // 7))
    assert STRATEGIES[name].passes_over(few.values)
    many = task(name, dtype, [tunes[0], base, base, tunes[1]], base)
    for idle in ((UNIT, 7), (-UNIT, 2 * UNIT)):
        weights = (few.weights[0], *idle, few.weights[1])
        assert resolve(name, replace(many, weights=weights)) == resolve(name, few)
    nobody = task(name, dtype, [base, base], base)
    assert (
        numerics.upcast(resolve(name, nobody), dtype).tolist()
        == (numerics.upcast(nobody.base or b"", dtype) + 0.0).tolist()
    )


def test_no_other_strategy_passes_anybody_over() -> None:
    """Those that do are tested above."""
    said = {n for n, s in STRATEGIES.items() if s.passes_over(defaults_of(n))}
    assert said == {"ties/1", "breadcrumbs/1", "breadcrumbs_ties/1"}
    averaged = replace(defaults_of("breadcrumbs"), parameters=(("normalize", "true"),))
    assert not STRATEGIES["breadcrumbs/1"].passes_over(averaged)


@pytest.mark.parametrize("name", STRATEGIES)
def test_only_who_says_so_depends_on_the_seed(name: str) -> None:
    """A seed changes masks and the order of a fold, and nothing else."""
    base, tunes = sample(260, 5)
    shape = (13, 20)
    tunes = [(tune + i).reshape(shape) for i, tune in enumerate(tunes)]
    options = {"votes": "dare_ties"} if name == "knots/1" else {}
    inputs = task(name, "F64", tunes, base.reshape(shape), **options)
    seeds = [bytes([seed]) * 32 for seed in range(6)]
    outputs = {resolve(name, replace(inputs, seed=seed)) for seed in seeds}
    strategy = STRATEGIES[name]
    assert (len(outputs) > 1) == (strategy.draws or strategy.order_dependent)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_task_vector_counts_as_the_whole_tensor(name: str, dtype: str) -> None:
    """Where no difference is rounded, it does not matter how a change is given."""
    generator = np.random.default_rng(4)
    top = 2 ** min(numerics.SIGNIFICAND_BITS[dtype], 7)
    base = generator.integers(-top, top, 301) / 64
    tunes = [generator.integers(-top, top, 301) / 64 for _ in range(3)]
    inputs = task(name, dtype, tunes, base)
    taus = tuple((tune - base).astype(np.float32) for tune in tunes)
    for given in (taus, (taus[0], *inputs.contributions[1:])):
        assert resolve(name, replace(inputs, contributions=given)) == resolve(
            name, inputs
        )


@pytest.mark.parametrize("name", STRATEGIES)
def test_without_a_base_only_what_needs_none_is_made(name: str) -> None:
    """Averages, arcs and medians of whole models stand on nothing; others say so."""
    base, tunes = sample(99, 3)
    inputs = replace(task(name, "F32", tunes, base), base=None)
    if STRATEGIES[name].needs_base:
        with pytest.raises(ContractError, match="the strategy needs a base"):
            resolve(name, inputs)
    else:
        assert len(resolve(name, inputs)) == 4 * 99


@pytest.mark.parametrize(
    "name",
    [
        *sorted(ROBUST),
        *AVERAGES,
        "consensus/1",
        "emr/1",
        "metagpt/1",
        "ram/1",
        "ramplus_tl/1",
    ],
)
def test_a_negative_weight_is_refused_where_it_means_nothing(name: str) -> None:
    """Angles, medians and shares know no direction away from a model."""
    base, tunes = sample(10, 2)
    inputs = replace(task(name, "F32", tunes, base), weights=(UNIT, -UNIT))
    with pytest.raises(ContractError, match="negative weight has no meaning"):
        resolve(name, inputs)


@pytest.mark.parametrize("name", [*sorted(ROBUST), *AVERAGES, "linear/1"])
def test_what_averages_refuses_weights_of_zero(name: str) -> None:
    """Nobody takes part, so there is nothing to return."""
    base, tunes = sample(10, 2)
    inputs = replace(task(name, "F32", tunes, base), weights=(0, 0))
    with pytest.raises(ContractError, match="tensor 'w': all weights are zero"):
        resolve(name, inputs)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_the_blocks_work(name: str, size: int) -> None:
    """Empty tensors, single items and block edges give an output of their size."""
    base, tunes = sample(size, 3)
    for dtype in ("BF16", "F32"):
        inputs = task(name, dtype, tunes, base)
        output = resolve(name, inputs)
        assert len(output) == len(base_of(inputs))
        assert numerics.inspect(output, dtype).finite


@pytest.mark.parametrize("name", STRATEGIES)
def test_block_size_changes_no_byte(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How a tensor is cut is no part of the result, masks and thresholds included."""
    base, tunes = sample(1003, 3)
    inputs = task(name, "F32", tunes, base)
    expected = resolve(name, inputs)
    for items in (1, 7, 64, 1002, 5000):
        monkeypatch.setattr(reading, "BLOCK_ITEMS", items)
        monkeypatch.setattr(formulas, "BLOCK_ITEMS", items)
        assert resolve(name, inputs) == expected


@pytest.mark.parametrize(
    ("dtype", "floor"),
    [("BF16", -26), ("F16", -23), ("F32", -44), ("F8_E4M3", -99), ("F8_E5M2", -99)],
)
@pytest.mark.parametrize("exponent", [0, 5])
def test_one_contribution_of_weight_one_is_itself(
    dtype: str, floor: int, exponent: int
) -> None:
    """Bit for bit down to 2**(E - 26) in BF16, E - 23 in F16, E - 44 in F32 (ADR 4).

    The 8-bit floats end far above the grid: they are all themselves.
    """
    generator = np.random.default_rng(8)
    scales = np.repeat(np.arange(max(floor + exponent, -24), exponent + 6), 40)
    theta = np.ldexp(generator.uniform(0.5, 1, scales.size), scales + 1)
    theta[::40] = np.ldexp(1.0, scales[::40])
    theta[1::2] *= -1
    top = 2.0 ** min(exponent + 5, 8 if dtype == "F8_E4M3" else 99)
    theta = np.clip(theta, -top, top)
    base = np.full(theta.size, 0.75 * 2.0**exponent)
    inputs = task("linear/1", dtype, [theta], base)
    assert whole_of(STRATEGIES["linear/1"].emit(inputs)) == inputs.contributions[0]


@pytest.mark.parametrize(
    "name",
    sorted(
        {*AVERAGES, *ROBUST, "linear/1", "metagpt/1"} - {"arcee_fusion/1", "nearswap/1"}
    ),
)
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_identical_contributions_are_themselves(name: str, dtype: str) -> None:
    """Three copies with odd weights average to the copy."""
    base, (theta,) = sample(500, 1)
    inputs = replace(
        task(name, dtype, [theta] * 3, base), weights=(UNIT, 123_456_789, 3)
    )
    if name == "metagpt/1":  # its coefficients are rounded: equal thirds lose 10**-9
        inputs = replace(inputs, weights=(UNIT, UNIT, 2 * UNIT))
    assert resolve(name, inputs) == inputs.contributions[0]


@pytest.mark.parametrize(
    "name", ["dare_linear/1", "dare_ties/1", "nuslerp/1", "task_arithmetic/1", "ties/1"]
)
@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_without_dropping_one_contribution_is_itself(name: str, dtype: str) -> None:
    """Density 1, or p = 0: the base plus the task vector of one model is the model."""
    generator = np.random.default_rng(6)
    base = generator.integers(1, 256, 400) / 256
    theta = generator.integers(1, 256, 400) / 256
    options = {"density": "1"} if name == "ties/1" else {}
    options |= {"p": "0"} if name.startswith("dare") else {}
    inputs = task(name, dtype, [theta], base, **options)
    assert resolve(name, inputs) == inputs.contributions[0]


@pytest.mark.parametrize("name", STRATEGIES)
def test_weight_zero_takes_no_part(name: str) -> None:
    """A contribution of weight 0 leaves the bytes as if it were not there."""
    base, tunes = sample(300, 4)
    options = {"p": "0.2"} if name.startswith("dare") else {}
    inputs = replace(
        task(name, "F32", tunes, base, **options), weights=(UNIT, 0, 3 * UNIT, UNIT)
    )
    assert resolve(name, inputs) == resolve(name, shuffled(inputs, (0, 2, 3)))


# metagpt measures all.
@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - {"metagpt/1"}))
def test_what_takes_no_part_is_not_read(name: str) -> None:
    """A contribution of weight 0 cannot hold up the others, whatever its bytes."""
    base, tunes = sample(10, 3)
    inputs = task(name, "F32", [*tunes, base], base)
    poison = np.full(10, np.nan, dtype="<f4").tobytes()
    for bad in (poison, b""):
        held = replace(inputs, contributions=(*inputs.contributions[:3], bad))
        assert resolve(name, replace(held, weights=(UNIT,) * 3 + (0,))) == resolve(
            name, shuffled(inputs, (0, 1, 2))
        )


# passthrough has one contribution in a tensor, and nothing to weigh it against.
@pytest.mark.parametrize(
    "name", sorted(STRATEGIES.keys() - {"krum/1", "passthrough/1"})
)
def test_weights_matter(name: str) -> None:
    """Another weight gives another model.

    Not in krum, which takes one model as it is, and counts heads to find it.
    """
    base, tunes = sample(300, 3)
    options = {"p": "0.2"} if name.startswith("dare") else {}
    inputs = task(name, "F32", tunes, base, **options)
    other = replace(inputs, weights=(UNIT, UNIT, 3 * UNIT))
    assert resolve(name, inputs) != resolve(name, other)


def test_an_average_of_weight_zero_is_refused() -> None:
    """Nothing can be normalised by zero; without normalising the sum is zero."""
    base, tunes = sample(3, 2)
    inputs = replace(task("linear/1", "F32", tunes, base), weights=(0, 0))
    with pytest.raises(ContractError, match="tensor 'w': all weights are zero"):
        resolve("linear/1", inputs)
    inputs = replace(
        task("linear/1", "F32", tunes, base, normalize="false"), weights=(0, 0)
    )
    assert resolve("linear/1", inputs) == bytes(12)


@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - {"linear/1"}))
def test_contributions_without_change_give_the_base(name: str) -> None:
    """No task vector, no change: coefficients are zero and nobody votes."""
    base, _ = sample(100, 1)
    inputs = task(name, "F32", [base] * 3, base)
    assert resolve(name, inputs) == inputs.base


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STRATEGIES)
def test_zero_is_always_plus_zero(name: str, dtype: str) -> None:
    """Negative zeros go in, none comes out."""
    zeros = np.zeros(5)
    inputs = task(name, dtype, [zeros] * 3, zeros)
    size = numerics.ITEM_BYTES[dtype]
    negative = (bytes(size - 1) + b"\x80") * 5
    inputs = replace(inputs, base=negative, contributions=(negative,) * 3)
    assert resolve(name, inputs) == bytes(5 * size)


def test_subnormals_pass_through() -> None:
    """F16 subnormals survive a merge; F32 ones are far below the grid and vanish."""
    values = np.array([2.0**-24, 3 * 2.0**-24, -(2.0**-20)])
    inputs = task("linear/1", "F16", [values], values)
    assert resolve("linear/1", inputs) == inputs.contributions[0]
    tiny = np.array([2.0**-149])
    inputs = task("linear/1", "F32", [tiny], tiny)
    assert resolve("linear/1", inputs) == bytes(4)


def dare_tasks(base: Floats, tunes: list[Floats]) -> Iterator[Inputs]:
    inputs = task("dare_ties/1", "F32", tunes, base, p="0.5")
    yield inputs
    yield replace(inputs, seed=b"t" * 32)
    yield replace(inputs, tensor="v")
    yield shuffled(replace(inputs, contents=inputs.contents[::-1]), (0, 1))


def test_masks_change_with_seed_tensor_and_contribution() -> None:
    """Each part of a mask's key gives other bytes."""
    base, tunes = sample(200, 2)
    outputs = [resolve("dare_ties/1", inputs) for inputs in dare_tasks(base, tunes)]
    assert len(set(outputs)) == 4


def test_in_scope_contribution_the_seed_does_not_enter() -> None:
    """Masks keyed by the contribution alone are the same in every set."""
    base, tunes = sample(200, 2)
    inputs = replace(task("dare_ties/1", "F32", tunes, base), seed_scope="contribution")
    other = replace(inputs, seed=b"t" * 32)
    assert resolve("dare_ties/1", inputs) == resolve("dare_ties/1", other)
    in_set = replace(inputs, seed_scope="set")
    assert resolve("dare_ties/1", inputs) != resolve("dare_ties/1", in_set)


def test_dare_keeps_the_mean_of_the_task_vector() -> None:
    """Dropping 90% and rescaling leaves the expected change (five deviations)."""
    items = 100_000
    inputs = task("dare_ties/1", "F32", [np.full(items, 1.5)], np.ones(items))
    change = numerics.upcast(resolve("dare_ties/1", inputs), "F32") - 1
    assert set(change.tolist()) == {0.0, 5.0}
    assert abs(change.mean() - 0.5) < 5 * 1.5 / items**0.5


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("output", DTYPES)
def test_output_dtype_is_the_one_asked_for(name: str, output: str) -> None:
    """Any float dtype can be written; each is one rounding of the same F64 result."""
    base, tunes = sample(50, 3)
    inputs = replace(task(name, "BF16", tunes, base), output_dtype=output)
    full = resolve(name, replace(inputs, output_dtype="F64"))
    expected = numerics.downcast(numerics.upcast(full, "F64"), output)
    assert resolve(name, inputs) == expected
    assert resolve(name, replace(inputs, output_dtype="")) == resolve(
        name, replace(inputs, output_dtype="BF16")
    )


# passthrough does not read who is not selected.
@pytest.mark.parametrize("name", sorted(STRATEGIES.keys() - {"passthrough/1"}))
@pytest.mark.parametrize("bad", [64.0, -64.0, np.nan, np.inf])
def test_what_breaks_the_headroom_is_named(name: str, bad: float) -> None:
    """A contribution beyond 2**(E + 6), or not finite, is refused with its id."""
    base = np.full(4, 0.5)
    inputs = task(name, "F32", [base, base], base)
    poison = np.array([0, 0, bad, 0], dtype="<f4").tobytes()
    inputs = replace(inputs, contributions=(base_of(inputs), poison))
    with pytest.raises(ContractError, match="contribution 010101010101, tensor 'w'"):
        resolve(name, inputs)


@pytest.mark.parametrize(
    "name", ["linear/1", "ties/1", "dare_linear/1", "dare_ties/1", "task_arithmetic/1"]
)
@pytest.mark.parametrize("weights", [(2**39, 2**39), (-(2**39), 2**39 + 1)])
def test_weights_outside_the_contract_are_refused(
    name: str, weights: tuple[int, int]
) -> None:
    """sum|W| of 2**40 has no result, whatever the signs."""
    base, tunes = sample(4, 2)
    inputs = replace(task(name, "F32", tunes, base), weights=weights)
    with pytest.raises(ContractError, match="sum of"):
        resolve(name, inputs)


def test_a_result_beyond_the_output_dtype_is_refused() -> None:
    """BF16 values that F16 cannot hold are not turned into infinity."""
    big = np.full(3, 2.0**20)
    inputs = replace(task("linear/1", "BF16", [big], big), output_dtype="F16")
    with pytest.raises(ContractError, match="tensor 'w': a result is beyond"):
        resolve("linear/1", inputs)


def test_bytes_of_another_size_are_refused() -> None:
    """A tensor that is shorter than its shape says is named."""
    base, tunes = sample(4, 1)
    inputs = task("linear/1", "F32", tunes, base)
    with pytest.raises(ContractError, match="12 bytes, not the 16"):
        resolve("linear/1", replace(inputs, base=bytes(base_of(inputs))[:12]))


def test_metagpt_emits_only_after_its_reduce_step() -> None:
    """Coefficients are never guessed."""
    base, tunes = sample(4, 1)
    with pytest.raises(ContractError, match="reduce"):
        STRATEGIES["metagpt/1"].emit(task("metagpt/1", "F32", tunes, base))


def test_memoryviews_are_read_as_bytes() -> None:
    """The kind of buffer changes nothing."""
    base, tunes = sample(40, 2)
    inputs = task("linear/1", "BF16", tunes, base)
    views = replace(
        inputs,
        base=memoryview(base_of(inputs)),
        contributions=tuple(memoryview(data_of(d)) for d in inputs.contributions),
    )
    assert resolve("linear/1", views) == resolve("linear/1", inputs)
