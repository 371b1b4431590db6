"""Task vectors: added, dropped, trimmed and elected.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import math

import numpy as np

from tests.oracles.case import Case, Flags, Floats, elected, lengths, weighed
from tests.oracles.drawing import kept


def task_arithmetic(case: Case) -> Floats:
    return _added(case, case.taus)


def metagpt(case: Case) -> Floats:
    squares = case.weights * lengths(case.taus) ** 2
    return case.base + weighed(squares / squares.sum(), case.taus)


def _added(case: Case, taus: Floats) -> Floats:
    divisor = case.weights.sum() if case.flag("normalize") else 1
    return case.base + case.real("lambda") * weighed(case.weights, taus) / divisor


def _elected(case: Case, taus: Floats) -> Floats:
    """The sign of the weighed sum (0 counts as +), then the mean of who agrees."""
    column = case.weights.reshape(-1, *[1] * case.base.ndim)
    sign = elected(case.weights, taus)
    agree = np.sign(column * taus) == sign
    total = (column * taus * agree).sum(axis=0)
    if case.flag("normalize"):
        mass = (column * agree).sum(axis=0)
        total = total / np.where(mass == 0, 1, mass)
    found: Floats = case.base + case.real("lambda") * total
    return found


def _top(sizes: Floats, count: int) -> Flags:
    """The largest sizes, and all that tie with the last of them."""
    if count == 0:
        return np.zeros(sizes.shape, dtype=np.bool_)
    least = np.sort(sizes.reshape(-1))[-count]
    found: Flags = sizes >= least
    return found


def _count(share: float, items: int) -> int:
    return math.ceil(round(share * items, 9))


def ties(case: Case) -> Floats:
    taus = case.taus
    for tau, density in zip(taus, case.reals("density"), strict=True):
        tau[~_top(np.abs(tau), _count(density, tau.size))] = 0
    return _elected(case, taus)


def _dropped(case: Case) -> Floats:
    """What DARE leaves."""
    taus = case.taus
    for i, (tau, p) in enumerate(zip(taus, case.reals("p"), strict=True)):
        mask = kept(case, i, 1 - p)
        taus[i] = _rescaled(case, tau, np.where(mask, tau, 0), 1 - p)
    return taus


def _rescaled(case: Case, tau: Floats, left: Floats, chances: Floats | float) -> Floats:
    rescale = case.settings["rescale"]
    if rescale == "paper":
        return left / chances
    if rescale == "l1" and left.any():
        found: Floats = left * np.abs(tau).sum() / np.abs(left).sum()
        return found
    return left


def dare_linear(case: Case) -> Floats:
    return _added(case, _dropped(case))


def dare_ties(case: Case) -> Floats:
    return _elected(case, _dropped(case))


def _magnitude_dropped(case: Case) -> Floats:
    """What DELLA leaves: by rank of magnitude in its row, ties by place."""
    taus = case.taus
    pairs = zip(case.reals("density"), case.reals("epsilon"), strict=True)
    for i, (density, epsilon) in enumerate(pairs):
        if density >= 1:
            continue
        tau = taus[i]
        rows = tau if tau.ndim > 1 else tau[np.newaxis]
        ranks = np.argsort(np.argsort(np.abs(rows), axis=-1, kind="stable"), axis=-1)
        chances = density - epsilon + 2 * epsilon * ranks / (rows.shape[-1] - 1)
        chances = chances.reshape(tau.shape)
        left = np.where(kept(case, i, chances), tau, 0)
        taus[i] = _rescaled(case, tau, left, chances)
    return taus


def della(case: Case) -> Floats:
    return _elected(case, _magnitude_dropped(case))


def della_linear(case: Case) -> Floats:
    return _added(case, _magnitude_dropped(case))


def _middle(case: Case) -> Floats:
    """What breadcrumbs leaves: neither the largest nor the smallest, ties kept."""
    taus = case.taus
    pairs = zip(case.reals("density"), case.reals("gamma"), strict=True)
    for tau, (density, gamma) in zip(taus, pairs, strict=True):
        top, target = int(round(gamma * tau.size, 9)), _count(density, tau.size)
        ordered = np.sort(np.abs(tau).reshape(-1))
        bottom = max(0, tau.size - target - top)
        low, high = ordered[bottom], ordered[bottom + target - 1]
        tau[(np.abs(tau) < low) | (np.abs(tau) > high)] = 0
    return taus


def breadcrumbs(case: Case) -> Floats:
    return _added(case, _middle(case))


def breadcrumbs_ties(case: Case) -> Floats:
    return _elected(case, _middle(case))
