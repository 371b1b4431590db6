"""Task matrices that interfere least: WUDI and OptMerge; and superposed features, STF.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import numpy as np

from tests.oracles.case import Case, Floats


def _matrices(case: Case) -> tuple[Floats, Floats]:
    """The task matrices of those who change the tensor, times weight over mean weight."""
    places = [i for i, tau in enumerate(case.taus) if tau.any()]
    weights = case.weights[places] / case.weights[places].mean()
    flat = case.taus[places].reshape(len(places), len(case.base), -1)
    return flat * weights[:, None, None], flat


def _on_base(case: Case, tau: Floats, scale: float) -> Floats:
    return case.base + scale * tau.reshape(case.base.shape)


def _fitted(targets: Floats, reads: Floats, ridge: float) -> Floats:
    """Least squares: X A_i' = T_i A_i' for all i, with a ridge as rows of their own."""
    columns = targets.shape[2]
    sizes = sum((read * read).sum() for read in reads)
    damped = np.sqrt(ridge * sizes / columns) * np.eye(columns)
    design = np.concatenate([*reads, damped])
    sides = [read @ target.T for read, target in zip(reads, targets, strict=True)]
    sides.append(np.zeros((columns, targets.shape[1])))
    found: Floats = np.linalg.lstsq(design, np.concatenate(sides), rcond=None)[0].T
    return found


def wudi(case: Case) -> Floats:
    scale = case.real("scale")
    if case.base.ndim < 2:
        return _on_base(case, case.mean(case.taus), scale)
    scaled, flat = _matrices(case)
    reads = np.stack([tau / np.linalg.norm(tau) for tau in flat])
    if case.settings["solver"] == "closed":
        return _on_base(case, _fitted(scaled, reads, case.real("ridge")), scale)
    tau, first, second = scaled.sum(axis=0), 0.0, 0.0
    for step in range(1, int(case.real("iterations")) + 1):
        gradient = sum(
            2 * (tau - own) @ read.T @ read
            for own, read in zip(scaled, reads, strict=True)
        )
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        length = np.sqrt(second / (1 - 0.999**step)) + 1e-8
        tau = tau - case.real("lr") * first / (1 - 0.9**step) / length
    return _on_base(case, tau, scale)


def _cut(matrix: Floats, rank: int) -> Floats:
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    found: Floats = (u[:, :rank] * s[:rank]) @ vt[:rank]
    return found


def optmerge(case: Case) -> Floats:
    scale = case.real("scale")
    if case.base.ndim < 2:
        return _on_base(case, case.mean(case.taus), scale)
    taus, _ = _matrices(case)
    rank = max(1, min(taus.shape[1:]) // len(taus))
    mean = taus.mean(axis=0)
    targets = np.stack([_cut(tau - mean, rank) + mean for tau in taus])
    reads = np.stack([_cut(tau, rank) / np.linalg.norm(tau) for tau in taus])
    return _on_base(case, _fitted(targets, reads, case.real("ridge")), scale)


def stf(case: Case) -> Floats:
    scale = case.real("lambda")
    if case.base.ndim < 2:
        return _on_base(case, case.mean(case.taus), scale)
    taus, _ = _matrices(case)
    rank = max(1, min(taus.shape[1:]) // len(taus))
    features, responses = [], []
    for tau in taus:
        u, s, vt = np.linalg.svd(tau, full_matrices=False)
        for k in range(min(rank, int((s > 2.0**-16 * s[0]).sum()))):
            features.append(np.outer(u[:, k], vt[k]).reshape(-1))
            responses.append(s[k])
    table = np.stack(features)
    system = table @ table.T + case.real("ridge") * np.eye(len(table))
    alpha = np.linalg.solve(system, np.array(responses))
    return _on_base(case, (alpha @ table).reshape(taus.shape[1:]), scale)
