"""Products of matrices on the device: slices of integers, multiplied in float64.

Owns the device's form of `reference.gemm.matmul`. Does not own the method: every partial
sum is an integer of at most 2**53, so the library's order of adding, fused or not, and
the units that it adds on (FP64 ones, tensor cores included) cannot change a bit. Modes of
reduced precision are for float32; a library set to emulate float64 by narrower integers
is outside the contract, and the start-up test is there to find it.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crdtmerge.numerics.cuda.device import moved_array
from crdtmerge.numerics.reference import gemm
from crdtmerge.numerics.reference.dtypes import Floats

BLOCK_ITEMS: Final = 1 << 24
"""Items of a product, or of a left operand, on the device at once: 128 MiB each."""

_POWER_STEP: Final = 900
"""A power of two by which a scaled sum, from 2**-60 to 2**60, stays a normal number."""

_POWER_MAX: Final = 1020


@dataclass(frozen=True, slots=True)
class _Cut:
    """Rows as integers, on the device; their exponents on the host."""

    exponents: NDArray[np.int64]
    high: Tensor
    low: Tensor


def matmul(left: Floats | gemm.Sliced, right: Floats, slices: int = 2) -> Floats:
    """Return left @ right for finite (m, K) and (K, n), the same bits everywhere.

    With one slice P11 alone is made.

    Raises:
        ContractError: K is outside the contract.
    """
    rows = len(left.high if isinstance(left, gemm.Sliced) else left)
    inner, columns = right.shape
    bits, other = gemm.slice_bits(inner), _cut(right.T)
    product = np.empty((rows, columns))
    step = max(1, BLOCK_ITEMS // max(1, columns, inner))
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        if isinstance(left, gemm.Sliced):
            part = left.part(start, stop)
            cut = _Cut(part.exponents, moved_array(part.high), moved_array(part.low))
        else:
            cut = _cut(left[start:stop])
        product[start:stop] = _product(cut, other, bits, slices).cpu().numpy()
    return product


def _cut(rows: Floats) -> _Cut:
    """Return each row's exponent and its two slices; a row of zeros has exponent 0."""
    bits, values = gemm.slice_bits(rows.shape[1]), moved_array(rows)
    _, exponents = np.frexp(values.abs().amax(dim=1).cpu().numpy())
    powers = torch.from_numpy(bits - exponents.astype(np.int64)).to(values.device)
    scaled = _scaled(values, powers[:, None])
    high = torch.round(scaled)
    low = torch.round((scaled - high) * 2.0**bits)  # exact but for the rounding
    return _Cut(exponents.astype(np.int64), high, low)


def _product(left: _Cut, right: _Cut, bits: int, slices: int) -> Tensor:
    """Return the rows of `left` times the columns that the rows of `right` are."""
    total = left.high @ right.high.T
    if slices > 1:
        middle = left.high @ right.low.T + left.low @ right.high.T  # exact
        least = (left.low @ right.low.T) * 2.0**-bits
        total = (least + middle) * 2.0**-bits + total
    exponents = left.exponents[:, np.newaxis] + right.exponents - 2 * bits
    powers = torch.from_numpy(exponents).to(total.device)
    return _scaled(total, powers) + 0.0


def _scaled(values: Tensor, powers: Tensor) -> Tensor:
    """Return values * 2**powers, rounded once where the result is subnormal.

    SUBTLE: torch's `ldexp` makes the powers in float32. Here the first factor leaves
    normal numbers, exactly; what the second one cuts off is beyond float64 on both sides.
    """
    first = powers.clamp(-_POWER_STEP, _POWER_STEP)
    rest = (powers - first).clamp(-_POWER_MAX, _POWER_MAX)
    return (values * _power_of_two(first)) * _power_of_two(rest)


def _power_of_two(power: Tensor) -> Tensor:
    return ((power + 1023) << 52).view(torch.float64)
