"""Planes in fewer bytes, and back without the loss of a bit.

Owns this form of planes. Does not own what planes hold (`accumulators`), nor files.

What a plane holds are multiples of its row's step, most of them far smaller than a float64
could be: so they are kept as whole numbers of steps, each row in as many bytes an item as
its largest needs. A row that has something else in it is kept as it is.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from crdtmerge.errors import ContractError
from crdtmerge.numerics.contract import LIMB_BITS
from crdtmerge.numerics.reference.accumulating import sum_rows
from crdtmerge.numerics.reference.dtypes import Data, Floats
from crdtmerge.numerics.reference.grid import Grid
from crdtmerge.numerics.vectors import Planes

AS_IT_IS: Final = 8
"""The width of a row that is kept as float64."""
_EXACT: Final = 2.0**53


def pack_planes(planes: Planes, grid: Grid) -> tuple[bytes, list[bytes]]:
    """Return bytes an item of each row, and the rows packed; little-endian.

    `unpack_planes` is the inverse, bit for bit.
    """
    packed = [
        _pack(row, step)
        for row, step in zip(planes, _steps(grid, len(planes)), strict=True)
    ]
    return bytes(width for width, _ in packed), [data for _, data in packed]


def unpack_planes(data: Data, widths: Sequence[int], items: int, grid: Grid) -> Planes:
    """Return planes of so many items, from their rows one after another.

    Raises:
        ContractError: sizes or widths are not those of such planes.
    """
    view = memoryview(data).cast("B")
    if len(view) != sum(widths) * items or max(widths, default=0) > AS_IT_IS:
        message = f"{len(view)} bytes are no planes of {items} items"
        raise ContractError(message)
    planes = np.zeros((len(widths), items))
    start = 0
    steps = _steps(grid, len(widths))
    for row, width, step in zip(planes, widths, steps, strict=True):
        end = start + width * items
        _unpack(view[start:end], width, step, row)
        start = end
    return planes


def _steps(grid: Grid, rows: int) -> list[float]:
    """Return the step of each row: of limbs, or of votes, which end in whole weights."""
    limbs = [2.0 ** (grid.step_exponent - LIMB_BITS * n) for n in range(grid.limbs)]
    return limbs if rows == sum_rows(grid) else [*limbs, *limbs, 1.0, 1.0][:rows]


def _pack(row: Floats, step: float) -> tuple[int, bytes]:
    # SUBTLE: steps are powers of two, so this rounds nothing unless it overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        counts = row / step
        largest = float(np.abs(counts).max(initial=0.0))
        whole = counts.astype("<i8") if largest < _EXACT else None
    if whole is None or (whole * step).tobytes() != row.tobytes():
        return AS_IT_IS, np.ascontiguousarray(row, "<f8").tobytes()
    width = _width(largest)
    if not width:
        return 0, b""
    cut = np.ndarray(whole.shape, f"V{width}", whole.data, strides=(8,))
    return width, cut.tobytes()


def _width(largest: float) -> int:
    """Return how many bytes hold all whole numbers up to it, with their sign."""
    bits = int(largest).bit_length() + 1 if largest else 0
    return -(-bits // 8)


def _unpack(data: memoryview, width: int, step: float, row: Floats) -> None:
    if width == AS_IT_IS:
        row[:] = np.frombuffer(data, "<f8")
    elif width and len(row):
        whole = np.zeros(len(row), "<i8")
        cut = np.ndarray(whole.shape, f"V{width}", whole.data, strides=(8,))
        cut[:] = np.frombuffer(data, f"V{width}")
        spare = 8 * (8 - width)
        np.left_shift(whole, spare, out=whole)
        np.right_shift(whole, spare, out=whole)  # the sign goes along
        np.multiply(whole, step, out=row)
