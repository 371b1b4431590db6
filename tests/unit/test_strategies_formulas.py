"""Each strategy against its formula in plain Python: rationals, loops, no library code."""

import math
import struct
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.codec import Value
from crdtmerge.digest import ContentId, Domain, digest_value
from crdtmerge.strategies import Inputs, Values, find, make_recipe

UNIT = 10**9
FORMATS = {"F64": (53, -1074), "F32": (24, -149), "BF16": (8, -133), "F16": (11, -24)}
WEIGHTS = (UNIT, UNIT // 4, 2 * UNIT)
BOTH = ("true", "false")
Model = list[float]


def stored(value: float, dtype: str) -> float:
    """Round to the nearest value of a dtype, ties to even, zero without sign."""
    bits, lowest = FORMATS[dtype]
    quantum = Fraction(2) ** max(lowest, math.frexp(value)[1] - bits)
    return float(round(Fraction(value) / quantum) * quantum)


def single(value: float) -> float:
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return float(rounded)


def grid_sum(terms: list[tuple[float, int]], exponent: int, dtype: str) -> float:
    """The contract's sum where every product is exact (short weights or items)."""
    step = Fraction(2) ** (exponent - 5)
    high = low = Fraction(0)
    for x, weight in terms:
        product = Fraction(x) * weight
        assert product == float(product), "this oracle does not split"
        nearest = round(product / step) * step
        high += nearest
        if dtype in {"F64", "F32"}:
            fine = step / 2**34
            low += round((product - nearest) / fine) * fine
    return float(high + low)


def exponent_of(base: Model) -> int:
    return max(0, max((math.frexp(x)[1] for x in base), default=0))


def models(dtype: str, items: int, seed: int = 0) -> tuple[Model, list[Model]]:
    """A base and three fine-tunes whose items F64 holds in few bits."""
    generator = np.random.default_rng([seed, items])
    base = generator.standard_normal(items) * 2
    tunes = [base + generator.standard_normal(items) / 8 for _ in WEIGHTS]
    for tune in tunes:
        tune[::7] = base[::7]
    short = "F32" if dtype == "F64" else dtype
    return (
        [stored(float(x), short) for x in base],
        [[stored(float(x), short) for x in tune] for tune in tunes],
    )


def emit(
    name: str,
    dtype: str,
    base: Model,
    tunes: list[Model],
    coefficients: tuple[int, ...] | None = None,
    **parameters: str,
) -> tuple[Model, Inputs]:
    recipe = make_recipe(name, {k.removesuffix("_"): v for k, v in parameters.items()})
    inputs = Inputs(
        tensor="layer.weight",
        dtype=dtype,
        items=len(base),
        base=numerics.downcast(np.array(base), dtype),
        contributions=tuple(numerics.downcast(np.array(t), dtype) for t in tunes),
        contents=tuple(ContentId(bytes([i]) * 32) for i in range(len(tunes))),
        weights=WEIGHTS[: len(tunes)],
        seed=b"s" * 32,
        seed_scope="set",
        output_dtype="",
        values=Values(recipe.parameters_for("layer.weight")),
        coefficients=coefficients,
    )
    output = find(name).emit(inputs)
    return numerics.upcast(output, dtype).tolist(), inputs


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("items", [0, 1, 63, 300])
@pytest.mark.parametrize("normalize", BOTH)
def test_linear_is_the_weighted_mean(dtype: str, items: int, normalize: str) -> None:
    """Sum of W theta on the grid, over sum W or over one, rounded once."""
    base, tunes = models(dtype, items)
    got, _ = emit("linear", dtype, base, tunes, normalize=normalize)
    divisor = sum(WEIGHTS) if normalize == "true" else UNIT
    expected = [
        stored(
            grid_sum(list(zip(xs, WEIGHTS, strict=True)), exponent_of(base), dtype)
            / divisor,
            dtype,
        )
        for xs in zip(*tunes, strict=True)
    ]
    assert got == expected


@pytest.mark.parametrize("dtype", FORMATS)
def test_linear_is_close_to_the_exact_mean(dtype: str) -> None:
    """Correctly rounded in 16-bit and F32; within 2 units of the last place in F64."""
    base, tunes = models(dtype, 500, seed=3)
    if dtype == "F64":
        tunes = [[x + 2.0**-50 * i for i, x in enumerate(tune)] for tune in tunes]
    got, _ = emit("linear", dtype, base, tunes)
    for value, xs in zip(got, zip(*tunes, strict=True), strict=True):
        pairs = zip(xs, WEIGHTS, strict=True)
        mean = sum((Fraction(x) * w for x, w in pairs), Fraction(0)) / sum(WEIGHTS)
        if dtype == "F64":
            assert abs(Fraction(value) - mean) <= 2 * Fraction(math.ulp(float(mean)))
        else:
            assert value == stored(float(mean), dtype)


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_metagpt_weighs_by_squared_norms(dtype: str) -> None:
    """Coefficients are w |tau|^2 / sum over two tensors; the base takes the rest."""
    strategy = find("metagpt")
    assert strategy.map is not None
    assert strategy.reduce is not None
    results, squares = [], [Fraction(0)] * 3
    for seed in (0, 1):
        base, tunes = models(dtype, 200, seed)
        _, inputs = emit("metagpt", dtype, base, tunes, (0, 0, 0))
        results.append(strategy.map(inputs))
        for i, tune in enumerate(tunes):
            taus = [Fraction(single(x - b)) for x, b in zip(tune, base, strict=True)]
            squares[i] += sum(tau * tau for tau in taus)
    shares = [w * square for w, square in zip(WEIGHTS, squares, strict=True)]
    expected = tuple(round(share * UNIT / sum(shares)) for share in shares)
    coefficients = strategy.reduce(results, WEIGHTS)
    assert coefficients == expected
    got, _ = emit("metagpt", dtype, base, tunes, coefficients)
    for value, start, *xs in zip(got, base, *tunes, strict=True):
        pairs = [(start, UNIT - sum(expected)), *zip(xs, expected, strict=True)]
        exact = sum((Fraction(x) * w for x, w in pairs), Fraction(0)) / UNIT
        assert value == stored(float(exact), dtype)


def test_metagpt_with_equal_weights_is_the_papers_formula() -> None:
    """Equal weights cancel; no change at all gives zero coefficients."""
    reduce = find("metagpt").reduce
    assert reduce is not None
    assert reduce([(1.0, 2.0), (0.0, 1.0)], (7, 7)) == (UNIT // 4, 3 * UNIT // 4)
    assert reduce([(1.0, 1.0, 1.0)], (1, 1, 1)) == (333333333,) * 3
    assert reduce([(0.0, 0.0)], (UNIT, UNIT)) == (0, 0)
    assert reduce([(1.0, 3.0)], (3, 1)) == (UNIT // 2, UNIT // 2)


def consensus(
    dtype: str,
    base: Model,
    tunes: list[Model],
    keep: Callable[[int, list[float]], list[bool]],
    scale: float,
    normalize: str,
) -> Model:
    """Election and disjoint mean, one item at a time."""
    exponent = exponent_of(base) + 1
    taus = [[single(x - b) for x, b in zip(tune, base, strict=True)] for tune in tunes]
    kept = [keep(i, tau) for i, tau in enumerate(taus)]
    merged = []
    for item, start in enumerate(base):
        votes = [
            (tau[item], weight)
            for tau, mask, weight in zip(taus, kept, WEIGHTS, strict=False)
            if mask[item]
        ]
        sign = 1 if grid_sum(votes, exponent, dtype) >= 0 else -1
        agreed = [(tau, weight) for tau, weight in votes if tau * sign > 0]
        divisor = sum(weight for _, weight in agreed) if normalize == "true" else UNIT
        mean = grid_sum(agreed, exponent, dtype) / divisor if agreed else 0.0
        merged.append(stored(start + scale * mean, dtype))
    return merged


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("density", ["0", "0.2", "0.77", "1"])
@pytest.mark.parametrize("normalize", BOTH)
def test_ties_trims_elects_and_averages(
    dtype: str, density: str, normalize: str
) -> None:
    """The three steps of the paper, each item on its own."""
    base, tunes = models(dtype, 150)
    k = math.ceil(Fraction(density) * 150)

    def top(_: int, tau: list[float]) -> list[bool]:
        ordered = sorted(map(abs, tau), reverse=True)
        return [k > 0 and abs(t) >= ordered[k - 1] for t in tau]

    options = {"density": density, "normalize": normalize, "lambda_": "0.7"}
    got, _ = emit("ties", dtype, base, tunes, None, **options)
    assert got == consensus(dtype, base, tunes, top, 0.7, normalize)


def philox_word(key: bytes, index: int) -> int:
    """Philox4x32-10 in Python integers."""
    x = [index // 4 & 0xFFFFFFFF, index // 4 >> 32, 0, 0]
    k = list(struct.unpack("<2I", key))
    for _ in range(10):
        p, q = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [
            q >> 32 ^ x[1] ^ k[0], q & 0xFFFFFFFF,
            p >> 32 ^ x[3] ^ k[1], p & 0xFFFFFFFF,
        ]  # fmt: skip
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return x[index % 4]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("normalize", BOTH)
def test_dare_ties_drops_elects_and_rescales(dtype: str, normalize: str) -> None:
    """Masks from the stated keys and words, one common rescale with lambda."""
    base, tunes = models(dtype, 150)

    def drawn(i: int, tau: list[float]) -> list[bool]:
        value: Value = [b"s" * 32, "dare_ties/1", bytes([i]) * 32, "layer.weight"]
        key = digest_value(Domain.PHILOX, value)[:8]
        limit = math.floor(Fraction("0.3") * 2**32)
        return [philox_word(key, index) < limit for index in range(len(tau))]

    options = {"p": "0.7", "normalize": normalize, "lambda_": "0.5"}
    got, _ = emit("dare_ties", dtype, base, tunes, None, **options)
    scale = float(Fraction("0.5") / Fraction("0.3"))
    assert got == consensus(dtype, base, tunes, drawn, scale, normalize)


def test_an_election_without_a_majority_goes_to_plus() -> None:
    """Opposite votes of equal mass: the sign is +, so the positive one counts alone."""
    assert WEIGHTS[0] == 4 * WEIGHTS[1]
    got, _ = emit("ties", "F32", [0.0], [[0.25], [-1.0]], density="1")
    assert got == [0.25]
