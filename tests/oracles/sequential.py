"""What is merged step by step: OPCM's sequence, and the descent of DOGE.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import numpy as np

from tests.oracles.case import Case, Floats
from tests.oracles.drawing import drawn_order


def _weighed(case: Case) -> dict[int, Floats]:
    """The matrices of those who change the tensor, times weight over mean weight."""
    places = [i for i, tau in enumerate(case.taus) if tau.any()]
    mean, rows = case.weights[places].mean(), len(case.base)
    return {i: case.taus[i].reshape(rows, -1) * case.weights[i] / mean for i in places}


def opcm(case: Case) -> Floats:
    """As in the paper, with complete bases, and a lambda that is found at each step."""
    if case.base.ndim < 2:
        return case.base + case.real("lambda") * case.mean(case.taus)
    taus = _weighed(case)
    order = [place for place in drawn_order(case) if place in taus]
    delta, scale = taus[order[0]], 1.0
    norms = [np.linalg.norm(delta)]
    for place in order[1:]:
        tau = taus[place]
        u, s, vt = np.linalg.svd(delta)
        r = int(np.argmax(np.cumsum(s) / s.sum() > case.real("alpha")))
        p = u.T @ tau @ vt.T
        np.fill_diagonal(p, 0)
        p[:r, :r] = 0
        total = scale * delta + u @ p @ vt
        norms.append(np.linalg.norm(tau))
        scale = np.linalg.norm(total) / np.mean(norms)
        delta = total / scale
    return case.base + case.real("lambda") * delta.reshape(case.base.shape)


def doge(case: Case) -> Floats:
    """As in the paper: the loss, its gradient, a projection and Adam, all in full."""
    if case.base.ndim < 2:
        return case.base + case.mean(case.taus)
    places = [i for i, tau in enumerate(case.taus) if tau.any()]
    rows = len(case.base)
    taus = np.stack([case.taus[i].reshape(rows, -1) for i in places])
    shares = case.weights[places] / case.weights[places].mean()
    lam = shares * case.real("lambda") / np.sqrt((taus * taus).sum(axis=(1, 2)))
    kept = _shared(taus, int(case.settings["subspace"]))
    delta = _adam(taus, lam, kept, int(case.settings["iterations"]), case.real("lr"))
    merged = np.zeros(delta.shape)
    for tau, factor in zip(taus, lam, strict=True):
        count = int(np.ceil(round(case.real("density") * tau.size, 9)))
        mask = np.abs(tau) >= np.sort(np.abs(tau), axis=None)[-count]
        merged += factor * (tau + delta) * mask
    return case.base + merged.reshape(case.base.shape)


def _shared(taus: Floats, subspace: int) -> Floats:
    """The projector on what all have in common."""
    short = min(taus[0].shape)
    each = max(short // len(taus), 1)
    stacked = np.concatenate([np.linalg.svd(tau)[0][:, :each] for tau in taus], axis=1)
    u = np.linalg.svd(stacked)[0][:, : short // subspace]
    found: Floats = u @ u.T
    return found


def _adam(
    taus: Floats, lam: Floats, kept: Floats, iterations: int, rate: float
) -> Floats:
    delta = np.zeros(taus[0].shape)
    first, second = np.zeros(delta.shape), np.zeros(delta.shape)
    for t in range(1, iterations + 1):
        merge = np.tensordot(lam, taus + delta, axes=1)
        sums = (taus * taus - taus * merge).sum(axis=2)
        gradient = -2 * lam.sum() * np.einsum("jr,jrc->rc", sums, taus)
        gradient = gradient - kept @ gradient
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        root = np.sqrt(second / (1 - 0.999**t))
        delta = delta - rate * (first / (1 - 0.9**t)) / (root + 1e-8)
    return delta
