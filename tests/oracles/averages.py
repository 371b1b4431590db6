"""Averages and geometry: sums, angles, and which model a tensor comes from.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import numpy as np

from tests.oracles.case import Case, Floats, lengths, products, weighed
from tests.oracles.drawing import drawn_order


def linear(case: Case) -> Floats:
    total = weighed(case.weights, case.thetas)
    return total / case.weights.sum() if case.flag("normalize") else total


def _arc(
    a: Floats, b: Floats, t: float, *, lerp_above: float, sine_min: float
) -> Floats:
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    cosine = float(np.clip((a * b).sum() / norms, -1, 1)) if norms else 1.0
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    opposite = cosine < 0 and sine < 1 / 256
    if abs(cosine) > lerp_above or sine < sine_min or (sine_min and opposite):
        return (1 - t) * a + t * b
    found: Floats = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / sine
    return found


def _fold(case: Case, rows: Floats, *, lerp_above: float, sine_min: float) -> Floats:
    order = drawn_order(case)
    found: Floats = rows[order[0]]
    total = case.weights[order[0]]
    for place in order[1:]:
        total += case.weights[place]
        t = case.weights[place] / total
        found = _arc(found, rows[place], t, lerp_above=lerp_above, sine_min=sine_min)
    return found


def slerp(case: Case) -> Floats:
    return _fold(case, case.thetas, lerp_above=0.9995, sine_min=0)


def nuslerp(case: Case) -> Floats:
    taus = case.taus
    if case.flag("flatten") or case.base.ndim == 1:
        return case.base + _fold(case, taus, lerp_above=2, sine_min=1e-8)
    if case.flag("row_wise"):
        taus = taus.swapaxes(1, 2)
    rows = [
        _fold(case, taus[:, i], lerp_above=2, sine_min=1e-8)
        for i in range(taus.shape[1])
    ]
    merged = np.stack(rows)
    return case.base + (merged.T if case.flag("row_wise") else merged)


def multislerp(case: Case) -> Floats:
    norms, taus = lengths(case.taus), case.taus
    towards = weighed(case.shares / norms, taus)
    lengthened = case.shares if case.flag("normalize") else case.weights
    length = float(lengthened @ norms)
    return case.base + towards / np.linalg.norm(towards) * length


def karcher(case: Case) -> Floats:
    """The mean on the sphere of directions, by steps of logarithm and exponential."""
    rows, shares = case.thetas, case.shares
    norms = lengths(rows)
    units = rows / norms.reshape(-1, *[1] * case.base.ndim)
    u = weighed(shares, units)
    u /= np.linalg.norm(u)
    for _ in range(int(case.real("max_iter"))):
        angles = [np.arccos(np.clip((u * unit).sum(), -1, 1)) for unit in units]
        step = np.zeros_like(u)
        for share, unit, angle in zip(shares, units, angles, strict=True):
            if angle > 1e-9:
                step += share * angle / np.sin(angle) * (unit - np.cos(angle) * u)
        size = np.linalg.norm(step)
        if size < case.real("tol"):
            break
        u = np.cos(size) * u + np.sin(size) * step / size
        u /= np.linalg.norm(u)
    found: Floats = u * (shares @ norms)
    return found


def model_stock(case: Case) -> Floats:
    """Between base and average by the mean angle of all pairs."""
    if case.settings["filter_wise"] == "false" or case.base.ndim == 1:
        return _stock(case, case.taus)
    rows = range(len(case.base))
    return np.stack([_stock(case, case.taus[:, row], row) for row in rows])


def _stock(case: Case, taus: Floats, row: int | slice = slice(None)) -> Floats:
    n, norms = case.count, lengths(taus)
    cosines = products(taus) / np.outer(norms, norms)
    upper = np.triu_indices(n, 1)
    pair_weights = np.outer(case.weights, case.weights)[upper]
    cosine = float((pair_weights * cosines[upper]).sum() / pair_weights.sum())
    t = n * cosine / (1 + (n - 1) * cosine) if cosine > 0 else 0.0
    found: Floats = t * case.mean(case.thetas[:, row]) + (1 - t) * case.base[row]
    return found


def passthrough(case: Case) -> Floats:
    """The one model that is selected, by its own scale."""
    (chosen,) = (i for i, own in enumerate(case.own) if own["select"] == "true")
    found: Floats = float(case.own[chosen]["scale"]) * case.thetas[chosen]
    return found


def layer_swap(case: Case) -> Floats:
    """Outer layers from the outer models, those between from the others."""
    assert case.layer is not None
    place, count = case.layer
    bottom, top = case.real("bottom"), case.real("top")
    between = case.real("transition")
    if place < bottom or place >= count - top:
        return _side(case, "outer")
    near_bottom = bottom and place < bottom + between
    if near_bottom or (top and place >= count - top - between):
        return (_side(case, "outer") + _side(case, "inner")) / 2
    return _side(case, "inner")


def _side(case: Case, part: str) -> Floats:
    chosen = np.array([own["part"] == part for own in case.own])
    weights = case.weights[chosen]
    return weighed(weights / weights.sum(), case.thetas[chosen])


def aoe(case: Case) -> Floats:
    """The average where some model is far from the main one; else that one."""
    mains = [i for i, own in enumerate(case.own) if own["main"] == "true"]
    main = case.thetas[mains[0]] if mains else case.base
    far = (lengths(case.thetas - main) / np.sqrt(main.size)).max()
    mixed = case.flag("merge") and far > case.real("delta")
    found: Floats = case.mean(case.thetas) if mixed else main
    return found


def nearswap(case: Case) -> Floats:
    other = case.mean(case.taus)
    return case.base + np.clip(other, -case.real("t"), case.real("t"))


def arcee_fusion(case: Case) -> Floats:
    """Changes of an importance above median + 1.5 interquartile ranges."""
    a, change = case.base, case.mean(case.taus)
    p, q = _softmax(a + change) + 1e-8, _softmax(a) + 1e-8
    divergence = (p * np.log(p / q)).sum(axis=-1, keepdims=True)
    importance = np.abs(change) * divergence
    ordered = np.sort(importance.reshape(-1))
    low, middle, high = (
        ordered[int(share * (ordered.size - 1))] for share in (0.25, 0.5, 0.75)
    )
    return a + np.where(importance >= middle + 1.5 * (high - low), change, 0)


def _softmax(rows: Floats) -> Floats:
    powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
    found: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return found
