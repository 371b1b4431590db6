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
