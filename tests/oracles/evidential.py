"""Merges by what contributions attach: curvatures item by item, numbers a model.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import numpy as np

from tests.oracles.case import Case, Floats, weighed


def _attached(case: Case, kind: str) -> Floats | None:
    """The arrays of one kind, None where none is attached."""
    if not case.evidence or kind not in case.evidence[0]:
        return None
    return np.stack([each[kind] for each in case.evidence])


def _spread(case: Case, numbers: Floats) -> Floats:
    """Numbers, one a model, to be multiplied with its array."""
    return numbers.reshape(-1, *[1] * case.base.ndim)


def fisher(case: Case) -> Floats:
    """The lowest point of the sum of parabolas."""
    attached = _attached(case, "fisher")
    if attached is None:
        return case.mean(case.thetas)
    curved = (attached + case.real("floor")) * _spread(case, case.weights)
    found: Floats = (curved * case.thetas).sum(axis=0) / curved.sum(axis=0)
    return found


def ubgm(case: Case) -> Floats:
    """Task vectors, each preconditioned by the curvature at its end and at the start."""
    alphas = _spread(case, case.shares * case.real("alpha"))
    curved = _attached(case, "fisher")
    if curved is None:
        return weighed(case.shares * case.real("alpha"), case.taus) + case.base
    of_base = _attached(case, "fisher_base")
    start = 0.0 if of_base is None else case.mean(of_base)
    below = start + (alphas * curved).sum(axis=0) + case.real("delta")
    found: Floats = case.base + (alphas * (start + curved) * case.taus).sum(0) / below
    return found


def _numbers(case: Case, name: str) -> Floats:
    """One number a model: its own, or the median of what members say."""
    if case.settings["source"] == "evidence":
        return np.array([declared[name] for declared in case.scalars])
    return np.array(
        [
            np.median([s.value for s in case.scores if (s.content, s.metric) == key])
            for key in ((content, name) for content in case.contents)
        ]
    )


def mwa(case: Case) -> Floats:
    """In proportion to a power of a metric, of which none is far above the median."""
    by, metric = case.settings["by"], case.settings["metric"]
    declared = f"score:{metric}" if by == "score" else by
    evaluated = metric or by
    name = declared if case.settings["source"] == "evidence" else evaluated
    found = _numbers(case, name)
    found = 1 / found if by == "loss" else found
    limit = case.real("most") * np.quantile(found, 0.5, method="lower")
    shares = case.weights * np.minimum(found, limit) ** case.real("p")
    return weighed(shares / shares.sum(), case.thetas)


def lm_cocktail(case: Case) -> Floats:
    """The base and the softmax of what models lose."""
    losses = _numbers(case, case.settings["metric"] or "loss")
    powers = case.weights * np.exp(-losses / case.real("temperature"))
    alpha = case.real("alpha")
    mixed = weighed(powers / powers.sum(), case.thetas)
    return alpha * case.base + (1 - alpha) * mixed
