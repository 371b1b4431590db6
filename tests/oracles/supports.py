"""Task vectors that compete item by item: scores, masks, supports, ranks.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tests.oracles.case import Case, Flags, Floats, elected, weighed
from tests.oracles.drawing import drawn_order


def _column(values: Floats, rows: Floats) -> Floats:
    return np.asarray(values).reshape(-1, *[1] * (rows.ndim - 1))


def sce(case: Case) -> Floats:
    """Select by variance, calculate by energy, erase the minority's signs."""
    taus, topk = case.taus, case.real("select_topk")
    if topk < 1:
        variance = taus.var(axis=0)
        count = math.ceil(round(topk * np.count_nonzero(variance), 9))
        least = np.sort(variance.reshape(-1))[-count] if count else np.inf
        taus = np.where(variance >= least, taus, 0)
    energy = np.array([(tau * tau).mean() for tau in taus])
    if energy.sum() < case.real("uniform_below"):
        energy = np.ones(case.count)
    shares = _column(case.weights * energy / (case.weights @ energy), taus)
    sign = elected(case.weights, taus)
    agree = np.sign(taus) == sign
    mass = np.maximum((shares * agree).sum(axis=0), 1e-12)
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
    taus, size, cut_off = case.taus, case.base.size, case.real("clamp")
    scaled = _column(case.shares * case.count, taus) * taus
    everyone = scaled.sum(axis=0)
    above, below = np.zeros(case.base.shape), np.zeros(case.base.shape)
    for weight, tau in zip(case.shares * case.count, taus, strict=True):
        ordered = np.sort(np.abs(tau).reshape(-1))
        low, high = ordered[int(size * cut_off)], ordered[int(size * (1 - cut_off) - 1)]
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
    threshold = case.real("lambda_t")
    taus = case.taus * (case.shares * case.count).reshape(-1, *(1,) * case.base.ndim)
    total = taus.sum(axis=0)
    masks = [np.abs(tau) > threshold * np.abs(total - tau) for tau in taus]
    kept = np.sum(masks, axis=0) >= case.real("k")
    return case.base + case.real("alpha") * np.where(kept, total, 0)


def cabs(case: Case) -> Floats:
    """The n largest of m among items that no earlier model took."""
    taus, size = case.taus.reshape(case.count, -1), case.base.size
    m, used, total = int(case.real("m")), np.zeros(size, dtype=np.bool_), np.zeros(size)
    for place in drawn_order(case):
        tau, fresh = taus[place], np.zeros(size, dtype=np.bool_)
        for start in range(0, size, m):
            best = _best(case, np.abs(tau[start : start + m]), used[start : start + m])
            total[best + start] += case.weights[place] * tau[best + start]
            fresh[best + start] = tau[best + start] != 0
        used |= fresh
    return case.base + case.real("lambda") * total.reshape(case.base.shape)


def _best(case: Case, sizes: Floats, used: Flags) -> NDArray[np.intp]:
    """The n largest that are free; with overlap, then the largest of the others."""
    n = int(case.real("n"))
    order = np.argsort(-sizes, kind="stable")
    free = order[~used[order]][:n]
    again = order[used[order]][: n - len(free)] if case.flag("overlap") else order[:0]
    return np.concatenate([free, again])


def magmax(case: Case) -> Floats:
    """Of each item the largest change."""
    scaled = _column(case.weights / case.weights.max(), case.taus) * case.taus
    largest = np.abs(scaled).argmax(axis=0)
    chosen = np.take_along_axis(scaled, largest[np.newaxis], 0)[0]
    found: Floats = case.base + case.real("scale") * chosen
    return found


def emr(case: Case) -> Floats:
    """Elect a sign, take the largest that agrees, scale by what models have on average."""
    taus = case.taus
    total, size = weighed(case.shares, taus), weighed(case.shares, np.abs(taus))
    sign = np.where(np.abs(total) > 1e-12 * size, np.sign(total), 0)
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
    heaviness = _column(case.shares * case.count, taus)
    found: Floats = case.base + (heaviness * scores * taus).sum(axis=0)
    return found


def _ranks(rows: Floats) -> Floats:
    places = np.argsort(np.argsort(rows, axis=1, kind="stable"), axis=1)
    found: Floats = places / rows.shape[1]
    return found


def _scored(case: Case, ranks: Floats) -> Floats:
    """Softmax over models; what ranks above t times its mean has s."""
    powers = np.exp(ranks)
    scores = powers / powers.sum(axis=0)
    means = ranks.reshape(case.count, -1).mean(axis=1)
    sure = ranks > case.real("t") * _column(means, ranks)
    found: Floats = np.where(sure, case.real("s"), scores)
    return found
