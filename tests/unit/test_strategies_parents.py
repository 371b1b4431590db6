"""layer_swap and aoe: which parent a tensor is taken from, and where they are mixed."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, sample, task, with_own

OUTER: Mapping[str, str] = {"part": "outer"}
MAIN: Mapping[str, str] = {"main": "true"}


def swap(layer: tuple[int, int] | None, **parameters: str) -> Inputs:
    """Two experts: the first gives outer layers, the second inner ones."""
    base, tunes = sample(65, 2)
    inputs = with_own(task("layer_swap", "F32", tunes, base, **parameters), OUTER, {})
    return replace(inputs, layer=layer)


def mean(inputs: Inputs, *weights: int) -> bytes:
    """The weighted mean by another strategy."""
    base, _ = sample(65, 1)
    plain = task("linear", "F32", [base] * len(weights), base)
    given = inputs.contributions[: len(weights)]
    return resolve("linear", replace(plain, contributions=given, weights=weights))


def told(inputs: Inputs) -> str:
    """Which of the two experts the output is, or both."""
    found = resolve("layer_swap", inputs)
    if found == mean(inputs, UNIT, UNIT):
        return "x"
    outer, inner = inputs.contributions
    assert found in {outer, inner}
    return "o" if found == outer else "i"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "ooooxiiiixoo"),
        ({"transition": "0"}, "ooooiiiiiioo"),
        ({"transition": "2", "bottom": "1"}, "oxxiiiiixxoo"),
        ({"bottom": "0"}, "iiiiiiiiixoo"),
        ({"top": "0"}, "ooooxiiiiiii"),
        ({"bottom": "5", "top": "6"}, "oooooxoooooo"),
        ({"bottom": "0", "top": "0"}, "iiiiiiiiiiii"),
    ],
)
def test_layer_swap_by_layer(settings: dict[str, str], expected: str) -> None:
    """Borders have transition layers on their inner side, where there is a border."""
    assert "".join(told(swap((n, 12), **settings)) for n in range(12)) == expected
    assert told(swap(None, **settings)) == "o"


def test_layer_swap_weighs_within_parts_alone() -> None:
    """A transition layer is half of one part's mean and half of the other's."""
    generator = np.random.default_rng(3)
    base, *tunes = generator.integers(-64, 64, (4, 50)) / 64
    inputs = with_own(task("layer_swap", "F64", tunes, base), OUTER, {}, OUTER)
    inputs = replace(inputs, layer=(4, 12), weights=(UNIT, 5 * UNIT, 3 * UNIT))
    found = numerics.upcast(resolve("layer_swap", inputs), "F64")
    outer = tunes[0] / 4 + tunes[2] * 3 / 4
    assert np.array_equal(found, outer / 2 + tunes[1] / 2)
    edge = numerics.upcast(resolve("layer_swap", replace(inputs, layer=None)), "F64")
    assert np.array_equal(edge, outer)


def test_layer_swap_with_weights_of_no_small_ratio() -> None:
    """Integers beyond the contract are rounded to 9 places of the sum."""
    base, tunes = sample(80, 4)
    inputs = with_own(task("layer_swap", "F64", tunes, base), OUTER, {}, OUTER, {})
    weights = (999_999_937, 999_999_929, 999_999_893, 1_000_000_007)
    inputs = replace(inputs, layer=(4, 12), weights=weights)
    found = numerics.upcast(resolve("layer_swap", inputs), "F64")
    w = np.array(weights, dtype=np.float64)
    outer = (w[0] * tunes[0] + w[2] * tunes[2]) / (w[0] + w[2])
    inner = (w[1] * tunes[1] + w[3] * tunes[3]) / (w[1] + w[3])
    np.testing.assert_allclose(found, (outer + inner) / 2, atol=1e-7)


@pytest.mark.parametrize(
    ("layer", "own", "part"),
    [(None, {}, "outer"), ((0, 12), {}, "outer"), ((6, 12), OUTER, "inner")],
)
def test_layer_swap_without_a_part_is_refused(
    layer: tuple[int, int] | None, own: dict[str, str], part: str
) -> None:
    """Nobody is taken for somebody else; weight zero is nobody."""
    inputs = with_own(swap(layer), own, own)
    with pytest.raises(ContractError, match=f"'w'.* from the {part} part"):
        resolve("layer_swap", inputs)
    both = (UNIT, 0) if own else (0, UNIT)
    inputs = replace(swap(layer), weights=both)
    with pytest.raises(ContractError, match=f"the {part} part"):
        resolve("layer_swap", inputs)


def test_layer_swap_without_inner_layers_is_refused() -> None:
    """Six outer layers of six leave nothing to swap."""
    with pytest.raises(ContractError, match="leaves no inner layers of 6"):
        resolve("layer_swap", swap((0, 6)))


def test_layer_swap_does_not_read_the_other_part() -> None:
    """A layer of one expert does not hang on the other's bytes."""
    inputs = swap((0, 12))
    held = replace(inputs, contributions=(inputs.contributions[0], b""))
    assert told(inputs) == "o"
    assert resolve("layer_swap", held) == inputs.contributions[0]


# --- aoe ----------------------------------------------------------------------------


def parents(*away: float, **parameters: str) -> Inputs:
    """A base of ones, and parents that are so far from it, root mean square."""
    base = np.ones(64)
    signs = np.where(np.arange(64) % 2, 1.0, -1.0)
    tunes = [base + distance * signs for distance in away]
    return with_own(task("aoe", "F32", tunes, base, **parameters), *[{} for _ in away])


@pytest.mark.parametrize("exponent", [-20, 0, 20])
def test_aoe_mixes_only_beyond_delta(exponent: int) -> None:
    """The distance is compared exactly: one that is delta is not beyond it."""
    far, nearer = parents(0.25, delta="0.25"), parents(0.25, delta="0.249999999")
    assert resolve("aoe", far) == far.base
    assert resolve("aoe", nearer) == nearer.contributions[0]
    scale = 2.0**exponent
    inputs = task("aoe", "F64", [np.full(9, 3 * scale)], np.full(9, scale), delta="1")
    inputs = with_own(inputs, {})
    chosen = inputs.base if exponent <= -1 else inputs.contributions[0]
    assert resolve("aoe", inputs) == chosen


def test_aoe_needs_one_parent_beyond_delta() -> None:
    """Then all are mixed by weight, and the base is no term."""
    inputs = replace(parents(0.125, 0.5, delta="0.25"), weights=(UNIT, 3 * UNIT))
    found = numerics.upcast(resolve("aoe", inputs), "F32")
    signs = np.where(np.arange(64) % 2, 1.0, -1.0)
    assert np.array_equal(found, 1 + signs * (0.125 + 3 * 0.5) / 4)


def test_aoe_measures_from_the_main_parent() -> None:
    """Its own tensor is kept where the others are near it, wherever the base is."""
    inputs = with_own(parents(8.0, 8.25, 8.125, delta="0.25"), {}, MAIN, {})
    assert resolve("aoe", inputs) == inputs.contributions[1]
    assert resolve("aoe", replace(inputs, base=None)) == inputs.contributions[1]
    inputs = with_own(parents(8.0, 8.25, 8.125, delta="0.2"), {}, MAIN, {})
    found = numerics.upcast(resolve("aoe", inputs), "F32")
    assert found[1] == 1 + 8.125


def test_aoe_keeps_the_main_parent_where_a_rule_says_so() -> None:
    """Every bit of it, far below the grid too."""
    tiny = np.array([2.0**-149, 1.0, -(2.0**-130)])
    inputs = task("aoe", "F32", [np.zeros(3), tiny], np.ones(3), merge="false")
    inputs = with_own(inputs, {}, MAIN)
    assert resolve("aoe", inputs) == inputs.contributions[1]


def test_aoe_without_one_main_parent_is_refused() -> None:
    """Two are too many, and without a base none is too few."""
    with pytest.raises(ContractError, match="'w': aoe has one main parent, not 2"):
        resolve("aoe", with_own(parents(1.0, 2.0), MAIN, MAIN))
    with pytest.raises(ContractError, match="neither a main parent nor a base"):
        resolve("aoe", replace(parents(1.0, 2.0), base=None))


def test_aoe_main_parent_of_weight_zero_is_not_there() -> None:
    """The base is the main parent then."""
    inputs = with_own(parents(0.25, 8.0, delta="0.5"), {}, MAIN)
    assert resolve("aoe", replace(inputs, weights=(UNIT, 0))) == inputs.base
