"""Robust aggregation, against plain NumPy: who is chosen, dropped, clipped, and how far."""

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import BadInputError, ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs, find, make_recipe, whole_of
from tests.strategies import UNIT, base_of, reduced, resolve, sample, shuffled, task

ROBUST = (
    "bulyan",
    "centered_clip",
    "geometric_median",
    "krum",
    "median",
    "multi_krum",
    "trimmed_mean",
)


def merged(name: str, inputs: Inputs) -> Floats:
    found: Floats = numerics.upcast(resolve(name, inputs), inputs.dtype)
    return found


def alone(rows: list[list[float]]) -> tuple[Floats, list[Floats]]:
    """A base of zeros, and contributions with these items."""
    made = [np.array(row) for row in rows]
    return np.zeros(made[0].size), made


def squares(points: Floats) -> Floats:
    """Squared distances of pairs, from differences."""
    gaps = points[:, np.newaxis] - points[np.newaxis]
    found: Floats = (gaps**2).sum(axis=2)
    return found


@pytest.mark.parametrize("name", ROBUST)
def test_one_far_contribution_of_seven_moves_no_robust_method_far(name: str) -> None:
    """Its change is thirty times too large: the mean follows it, none of these does."""
    generator = np.random.default_rng(7)
    base, common = generator.standard_normal((2, 2000)) / 8
    noise = generator.standard_normal((7, 2000)) / 64
    tunes = [base + common + row for row in noise]
    clean = base + common + noise[:6].sum(axis=0) / 6
    tunes[6] = base - 30 * (tunes[6] - base)

    def distance(found: Floats) -> float:
        return float(np.linalg.norm(found - clean))

    near = float(np.linalg.norm(noise[0]))
    inputs = task("linear", "F32", tunes, base)
    assert distance(merged("linear", inputs)) > 20 * near
    assert distance(merged(name, task(name, "F32", tunes, base))) < 1.5 * near


@pytest.mark.parametrize(
    ("beta", "kept"), [("0", 5), ("0.19", 5), ("0.2", 3), ("0.4", 1)]
)
def test_trimmed_mean_drops_the_floor_at_each_end(beta: str, kept: int) -> None:
    """0.2 of five is one, which a float product would say or not."""
    base, tunes = sample(200, 5)
    found = merged("trimmed_mean", task("trimmed_mean", "F64", tunes, base, beta=beta))
    drop = (5 - kept) // 2
    middle = np.sort(np.array(tunes), axis=0)[drop : 5 - drop]
    np.testing.assert_allclose(found, middle.sum(axis=0) / kept, rtol=1e-14)


def test_equal_weights_and_almost_equal_ones_trim_alike() -> None:
    """The short way of equal weights drops the values that the long way drops."""
    base, tunes = sample(300, 7)
    inputs = task("trimmed_mean", "F32", tunes, base)
    weights = (UNIT, *(UNIT + 1,) * 6)
    found = np.frombuffer(resolve("trimmed_mean", inputs), "<f4")
    near = resolve("trimmed_mean", replace(inputs, weights=weights))
    np.testing.assert_allclose(found, np.frombuffer(near, "<f4"), rtol=1e-6, atol=1e-7)


def test_the_floor_of_beta_n_is_that_of_integers() -> None:
    """0.29 * 100 is 28.999... in float64: 29 are dropped all the same."""
    base, tunes = alone([[float(i >= 29)] for i in range(100)])
    inputs = task("trimmed_mean", "F64", tunes, base, beta="0.29")
    assert merged("trimmed_mean", inputs).tolist() == [1.0]


def test_trimmed_mean_weighs_what_is_left() -> None:
    """Weights choose nobody: each end loses one, the rest is averaged by weight."""
    base, tunes = alone([[1.0], [2.0], [5.0], [9.0], [8.0]])
    inputs = replace(
        task("trimmed_mean", "F64", tunes, base),
        weights=(100 * UNIT, UNIT, 2 * UNIT, 7 * UNIT, UNIT),
    )
    assert merged("trimmed_mean", inputs).tolist() == [(2 + 10 + 8) / 4]


def test_of_equal_values_the_first_in_canonical_order_is_dropped_below() -> None:
    """Equal values have no order of their own; their weights differ."""
    base, tunes = alone([[1.0], [1.0], [2.0], [3.0], [3.0]])
    inputs = replace(
        task("trimmed_mean", "F64", tunes, base),
        weights=(100 * UNIT, UNIT, UNIT, 2 * UNIT, 100 * UNIT),
    )
    for order in permutations(range(5)):
        found = merged("trimmed_mean", shuffled(inputs, order))
        assert found.tolist() == [(1 + 2 + 6) / 4]


def test_beta_of_a_half_is_refused() -> None:
    """Nothing would be left."""
    make_recipe("trimmed_mean", {"beta": "0.499999999"})
    with pytest.raises(
        BadInputError, match=r"beta='0.5' is not a number, 0 to 0.499999999"
    ):
        make_recipe("trimmed_mean", {"beta": "0.5"})


@pytest.mark.parametrize("scope", ["model", "tensor"])
@pytest.mark.parametrize(("count", "f"), [(3, 0), (5, 1), (7, 1), (8, 2)])
def test_krum_takes_the_lowest_sum_of_nearest_distances(
    scope: str, count: int, f: int
) -> None:
    """Distances are of the whole model, or of each tensor by itself."""
    generator = np.random.default_rng(count)
    bases = generator.standard_normal((2, 50))
    tunes = bases[:, np.newaxis] + generator.standard_normal((2, count, 50)) / 16
    given = {"f": str(f if count == 7 else 0), "scope": scope}
    tasks = [
        task("krum", "F64", list(tune), base, **given)
        for base, tune in zip(bases, tunes, strict=True)
    ]
    parts = [squares(tune) for tune in tunes]
    wanted = [sum(parts)] * 2 if scope == "model" else parts
    for inputs, matrix, tune in zip(
        reduced(find("krum"), tasks), wanted, tunes, strict=True
    ):
        near = np.sort(matrix, axis=1)[:, 1 : count - f - 1].sum(axis=1)
        found = numerics.upcast(whole_of(find("krum").emit(inputs)), "F64")
        np.testing.assert_allclose(found, tune[near.argmin()], atol=1e-12)


def test_krum_gives_a_tie_to_the_first_in_canonical_order() -> None:
    """Three in one place each: any of them has the same score."""
    base, tunes = alone([[5.0], [1.0], [1.0], [1.0], [2.0], [2.0], [2.0]])
    for order in list(permutations(range(1, 7)))[::11]:
        inputs = shuffled(task("krum", "F64", tunes, base, f="2"), (0, *order))
        assert merged("krum", inputs).tolist() == [1.0]


@pytest.mark.parametrize(
    ("name", "f", "count", "needed"),
    [
        ("krum", 0, 2, 3),
        ("krum", 2, 6, 7),
        ("multi_krum", 1, 4, 5),
        ("bulyan", 0, 2, 3),
        ("bulyan", 1, 6, 7),
        ("bulyan", 2, 10, 11),
    ],
)
@pytest.mark.parametrize("scope", ["model", "tensor"])
def test_too_few_contributions_are_refused(
    name: str, f: int, count: int, needed: int, scope: str
) -> None:
    """The bound of the paper; those of weight zero do not count."""
    base, tunes = sample(10, count + 1)
    inputs = task(name, "F32", tunes, base, f=str(f), scope=scope)
    inputs = replace(inputs, weights=(0,) + (UNIT,) * count)
    with pytest.raises(ContractError, match=f"{name} needs {needed} .*, not {count}"):
        resolve(name, inputs)


def test_multi_krum_averages_the_chosen_by_weight() -> None:
    """By default n - f, or m; the rest has no part, whatever its weight."""
    base, tunes = alone([[0.0], [1.0], [3.0], [4.0], [60.0]])
    weights = (UNIT, 2 * UNIT, UNIT, 4 * UNIT, 50 * UNIT)
    inputs = replace(task("multi_krum", "F64", tunes, base), weights=weights)
    assert merged("multi_krum", inputs)[0] == pytest.approx(21 / 8, abs=1e-8)
    inputs = replace(task("multi_krum", "F64", tunes, base, m="2"), weights=weights)
    assert merged("multi_krum", inputs)[0] == pytest.approx(5 / 3, abs=1e-8)


def test_multi_krum_refuses_to_average_those_that_may_be_bad() -> None:
    """At most n - f are chosen."""
    base, tunes = sample(10, 5)
    with pytest.raises(ContractError, match=r"choose 5 of 5 .* 1 of them may be bad"):
        resolve("multi_krum", task("multi_krum", "F32", tunes, base, m="5"))


@pytest.mark.parametrize("name", ["krum", "multi_krum", "bulyan", "geometric_median"])
def test_without_a_base_distances_of_all_tensors_have_one_scale(name: str) -> None:
    """A tensor of large values is not measured in other units than one of small ones."""
    generator = np.random.default_rng(1)
    large = 1000 + generator.integers(-8, 8, (7, 20))
    small = generator.integers(-8, 8, (7, 20)) / 64
    tensors = [task(name, "F64", list(tune), np.zeros(20)) for tune in (large, small)]
    tensors = [replace(inputs, base=None) for inputs in tensors]
    found = reduced(find(name), tensors)[0].coefficients
    points = np.concatenate([large, small], axis=1)
    one = task(name, "F64", list(points), np.full(40, 512.0))
    wanted = reduced(find(name), [one])[0].coefficients
    assert found is not None
    assert wanted is not None
    np.testing.assert_allclose(found, wanted, atol=UNIT / 10**6)


@pytest.mark.parametrize("scope", ["model", "tensor"])
@pytest.mark.parametrize("name", ["krum", "multi_krum", "bulyan", "geometric_median"])
def test_the_largest_tensors_do_not_overflow(name: str, scope: str) -> None:
    """Sums of such squares are beyond float64; no base makes differences smaller."""
    shares = (0.5, 0.51, 0.52, 0.53, 0.99)
    tunes = [np.full(40, share * 2.0**512) for share in shares]
    inputs = task(name, "F64", tunes, np.full(40, 1.0), scope=scope)
    found = merged(name, replace(inputs, base=None))
    assert (found >= 0.5 * 2.0**512).all()
    assert (found < 0.7 * 2.0**512).all()


def bulyan(points: Floats, f: int) -> Floats:
    """Bulyan by the words of the paper, one value at a time."""
    count = len(points)
    matrix, pool, chosen = squares(points), list(range(count)), list[int]()
    while len(chosen) < count - 2 * f:
        near = max(1, len(pool) - f - 2)
        scores = [
            sum(sorted(matrix[i, j] for j in pool if j != i)[:near]) for i in pool
        ]
        chosen.append(pool.pop(int(np.argmin(scores))))
    found = []
    for column in points[chosen].T:
        middle = float(np.median(column))
        nearest = sorted((abs(x - middle), x) for x in column.tolist())
        kept = [x for _, x in nearest[: count - 4 * f]]
        found.append(math.fsum(kept) / len(kept))
    return np.array(found)


@pytest.mark.parametrize(("count", "f"), [(7, 1), (8, 1), (11, 2), (12, 2), (5, 0)])
def test_bulyan_is_krum_again_and_again_then_a_mean_around_the_median(
    count: int, f: int
) -> None:
    """Equal weights, f automatic."""
    base, tunes = sample(60, count)
    found = merged("bulyan", task("bulyan", "F64", tunes, base))
    np.testing.assert_allclose(found, bulyan(np.array(tunes), f), rtol=1e-12)


def test_bulyan_drops_where_krum_alone_would_not() -> None:
    """One huge item in a model that is near otherwise is far from its median."""
    generator = np.random.default_rng(3)
    base = generator.standard_normal(1000)
    tunes = [base + generator.standard_normal(1000) / 16 for _ in range(7)]
    tunes[2] = base + (tunes[2] - base) / 100
    tunes[2][500] += 1.5
    found = merged("bulyan", task("bulyan", "F32", tunes, base))
    chosen = merged("krum", task("krum", "F32", tunes, base))
    assert abs(chosen[500] - base[500]) > 1
    assert abs(found[500] - base[500]) < 0.2


def test_bulyan_gives_a_tie_at_the_distance_to_the_lower_value() -> None:
    """Around 2, next to 1.5, of 0 and 4 which are as near: three are averaged."""
    rows = [[0.0], [1.5], [2.0], [4.0], [9.0], [40.0], [55.0]]
    base, tunes = alone(rows)
    for order in (range(7), range(6, -1, -1)):
        inputs = shuffled(task("bulyan", "F64", tunes, base), tuple(order))
        assert merged("bulyan", inputs).tolist() == [pytest.approx(3.5 / 3)]


def test_bulyan_averages_by_weight() -> None:
    """What is chosen and what is next to the median hangs on no weight; the mean does."""
    base, tunes = alone([[0.0], [1.5], [2.0], [4.0], [9.0], [40.0], [55.0]])
    weights = tuple(UNIT * weight for weight in (1, 2, 5, 40, 50, 60, 70))
    inputs = replace(task("bulyan", "F64", tunes, base), weights=weights)
    assert merged("bulyan", inputs).tolist() == [(0 + 3 + 10) / 8]


def median_of_points(points: Floats, weights: Floats) -> Floats:
    """Weiszfeld's iteration on the points themselves, to its end."""
    found: Floats = weights @ points / weights.sum()
    for _ in range(3000):
        pulls = weights / np.linalg.norm(points - found, axis=1)
        found = pulls @ points / pulls.sum()
    return found


@pytest.mark.parametrize("has_base", [True, False])
def test_geometric_median_is_where_the_sum_of_distances_is_least(
    *, has_base: bool
) -> None:
    """By weight; no neighbour of it has a smaller sum."""
    base, tunes = sample(30, 6)
    weights = np.array([1.0, 2, 1, 0.5, 1, 3])
    inputs = task("geometric_median", "F64", tunes, base, iterations="400")
    inputs = replace(inputs, weights=tuple(int(w * UNIT) for w in weights))
    if not has_base:
        inputs = replace(inputs, base=None)
    found = merged("geometric_median", inputs)
    wanted = median_of_points(np.array(tunes), weights)
    np.testing.assert_allclose(found, wanted, atol=2e-8)


def test_the_geometric_median_of_a_majority_in_one_place_is_there() -> None:
    """Distances of zero divide nothing."""
    base, tunes = alone([[1.0, 2.0]] * 3 + [[40.0, 9.0], [-7.0, 3.0]])
    found = merged("geometric_median", task("geometric_median", "F64", tunes, base))
    np.testing.assert_allclose(found, [1.0, 2.0], atol=1e-6)


def test_geometric_median_has_no_scale_of_its_own() -> None:
    """Changes a million times smaller have the same coefficients."""
    base, tunes = sample(40, 5)
    small = [base + (t - base) * 2.0**-20 for t in tunes]
    found = [
        reduced(find("geometric_median"), [task("geometric_median", "F64", t, base)])[0]
        for t in (tunes, small)
    ]
    first, second = (np.array(i.coefficients) for i in found)
    assert first.sum() == second.sum() == UNIT
    assert np.abs(first - second).max() < 1e-5 * UNIT


def clipped(points: Floats, start: Floats, rho: float, iterations: int) -> Floats:
    """Centered clipping on the points themselves."""
    centre = start
    for _ in range(iterations):
        gaps = points - centre
        lengths = np.linalg.norm(gaps, axis=1)
        cut = rho or float(np.median(lengths))
        factors = np.minimum(1, cut / np.maximum(lengths, 1e-30))
        centre = centre + (factors[:, np.newaxis] * gaps).mean(axis=0)
    return centre


@pytest.mark.parametrize("rho", ["0", "0.2", "100"])
@pytest.mark.parametrize("start", ["median", "mean"])
@pytest.mark.parametrize("iterations", ["1", "10"])
def test_centered_clip_moves_by_changes_of_bounded_length(
    rho: str, start: str, iterations: str
) -> None:
    """From the median or the mean; rho 0 is the median distance."""
    base, tunes = sample(50, 5)
    tunes[0] = base + 9 * (tunes[0] - base)
    given = {"rho": rho, "start": start, "iterations": iterations}
    found = merged("centered_clip", task("centered_clip", "F64", tunes, base, **given))
    taus = np.array(tunes) - base
    first = np.median(taus, axis=0) if start == "median" else taus.mean(axis=0)
    wanted = base + clipped(taus, first, float(rho), int(iterations))
    np.testing.assert_allclose(found, wanted, atol=1e-7)


def test_centered_clip_without_a_clip_is_the_mean() -> None:
    """With rho beyond all distances: one step from anywhere ends at the mean by weight."""
    base, tunes = sample(50, 3)
    inputs = task("centered_clip", "F32", tunes, base, rho="1000", iterations="1")
    inputs = replace(inputs, weights=(UNIT, 2 * UNIT, 5 * UNIT))
    mean = (tunes[0] + 2 * tunes[1] + 5 * tunes[2]) / 8
    np.testing.assert_allclose(merged("centered_clip", inputs), mean, atol=1e-6)


@pytest.mark.parametrize("name", ROBUST)
def test_robust_methods_keep_the_bytes_of_a_fold_over_scopes(name: str) -> None:
    """A model of one tensor is that tensor: both scopes give one output."""
    if find(name).parameter("scope") is None:
        return
    base, tunes = sample(100, 7)
    made = [task(name, "F32", tunes, base, scope=s) for s in ("model", "tensor")]
    first, second = (resolve(name, inputs) for inputs in made)
    assert first == second
    assert len(first) == len(base_of(made[0]))
