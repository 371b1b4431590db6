"""What is forgotten, aligned, kept safe or projected: methods in the place of training.

Owns one oracle a method, written from the formula that its docstring has. Shares no code
with the library.
"""

import math

import numpy as np

from tests.oracles.case import Case, Flags, Floats
from tests.oracles.drawing import digest


def _marked(case: Case, flag: str) -> list[bool]:
    return [own[flag] == "true" for own in case.own]


def _top(scores: Floats, share: float) -> Flags:
    """The largest, and what ties with the last."""
    scores = scores.astype(np.float32)
    count = math.ceil(round(share * scores.size, 9))
    if not count:
        return np.zeros(scores.shape, bool)
    found: Flags = scores >= np.sort(scores, axis=None)[scores.size - count]
    return found


def negative_merge(case: Case) -> Floats:
    gone, total = _marked(case, "forget"), case.base.copy()
    taken = []
    for tau, weight, forgotten in zip(case.taus, case.weights, gone, strict=True):
        if forgotten:
            taken.append(weight * tau)
        else:
            total = total + weight * tau
    if not taken:
        return total
    rows = np.stack(taken)
    if case.flag("consensus"):
        alike = np.abs(np.sign(rows).sum(axis=0)) == len(rows)
        rows = np.where(alike, rows.mean(axis=0), 0)[np.newaxis]
    found: Floats = total - case.real("lambda") * rows.sum(axis=0)
    return found


def split_unlearn_merge(case: Case) -> Floats:
    gone, total = _marked(case, "forget"), case.base.copy()
    rows = zip(case.taus, case.shares, gone, case.reals("q"), strict=True)
    for tau, share, forgotten, q in rows:
        left = np.where(_top(np.abs(tau), q), 0, tau) if forgotten else tau
        total = total + share * left
    return total


def weight_scope_alignment(case: Case) -> Floats:
    means = [theta.mean() for theta in case.thetas]
    spreads = [theta.std() for theta in case.thetas]
    middle, spread = np.dot(case.shares, means), np.dot(case.shares, spreads)
    aligned = [
        (theta - mu) * (spread / s if s else 1) + middle
        for theta, mu, s in zip(case.thetas, means, spreads, strict=True)
    ]
    return np.tensordot(case.shares, np.stack(aligned), axes=1)


def safe_merge(case: Case) -> Floats:
    marked = _marked(case, "safety")
    plain = case.base + case.mean(case.taus)
    if not any(marked):
        return plain
    kind = case.settings["importance"]
    told = case.evidence and kind in case.evidence[0]
    mask = np.zeros(case.base.shape, bool)
    for place, tau in enumerate(case.taus):
        if marked[place]:
            score = case.evidence[place][kind] if told else np.abs(tau)
            mask |= _top(score, case.reals("q")[place])
    weights = np.where(marked, case.weights, 0)
    safe = np.tensordot(weights / weights.sum(), case.taus, axes=1)
    if case.settings["revert"] == "base":
        safe = safe * 0
    return np.where(mask, case.base + safe, plain)


def dual_projection(case: Case) -> Floats:
    if case.base.ndim < 2:
        return case.base + case.mean(case.taus)
    places = [i for i, tau in enumerate(case.taus) if tau.any()]
    scales = case.weights[places] / case.weights[places].mean()
    taus = {
        place: scale * case.taus[place].reshape(len(case.base), -1)
        for place, scale in zip(places, scales, strict=True)
    }
    context = "crdtmerge v1 order of a fold"
    ordered = sorted(taus, key=lambda p: digest(context, [case.seed, case.contents[p]]))
    total = taus[ordered[0]]
    short = min(total.shape)
    rank = max(1, math.floor(round(short * case.real("rank"), 9)))
    for place in ordered[1:]:
        u, _, vt = np.linalg.svd(total, full_matrices=False)
        left, right = u[:, :rank], vt[:rank]
        stable = left @ left.T @ taus[place] @ right.T @ right
        total = total + taus[place] - case.real("stability") * stable
    length = np.mean([np.linalg.norm(tau) for tau in taus.values()])
    scaled: Floats = total * (length / np.linalg.norm(total))
    return case.base + scaled.reshape(case.base.shape)
