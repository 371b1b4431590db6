"""Votes in the basis that task matrices share: DRM and KnOTS.

Owns one oracle a method, written from its paper's formula. Shares no code with the library.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tests.oracles.case import Case, Floats, elected
from tests.oracles.drawing import kept

CUTOFF = 2.0**-16


def drm(case: Case) -> Floats:
    if case.base.ndim < 2:
        return case.base + case.real("lambda") * case.mean(case.taus)
    turned = case.settings["direction"] == "v"
    taus, weights = _changed(case)
    flat = [tau.T if turned else tau for tau in taus]
    u, s, vt = np.linalg.svd(np.concatenate(flat, axis=1), full_matrices=False)
    rank = int((s > max(case.real("cut"), CUTOFF) * s[0]).sum())
    u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    blocks = np.stack(np.split(vt, len(flat), axis=1))
    lengths = np.sqrt((blocks * blocks).sum(axis=2, keepdims=True))
    even = blocks / lengths
    count = math.ceil(round((1 - case.real("p")) * even.size, 9))
    stays = np.abs(even) >= np.sort(np.abs(even), axis=None)[-count]
    merged = u @ _mean_of_who_agrees(weights, s[:, None] * lengths * even * stays)
    tau = (merged.T if turned else merged).reshape(case.base.shape)
    return case.base + case.real("lambda") * tau


def knots(case: Case) -> Floats:
    if case.base.ndim < 2:
        return case.base + case.real("lambda") * case.mean(case.taus)
    taus, weights = _changed(case)
    u, s, vt = np.linalg.svd(np.concatenate(taus, axis=1), full_matrices=False)
    rank = int((s > max(case.real("cut"), CUTOFF * s[0])).sum())
    if not rank:
        return case.base
    blocks = np.split(s[:rank, None] * vt[:rank], len(taus), axis=1)
    drawn = case.settings["votes"] == "dare_ties"
    left = [
        _drawn(case, place, block) if drawn else _trimmed(case, place, block)
        for place, block in zip(_places(case), blocks, strict=True)
    ]
    mean = _mean_of_who_agrees(weights, np.stack(left), mean=case.flag("normalize"))
    return case.base + case.real("lambda") * (u[:, :rank] @ mean).reshape(
        case.base.shape
    )


def _places(case: Case) -> list[int]:
    return [i for i, tau in enumerate(case.taus) if tau.any()]


def _changed(case: Case) -> tuple[list[Floats], Floats]:
    """The matrices of those who change the tensor, and their weights."""
    places, rows = _places(case), len(case.base)
    return [case.taus[i].reshape(rows, -1) for i in places], case.weights[places]


def _trimmed(case: Case, place: int, block: Floats) -> Floats:
    count = math.ceil(round(case.reals("density")[place] * block.size, 9))
    least = np.sort(np.abs(block), axis=None)[-count]
    found: Floats = np.where(np.abs(block) >= least, block, 0)
    return found


def _drawn(case: Case, place: int, block: Floats) -> Floats:
    chance = 1 - case.reals("p")[place]
    stage = replace(case, base=np.zeros(block.shape), strategy="dare_ties/1")
    left: Floats = np.where(kept(stage, place, chance), block, 0)
    if case.settings["rescale"] == "paper":
        left = left / chance
    elif case.settings["rescale"] == "l1":
        left = left * (np.abs(block).sum() / np.abs(left).sum())
    return left


def _mean_of_who_agrees(
    weights: Floats, rows: Floats | Sequence[Floats], *, mean: bool = True
) -> Floats:
    """The disjoint mean by weight: of those on the side of the weighed sum."""
    votes = np.asarray(weights)[:, None, None] * rows
    agree = np.sign(votes) == elected(weights, np.asarray(rows))
    total: Floats = (votes * agree).sum(axis=0)
    mass = (np.asarray(weights)[:, None, None] * agree).sum(axis=0)
    return total / np.where(mass == 0, 1, mass) if mean else total
