"""Ranks, n of m and order statistics of arrays, on the device.

Owns the device's forms of `reference.selection`. Does not own tie rules. Sorts are stable,
on integers: lower indices stay first. An order statistic is found 16 bits at a time, by
counting those items that share the bits found so far.
"""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crdtmerge.numerics.cuda.device import (
    blocks_of,
    current,
    moved_array,
    shared_step,
)
from crdtmerge.numerics.reference.dtypes import Floats, Singles
from crdtmerge.numerics.reference.selection import (
    check_n_of_m,
    middle_of,
    quantile_place,
    row_count,
)

_MAGNITUDE: Final = 0x7FFF_FFFF
_DIGIT_BITS: Final = 16
_DIGITS: Final = 1 << _DIGIT_BITS
_INTEGERS: Final = {4: torch.int32, 8: torch.int64}


def rank_in_row(tau: Singles, row_length: int) -> NDArray[np.int64]:
    """Return each item's rank among the magnitudes of its row, from 0 for the smallest."""
    rows = row_count(tau.size, row_length)
    found = np.empty((rows, row_length), dtype=np.int64)
    table = tau.reshape(rows, row_length)
    for part in blocks_of(range(rows), shared_step(row_length)):
        cut = slice(part.start, part.stop)
        bits = moved_array(table[cut]).view(torch.int32)
        found[cut] = ranks_of(bits).cpu().numpy()
    return found.reshape(-1)


def ranks_of(bits: Tensor) -> Tensor:
    """Return the ranks in (rows, items) of float32 as bits, each row from 0."""
    order = torch.sort(bits & _MAGNITUDE, dim=1, stable=True).indices
    places = torch.arange(bits.shape[1], device=order.device).expand_as(order)
    return torch.zeros_like(order).scatter(1, order, places)


def keep_n_of_m(tau: Singles, n: int, m: int) -> NDArray[np.bool_]:
    """Tell which items are among the n largest magnitudes of their group of m."""
    check_n_of_m(n, m)
    groups = -(-tau.size // m)
    found = np.empty(groups * m, dtype=np.bool_)
    for part in blocks_of(range(groups), shared_step(m)):
        cut = slice(part.start * m, part.stop * m)
        smallness = _MAGNITUDE - _magnitudes(tau[cut])
        padding = len(part) * m - smallness.numel()  # no smaller, and comes last
        smallness = torch.cat([smallness, smallness.new_full((padding,), _MAGNITUDE)])
        order = torch.sort(smallness.view(-1, m), dim=1, stable=True).indices
        kept = torch.zeros_like(order, dtype=torch.bool)
        found[cut] = kept.scatter(1, order[:, :n], value=True).view(-1).cpu().numpy()
    return found[: tau.size]


def _magnitudes(tau: Singles) -> Tensor:
    return moved_array(tau).view(torch.int32) & _MAGNITUDE


def quantile(values: Singles | Floats, numerator: int, denominator: int) -> float:
    """Return the item at place floor(q (N - 1)) of the sorted values, from place 0."""
    return item_at(values, quantile_place(values.size, numerator, denominator))


def median(values: Singles | Floats) -> float:
    """Return the middle item, or the mean of the middle two with one rounding."""
    lower, upper = (quantile_place(values.size, 1, 2), values.size // 2)
    return middle_of(item_at(values, lower), item_at(values, upper))


def item_at(values: Singles | Floats, place: int) -> float:
    """Return the item at a place of the sorted values; zero is +0."""
    flat = values.reshape(-1)
    width = 8 * flat.itemsize
    found, rest = 0, place
    for shift in range(width - _DIGIT_BITS, -1, -_DIGIT_BITS):
        first = shift == width - _DIGIT_BITS
        below = np.cumsum(_histogram(flat, shift, None if first else found))
        digit = int(np.searchsorted(below, rest, side="right"))
        rest -= int(below[digit - 1]) if digit else 0
        # The first digit has the sign.
        found = digit - _DIGITS // 2 if first else (found << _DIGIT_BITS) | digit
    bits = np.array([found], f"<i{flat.itemsize}")
    bits ^= (bits >> (width - 1)) & _rest_of(width)
    return float(bits.view(flat.dtype)[0]) + 0.0


def _histogram(values: NDArray[Any], shift: int, above: int | None) -> NDArray[Any]:
    """Count the digits at `shift` of those items whose bits over it are `above`."""
    counts = torch.zeros(_DIGITS + 1, dtype=torch.int64, device=current())
    for part in blocks_of(range(values.size)):
        keys = _ordered(values[part.start : part.stop])
        if above is None:
            digits = (keys >> shift) + _DIGITS // 2
        else:  # others count where none looks
            inside = (keys >> (shift + _DIGIT_BITS)) == above
            digits = torch.where(inside, (keys >> shift) & (_DIGITS - 1), _DIGITS)
        counts += torch.bincount(digits, minlength=_DIGITS + 1)
    return counts.cpu().numpy()[:_DIGITS]


def _ordered(values: NDArray[Any]) -> Tensor:
    """Return integers that order as the values do; -0 comes before +0."""
    width = values.itemsize
    bits = moved_array(values).view(_INTEGERS[width])
    return bits ^ ((bits >> (8 * width - 1)) & _rest_of(8 * width))


def _rest_of(width: int) -> int:
    """Return the mask of all bits but the sign."""
    return (1 << (width - 1)) - 1
