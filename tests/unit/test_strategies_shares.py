"""cabs and widen: who has which items, and which columns weigh how much."""

import math
from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.codec import Value
from crdtmerge.digest import Domain, digest_value
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, shuffled, task

Row = list[float]


def make(name: str, taus: Floats, **own: str) -> Inputs:
    """Task vectors over a base of zeros; F64 holds every merged item."""
    inputs = task(name, "F32", list(taus), np.zeros(taus[0].shape), **own)
    return replace(inputs, output_dtype="F64")


def merged(name: str, inputs: Inputs) -> Row:
    found: Row = numerics.upcast(resolve(name, inputs), "F64").tolist()
    return found


def eighths(count: int, items: int) -> Floats:
    """Short numbers, so that sums are exact; many are equal in magnitude."""
    generator = np.random.default_rng([count, items])
    return generator.integers(-40, 41, (count, items)) / 8


def drawn(inputs: Inputs) -> list[int]:
    """The order of the seed's digests."""

    def key(place: int) -> bytes:
        value: Value = [inputs.seed, inputs.contents[place]]
        return digest_value(Domain.ORDER, value)

    return sorted(range(len(inputs.contents)), key=key)


def shared_out(taus: list[Row], n: int, m: int) -> list[list[int]]:
    """Who keeps what, one group after another, in order."""
    items = len(taus[0])
    kept: list[list[int]] = [[] for _ in taus]
    for start in range(0, items, m):
        group = range(start, min(start + m, items))
        taken: set[int] = set()
        for place, tau in enumerate(taus):
            best = [i for _, i in sorted((-abs(tau[i]), i) for i in group)]
            free = [i for i in best if i not in taken]
            chosen = (free + [i for i in best if i in taken])[:n]
            kept[place] += chosen
            taken |= {i for i in chosen if tau[i]}
    return kept


@pytest.mark.parametrize("count", [1, 2, 4, 7])
@pytest.mark.parametrize(
    ("n", "m", "items"), [(2, 8, 64), (3, 8, 61), (8, 8, 20), (1, 1, 5), (5, 64, 300)]
)
def test_each_takes_what_those_before_left(
    count: int, n: int, m: int, items: int
) -> None:
    """In the drawn order; where too few are left, the largest of those taken."""
    taus = eighths(count, items)
    inputs = make("cabs/1", taus, n=str(n), m=str(m), **{"lambda": "0.5"})
    inputs = replace(inputs, weights=tuple(UNIT * (i + 1) for i in range(count)))
    order = drawn(inputs)
    kept = shared_out([taus[i].tolist() for i in order], n, m)
    expected = np.zeros(items)
    for i, places in zip(order, kept, strict=True):
        expected[places] += 0.5 * (i + 1) * taus[i][places]
    assert merged("cabs/1", inputs) == expected.tolist()


def test_four_times_64_of_256_do_not_overlap_and_the_fifth_does() -> None:
    """With the defaults four share a group; nobody is left out after them."""
    taus = np.array([np.full(512, 2.0**i) for i in range(5)])
    four = merged("cabs/1", make("cabs/1", taus[:4]))
    assert sorted(four) == sorted([1.0, 2.0, 4.0, 8.0] * 128)
    assert math.fsum(merged("cabs/1", make("cabs/1", taus))) == 31 * 128


def test_who_changes_nothing_takes_nothing() -> None:
    """A zero is not a taken item, whoever comes first."""
    tau = np.arange(1.0, 17.0) / 8
    alone = make("cabs/1", np.array([tau]), n="4", m="8")
    both = make("cabs/1", np.array([tau, np.zeros(16)]), n="4", m="8")
    for seed in range(6):
        inputs = replace(both, seed=bytes([seed]) * 32)
        assert merged("cabs/1", inputs) == merged("cabs/1", alone)


def test_more_of_a_group_than_there_is_are_refused() -> None:
    inputs = make("cabs/1", eighths(2, 9), n="9", m="8")
    with pytest.raises(
        ContractError, match="tensor 'w': cabs cannot keep 9 of every 8"
    ):
        resolve("cabs/1", inputs)


def softmaxes(kinds: list[Row], above: list[list[bool]], s: float) -> list[Row]:
    """Over models, for each column; s where it is told."""
    found = []
    columns = zip(*kinds, strict=True)
    for values, high in zip(columns, zip(*above, strict=True), strict=True):
        total = math.fsum(math.exp(v) for v in values)
        shares = [math.exp(v) / total for v in values]
        found.append([s if h else x for x, h in zip(shares, high, strict=True)])
    return [list(row) for row in zip(*found, strict=True)]


def ranks(values: Row) -> Row:
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    return [order.index(i) / len(values) for i in range(len(values))]


def widen(base: Floats, tunes: list[Floats], t: float, s: float) -> Floats:
    """The formula, column by column; (models, columns) of weights."""
    kinds: list[list[Row]] = [[], []]
    for tune in tunes:
        pairs = list(zip(base.T.tolist(), tune.T.tolist(), strict=True))
        kinds[0].append(ranks([abs(math.hypot(*a) - math.hypot(*b)) for a, b in pairs]))
        kinds[1].append(
            ranks(
                [
                    1
                    - math.fsum(x * y for x, y in zip(a, b, strict=True))
                    / (math.hypot(*a) * math.hypot(*b))
                    for a, b in pairs
                ]
            )
        )
    scores = []
    for kind in kinds:
        means = [math.fsum(row) / len(row) for row in kind]
        above = [
            [x > t * mean for x in row] for row, mean in zip(kind, means, strict=True)
        ]
        scores.append(np.array(softmaxes(kind, above, s)))
    half: Floats = 0.5 * (scores[0] + scores[1])
    return half


@pytest.mark.parametrize("shape", [(12, 7), (3, 200), (70, 3), (6, 2, 4)])
@pytest.mark.parametrize(("t", "s"), [(1.0, 1.0), (0.35, 0.5), (1.77, 2.0)])
@pytest.mark.parametrize("weights", [(UNIT,) * 3, (UNIT, 3 * UNIT, 2 * UNIT)])
def test_columns_weigh_by_their_ranks(
    shape: tuple[int, ...], t: float, s: float, weights: tuple[int, ...]
) -> None:
    """Magnitude and direction, softmax over models, s above the mean."""
    generator = np.random.default_rng(shape)
    flat = (shape[0], math.prod(shape[1:]))
    base = generator.standard_normal(flat)
    tunes = [base + generator.standard_normal(flat) / 4 for _ in weights]
    inputs = task(
        "widen/1", "F64", [x.reshape(shape) for x in tunes], base.reshape(shape),
        t=str(t), s=str(s),
    )  # fmt: skip
    got = merged("widen/1", replace(inputs, weights=weights))
    shares = [3 * w / sum(weights) for w in weights]
    expected = base.copy()
    for tune, row, share in zip(tunes, widen(base, tunes, t, s), shares, strict=True):
        expected += share * row * (tune - base)
    assert np.allclose(got, expected.reshape(-1), rtol=0, atol=1e-6)


def test_items_of_one_dimension_weigh_by_their_own_changes() -> None:
    """|tau| in place of ranks, also where its exponential is beyond float64."""
    taus = eighths(3, 90) * 200
    base = np.full(90, 1024.0)
    inputs = task(
        "widen/1", "F64", [base + tau for tau in taus], base, s="0.75", t="1.1"
    )
    sizes = np.abs(taus)
    above = [[x > 1.1 * row.mean() for x in row] for row in sizes]
    top = sizes.max(axis=0)
    scores = np.array(softmaxes((sizes - top).tolist(), above, 0.75))
    expected = base + (scores * taus).sum(axis=0)
    assert np.allclose(merged("widen/1", inputs), expected, rtol=1e-12)


def test_columns_of_zeros_and_unchanged_columns_are_no_division_by_zero() -> None:
    """They changed least; one that grew out of nothing turned by a right angle."""
    base = np.array([[0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 1.0, 2.0]])
    tune = np.array([[0.0, 1.0, 1.0, 3.0], [0.0, 1.0, 1.0, 2.0]])
    found = merged("widen/1", task("widen/1", "F64", [tune], base, t="100", s="0"))
    assert found == tune.reshape(-1).tolist()  # one model: each softmax is 1
    cut = merged("widen/1", task("widen/1", "F64", [tune], base, t="1.34", s="0"))
    assert cut == [0, 0, 1, 3, 0, 0, 1, 2]  # only the second is above it, in both ranks


@pytest.mark.parametrize("name", ["cabs/1", "widen/1"])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 5), (5, 1), (0, 3), (3, 0)])
def test_any_shape_has_an_output(name: str, shape: tuple[int, ...]) -> None:
    """Scalars, single rows and columns, and tensors without items."""
    base = np.ones(shape)
    inputs = task(name, "BF16", [base + 0.5, base * 0.25], base)
    assert len(resolve(name, inputs)) == 2 * base.size
    assert resolve(name, replace(inputs, weights=(0, 0))) == inputs.base
    assert resolve(name, inputs) == resolve(name, shuffled(inputs, (1, 0)))


def test_widen_refuses_negative_weights() -> None:
    inputs = replace(make("widen/1", eighths(2, 9)), weights=(UNIT, -UNIT))
    with pytest.raises(ContractError, match="negative weight has no meaning to widen"):
        resolve("widen/1", inputs)
