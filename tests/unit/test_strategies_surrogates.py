"""Surrogates: what stands for methods that train or unlearn, by hand and by claim."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import STRATEGIES, Evidence, Values
from tests.strategies import UNIT, resolve, task

NAMES = tuple(
    name
    for name, strategy in STRATEGIES.items()
    if ".surrogates." in strategy.emit.__module__
)


def merged(
    name: str,
    thetas: Sequence[Floats],
    evidence: Sequence[Evidence] = (),
    own: Sequence[Mapping[str, str]] = (),
    weights: tuple[int, ...] = (),
    **shared: str,
) -> Floats:
    """What comes out over a base of zeros."""
    inputs = task(name, "F64", list(thetas), np.zeros(thetas[0].shape), **shared)
    base = dict(inputs.values.parameters)
    told = own or ({},) * len(thetas)
    inputs = replace(
        inputs,
        output_dtype="F64",
        exponent=8,
        evidence=tuple(evidence),
        own=tuple(Values(tuple(sorted({**base, **one}.items()))) for one in told),
        weights=weights or (UNIT,) * len(thetas),
    )
    return numerics.upcast(resolve(name, inputs), "F64").reshape(inputs.shape)


def drawn(shape: tuple[int, ...], count: int, seed: int = 0) -> list[Floats]:
    made = np.random.default_rng(seed).standard_normal((count, *shape))
    return list(made.astype(np.float32).astype(np.float64))


def grams(columns: int, count: int) -> list[Evidence]:
    found: list[Evidence] = []
    for rows in drawn((columns + 2, columns), count, 1):
        gram = rows.T @ rows
        found.append({"gram": (gram + gram.T) / 2 / np.trace(gram)})
    return found


def test_there_are_nine() -> None:
    """With led_merge, star, knots, fisher and regmean they complete the paper's list."""
    assert len(NAMES) == 9


@pytest.mark.parametrize("name", NAMES)
def test_a_surrogate_is_called_one(name: str) -> None:
    """Where users choose, and in its documentation."""
    assert "surrogate" in STRATEGIES[name].summary


# --- fits --------------------------------------------------------------------------------


def loss(tau: Floats, taus: Sequence[Floats], evidence: Sequence[Evidence]) -> float:
    return sum(
        float(np.trace((tau - own) @ each["gram"] @ (tau - own).T))
        for own, each in zip(taus, evidence, strict=True)
    )


def test_ada_merging_is_the_best_of_all_coefficients() -> None:
    """No step in any coefficient lessens how far the merge is from all."""
    taus, evidence = drawn((6, 5), 3), grams(5, 3)
    found = merged("ada_merging", taus, evidence, ridge="0.000000001")
    lowest = loss(found, taus, evidence)
    for tau in taus:
        for step in (0.01, -0.01):
            assert loss(found + step * tau, taus, evidence) > lowest
    alone = merged("ada_merging", [np.array([1.0, 2.0]), np.array([3.0, 4.0])])
    assert np.allclose(alone, 0.3 * np.array([4.0, 6.0]))


def test_dam_is_the_best_of_all_coefficients_by_column() -> None:
    """Of the loss with diagonal Gram matrices: each column moves by itself."""
    taus, evidence = drawn((4, 3), 2), grams(3, 2)
    flat = [{"gram": np.diag(np.diag(each["gram"]))} for each in evidence]
    found = merged("dam", taus, evidence, floor="0.000000001")
    lowest = loss(found, taus, flat)
    for column in range(3):
        for tau in taus:
            moved = found.copy()
            moved[:, column] += 0.01 * tau[:, column]
            assert loss(moved, taus, flat) > lowest


def test_adarank_keeps_only_what_helps() -> None:
    """Opposite changes of unequal use: the one whose inputs are not used goes."""
    tau = np.zeros((3, 3))
    tau[0, 0] = 2.0
    seen, unseen = np.diag([1.0, 0, 0]), np.diag([0.0, 0.5, 0.5])
    evidence = [{"gram": seen}, {"gram": unseen}]
    found = merged("adarank", [tau, -tau], evidence)
    assert np.allclose(found, tau / 2)


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_adarank_is_no_worse_than_the_mean_of_its_components(count: int) -> None:
    """By what it lessens; of unrelated models something stays, however many there are."""
    taus, told = drawn((12, 12), count), grams(12, count)
    cut = []
    for one in taus:
        u, s, vt = np.linalg.svd(one)
        rank = 12 // count
        cut.append((u[:, :rank] * s[:rank]) @ vt[:rank])
    mean = sum(cut) / count
    found = merged("adarank", taus, told)
    assert loss(found, taus, told) <= loss(mean, taus, told) * (1 + 1e-12)
    assert loss(found, taus, told) < 0.95 * loss(0 * mean, taus, told)


def test_without_gram_matrices_adarank_keeps_energy() -> None:
    """Of squares 16, 4 and 1 the first two are above nine tenths."""
    tau = np.diag([4.0, 2.0, 1.0])
    assert np.allclose(merged("adarank", [tau]), np.diag([4.0, 2.0, 0]))
    assert np.allclose(merged("adarank", [tau], energy="1"), tau)


def test_surgery_mends_the_mean_output() -> None:
    """At the mean input the layer gives the mean of what each gives at its own."""
    thetas = drawn((4, 5), 2)
    means = drawn((5,), 2, 3)
    evidence = [{"inputs": x} for x in means]
    found = merged(
        "representation_surgery",
        thetas,
        evidence,
        weights=(UNIT, 3 * UNIT),
        ridge="0.000000001",
    )
    wanted = 0.25 * thetas[0] @ means[0] + 0.75 * thetas[1] @ means[1]
    assert np.allclose(found @ (0.25 * means[0] + 0.75 * means[1]), wanted, rtol=1e-5)
    plain = 0.25 * thetas[0] + 0.75 * thetas[1]
    assert np.linalg.matrix_rank(found - plain, tol=1e-6) == 1


@pytest.mark.parametrize("name", ["ada_merging", "dam", "adarank"])
def test_evidence_of_some_alone_is_refused(name: str) -> None:
    """Unless who lacks it is left out."""
    taus, (evidence,) = drawn((4, 3), 2), grams(3, 1)
    with pytest.raises(ContractError, match="attaches no evidence"):
        merged(name, taus, [evidence, {}])
    left = merged(name, taus, [evidence, {}], lacking="leave_out")
    if name == "dam":
        assert np.allclose(left, taus[0])
    assert np.isfinite(left).all()
