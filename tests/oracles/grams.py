"""Merges of linear layers by what goes into them: systems of Gram matrices.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

from dataclasses import replace

import numpy as np

from tests.oracles import regressions, spectra
from tests.oracles.case import Case, Floats, weighed


def _grams(case: Case) -> Floats | None:
    """The Gram matrices times the weights, None where nobody attaches any."""
    found = _attached(case, "gram")
    return None if found is None else case.weights[:, None, None] * found


def _attached(case: Case, kind: str) -> Floats | None:
    if not case.evidence or kind not in case.evidence[0]:
        return None
    return np.stack([each[kind] for each in case.evidence])


def _flat(case: Case, arrays: Floats) -> Floats:
    """Each tensor as a matrix."""
    return arrays.reshape(len(arrays), len(case.base), -1)


def _regressed(targets: Floats, grams: Floats, ridge: float, prior: Floats) -> Floats:
    """(sum T_i G_i + ridge * prior) (sum G_i + ridge)^-1, by elimination."""
    system = grams.sum(axis=0) + ridge * np.eye(grams.shape[1])
    side = (targets @ grams).sum(axis=0) + ridge * prior
    found: Floats = np.linalg.solve(system.T, side.T).T
    return found


def _mean_diagonal(grams: Floats) -> float:
    found: float = np.trace(grams.sum(axis=0)) / grams.shape[1]
    return found


def regmean(case: Case) -> Floats:
    """Least squares on the inputs of all, whose products with each other are shrunk."""
    grams = _grams(case)
    if grams is None:
        return case.mean(case.thetas)
    alpha = case.real("alpha")
    shrunk = np.stack([alpha * g + (1 - alpha) * np.diag(np.diag(g)) for g in grams])
    ridge, thetas = (
        case.real("ridge") * _mean_diagonal(shrunk),
        _flat(case, case.thetas),
    )
    merged = _regressed(thetas, shrunk, ridge, case.mean(thetas))
    return merged.reshape(case.base.shape)


def regmean_pp(case: Case) -> Floats:
    """The same with the Gram matrices of an earlier merge, where there are any."""
    merged = _attached(case, "gram_merged")
    if merged is None:
        return regmean(case)
    return regmean(replace(case, evidence=[{"gram": gram} for gram in merged]))


def lot(case: Case) -> Floats:
    """Task vectors by least squares on features; norms item by item; means of others."""
    if case.base.ndim < 2:
        return _by_energy(case)
    grams = _grams(case)
    if grams is None:
        return case.base + case.mean(case.taus)
    ridge, taus = case.real("ridge") * _mean_diagonal(grams), _flat(case, case.taus)
    merged = _regressed(taus, grams, ridge, np.zeros(taus.shape[1:]))
    return case.base + merged.reshape(case.base.shape)


def _by_energy(case: Case) -> Floats:
    energies = _attached(case, "energy")
    if energies is None:
        return case.base + case.mean(case.taus)
    energies = energies * case.weights[:, None]
    total = energies.sum(axis=0)
    ridge = case.real("ridge") * total.mean()
    found: Floats = case.base + (energies * case.taus).sum(axis=0) / (total + ridge)
    return found


def bmm(case: Case) -> Floats:
    """The mean of a Gaussian belief after what all models make of their inputs."""
    anchor = case.base + case.real("scale") * (_anchor(case) - case.base)
    grams = _grams(case)
    if case.settings["gram"] == "task" and case.base.ndim > 1:
        flat = _flat(case, case.taus)
        made = np.stack([tau.T @ tau / (tau * tau).sum() for tau in flat])
        grams = case.weights[:, None, None] * made
    if grams is None:
        return anchor
    ridge = case.real("lambda") * _mean_diagonal(grams) / case.count
    thetas, prior = _flat(case, case.thetas), anchor.reshape(len(anchor), -1)
    return _regressed(thetas, grams, ridge, prior).reshape(anchor.shape)


def _anchor(case: Case) -> Floats:
    """What is believed before, as another oracle has it."""
    if case.settings["anchor"] == "tsv_m":
        return spectra.tsv_m(replace(case, settings={"alpha": "1"}))
    if case.settings["anchor"] == "wudi":
        closed = {"solver": "closed", "ridge": "0.000001", "scale": "1"}
        return regressions.wudi(replace(case, settings=closed))
    weights = case.shares if case.settings["anchor"] == "mean" else case.weights
    return case.base + weighed(weights, case.taus)


def mats(case: Case) -> Floats:
    """The point of a Krylov space that minimises sum (x - x_i)' C_i (x - x_i)."""
    diagonal = case.settings["matrix"] == "fisher"
    found = _attached(case, "fisher") if diagonal else _grams(case)
    start = case.mean(case.thetas)
    if found is None:
        return start
    if diagonal:
        found = found * case.weights.reshape(-1, *[1] * case.base.ndim)
        curved = found.reshape(len(found), -1)
        system = np.diag(curved.sum(axis=0))
        sides = (curved * (case.thetas - start).reshape(len(found), -1)).sum(axis=0)
    else:
        system = np.kron(np.eye(len(case.base)), found.sum(axis=0))
        away = _flat(case, case.thetas - start)
        sides = (away @ found).sum(axis=0).reshape(-1)
    step = _galerkin(system, sides, int(case.settings["iterations"]))
    return start + step.reshape(case.base.shape)


def _galerkin(system: Floats, sides: Floats, count: int) -> Floats:
    """What `count` steps of conjugate gradients from zero reach, by Arnoldi's basis."""
    size = np.linalg.norm(sides)
    if not count or not size:
        return np.zeros(sides.size)
    basis = [sides / size]
    for _ in range(min(count, sides.size) - 1):
        vector = system @ basis[-1]
        before = np.linalg.norm(vector)
        for _ in range(2):
            for other in basis:
                vector = vector - (other @ vector) * other
        if np.linalg.norm(vector) < 1e-10 * before:
            break
        basis.append(vector / np.linalg.norm(vector))
    table = np.stack(basis, axis=1)
    found: Floats = table @ np.linalg.solve(table.T @ system @ table, table.T @ sides)
    return found
