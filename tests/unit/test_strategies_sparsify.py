"""What stays of task vectors: counts, ties, chances by rank, rescales, refusals."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.codec import Value
from crdtmerge.digest import Domain, digest_value
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats, Keep, Singles
from crdtmerge.strategies import Inputs
from crdtmerge.strategies.sparsify import band, prune, trim
from crdtmerge.strategies.table import SUMS
from crdtmerge.strategies.tensors import participants, vector_of
from tests.strategies import UNIT, base_of, resolve, sample, task

KEY = b"k" * 8
DELLAS = ("della/1", "della_linear/1")
BREADCRUMBS = ("breadcrumbs/1", "breadcrumbs_ties/1")


def singles(count: int, seed: int = 0) -> Singles:
    generator = np.random.default_rng([seed, count])
    return generator.standard_normal(count).astype(np.float32)


def change(name: str, inputs: Inputs) -> Floats:
    """The merged task vector over a base of zeros, whose items F64 holds."""
    merged = resolve(name, replace(inputs, output_dtype="F64"))
    return numerics.upcast(merged, "F64")


def zeros_task(name: str, taus: list[Floats], **parameters: str) -> Inputs:
    return task(name, "F32", taus, np.zeros(taus[0].shape), **parameters)


def chance(rank: int, row: int, density: str, epsilon: str) -> Fraction:
    if row == 1:
        return Fraction(density)
    low, step = Fraction(density) - Fraction(epsilon), Fraction(2, row - 1)
    return low + step * Fraction(epsilon) * rank


def thinned(tau: Singles, keep: Keep) -> Singles:
    return numerics.kept_of(vector_of(tau), keep)


def pruned(tau: Singles, row: int, d: str, e: str, key: bytes) -> tuple[Singles, int]:
    """DELLA's draw, item by item in rationals; and how many items stay."""
    words = numerics.random_words(key, tau.size).tolist()
    found, stays = np.zeros(tau.size, dtype=np.float32), 0
    for start in range(0, tau.size, row):
        order = sorted(range(start, start + row), key=lambda i: (abs(tau[i]), i))
        for rank, i in enumerate(order):
            q = chance(rank, row, d, e)
            if words[i] < math.floor(q * 2**32):
                found[i] = np.float32(float(tau[i]) / float(q))
                stays += 1
    return found, stays


@pytest.mark.parametrize(("items", "row"), [(1, 1), (6, 1), (300, 300), (300, 20)])
@pytest.mark.parametrize(
    ("d", "e"), [("0.5", "0.15"), ("0.3", "0"), ("0.000000002", "0.000000001")]
)
def test_a_chance_hangs_on_the_rank_in_the_row(
    items: int, row: int, d: str, e: str
) -> None:
    """Bit for bit what rationals give, also for rows of one item."""
    tau = singles(items)
    units = [int(Fraction(x) * UNIT) for x in (d, e)]
    expected, _ = pruned(tau, row, d, e, KEY)
    got = thinned(tau, prune(row, units[0], units[1], KEY, rescaled=True))
    assert got.tobytes() == expected.tobytes()
    plain = thinned(tau, prune(row, units[0], units[1], KEY, rescaled=False))
    assert plain.tobytes() == np.where(expected != 0, tau, np.float32(0)).tobytes()


def test_a_long_row_has_the_limits_of_integers() -> None:
    """Of every 29th rank among 70,001, the limit is that of rationals."""
    row = 70_001
    tau = np.arange(1, row + 1, dtype=np.float32)
    got = thinned(tau, prune(row, UNIT // 2, 149_999_999, KEY, rescaled=False))
    words = numerics.random_words(KEY, row).tolist()
    for i in range(0, row, 29):
        limit = math.floor(chance(i, row, "0.5", "0.149999999") * 2**32)
        assert (got[i] != 0) == (words[i] < limit)


@pytest.mark.parametrize("name", DELLAS)
def test_a_row_is_what_lies_along_the_last_dimension(name: str) -> None:
    """The same items in another shape have other ranks, and so other chances."""
    tau = singles(240).astype(np.float64)
    for shape in ((240,), (12, 20), (3, 4, 20), (240, 1)):
        inputs = zeros_task(name, [tau.reshape(shape)])
        value: Value = [inputs.seed, name, inputs.contents[0], "w"]
        key = digest_value(Domain.PHILOX, value)[:8]
        single = tau.astype(np.float32)
        expected, _ = pruned(single, shape[-1], "0.5", "0.15", key)
        assert change(name, inputs).tolist() == expected.tolist()


@pytest.mark.parametrize("name", DELLAS)
def test_l1_keeps_the_sum_of_magnitudes(name: str) -> None:
    """As mergekit does; `none` leaves what stays as it is."""
    tau = singles(500).astype(np.float64)
    found = change(name, zeros_task(name, [tau], rescale="l1"))
    assert math.isclose(np.abs(found).sum(), np.abs(tau).sum(), rel_tol=1e-6)
    found = change(name, zeros_task(name, [tau], rescale="none"))
    assert set(found.tolist()) < {0.0, *tau.tolist()}


@pytest.mark.parametrize("name", DELLAS)
def test_the_mean_of_a_task_vector_stays(name: str) -> None:
    """Each item divided by its own chance: unbiased (five deviations)."""
    items = 100_000
    found = change(name, zeros_task(name, [np.linspace(1, 2, items)]))
    assert abs(found.mean() - 1.5) < 5 * 1.5 / items**0.5
    assert abs((found != 0).mean() - 0.5) < 5 * 0.5 / items**0.5


@pytest.mark.parametrize("name", DELLAS)
def test_a_density_of_one_keeps_all_whatever_epsilon_is(name: str) -> None:
    """As in mergekit, whose density is 1 by default."""
    tau = np.arange(-8.0, 9.0) / 4
    assert change(name, zeros_task(name, [tau], density="1")).tolist() == tau.tolist()


@pytest.mark.parametrize("name", DELLAS)
@pytest.mark.parametrize(("d", "e"), [("0.1", "0.1"), ("0", "0"), ("0.9", "0.11")])
def test_chances_beyond_zero_and_one_are_refused(name: str, d: str, e: str) -> None:
    """With the contribution and what della takes; the ends themselves are told apart."""
    inputs = zeros_task(name, [np.ones(3)], density=d, epsilon=e)
    with pytest.raises(ContractError, match=f"tensor 'w': density {d} and") as caught:
        resolve(name, inputs)
    assert "epsilon < density" in caught.value.hint
    resolve(name, zeros_task(name, [np.ones(3)], density="0.9", epsilon="0.1"))


@pytest.mark.parametrize("name", DELLAS)
def test_what_a_rescale_takes_out_of_the_grid_is_refused(name: str) -> None:
    """A chance of 10**-9 would make sums that are not exact."""
    inputs = zeros_task(name, [np.ones(4096)], density="0.002", epsilon="0.001")
    with pytest.raises(
        ContractError, match=r"tensor 'w': rescaled, its change .* 2\^7"
    ):
        resolve(name, inputs)


@pytest.mark.parametrize("name", BREADCRUMBS)
def test_a_small_tensor_keeps_what_density_says(name: str) -> None:
    """Gamma drops none of 64 items; mergekit up to 0.1.4 then kept nothing."""
    tau = np.arange(1.0, 65.0) / 64
    found = change(name, zeros_task(name, [tau], gamma="0.01", density="0.9"))
    assert found.tolist() == np.where(np.arange(64) >= 6, tau, 0).tolist()


@pytest.mark.parametrize(
    ("density", "gamma", "kept"),
    [
        ("0.9", "0.01", range(9, 99)),
        ("0.5", "0.1", range(40, 90)),
        ("0.9", "0.2", range(90)),
        ("0.29", "0", range(71, 100)),
        ("0.001", "1", range(1)),
        ("0", "0.01", range(0)),
        ("1", "0.5", range(100)),
    ],
)
@pytest.mark.parametrize("name", BREADCRUMBS)
def test_the_largest_and_the_smallest_go(
    name: str, density: str, gamma: str, kept: range
) -> None:
    """Counts of 100 items by integers: density goes before gamma."""
    sizes = np.arange(1.0, 101.0) / 128 * (-1) ** np.arange(100)
    places = np.random.default_rng(0).permutation(100)
    found = change(
        name, zeros_task(name, [sizes[places]], density=density, gamma=gamma)
    )
    stays = np.isin(places, list(kept))
    assert found.tolist() == np.where(stays, sizes[places], 0).tolist()


def test_ties_at_a_threshold_are_kept_in_any_order() -> None:
    """What a stable or unstable sort puts first decides nothing: permuted, the same."""
    tau = np.repeat(np.array([4, -3, 2, 1], dtype=np.float32), 25)
    tau[::2] *= -1
    generator = np.random.default_rng(1)
    half = UNIT // 2
    for _ in range(5):
        places = generator.permutation(100)
        mixed = tau[places]
        kept = np.isin(np.abs(mixed), [1, 2, 3])  # 10 to 90 would cut 4s, 1s
        whole, vector = mixed.tolist(), vector_of(mixed)
        wide = band(vector, 8 * UNIT // 10, UNIT // 10)
        assert thinned(mixed, wide).tolist() == whole
        narrow = band(vector, 7 * UNIT // 10, 3 * UNIT // 10)
        assert thinned(mixed, narrow).tolist() == np.where(kept, mixed, 0).tolist()
        assert trim(vector_of(mixed), half - UNIT // 10).least == 3


@pytest.mark.parametrize("name", DELLAS + BREADCRUMBS)
@pytest.mark.parametrize("shape", [(257,), (16, 16), (0,), (4, 0)])
def test_what_one_brings_is_found_without_the_others(
    name: str, shape: tuple[int, ...]
) -> None:
    """Planes of single contributions, added, end in the bytes of one go."""
    base, tunes = sample(math.prod(shape), 3)
    inputs = task(name, "BF16", [t.reshape(shape) for t in tunes], base.reshape(shape))
    inputs = replace(inputs, weights=(UNIT, UNIT // 3, 2 * UNIT))
    sums, part = SUMS[name], range(inputs.items)
    exponent, terms = participants(inputs, inputs.weights)
    grid = sums.grid(exponent, inputs.dtype)
    alone = [sums.portion(replace(inputs, exponent=exponent), term) for term in terms]
    shares = [portion.share for portion in alone]
    common = sums.common(shares)
    planes = [sums.planes([one], common, grid, part, "w") for one in alone]
    total = planes[0] + planes[1] + planes[2]
    found = sums.finish(inputs, total, grid, sums.ending(inputs, shares), part)
    assert bytes(found) == resolve(name, inputs)
    assert len(found) == len(base_of(inputs))


def test_a_drop_is_made_up_by_its_chance_and_not_by_sums() -> None:
    """DARE's rescale is 1 / (1 - p) unless mergekit's is asked for."""
    for name in ("dare_linear/1", "dare_ties/1"):
        found = change(name, zeros_task(name, [np.ones(1000)], p="0.75"))
        assert set(found.tolist()) == {0.0, 4.0}
        found = change(name, zeros_task(name, [np.ones(1000)], p="0.75", rescale="l1"))
        assert 4.0 not in found
        assert math.isclose(found.sum(), 1000, rel_tol=1e-6)


@pytest.mark.parametrize("name", DELLAS)
def test_what_a_chance_lifts_out_of_float32_is_named(name: str) -> None:
    """An item divided by its small chance may not fit: it says whose that is."""
    tune = np.full(400, 2.0**126)
    settings = {"density": "0.2", "epsilon": "0.15"}
    inputs = task(name, "F32", [tune], np.full(400, 2.0**125), **settings)
    with pytest.raises(ContractError, match="contribution 000000000000, tensor 'w': a"):
        resolve(name, inputs)
