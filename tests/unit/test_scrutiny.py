"""Figures of scrutiny against NumPy in float64, and what they are kept by."""

import numpy as np
import pytest
from numpy.typing import NDArray

from crdtmerge import numerics
from tests.scrutiny import Group, names

Array = NDArray[np.float32]
SHAPES = {"layers.0.weight": (96, 64), "layers.0.bias": (96,), "head": (10, 96)}


def _random(seed: int, scale: float) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) * scale).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def _plus(one: dict[str, Array], *others: dict[str, Array]) -> dict[str, Array]:
    return {
        name: np.sum([value, *(o[name] for o in others)], axis=0, dtype=np.float32)
        for name, value in one.items()
    }


BASE = _random(0, 0.1)
COMMON = _random(1, 0.01)
TUNES = [_plus(BASE, COMMON, _random(seed, 0.01)) for seed in range(2, 7)]
"""Fine-tunes whose task vectors have a half of their energy in common."""


def _tau(tune: dict[str, Array]) -> NDArray[np.float64]:
    parts = [
        tune[n].astype(np.float64) - BASE[n].astype(np.float64) for n in sorted(BASE)
    ]
    return np.concatenate([part.reshape(-1) for part in parts])


def test_figures_are_those_of_numpy() -> None:
    """Distance, ratio, agreement, the nearest and its factor, from whole vectors."""
    reports = Group.of(BASE, TUNES).reports()
    taus = [_tau(tune) for tune in TUNES]
    lengths = [float(np.linalg.norm(tau)) for tau in taus]
    base = np.concatenate([BASE[n].reshape(-1) for n in sorted(BASE)]).astype(float)
    cosines = np.array(
        [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in taus] for a in taus]
    )
    for place, report in enumerate(reports):
        others = [other for other in range(len(taus)) if other != place]
        standing = report.standing
        assert standing.relative == pytest.approx(lengths[place] / np.linalg.norm(base))
        middle = np.median([lengths[other] for other in others])
        assert standing.ratio == pytest.approx(lengths[place] / middle)
        agreement = np.median([cosines[place, other] for other in others])
        assert standing.agreement == pytest.approx(agreement)
        pairs = [cosines[a, b] for a in others for b in others if a < b]
        assert standing.typical == pytest.approx(np.median(pairs))
        best = max(others, key=lambda other: abs(cosines[place, other]))
        assert report.nearest is not None
        assert report.nearest.content == Group.of(BASE, TUNES).content(best)
        factor = taus[place] @ taus[best] / (taus[best] @ taus[best])
        assert report.nearest.factor == pytest.approx(factor)
        assert names(report) == []


def test_first_directions_are_those_of_numpy() -> None:
    """The share of the first singular value, over all matrices together."""
    for tune, report in zip(TUNES, Group.of(BASE, TUNES).reports(), strict=True):
        first = total = 0.0
        for name in ("layers.0.weight", "head"):
            tau = tune[name].astype(np.float64) - BASE[name]
            values = np.linalg.svd(tau, compute_uv=False)
            first += values[0] ** 2
            total += (values**2).sum()
        # Of noise the steps are too few to tell the first direction from the next.
        assert report.concentration is not None
        assert 0.8 * first <= report.concentration * total <= 1.0001 * first


def test_reports_do_not_depend_on_order_or_backend() -> None:
    """The same contributions in another order, and the reference alone: equal reports."""
    forth = Group.of(BASE, TUNES).reports()
    back = Group.of(BASE, TUNES[::-1]).reports()
    assert forth == back[::-1]
    with numerics.forced("reference"):
        assert Group.of(BASE, TUNES).reports() == forth
