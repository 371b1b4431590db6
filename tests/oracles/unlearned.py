"""Merges that align, forget, guard or damp: surrogates of methods that train.

Owns one oracle a method, written from the formula of its docstring. Shares no code with
the library.
"""

import numpy as np

from tests.oracles.case import Case, Flags, Floats, weighed
from tests.oracles.drawing import drawn_order


def _flags(case: Case, name: str) -> Flags:
    return np.array([own[name] == "true" for own in case.own])


def _largest(sizes: Floats, share: float) -> Flags:
    """The largest of an array, a share of it, and what ties with the last."""
    count = int(np.ceil(round(share * sizes.size, 9)))
    if not count:
        return np.zeros(sizes.shape, dtype=bool)
    found: Flags = sizes >= np.sort(sizes, axis=None)[-count]
    return found


def weight_scope_alignment(case: Case) -> Floats:
    """Each model standardised, then given the mean scope."""
    flat = case.thetas.reshape(case.count, -1)
    means, spreads = flat.mean(axis=1), flat.std(axis=1)
    mu, s = case.shares @ means, case.shares @ spreads
    scaled = [s * (w - w.mean()) / w.std() + mu for w in case.thetas]
    return weighed(case.shares, np.stack(scaled))


def negative_merge(case: Case) -> Floats:
    """What is kept is added, what is forgotten is subtracted."""
    forgotten = _flags(case, "forget")
    bad, good = case.taus[forgotten], case.taus[~forgotten]
    if case.flag("consensus") and len(bad):
        bad = bad * (np.abs(np.sign(bad).sum(axis=0)) == len(bad))
    added = weighed(case.weights[~forgotten], good)
    taken = weighed(case.weights[forgotten], bad)
    return case.base + added - case.real("lambda") * taken


def split_unlearn_merge(case: Case) -> Floats:
    """The mean of all, less what the largest entries of the forgotten bring to it."""
    merged = case.mean(case.taus)
    for place in np.flatnonzero(_flags(case, "forget")):
        tau = case.taus[place]
        merged = merged - case.shares[place] * tau * _largest(abs(tau), case.real("q"))
    return case.base + case.real("lambda") * merged


def safe_merge(case: Case) -> Floats:
    """The mean, and the safety model's or the base's entries where it matters."""
    merged = case.mean(case.thetas)
    for place in np.flatnonzero(_flags(case, "safety")).tolist():
        kind = case.settings["importance"]
        scores = case.taus[place] ** 2
        if kind != "task":
            scores = case.evidence[place][kind]
        kept = case.thetas[place] if case.settings["revert"] == "safety" else case.base
        merged = np.where(_largest(scores, case.real("q")), kept, merged)
    return merged


def dual_projection(case: Case) -> Floats:
    """Step by step, with projectors in full."""
    if case.base.ndim < 2:
        return case.base + case.real("lambda") * case.mean(case.taus)
    places = [i for i, tau in enumerate(case.taus) if tau.any()]
    rows, mean = len(case.base), case.weights[places].mean()
    merged = np.zeros((rows, case.base.size // rows))
    k = max(int(np.ceil(round(case.real("rank") * min(merged.shape), 9))), 1)
    for place in drawn_order(case):
        if place not in places:
            continue
        tau = case.taus[place].reshape(rows, -1) * case.weights[place] / mean
        stable = np.zeros(tau.shape)
        if merged.any():
            u, _, vt = np.linalg.svd(merged)
            left, right = u[:, :k] @ u[:, :k].T, vt[:k].T @ vt[:k]
            stable = left @ tau @ right
        merged = merged + (1 - case.real("stability")) * stable + (tau - stable)
    return case.base + case.real("lambda") * merged.reshape(case.base.shape)
