"""Methods that reshape singular values: Iso-C, Iso-CTS, TSV-M, STAR, LoRE and DC-Merge.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import math

import numpy as np

from tests.oracles.case import Case, Floats, elected


def iso_c(case: Case) -> Floats:
    """U V' of the sum, times the mean singular value."""
    if case.base.ndim < 2:
        return case.base + case.real("alpha") * case.mean(case.taus)
    u, s, vt = np.linalg.svd(sum(changed(case)), full_matrices=False)
    return added(case, s.mean() * u @ vt)


def iso_cts(case: Case) -> Floats:
    """Common directions of the sum, then each one's own beside these."""
    if case.base.ndim < 2:
        return case.base + case.real("alpha") * case.mean(case.taus)
    taus = changed(case)
    total, n = np.sum(taus, axis=0), len(taus)
    short = min(total.shape)
    each = round((short - int(round(short * case.real("common"), 9))) / n)
    each = min(each, short // n)
    k = short - each * n
    u, s, vt = np.linalg.svd(total, full_matrices=False)
    left, values, right = [u[:, :k]], [s[:k]], [vt[:k].T]
    for tau in taus:
        beside = tau - u[:, :k] @ u[:, :k].T @ tau
        own = np.linalg.svd(beside, full_matrices=False)
        left.append(own[0][:, :each])
        values.append(own[1][:each])
        right.append(own[2][:each].T)
    mean = np.concatenate(values).mean()
    return added(case, mean * orthogonal(left) @ orthogonal(right).T)


def tsv_m(case: Case) -> Floats:
    """The first singular vectors of each, with the columns made orthogonal."""
    if case.base.ndim < 2:
        return case.base + case.real("alpha") * case.mean(case.taus)
    taus = changed(case)
    rank = min(taus[0].shape) // len(taus)
    found = [np.linalg.svd(tau, full_matrices=False) for tau in taus]
    u = orthogonal([u[:, :rank] for u, _, _ in found])
    v = orthogonal([vt[:rank].T for _, _, vt in found])
    values = np.concatenate([s[:rank] for _, s, _ in found])
    return added(case, u @ np.diag(values) @ v.T)


def changed(case: Case) -> list[Floats]:
    """The matrices of those who change the tensor, times weight over mean weight."""
    places = [i for i, tau in enumerate(case.taus) if tau.any()]
    mean, rows = case.weights[places].mean(), len(case.base)
    return [case.taus[i].reshape(rows, -1) * case.weights[i] / mean for i in places]


def orthogonal(columns: list[Floats]) -> Floats:
    """The nearest orthonormal columns to what stands side by side."""
    u, _, vt = np.linalg.svd(np.concatenate(columns, axis=1), full_matrices=False)
    found: Floats = u @ vt
    return found


def added(case: Case, tau: Floats) -> Floats:
    return case.base + case.real("alpha") * tau.reshape(case.base.shape)


def star(case: Case) -> Floats:
    """Each truncated to a share of its nuclear norm, and made as heavy as before."""
    if case.base.ndim < 2:
        return case.base + case.mean(case.taus)
    left = []
    for tau in changed(case):
        u, s, vt = np.linalg.svd(tau, full_matrices=False)
        share = np.cumsum(s) / s.sum()
        r = int(np.argmax(share >= min(case.real("eta"), 1 - 1e-12))) + 1
        left.append(u[:, :r] @ np.diag(s[:r] / share[r - 1]) @ vt[:r])
    mean: Floats = np.mean(left, axis=0)
    return case.base + mean.reshape(case.base.shape)


def lore(case: Case) -> Floats:
    """By turns on whole tensors: what is left without the changes, and these."""
    if case.base.ndim < 2:
        return case.mean(case.thetas)
    thetas = case.thetas.reshape(case.count, len(case.base), -1)
    deltas, base = np.zeros(thetas.shape), np.zeros(thetas[0].shape)
    for _ in range(int(case.settings["iterations"])):
        base = case.mean(thetas - deltas)
        u, s, vt = np.linalg.svd(thetas - base, full_matrices=False)
        s = np.maximum(s - case.real("mu") / 2, 0)
        deltas = (u * s[:, np.newaxis, :]) @ vt
    merged = base + case.real("lambda") * case.count * case.mean(deltas)
    return merged.reshape(case.base.shape)


def dc_merge(case: Case) -> Floats:
    """Votes among coordinates in a basis that covers the first directions of all."""
    if case.base.ndim < 2:
        return case.base + case.real("alpha") * case.mean(case.taus)
    places = [i for i, tau in enumerate(case.taus) if tau.any()]
    taus = [case.taus[i].reshape(len(case.base), -1) for i in places]
    n, short = len(taus), min(taus[0].shape)
    r = short // n
    found = [np.linalg.svd(tau, full_matrices=False) for tau in taus]
    left = orthogonal([u[:, :r] for u, _, _ in found])
    right = orthogonal([vt[:r].T for _, _, vt in found])
    seen = np.empty((n, n * r, n * r))
    for place, (u, s, vt) in enumerate(found):
        values = s[:r]
        if case.settings["smoothing"] == "average":
            values = np.full(r, values.mean())
        m = left.T @ (u[:, :r] @ np.diag(values) @ vt[:r]) @ right
        count = math.ceil(round(case.real("top") * m.size, 9))
        least = np.sort(np.abs(m), axis=None)[-count]
        seen[place] = np.where(np.abs(m) >= least, m, 0)
    weights = case.weights[places]
    agree = np.sign(seen) == elected(weights, seen)
    total = np.tensordot(weights, seen * agree, axes=1)
    mass = np.tensordot(weights, agree.astype(np.float64), axes=1)
    merged = total / np.where(mass == 0, 1, mass)
    if case.settings["mask"] == "block":
        merged = merged * np.kron(np.eye(n), np.ones((r, r)))
    return added(case, left @ merged @ right.T)
