"""Vectors on the device: their items as float64, and which of them stay.

Owns the device's form of `reference.reading`. Does not own words (`philox`) or formats.
"""

from typing import Final, assert_never

import torch
from torch import Tensor

from crdtmerge.numerics.cuda.device import moved
from crdtmerge.numerics.cuda.formats import Faults, to_single, upcast
from crdtmerge.numerics.cuda.philox import words
from crdtmerge.numerics.reference.dtypes import Data
from crdtmerge.numerics.vectors import Difference, Items, Keep, Shifted, Tau, Vector

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
    found = read_tau(tau, part, faults)
    if keep.least > _NO_TRIM:
        found = torch.where(found.abs() >= keep.least, found, 0.0)
    if keep.draws:
        drawn = words(keep.key, len(part), part.start)
        found = torch.where(drawn < keep.limit, found, 0.0)
    return found


def _stored(data: Data, dtype: str, part: range) -> Tensor:
    return upcast(moved(data, dtype, part), dtype)
