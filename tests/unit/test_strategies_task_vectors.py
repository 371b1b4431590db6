"""magmax, emr, consensus, ram and ramplus_tl, against plain NumPy and by hand."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, sample, shuffled, task

NAMES = ("consensus", "emr", "magmax", "ram", "ramplus_tl")


def merged(name: str, inputs: Inputs) -> Floats:
    found: Floats = numerics.upcast(resolve(name, inputs), inputs.dtype)
    return found


def changes(name: str, taus: list[list[float]], **given: str) -> Inputs:
    """A base of ones, and contributions that change it by these."""
    base = np.ones(len(taus[0]))
    return task(name, "F64", [base + np.array(tau) for tau in taus], base, **given)


def change(name: str, inputs: Inputs) -> list[float]:
    found: list[float] = (merged(name, inputs) - 1).tolist()
    return found


def taus_of(items: int, count: int) -> tuple[Floats, Floats]:
    """A base and task vectors that float32 holds, some items unchanged."""
    base, tunes = sample(items, count)
    made = np.array([(tune - base).astype(np.float32) for tune in tunes], dtype=float)
    made[:, ::7] = 0
    made[0, ::3] = 0
    return base, made


def given(name: str, base: Floats, taus: Floats, **parameters: str) -> Inputs:
    inputs = task(name, "F64", [base] * len(taus), base, **parameters)
    return replace(inputs, contributions=tuple(t.astype(np.float32) for t in taus))


def test_magmax_takes_the_largest_change() -> None:
    """At half its size by default."""
    base, taus = taus_of(500, 4)
    largest = np.take_along_axis(taus, np.abs(taus).argmax(axis=0)[np.newaxis], 0)[0]
    for scale, parameters in ((0.5, {}), (1, {"scale": "1"})):
        found = merged("magmax", given("magmax", base, taus, **parameters))
        np.testing.assert_allclose(found, base + scale * largest, rtol=1e-15)


def test_magmax_gives_a_tie_to_the_first_in_canonical_order() -> None:
    """The authors' code gives it to whoever comes last in the list."""
    inputs = changes("magmax", [[0.25], [0.5], [-0.5]], scale="1")
    for order in permutations(range(3)):
        assert change("magmax", shuffled(inputs, order)) == [0.5]


def test_magmax_weighs_before_it_compares() -> None:
    """Weights count as shares of the largest; a negative one turns its change around."""
    inputs = changes("magmax", [[0.5, 0.5], [0.75, 1.5]], scale="1")
    halved = replace(inputs, weights=(2 * UNIT, UNIT))
    assert change("magmax", halved) == [0.5, 0.75]
    turned = replace(inputs, weights=(2 * UNIT, -UNIT))
    assert change("magmax", turned) == [0.5, -0.75]
    assert change("magmax", replace(inputs, weights=(7, 7))) == [0.75, 1.5]
    assert change("magmax", replace(inputs, weights=(0, 0))) == [0, 0]


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 1, 2)])
def test_emr_is_the_mean_rescale_of_the_unified_task_vector(
    weights: tuple[int, ...],
) -> None:
    """Signs by weight, largest magnitudes that agree, rescales by weight."""
    base, taus = taus_of(500, 3)
    weighed = np.array(weights)[:, np.newaxis] * taus
    signs = np.sign(weighed.sum(axis=0))
    unified = signs * np.where(taus * signs > 0, np.abs(taus), 0).max(axis=0)
    masked = np.where(taus * signs > 0, np.abs(unified), 0)
    rescales = np.abs(taus).sum(axis=1) / masked.sum(axis=1)
    wanted = base + np.average(rescales, weights=weights) * unified
    inputs = given("emr", base, taus)
    inputs = replace(inputs, weights=tuple(w * UNIT for w in weights))
    np.testing.assert_allclose(merged("emr", inputs), wanted, rtol=1e-12)


def test_emr_of_one_contribution_is_itself() -> None:
    """All agree with themselves: the rescale is 1."""
    inputs = changes("emr", [[0.25, -0.5, 0.0]])
    assert change("emr", inputs) == [0.25, -0.5, 0.0]


def test_in_emr_a_sum_of_zero_elects_nobody() -> None:
    """The authors' code counts it as minus: the smaller half of a conflict would win."""
    assert change("emr", changes("emr", [[0.5, 0.25], [-0.5, 0.25]]))[0] == 0


def test_in_emr_who_never_agrees_divides_by_nothing() -> None:
    """Upstream divides by zero; a rescale of 0 counts in the mean."""
    inputs = changes("emr", [[0.5, 0.5], [0.5, 0.5], [-0.25, -0.25]])
    assert change("emr", inputs) == pytest.approx([1 / 3, 1 / 3])
    inputs = changes("emr", [[0.5, 0.5], [0.0, 0.0]])
    assert change("emr", inputs) == [0.25, 0.25]


@pytest.mark.parametrize("k", ["0", "1", "2", "3"])
@pytest.mark.parametrize("weights", [(1, 1, 1), (4, 1, 2)])
def test_consensus_keeps_what_k_tasks_rely_on(k: str, weights: tuple[int, ...]) -> None:
    """Of the sum that the task vectors make; equal weights of any size are the sum."""
    base, taus = taus_of(500, 3)
    weighed = 3 / sum(weights) * np.array(weights)[:, np.newaxis] * taus
    total = weighed.sum(axis=0)
    users = (np.abs(weighed) > 0.4 * np.abs(total - weighed)).sum(axis=0)
    wanted = base + 0.3 * np.where(users >= int(k), total, 0)
    inputs = given("consensus", base, taus, k=k)
    inputs = replace(inputs, weights=tuple(w * UNIT for w in weights))
    np.testing.assert_allclose(merged("consensus", inputs), wanted, rtol=1e-13)
    assert 0 < (users == 3).sum() < 500


def test_in_consensus_more_weight_does_not_take_a_change_away() -> None:
    """One of seven changes an item; whatever its weight, the item counts for it."""
    for weight in (1, 3, 10, 100):
        inputs = changes("consensus", [[0.25], *[[0.0]] * 6], k="1", alpha="1")
        weights = (weight * UNIT, *(UNIT,) * 6)
        found = change("consensus", replace(inputs, weights=weights))
        assert found == pytest.approx([0.25 * 7 * weight / (weight + 6)])


def test_in_consensus_what_equals_the_cut_does_not_count() -> None:
    """The comparison is strict; here one task stands on it, the other clears it."""
    inputs = changes("consensus", [[0.25], [0.5]], lambda_t="0.5", alpha="1")
    assert change("consensus", inputs) == [0]
    inputs = changes("consensus", [[0.25], [0.5]], lambda_t="0.499", alpha="1")
    assert change("consensus", inputs) == [0.75]


def test_consensus_of_fewer_than_k_is_refused() -> None:
    """It would be the base whatever they hold."""
    inputs = changes("consensus", [[0.25], [0.5]])
    with pytest.raises(ContractError, match="2 contributions rely on, and 1 take part"):
        resolve("consensus", replace(inputs, weights=(UNIT, 0)))


RAM_TAUS = [
    [0.5, 0.5, 0.25, 0.0, 1e-5, 2.0**-16],
    [0.0, 0.25, -0.25, 0.0, 0.0, 0.0],
    [0.0, 0.0, 0.75, 0.0, 0.0, 0.0],
]
"""Changed by one, by two, by three, by nobody, up to epsilon, beyond epsilon."""


def ram_inputs(name: str, **parameters: str) -> Inputs:
    return given(name, np.ones(6), np.array(RAM_TAUS), **parameters)


def test_ram_averages_over_those_who_changed_an_item() -> None:
    """What one alone changed keeps its size; what is not above epsilon is dropped.

    1e-5 as float32 is below 1e-5 as float64.
    """
    found = change("ram", ram_inputs("ram"))
    assert found == [0.5, 0.375, 0.25, 0, 0, 2.0**-16]


def test_in_ram_what_equals_epsilon_is_no_change() -> None:
    """The comparison is strict."""
    found = change("ram", ram_inputs("ram", epsilon="0.25"))
    assert found == [0.5, 0.5, 0.75, 0, 0, 0]


def test_in_ram_weights_count_where_several_changed_an_item() -> None:
    """A mean by weight; what one alone changed is not scaled."""
    inputs = replace(ram_inputs("ram"), weights=(UNIT, 3 * UNIT, 4 * UNIT))
    assert change("ram", inputs) == [
        0.5,
        0.3125,
        0.3125,
        0,
        0,
        2**-16,
    ]


@pytest.mark.parametrize(("alpha", "factor"), [("0.2", 1.02), ("9", 1.1), ("0", 1.0)])
def test_ramplus_scales_what_is_unique_by_what_is_shared(
    alpha: str, factor: float
) -> None:
    """The first changed two items alone and two with others: a ratio of 1, capped."""
    found = change("ramplus_tl", ram_inputs("ramplus_tl", alpha=alpha))
    wanted = [0.5 * factor, 0.375, 0.25, 0, 0, factor * 2.0**-16]
    assert found == pytest.approx(wanted, abs=1e-15)


def test_ramplus_with_nothing_unique_is_ram() -> None:
    """A ratio over no items divides nothing, however large alpha is."""
    inputs = changes("ramplus_tl", [[0.5, 0.25], [0.25, 0.5]], alpha="1000", r="100")
    assert change("ramplus_tl", inputs) == [0.375, 0.375]
