"""Checkpoints of one training run, merged by their place in it.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import numpy as np

from tests.oracles.case import Case, Floats, weighed


def _steps(case: Case) -> list[int]:
    """Places from the earliest step to the latest."""
    steps = case.reals("step")
    return sorted(range(case.count), key=steps.__getitem__)


def pma(case: Case) -> Floats:
    """Equal, linearly growing, or exponentially decaying weights."""
    order = _steps(case)
    n, alpha = case.count, case.real("alpha")
    shares = {
        "sma": np.ones(n),
        "wma": np.arange(1.0, n + 1),
        "ema": np.array(
            [(1 - alpha) ** (n - 1)]
            + [alpha * (1 - alpha) ** (n - i) for i in range(2, n + 1)]
        ),
    }[case.settings["average"]]
    found = shares * case.weights[order]
    return weighed(found / found.sum(), case.thetas[order])


def wsm(case: Case) -> Floats:
    """What an annealed rate would have left: differences of the decay."""
    order = _steps(case)
    k = case.count
    places = np.arange(k + 1) / k
    decay = {
        "linear": 1 - places,
        "cosine": (1 + np.cos(np.pi * places)) / 2,
        "sqrt": 1 - np.sqrt(places),
    }[case.settings["decay"]]
    found = (decay[:-1] - decay[1:]) * case.weights[order]
    return weighed(found / found.sum(), case.thetas[order])
