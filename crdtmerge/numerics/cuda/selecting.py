"""The k-th largest magnitude, and medians across contributions, on the device.

Owns the device's forms of `kth_largest` and `weighted_median`. Does not own the tie rules
(`reference.selection`, `reference.merging`). Counts are integers, so the order in which a
device adds them does not matter.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crdtmerge.numerics.cuda.device import blocks_of, current, shared_step
from crdtmerge.numerics.cuda.formats import Faults
from crdtmerge.numerics.cuda.reading import read, read_tau
from crdtmerge.numerics.cuda.sums import stored
from crdtmerge.numerics.reference import measuring, merging
from crdtmerge.numerics.reference.dtypes import Data
from crdtmerge.numerics.reference.selection import digit_of
from crdtmerge.numerics.vectors import Output, Tau, Vector

_HALF_BITS: Final = 16
_HALF: Final = 1 << _HALF_BITS


def kth_largest(tau: Tau, places: Sequence[int]) -> list[float]:
    """Return the k-th largest magnitude of a task vector for each k, counted from 1.

    Magnitudes are counted by the upper half of their bits, then those with the upper half
    of the one wanted by the lower half.
    """
    found, faults = [], Faults()
    counts = _histogram(tau, None, faults)
    if faults.any():
        return measuring.kth_largest(tau, places)
    for k in places:
        upper, place = digit_of(counts, k)
        lower, _ = digit_of(_histogram(tau, upper, faults), place)
        bits = np.array([(upper << _HALF_BITS) | lower], np.uint32)
        found.append(float(bits.view(np.float32)[0]))
    return found


def _histogram(tau: Tau, upper: int | None, faults: Faults) -> NDArray[np.int64]:
    """Count magnitudes by the upper half of their bits, or those with it by the lower."""
    counts = torch.zeros(_HALF + 1, dtype=torch.int64, device=current())
    for block in blocks_of(range(tau.count)):
        single = read_tau(tau, block, faults).to(torch.float32)  # exact
        bits = single.view(torch.int32) & 0x7FFF_FFFF
        digits = bits >> _HALF_BITS
        if upper is not None:  # those with another upper half count where none looks
            digits = torch.where(digits == upper, bits & (_HALF - 1), _HALF)
        counts += torch.bincount(digits, minlength=_HALF + 1)
    found: NDArray[np.int64] = counts.cpu().numpy()[:_HALF]
    return found


def weighted_median(
    vectors: Sequence[Vector], weights: Sequence[int], output: Output
) -> Data:
    """Return the stored items of the mean of the lower and the upper weighted median."""
    units = torch.tensor(list(weights), dtype=torch.int64, device=current())

    def compute(block: range, faults: Faults) -> Tensor:
        return _median(
            torch.stack([read(vector, block, faults) for vector in vectors]), units
        )

    step = shared_step(len(vectors))
    made = stored(compute, output, step)
    return merging.weighted_median(vectors, weights, output) if made is None else made


def _median(columns: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted median of each column.

    Cumulated weights grow, so the place of the first that reaches half of all is the
    number of those that do not.
    """
    values, order = torch.sort(columns, dim=0, stable=True)
    doubled = 2 * torch.cumsum(weights[order], dim=0)
    total = weights.sum()  # integers, as all sums here
    lower = (doubled < total).sum(dim=0, keepdim=True)
    upper = (doubled <= total).sum(dim=0, keepdim=True)
    middle = torch.gather(values, 0, lower) + torch.gather(values, 0, upper)
    return middle[0] * 0.5
