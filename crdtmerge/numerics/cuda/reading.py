"""Vectors on the device: their items as float64, and which of them stay.

Owns the device's form of `reference.reading`. Does not own words (`philox`) or formats.
"""

import math
from typing import Final, assert_never

import numpy as np
import torch
from torch import Tensor

from crdtmerge.numerics.cuda.device import moved, moved_array
from crdtmerge.numerics.cuda.formats import Faults, to_single, upcast
from crdtmerge.numerics.cuda.philox import words
from crdtmerge.numerics.cuda.selection import ranks_of
from crdtmerge.numerics.reference.chances import limits_of, quotients_of
from crdtmerge.numerics.reference.dtypes import Data
from crdtmerge.numerics.reference.masks import unpacked
from crdtmerge.numerics.vectors import (
    Chances,
    Difference,
    Items,
    Keep,
    Shifted,
    Tau,
    Vector,
)

_NO_TRIM: Final = 0.0


def read(vector: Vector, part: range, faults: Faults) -> Tensor:
    """Return the items of `part` as float64; not to be written to."""
    match vector:
        case Items(data, dtype):
            return _stored(data, dtype, part)
        case Difference():
            return read_tau(vector, part, faults)
        case Shifted(tau, base, dtype):
            return _stored(base, dtype, part) + _stored(tau, "F32", part)
        case _:
            assert_never(vector)


def read_tau(vector: Tau, part: range, faults: Faults) -> Tensor:
    """Return the items of `part` of a task vector: float32 in float64, every zero +0."""
    if isinstance(vector, Items):
        return to_single(_stored(vector.data, vector.dtype, part), faults)
    theta = _stored(vector.theta, vector.dtype, part)
    return to_single(theta - _stored(vector.base, vector.of_base, part), faults)


def read_kept(tau: Tau, keep: Keep, part: range, faults: Faults) -> Tensor:
    """Return the items of `part` that stay, the others +0."""
    if keep.mask:
        stays = moved_array(unpacked(keep.mask, part))
        return torch.where(stays, read_tau(tau, part, faults), 0.0)
    if keep.chances is not None:
        return _read_ranked(tau, keep, keep.chances, part, faults)
    found = _in_band(read_tau(tau, part, faults), keep)
    if keep.draws:
        drawn = words(keep.key, len(part), part.start)
        found = torch.where(drawn < keep.limit, found, 0.0)
    return found


def _read_ranked(
    tau: Tau, keep: Keep, chances: Chances, part: range, faults: Faults
) -> Tensor:
    """Read whole rows, since an item's chance depends on its row; return `part`."""
    row = chances.row
    rows = range(part.start // row * row, -(-part.stop // row) * row)
    found = read_tau(tau, rows, faults)
    ranks = ranks_of(found.to(torch.float32).view(torch.int32).view(-1, row)).view(-1)
    drawn = words(keep.key, len(rows), rows.start)
    limits = moved_array(limits_of(chances).astype(np.int64))
    kept = torch.where(drawn < limits[ranks], _in_band(found, keep), 0.0)
    if chances.rescaled:
        kept = to_single(kept / moved_array(quotients_of(chances))[ranks], faults)
    return kept[part.start - rows.start :][: len(part)]


def _in_band(found: Tensor, keep: Keep) -> Tensor:
    if keep.least > _NO_TRIM:
        found = torch.where(found.abs() >= keep.least, found, 0.0)
    if keep.most < math.inf:
        found = torch.where(found.abs() <= keep.most, found, 0.0)
    return found


def _stored(data: Data, dtype: str, part: range) -> Tensor:
    return upcast(moved(data, dtype, part), dtype)
