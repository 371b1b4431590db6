"""arcee_fusion: from the other model only the items that matter most.

Owns `arcee_fusion/1`. Does not own exponential, logarithm, quantiles (`numerics`), nor
the mean of several models (`averages`).

Formula (Arcee Fusion, a merge method of mergekit since 2025; no paper): with a the base
and b the other model, an item's importance is |b - a| times its row's divergence
sum(p ln(p / q)), p = softmax(b) + 10**-8 and q = softmax(a) + 10**-8 along the last
dimension (a tensor of one dimension is one row). Items of at least median + 1.5 (Q3 - Q1)
of all importances are b's, the others a's; a quantile is the item at place floor(q (N -
1)), nothing interpolated. So where three quarters of a tensor are of importance zero, as
in rows that hold one item each, all items are b's.

Exact: the quantiles of the importances, as float64 has them, over all items, where
mergekit samples 10**6 of a larger tensor, unseeded, so that two runs differ; and each item
of a or of a single b as it is taken.
Ours: everything in float64 with the contract's exp and log, sums of a row halved
pairwise; a divergence that rounding makes negative is 0; of several contributions b is
their weighted mean, exact on the grid and rounded once to float64 (mergekit: one alone).
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from crdtmerge.numerics import (
    Floats,
    Items,
    each_item,
    exp,
    log,
    quantile,
    row_sums,
    values_of,
)
from crdtmerge.strategies.averages import mean_vector
from crdtmerge.strategies.base import Inputs, Memory, Parts, Strategy, never
from crdtmerge.strategies.tensors import (
    base_of,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
)

FLOOR: Final = 1e-8
SPREAD: Final = 1.5
BAND_ITEMS: Final = 1 << 16
"""Items of many rows worked on at once; no output bit depends on it."""

ITEM_BYTES_HELD: Final = 72
"""Base, mean and importance in float64, and as much again and more for one long row."""


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "arcee_fusion", inputs.tensor)
    exponent, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    base, other = base_of(inputs), mean_vector(inputs, exponent, terms)
    if not inputs.items:
        return Parts(0, lambda _items: b"")
    length = inputs.shape[-1] if len(inputs.shape) > 1 else inputs.items
    importance = _importance(values_of(base), values_of(other), length)
    least = _threshold(importance)

    def fused(rows: Floats) -> Floats:
        found: Floats = np.where(rows[2] >= least, rows[1], rows[0]) + 0.0
        return found

    vectors = [base, other, Items(importance.data, "F64")]
    return in_parts(inputs, lambda output: each_item(vectors, output, fused))


def _threshold(importance: Floats) -> float:
    first, middle, third = (quantile(importance, k, 4) for k in (1, 2, 3))
    return middle + SPREAD * (third - first)


def _importance(base: Floats, other: Floats, length: int) -> Floats:
    """Return |other - base| times the divergence of the item's row."""
    found = np.abs(other - base)
    step = max(1, BAND_ITEMS // length) * length
    for start in range(0, found.size, step):
        band = slice(start, start + step)
        rows = found[band].reshape(-1, length)
        apart = _divergence(
            base[band].reshape(-1, length), other[band].reshape(-1, length)
        )
        rows *= apart[:, np.newaxis]
    return found


def _divergence(base: Floats, other: Floats) -> Floats:
    """Return how far the softmax of each row of `other` is from that of `base`."""
    p, q = _softmax(other), _softmax(base)
    p += FLOOR
    q += FLOOR
    return np.maximum(row_sums(p * _by_band(log, p / q)), 0.0)


def _softmax(rows: Floats) -> Floats:
    highest = np.maximum.reduce(rows, axis=1)
    powers = _by_band(exp, rows - highest[:, np.newaxis])
    powers /= row_sums(powers)[:, np.newaxis]
    return powers


def _by_band(function: Callable[[Floats], Floats], rows: Floats) -> Floats:
    """Return a function of each item, whose own work is then that of a band alone."""
    flat = rows.reshape(-1)
    found = np.empty(flat.size)
    for start in range(0, flat.size, BAND_ITEMS):
        band = slice(start, start + BAND_ITEMS)
        found[band] = function(flat[band])
    return found.reshape(rows.shape)


ARCEE_FUSION = Strategy(
    name="arcee_fusion",
    version=1,
    summary="Take the other model's items of outstanding importance, else the base's",
    paper="mergekit, https://github.com/arcee-ai/mergekit",
    shifts=never,
    memory=Memory(shared=ITEM_BYTES_HELD),
    emit=_emit,
)
