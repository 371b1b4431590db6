"""sce and pcb: what is selected and weighed, against their formulas item by item."""

import math
import statistics
from dataclasses import replace
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, shuffled, task

Row = list[float]


def taus_of(count: int, items: int, scale: float = 1.0, seed: int = 0) -> list[Row]:
    """Task vectors of floats that F32 holds; every fifth item is alike in all."""
    generator = np.random.default_rng([seed, count, items])
    rows = (generator.standard_normal((count, items)) * scale).astype(np.float32)
    rows[:, ::5] = rows[0, ::5]
    return [[float(x) for x in row] for row in rows]


def merged(name: str, taus: list[Row], weights: tuple[int, ...], **own: str) -> Row:
    inputs = make(name, taus, weights, **own)
    found: Row = numerics.upcast(resolve(name, inputs), "F64").tolist()
    return found


def make(name: str, taus: list[Row], weights: tuple[int, ...], **own: str) -> Inputs:
    tunes = [np.array(tau) for tau in taus]
    inputs = task(name, "F32", tunes, np.zeros(len(taus[0])), **own)
    return replace(inputs, weights=weights, output_dtype="F64")


def sce(taus: list[Row], weights: tuple[int, ...], topk: str, floor: float) -> Row:
    """The formula in plain Python; ties and zero variances do not come up."""
    items = list(zip(*taus, strict=True))
    if topk != "1":
        spread = [statistics.pvariance([Fraction(x) for x in xs]) for xs in items]
        varied = sorted((v for v in spread if v), reverse=True)
        k = math.ceil(Fraction(topk) * len(varied))
        least = varied[k - 1] if k else math.inf
        items = [
            xs if v >= least else (0.0,) * len(xs)
            for xs, v in zip(items, spread, strict=True)
        ]
    squares = [math.fsum(x * x for x in xs) / len(items) for xs in zip(*items)]  # noqa: B905
    if sum(squares) < floor:
        squares = [1.0] * len(squares)
    scores = [w * square for w, square in zip(weights, squares, strict=True)]
    found = []
    for xs in items:
        sign = (
            1 if math.fsum(w * x for w, x in zip(weights, xs, strict=True)) >= 0 else -1
        )
        agreed = [(x, s) for x, s in zip(xs, scores, strict=True) if x * sign > 0]
        total = sum(s for _, s in agreed) or 1.0
        found.append(math.fsum(x * s for x, s in agreed) / total)
    return found


@pytest.mark.parametrize("topk", ["0", "0.1", "0.5", "0.999", "1"])
@pytest.mark.parametrize("weights", [(UNIT,) * 4, (UNIT, 3 * UNIT, UNIT // 2, UNIT)])
@pytest.mark.parametrize("scale", [1.0, 0.0001])
def test_sce_is_its_formula(topk: str, weights: tuple[int, ...], scale: float) -> None:
    """Small task vectors get equal shares, as in mergekit, unless told otherwise."""
    taus = taus_of(4, 203, scale)
    taus[1] = [3 * x for x in taus[1]]
    for floor in ("0.000001", "0"):
        got = merged("sce", taus, weights, select_topk=topk, uniform_below=floor)
        expected = sce(taus, weights, topk, float(floor))
        assert np.allclose(got, expected, rtol=1e-6, atol=1e-9 * scale)
    if scale < 1 and topk == "1":
        by_squares = sce(taus, weights, topk, 0.0)
        assert not np.allclose(by_squares, sce(taus, weights, topk, 1e-6), rtol=1e-2)


def test_sce_elects_by_the_sum_and_not_by_its_own_weights() -> None:
    """A task vector of large squares does not decide the sign of an item by itself."""
    taus = [[16.0, 1.0], [0.0, -0.75], [0.0, -0.75]]
    assert merged("sce", taus, (UNIT,) * 3) == [16.0, -0.75]


def test_equal_variances_are_kept_whatever_the_order() -> None:
    """Ties at the threshold all stay; items without variance never do."""
    taus = [[1.0, -1.0, 1.0, 0.5, 3.0], [-1.0, 2.0, -1.0, 0.5, 3.0]]
    inputs = make("sce", taus, (UNIT, UNIT), select_topk="0.3")
    outputs = {resolve("sce", shuffled(inputs, o)) for o in permutations(range(2))}
    (found,) = (numerics.upcast(output, "F64").tolist() for output in outputs)
    assert found == [0.0, 2.0, 0.0, 0.0, 0.0]
    half = merged("sce", taus, (UNIT, UNIT), select_topk="0.6")
    assert half == [1.0, 2.0, 1.0, 0.0, 0.0]


def pcb(taus: list[Row], weights: tuple[int, ...], r: str, clamp: str) -> Row:
    """The formula in plain Python, with weights over their mean."""
    n, size = len(taus), len(taus[0])
    shares = [w * n / sum(weights) for w in weights]
    totals = [
        math.fsum(w * x for w, x in zip(shares, xs, strict=True))
        for xs in zip(*taus, strict=True)
    ]
    scored = []
    for tau in taus:
        sizes = sorted(map(abs, tau))
        low = sizes[math.floor(Fraction(clamp) * size)]
        high = sizes[math.floor((1 - Fraction(clamp)) * size - 1)]
        a = [min(max(abs(x), low), high) for x in tau]
        s = [
            math.exp(n * ((v - low) / (high - low)) ** 2) * math.tanh(x * total)
            for v, x, total in zip(a, tau, totals, strict=True)
        ]
        cut = sorted(s)[math.floor((1 - Fraction(r)) * size)]
        top = max(s)
        scored.append([(v, (max(x, cut) - cut) / (top - cut)) for v, x in zip(a, s)])  # noqa: B905
    found = []
    for item in range(len(totals)):
        pairs = [
            (w * s[item][1], math.copysign(s[item][0], tau[item]) if tau[item] else 0.0)
            for w, s, tau in zip(shares, scored, taus, strict=True)
        ]
        total = max(math.fsum(w for w, _ in pairs), 1e-12)
        found.append(math.fsum(w * x for w, x in pairs) / total)
    return found


@pytest.mark.parametrize("weights", [(UNIT,) * 3, (5 * UNIT, UNIT // 2, UNIT)])
@pytest.mark.parametrize(
    ("r", "clamp"), [("0.1", "0.0001"), ("0.7", "0.02"), ("1", "0")]
)
def test_pcb_is_its_formula(weights: tuple[int, ...], r: str, clamp: str) -> None:
    """Equal weights, whatever they are, give that of the authors."""
    taus = taus_of(3, 407)
    got = merged("pcb", taus, weights, r=r, clamp=clamp, **{"lambda": "1.5"})
    expected = [1.5 * x for x in pcb(taus, weights, r, clamp)]
    assert np.allclose(got, expected, rtol=1e-9, atol=1e-12)
    doubled = merged("pcb", taus, tuple(2 * w for w in weights), r=r, clamp=clamp)
    assert doubled == merged("pcb", taus, weights, r=r, clamp=clamp)


@pytest.mark.parametrize("items", [1, 2, 40])
def test_equal_magnitudes_have_no_best_and_change_nothing(items: int) -> None:
    """Where the authors' code divides zero by zero."""
    assert merged("pcb", [[0.5] * items] * 2, (UNIT, UNIT)) == [0.0] * items


def test_pcb_of_many_models_does_not_overflow() -> None:
    """exp(n) of a thousand models is beyond float64; their ratios are not."""
    few = make("pcb", taus_of(4, 64), (UNIT,) * 4)
    order = tuple(range(4)) * 250
    assert any(numerics.upcast(resolve("pcb", shuffled(few, order)), "F64"))


@pytest.mark.parametrize("name", ["sce/1", "pcb/1"])
def test_negative_weights_are_refused_and_no_weight_is_the_base(name: str) -> None:
    """A share below zero means nothing; without anybody there is no change."""
    inputs = make(name, taus_of(2, 30), (UNIT, -UNIT))
    with pytest.raises(ContractError, match="tensor 'w': a negative weight"):
        resolve(name, inputs)
    inputs = replace(inputs, weights=(0, 0))
    assert resolve(name, inputs) == bytes(30 * 8)


def test_sce_keeps_whole_what_the_smallest_model_alone_changed() -> None:
    """A share below 10**-9 is a share: its items are divided by it again."""
    small = [0.0, 2.0**-16, 2.0**-16]
    taus = [[4.0, 0.0, 1.0], small]
    found = merged("sce/1", taus, (UNIT, UNIT))
    assert found[:2] == [4.0, 2.0**-16]
    assert math.isclose(found[2], 1.0, rel_tol=1e-8)
    assert merged("sce/1", taus, (UNIT, 1))[:2] == found[:2]
