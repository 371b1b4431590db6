"""Each strategy against its formula in plain Python: rationals, loops, no library code."""

import math
import statistics
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.codec import Value
from crdtmerge.digest import ContentId, Domain, digest_value
from crdtmerge.strategies import Inputs, Values, Whole, find, make_recipe, whole_of

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


def grid_sum(
    terms: list[tuple[float, int]], exponent: int, dtype: str, limbs: int = 0
) -> float:
    """The contract's sum where every product is exact (short weights or items).

    Sums of task vectors have two limbs for wide dtypes; others say so.
    """
    step = Fraction(2) ** (exponent - 5)
    high = low = Fraction(0)
    for x, weight in terms:
        product = Fraction(x) * weight
        assert product == float(product), "this oracle does not split"
        nearest = round(product / step) * step
        high += nearest
        if limbs == 2 or dtype in {"F64", "F32"}:
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
    *,
    weights: tuple[int, ...] = WEIGHTS,
    own: tuple[dict[str, str], ...] = (),
    **parameters: Any,
) -> tuple[Model, Inputs]:
    recipe = make_recipe(name, {k.removesuffix("_"): v for k, v in parameters.items()})
    shared = dict(recipe.parameters)
    inputs = Inputs(
        tensor="layer.weight",
        dtype=dtype,
        items=len(base),
        base=numerics.downcast(np.array(base), dtype),
        contributions=tuple(numerics.downcast(np.array(t), dtype) for t in tunes),
        contents=tuple(ContentId(bytes([i]) * 32) for i in range(len(tunes))),
        weights=weights[: len(tunes)],
        seed=b"s" * 32,
        seed_scope="set",
        output_dtype="",
        values=Values(recipe.parameters),
        coefficients=coefficients,
        own=tuple(Values(tuple((shared | mine).items())) for mine in own),
    )
    output = whole_of(find(name).emit(inputs))
    return numerics.upcast(output, dtype).tolist(), inputs


def whole(weights: tuple[int, ...]) -> Whole:
    contents = tuple(ContentId(bytes([i]) * 32) for i in range(len(weights)))
    return Whole(contents, weights, Values(), (Values(),) * len(weights))


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
            grid_sum(list(zip(xs, WEIGHTS, strict=True)), exponent_of(base), dtype, 2)
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
    coefficients = strategy.reduce(results, whole(WEIGHTS))
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
    assert reduce([(1.0, 2.0), (0.0, 1.0)], whole((7, 7))) == (UNIT // 4, 3 * UNIT // 4)
    assert reduce([(1.0, 1.0, 1.0)], whole((1, 1, 1))) == (333333333,) * 3
    assert reduce([(0.0, 0.0)], whole((UNIT, UNIT))) == (0, 0)
    assert reduce([(1.0, 3.0)], whole((3, 1))) == (UNIT // 2, UNIT // 2)


def consensus(
    dtype: str,
    base: Model,
    tunes: list[Model],
    keep: Callable[[int, list[float]], list[bool]],
    scale: float,
    normalize: str,
    weights: tuple[int, ...] = WEIGHTS,
    coefficients: tuple[int, ...] | None = None,
) -> Model:
    """Election and disjoint mean, one item at a time."""
    exponent = exponent_of(base) + 1
    taus = [[single(x - b) for x, b in zip(tune, base, strict=True)] for tune in tunes]
    kept = [keep(i, tau) for i, tau in enumerate(taus)]
    summed = list(zip(weights, coefficients or weights, strict=True))
    merged = []
    for item, start in enumerate(base):
        votes = [
            (tau[item], weight, coefficient)
            for tau, mask, (weight, coefficient) in zip(
                taus, kept, summed, strict=False
            )
            if mask[item]
        ]
        mass = grid_sum([(tau, c) for tau, _, c in votes], exponent, dtype)
        sign = 1 if mass >= 0 else -1
        agreed = [vote for vote in votes if vote[0] * vote[1] * sign > 0]
        divisor = (
            sum(weight for _, weight, _ in agreed) if normalize == "true" else UNIT
        )
        total = grid_sum([(tau, c) for tau, _, c in agreed], exponent, dtype)
        mean = total / (divisor or UNIT)
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

    options: dict[str, Any] = {
        "density": density,
        "normalize": normalize,
        "lambda_": "0.7",
    }
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


def drawn(strategy: str, i: int, items: int, p: str) -> list[bool]:
    """The mask of one contribution, from the stated key and words."""
    value: Value = [b"s" * 32, strategy, bytes([i]) * 32, "layer.weight"]
    key = digest_value(Domain.PHILOX, value)[:8]
    limit = math.floor((1 - Fraction(p)) * 2**32)
    return [philox_word(key, index) < limit for index in range(items)]


def l1_factor(tau: list[float], mask: list[bool]) -> Fraction:
    """Sums of magnitudes before and after dropping, along the tree (150 items)."""

    def tree(values: list[float]) -> float:
        lanes = [0.0] * 64
        for i, value in enumerate(values):
            lanes[i % 64] += value
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [lanes[j] + lanes[j + half] for j in range(half)]
        return lanes[0]

    sizes = [abs(t) for t in tau]
    kept = [size if keep else 0.0 for size, keep in zip(sizes, mask, strict=True)]
    return Fraction(tree(sizes)) / Fraction(tree(kept))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("normalize", BOTH)
def test_dare_ties_drops_elects_and_rescales(dtype: str, normalize: str) -> None:
    """Masks from the stated keys and words, one common rescale with lambda."""
    base, tunes = models(dtype, 150)

    def keep(i: int, tau: list[float]) -> list[bool]:
        return drawn("dare_ties/1", i, len(tau), "0.7")

    options: dict[str, Any] = {"p": "0.7", "normalize": normalize, "lambda_": "0.5"}
    got, _ = emit("dare_ties", dtype, base, tunes, None, **options)
    scale = float(Fraction("0.5") / Fraction("0.3"))
    assert got == consensus(dtype, base, tunes, keep, scale, normalize)
    got, _ = emit("dare_ties", dtype, base, tunes, None, rescale="none", **options)
    assert got == consensus(dtype, base, tunes, keep, 0.5, normalize)


OWN_P = ("0.7", "0.5", "0.1")


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
@pytest.mark.parametrize("rescale", ["paper", "l1", "none"])
@pytest.mark.parametrize("normalize", BOTH)
def test_each_contribution_may_have_its_own_chance(
    dtype: str, rescale: str, normalize: str
) -> None:
    """A factor of its own goes into the sums, and never into the divisor."""
    base, tunes = models(dtype, 150)
    masks = [drawn("dare_ties/1", i, 150, p) for i, p in enumerate(OWN_P)]
    factors = [Fraction(1)] * 3
    for i, tune in enumerate(tunes):
        tau = [single(x - b) for x, b in zip(tune, base, strict=True)]
        if rescale == "paper":
            factors[i] = 1 / (1 - Fraction(OWN_P[i]))
        if rescale == "l1":
            factors[i] = l1_factor(tau, masks[i])
    coefficients = tuple(round(w * f) for w, f in zip(WEIGHTS, factors, strict=True))
    got, _ = emit(
        "dare_ties",
        dtype,
        base,
        tunes,
        own=tuple({"p": p} for p in OWN_P),
        rescale=rescale,
        normalize=normalize,
        lambda_="0.5",
    )
    assert got == consensus(
        dtype, base, tunes, lambda i, _: masks[i], 0.5, normalize, WEIGHTS, coefficients
    )


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
@pytest.mark.parametrize("rescale", ["paper", "l1", "none"])
@pytest.mark.parametrize("normalize", BOTH)
def test_dare_linear_adds_what_is_left(
    dtype: str, rescale: str, normalize: str
) -> None:
    """Weight, lambda and rescale make one coefficient of nine places."""
    base, tunes = models(dtype, 150)
    terms: list[list[tuple[float, int]]] = [[] for _ in base]
    for i, (tune, weight) in enumerate(zip(tunes, WEIGHTS, strict=True)):
        tau = [single(x - b) for x, b in zip(tune, base, strict=True)]
        mask = drawn("dare_linear/1", i, 150, OWN_P[i])
        factor = {"paper": 1 / (1 - Fraction(OWN_P[i])), "none": Fraction(1)}.get(
            rescale, l1_factor(tau, mask)
        )
        coefficient = round(Fraction("0.7") * weight * factor)
        for item, (value, keep) in enumerate(zip(tau, mask, strict=True)):
            terms[item].append((value if keep else 0.0, coefficient))
    divisor = sum(WEIGHTS) if normalize == "true" else UNIT
    expected = [
        stored(start + grid_sum(pairs, exponent_of(base) + 1, dtype) / divisor, dtype)
        for start, pairs in zip(base, terms, strict=True)
    ]
    got, _ = emit(
        "dare_linear",
        dtype,
        base,
        tunes,
        own=tuple({"p": p} for p in OWN_P),
        rescale=rescale,
        normalize=normalize,
        lambda_="0.7",
    )
    assert got == expected


def test_l1_keeps_the_sum_of_magnitudes() -> None:
    """What mergekit calls rescale: nothing is lost but places."""
    generator = np.random.default_rng(8)
    base, tau = [0.0] * 1000, (generator.standard_normal(1000) / 8).tolist()
    for name in ("dare_linear", "dare_ties"):
        got, _ = emit(name, "F64", base, [tau], p="0.75", rescale="l1")
        assert 100 < sum(x != 0 for x in got) < 400
        assert math.isclose(
            math.fsum(map(abs, got)), math.fsum(map(abs, tau)), rel_tol=1e-6
        )
    got, _ = emit("dare_linear", "F64", [0.0], [[0.5]], p="0.999999999", rescale="l1")
    assert got == [0.0]


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("normalize", BOTH)
def test_task_arithmetic_adds_task_vectors(dtype: str, normalize: str) -> None:
    """Lambda times each weight, rounded to nine places; the base takes the rest."""
    base, tunes = models(dtype, 120)
    weights = (UNIT, -UNIT // 4, 123_456_789)
    scaled = [round(Fraction("0.3") * w) for w in weights]
    divisor = sum(weights) if normalize == "true" else UNIT
    got, _ = emit(
        "task_arithmetic",
        dtype,
        base,
        tunes,
        weights=weights,
        lambda_="0.3",
        normalize=normalize,
    )
    for value, start, *xs in zip(got, base, *tunes, strict=True):
        change = sum(
            (
                w * (Fraction(x) - Fraction(start))
                for w, x in zip(scaled, xs, strict=True)
            ),
            Fraction(0),
        )
        assert value == stored(float(start + change / divisor), dtype)


def test_lambda_times_weight_is_rounded_half_even_to_nine_places() -> None:
    """0.5 times 10**-9 is a tie: to 0; three times it is another: to 2 units."""
    for weight, units in ((1, 0), (2, 1), (3, 2), (5, 2)):
        got, _ = emit(
            "task_arithmetic", "F64", [0.0], [[1.0]], weights=(weight,), lambda_="0.5"
        )
        assert got == [units / UNIT]


@pytest.mark.parametrize("name", ["task_arithmetic", "dare_linear"])
def test_weights_that_cancel_divide_by_one(name: str) -> None:
    """As in mergekit: a sum of weights below 10**-8 is no divisor."""
    options: dict[str, Any] = {"p": "0"} if name == "dare_linear" else {}
    for weights, divisor in (((UNIT, -UNIT), 1.0), ((UNIT, -UNIT // 2), 0.5)):
        got, _ = emit(
            name,
            "F64",
            [0.0],
            [[0.75], [0.25]],
            weights=weights,
            normalize="true",
            **options,
        )
        assert got == [(0.75 + 0.25 * weights[1] / UNIT) / divisor]


@pytest.mark.parametrize("name", ["ties", "dare_ties"])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("normalize", BOTH)
def test_a_negative_weight_votes_with_the_opposite_sign(
    name: str, dtype: str, normalize: str
) -> None:
    """The sign that counts is that of weight times task vector, as in mergekit."""
    base, tunes = models(dtype, 150)
    weights = (UNIT, -UNIT // 2, UNIT // 4)
    options: dict[str, Any] = {"density": "1"} if name == "ties" else {"p": "0"}
    got, _ = emit(
        name, dtype, base, tunes, weights=weights, normalize=normalize, **options
    )
    everything = [True] * 150
    expected = consensus(
        dtype, base, tunes, lambda *_: everything, 1.0, normalize, weights
    )
    assert got == expected
    got, _ = emit(
        "ties", "F64", [0.0], [[1.0], [-0.5]], weights=(UNIT, -UNIT), density="1"
    )
    assert got == [1.5]  # they agree, and their weights cancel: the sum itself


def weighted_median(pairs: list[tuple[float, int]]) -> Fraction:
    """Where half of the weight is passed; the middle of the two where it is met."""
    ordered = [x for x, weight in sorted(pairs) for _ in range(weight)]
    half = len(ordered) // 2
    if len(ordered) % 2:
        return Fraction(ordered[half])
    return (Fraction(ordered[half - 1]) + Fraction(ordered[half])) / 2


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(
    "weights", [(1, 1, 1), (1, 1, 1, 1), (2, 1, 1), (5, 1, 1, 2), (1, 2, 4, 3, 2), (3,)]
)
def test_median_is_where_half_of_the_weight_lies(
    dtype: str, weights: tuple[int, ...]
) -> None:
    """As if each model stood there as often as it weighs."""
    generator = np.random.default_rng(len(weights))
    base = [0.5] * 200
    tunes = [
        [stored(float(x), dtype if dtype != "F64" else "F32") for x in row]
        for row in generator.integers(-6, 6, (len(weights), 200)) / 7
    ]
    got, _ = emit("median", dtype, base, tunes, weights=tuple(w * 250 for w in weights))
    expected = [
        stored(float(weighted_median(list(zip(xs, weights, strict=True)))), dtype)
        for xs in zip(*tunes, strict=True)
    ]
    assert got == expected


def test_equal_weights_give_the_plain_median() -> None:
    """The standard library's, for odd and even numbers of models."""
    generator = np.random.default_rng(3)
    for count in (1, 2, 5, 8):
        tunes = generator.integers(-99, 99, (count, 50)) / 128
        got, _ = emit(
            "median", "F32", [1.0] * 50, tunes.tolist(), weights=(UNIT // 3,) * count
        )
        assert got == [statistics.median(xs) for xs in tunes.T.tolist()]


def test_an_election_without_a_majority_goes_to_plus() -> None:
    """Opposite votes of equal mass: the sign is +, so the positive one counts alone."""
    assert WEIGHTS[0] == 4 * WEIGHTS[1]
    got, _ = emit("ties", "F32", [0.0], [[0.25], [-1.0]], density="1")
    assert got == [0.25]
