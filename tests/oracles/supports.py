"""Task vectors that compete item by item: scores, masks, supports, ranks.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import numpy as np

from tests.oracles.case import Case, Floats, elected, weighed
from tests.oracles.drawing import drawn_order


def _column(values: Floats, rows: Floats) -> Floats:
    return np.asarray(values).reshape(-1, *[1] * (rows.ndim - 1))


def sce(case: Case) -> Floats:
    """Select by variance, calculate by energy, erase the minority's signs."""
    taus, topk = case.taus, case.real("select_topk")
    if topk < 1:
        variance = taus.var(axis=0)
        count = int(topk * np.count_nonzero(variance))
        least = np.sort(variance.reshape(-1))[-count] if count else np.inf
        taus = np.where(variance >= least, taus, 0)
    energy = case.weights * np.array([(tau * tau).mean() for tau in taus])
    shares = _column(energy / energy.sum(), taus)
    sign = elected(case.weights, taus)
    agree = np.sign(taus) == sign
    mass = np.maximum((shares * agree).sum(axis=0), 1e-6)
    found: Floats = case.base + (shares * agree * taus).sum(axis=0) / mass
    return found


def _shared(case: Case, factors: Floats) -> Floats:
    """Changes of one model as they are, times its factor; of several their mean."""
    taus, column = case.taus, _column(case.weights, case.taus)
    moved = np.abs(taus) > case.real("epsilon")
    count = moved.sum(axis=0)
    mass = (column * moved).sum(axis=0)
    mean = (column * moved * taus).sum(axis=0) / np.where(mass == 0, 1, mass)
    alone = (_column(factors, taus) * moved * taus).sum(axis=0)
    found: Floats = case.base + np.where(count == 1, alone, mean)
    return found


def ram(case: Case) -> Floats:
    return _shared(case, np.ones(case.count))


def ramplus_tl(case: Case) -> Floats:
    epsilon = case.real("epsilon")
    moved = np.abs(case.taus) > epsilon
    flat, count = moved.reshape(case.count, -1), moved.sum(axis=0).reshape(-1)
    shared, unique = (flat & (count > 1)).sum(axis=1), (flat & (count == 1)).sum(axis=1)
    ratio = np.clip(shared / np.maximum(unique, epsilon), 0, case.real("alpha"))
    return _shared(case, 1 + case.real("r") * ratio)


def _minmax(values: Floats) -> Floats:
    found: Floats = (values - values.min()) / (values.max() - values.min())
    return found


def pcb(case: Case) -> Floats:
    """Own importance times agreement with all; the share r of highest scores counts."""
    taus, size = case.taus, case.base.size
    scaled = _column(case.shares * case.count, taus) * taus
    everyone = scaled.sum(axis=0)
    above, below = np.zeros(case.base.shape), np.zeros(case.base.shape)
    for weight, tau in zip(case.shares * case.count, taus, strict=True):
        ordered = np.sort(np.abs(tau).reshape(-1))
        low, high = ordered[int(size * 1e-4)], ordered[int(size * (1 - 1e-4) - 1)]
        clamped = np.clip(np.abs(tau), low, high)
        own = np.exp(case.count * _minmax(clamped) ** 2)
        score = own * np.tanh(tau * everyone)
        cut = np.sort(score.reshape(-1))[int(size * (1 - case.real("r")))]
        score = weight * _minmax(np.maximum(score, cut))
        above += np.sign(tau) * clamped * score
        below += score
    return case.base + case.real("lambda") * above / np.maximum(below, 1e-12)


def consensus(case: Case) -> Floats:
    """Items that count for k models or more, of the sum of all."""
    taus = _column(case.weights, case.taus) * case.taus
    total = taus.sum(axis=0)
    masks = [
        np.abs(tau) > threshold * np.abs(total - tau)
        for tau, threshold in zip(taus, case.reals("threshold"), strict=True)
    ]
    kept = np.sum(masks, axis=0) >= case.real("k")
    return case.base + case.real("lambda") * np.where(kept, total, 0)


def cabs(case: Case) -> Floats:
    """The n largest of m among items that no earlier model took."""
    taus, n, m = case.taus, int(case.real("n")), int(case.real("m"))
    size = case.base.size
    used, total = np.zeros(size, dtype=np.bool_), np.zeros(size)
    for place in drawn_order(case):
        tau = taus[place].reshape(-1)
        free = np.where(used, 0, np.abs(tau))
        for start in range(0, size, m):
            group = free[start : start + m]
            best = np.argsort(-group, kind="stable")[:n] + start
            best = best[free[best] > 0]
            used[best] = True
            total[best] += case.weights[place] * tau[best]
    return case.base + case.real("lambda") * total.reshape(case.base.shape)


def magmax(case: Case) -> Floats:
    """Of each item the largest change."""
    scaled = _column(case.weights, case.taus) * case.taus
    largest = np.abs(scaled).argmax(axis=0)
    chosen = np.take_along_axis(scaled, largest[np.newaxis], 0)[0]
    found: Floats = case.base + case.real("scale") * chosen
    return found


def emr(case: Case) -> Floats:
    """Elect a sign, take the largest that agrees, scale by what models have on average."""
    taus = case.taus
    sign = np.sign(weighed(case.shares, taus))
    agree = taus * sign > 0
    unified = sign * np.where(agree, np.abs(taus), 0).max(axis=0)
    rescalers = np.array(
        [
            np.abs(tau).sum() / np.abs(unified[mask]).sum()
            for tau, mask in zip(taus, agree, strict=True)
        ]
    )
    found: Floats = case.base + float(case.shares @ rescalers) * unified
    return found


def widen(case: Case) -> Floats:
    """Columns ranked by how far magnitude and direction went; softmax over models."""
    taus = case.taus
    if case.base.ndim == 1:
        scores = _scored(case, np.abs(taus))
    else:
        norms = np.sqrt((case.thetas**2).sum(axis=1))
        ground = np.sqrt((case.base**2).sum(axis=0))
        cosine = (case.thetas * case.base).sum(axis=1) / (norms * ground)
        far, turned = np.abs(norms - ground), 1 - cosine
        scores = (_scored(case, _ranks(far)) + _scored(case, _ranks(turned))) / 2
        scores = scores[:, np.newaxis]
    found: Floats = case.base + (scores * taus).sum(axis=0)
    return found


def _ranks(rows: Floats) -> Floats:
    places = np.argsort(np.argsort(rows, axis=1, kind="stable"), axis=1)
    found: Floats = places / rows.shape[1]
    return found


def _scored(case: Case, ranks: Floats) -> Floats:
    """Softmax over models, weighed; what ranks above t times its mean is sure."""
    powers = _column(case.weights, ranks) * np.exp(ranks)
    scores = powers / powers.sum(axis=0)
    means = ranks.reshape(case.count, -1).mean(axis=1)
    sure = ranks > case.real("t") * _column(means, ranks)
    found: Floats = np.where(sure, case.real("s"), scores)
    return found
