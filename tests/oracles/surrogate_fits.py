"""Fits to Gram matrices and mean inputs, in the place of training.

Owns one oracle a method, written from the formula that its docstring has. Shares no code
with the library.
"""

import math

import numpy as np

from tests.oracles.case import Case, Floats


def _attached(case: Case, kind: str) -> Floats | None:
    if case.base.ndim < 2 or not case.evidence or kind not in case.evidence[0]:
        return None
    return np.stack([each[kind] for each in case.evidence])


def _matrices(case: Case) -> tuple[Floats, Floats]:
    """Task matrices as they are, and weights over their mean."""
    taus = case.taus.reshape(case.count, len(case.base), -1)
    return taus, case.weights / case.weights.mean()


def _loss(tau: Floats, taus: Floats, grams: Floats) -> float:
    """How far a merge is from every model on its own inputs."""
    return float(
        sum(
            np.trace((tau - own) @ gram @ (tau - own).T)
            for own, gram in zip(taus, grams, strict=True)
        )
    )


def ada_merging(case: Case) -> Floats:
    grams = _attached(case, "gram")
    shares = case.weights / case.weights.mean()
    if grams is None:
        scale = case.real("fallback")
        return case.base + scale * np.tensordot(shares, case.taus, axes=1)
    taus, shares = _matrices(case)
    grams = grams * shares[:, None, None]
    roots = [
        np.linalg.cholesky(g + 1e-14 * np.trace(g) * np.eye(len(g))) for g in grams
    ]
    design = np.concatenate(
        [np.stack([(tau @ root).reshape(-1) for tau in taus], axis=1) for root in roots]
    )
    sides = np.concatenate(
        [(tau @ root).reshape(-1) for tau, root in zip(taus, roots, strict=True)]
    )
    system = design.T @ design
    ridge = case.real("ridge") * np.trace(system) / case.count
    lambdas = np.linalg.solve(system + ridge * np.eye(case.count), design.T @ sides)
    return case.base + np.tensordot(lambdas, case.taus, axes=1)


def dam(case: Case) -> Floats:
    grams = _attached(case, "gram")
    if grams is None:
        return case.mean(case.thetas)
    _, shares = _matrices(case)
    thetas = case.thetas.reshape(case.count, len(case.base), -1)
    merged = np.empty(thetas.shape[1:])
    for column in range(merged.shape[1]):
        busy = shares * (grams[:, column, column] * len(grams[0]) + case.real("floor"))
        table = thetas[:, :, column].T
        design = np.concatenate([np.sqrt(b) * table for b in busy])
        sides = np.concatenate([np.sqrt(b) * table[:, k] for k, b in enumerate(busy)])
        merged[:, column] = table @ np.linalg.lstsq(design, sides, rcond=None)[0]
    return merged.reshape(case.base.shape)


def adarank(case: Case) -> Floats:
    scale = case.real("lambda")
    if case.base.ndim < 2:
        return case.base + scale * case.mean(case.taus)
    places = [i for i, tau in enumerate(case.taus) if tau.any()]
    plain, _ = _matrices(case)
    shares = case.weights[places] / case.weights[places].mean()
    taus = plain[places] * shares[:, None, None]
    grams = _attached(case, "gram")
    total = np.zeros(taus.shape[1:])
    parts = [np.linalg.svd(tau, full_matrices=False) for tau in taus]
    if grams is None:
        for u, s, vt in parts:
            energy = np.cumsum(s * s)
            rank = int(np.searchsorted(energy, case.real("energy") * energy[-1])) + 1
            total = total + (u[:, :rank] * s[:rank]) @ vt[:rank] / len(taus)
        return case.base + scale * total.reshape(case.base.shape)
    grams = grams[places] * shares[:, None, None]
    rank = max(1, min(total.shape) // len(taus))
    components = [
        (s[k], np.outer(u[:, k], vt[k]) * s[k] / len(taus))
        for u, s, vt in parts
        for k in range(rank)
    ]
    for _, component in sorted(components, key=lambda pair: -pair[0]):
        with_it = _loss(total + component, taus, grams)
        if with_it < _loss(total, taus, grams):
            total = total + component
    return case.base + scale * total.reshape(case.base.shape)


def representation_surgery(case: Case) -> Floats:
    means = _attached(case, "inputs")
    merged = case.mean(case.thetas)
    if means is None:
        return merged
    flat = merged.reshape(len(merged), -1)
    thetas = case.thetas.reshape(case.count, *flat.shape)
    wanted = sum(
        share * theta @ x
        for share, theta, x in zip(case.shares, thetas, means, strict=True)
    )
    seen = case.shares @ means
    size = math.fsum(seen * seen) + case.real("ridge") * len(seen)
    mended = (
        flat
        + np.outer(
            wanted
            - sum(
                share * flat @ x for share, x in zip(case.shares, means, strict=True)
            ),
            seen,
        )
        / size
    )
    return mended.reshape(case.base.shape)
