"""What of a change counts by its own gradients, and experts of categories.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import math

import numpy as np

from tests.oracles.case import Case, Flags, Floats


def _attached(case: Case, kind: str) -> list[Floats] | None:
    if not case.evidence or kind not in case.evidence[0]:
        return None
    return [each[kind] for each in case.evidence]


def ota_ffg(case: Case) -> Floats:
    moments = _attached(case, "adam")
    if moments is None:
        return case.base + case.mean(case.taus)
    epsilon, power = case.real("epsilon"), case.real("p")
    above, below = np.zeros(case.base.shape), np.zeros(case.base.shape)
    rows = zip(case.taus, moments, case.weights, case.reals("density"), strict=True)
    for tau, v, weight, density in rows:
        scores = (np.abs(tau) * np.sqrt(v)).astype(np.float32)
        count = math.ceil(round(density * tau.size, 9))
        stays = scores >= np.sort(scores, axis=None)[tau.size - count]
        raised = v**power
        sure = weight * (raised / (raised.mean() + epsilon) + epsilon)
        above += sure * np.where(stays, tau, 0)
        below += sure
    return case.base + above / below


def led_merge(case: Case) -> Floats:
    own, base = _attached(case, "snip"), _attached(case, "snip_base")
    scale = case.real("lambda")
    if own is None or base is None:
        return case.base + scale * np.tensordot(case.weights, case.taus, axes=1)
    both = case.settings["elect"] == "both"
    masks = []
    for mine, theirs, density in zip(own, base, case.reals("density"), strict=True):
        located = [_top(scores, density) for scores in (mine, theirs)]
        masks.append(located[0] & located[1] if both else located[0] | located[1])
    alone = np.sum(masks, axis=0) == 1
    total = case.base.copy()
    for tau, mask, weight in zip(case.taus, masks, case.weights, strict=True):
        total += scale * weight * np.where(mask & alone, tau, 0)
    return total


def _top(scores: Floats, density: float) -> Flags:
    flat = scores.astype(np.float32).reshape(-1)
    count = math.ceil(round(density * flat.size, 9))
    first = np.argsort(-flat, kind="stable")[:count]
    mask = np.zeros(flat.size, bool)
    mask[first] = True
    return mask.reshape(scores.shape)


def soce(case: Case) -> Floats:
    table = _evaluated(case) if case.scores else _declared(case)
    only = case.settings["metric"]
    table = {name: row for name, row in table.items() if only in {"", name}}
    names = sorted(table)
    counted = []
    for name in names:
        others = [_pearson(table[name], table[o]) for o in names if o != name]
        if (np.mean(others) if others else 0.0) < case.real("threshold"):
            counted.append(name)
    won = np.zeros(case.count)
    for name in counted or names:
        row = np.array(table[name])
        won += (row == row.max()) / (row == row.max()).sum()
    shares = won * case.weights
    return np.tensordot(shares / shares.sum(), case.thetas, axes=1)


def _declared(case: Case) -> dict[str, list[float]]:
    names = {n for each in case.scalars for n in each if n.startswith("score:")}
    return {n.removeprefix("score:"): [each[n] for each in case.scalars] for n in names}


def _evaluated(case: Case) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for name in {s.metric for s in case.scores} - {"loss", "samples", "step"}:
        for content in case.contents:
            said = [
                s.value for s in case.scores if (s.metric, s.content) == (name, content)
            ]
            found.setdefault(name, []).append(float(np.median(said)))
    return found


def _pearson(one: list[float], other: list[float]) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
