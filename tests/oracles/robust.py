"""Robust aggregation: medians, trimmed means, and who lies near the others.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import numpy as np

from tests.oracles.case import Case, Floats, lengths, weighed


def _weighted_median(rows: Floats, weights: Floats) -> Floats:
    """Where half of the weight is passed; the middle of two where it is met."""
    found = np.empty(rows.shape[1:])
    for place in np.ndindex(found.shape):
        column = rows[(slice(None), *place)]
        order = np.argsort(column, kind="stable")
        mass = np.cumsum(weights[order]) / weights.sum()
        lower = column[order[np.argmax(mass >= 0.5 - 1e-12)]]
        upper = column[order[np.argmax(mass > 0.5 + 1e-12)]]
        found[place] = (lower + upper) / 2
    return found


def median(case: Case) -> Floats:
    return _weighted_median(case.thetas, case.weights)


def trimmed_mean(case: Case) -> Floats:
    """Without the floor(beta n) lowest and highest of each item."""
    cut = int(round(case.real("beta") * case.count, 9))
    column = case.weights.reshape(-1, *[1] * case.base.ndim)
    order = np.argsort(case.thetas, axis=0, kind="stable")
    weights = np.broadcast_to(column, case.thetas.shape)
    rows = np.take_along_axis(case.thetas, order, 0)[cut : case.count - cut]
    weights = np.take_along_axis(weights, order, 0)[cut : case.count - cut]
    found: Floats = (rows * weights).sum(axis=0) / weights.sum(axis=0)
    return found


def _squared_distances(rows: Floats) -> Floats:
    return np.array([lengths(rows - row) ** 2 for row in rows])


def _krum_scores(distances: Floats, byzantine: int) -> list[float]:
    """The sum of the n - f - 2 smallest squared distances to others (at least one)."""
    count = max(1, len(distances) - byzantine - 2)
    return [
        float(np.sort(np.delete(row, place))[:count].sum())
        for place, row in enumerate(distances)
    ]


def _byzantine(case: Case, most: int) -> int:
    return int(case.settings["f"]) or most


def krum(case: Case) -> Floats:
    f = _byzantine(case, (case.count - 3) // 2)
    scores = _krum_scores(_squared_distances(case.taus), f)
    found: Floats = case.thetas[int(np.argmin(scores))]
    return found


def multi_krum(case: Case) -> Floats:
    f = _byzantine(case, (case.count - 3) // 2)
    scores = _krum_scores(_squared_distances(case.taus), f)
    m = int(case.settings["m"]) or case.count - f
    best = np.argsort(scores, kind="stable")[:m]
    weights = case.weights[best]
    return weighed(weights / weights.sum(), case.thetas[best])


def geometric_median(case: Case) -> Floats:
    """Weiszfeld's steps from the average."""
    taus, at = case.taus, case.mean(case.taus)
    for _ in range(int(case.real("iterations"))):
        pulls = case.weights / np.maximum(lengths(taus - at), 1e-8)
        at = weighed(pulls / pulls.sum(), taus)
    return case.base + at


def centered_clip(case: Case) -> Floats:
    """Steps towards the models, each no longer than the radius."""
    taus = case.taus
    at = case.mean(taus)
    if case.settings["start"] == "median":
        at = _weighted_median(taus, case.weights)
    for _ in range(int(case.real("iterations"))):
        steps = taus - at
        sizes = lengths(steps)
        radius = case.real("rho") or float(_weighted_median(sizes, case.weights))
        factors = np.minimum(1, radius / np.where(sizes == 0, 1, sizes))
        at = at + weighed(case.shares * factors, steps)
    return case.base + at


def bulyan(case: Case) -> Floats:
    """Krum n - 2f times without repeats, then the mean of the n - 4f nearest the median."""
    f = _byzantine(case, (case.count - 3) // 4)
    distances = _squared_distances(case.taus)
    pool = list(range(case.count))
    chosen: list[int] = []
    while len(chosen) < case.count - 2 * f:
        scores = _krum_scores(distances[np.ix_(pool, pool)], f)
        chosen.append(pool.pop(int(np.argmin(scores))))
    rows, weights = case.thetas[sorted(chosen)], case.weights[sorted(chosen)]
    middle = np.median(rows, axis=0)
    order = np.lexsort((rows, np.abs(rows - middle)), axis=0)
    nearest = order[: case.count - 4 * f]
    near = np.take_along_axis(rows, nearest, 0)
    near_weights = weights[nearest]
    found: Floats = (near * near_weights).sum(axis=0) / near_weights.sum(axis=0)
    return found
