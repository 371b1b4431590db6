"""Stored items and float64 on the device: exact upcasts, and one final rounding.

Owns the conversions of every dtype, and noting what they cannot hold. Does not own what
dtypes round to (`reference.dtypes`).

Narrow formats are float32 with a shorter significand and another bias: shifting their
bits up and scaling by a power of two gives the value, exactly, subnormals included. The
way back rounds in float64: (q + c) - c with c = 1.5 * 2**52 units of the last place that
the format has at q, which is one rounding to nearest, ties to even; then bits shift down.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from crdtmerge.numerics.cuda.device import current

SINGLE_MAX: Final = float.fromhex("0x1.fffffep+127")
_DOUBLE_MAX: Final = float.fromhex("0x1.fffffffffffffp+1023")
_SINGLE_SIGN: Final = -(2**31)
_EXPONENT_FIELD: Final = 0x7FF << 52
_EXPONENT_BIAS: Final = 1023


@dataclass(frozen=True, slots=True)
class _Narrow:
    """A format below float32: its width, and how its bits lie in those of a float32."""

    bits: int
    shift: int
    scale_exponent: int
    precision: int
    least_exponent: int
    largest: float

    @property
    def upper(self) -> bool:
        """Whether it is the upper half of a float32, sign and bias included."""
        return self.bits + self.shift == 32


_NARROW: Final = {
    "BF16": _Narrow(16, 16, 0, 8, -126, float.fromhex("0x1.fep+127")),
    "F16": _Narrow(16, 13, 112, 11, -14, 65504.0),
    "F8_E4M3": _Narrow(8, 20, 120, 4, -6, 448.0),
    "F8_E5M2": _Narrow(8, 21, 112, 3, -14, 57344.0),
}


class Faults:
    """Whether anything was beyond its format; the device is asked once, at the end."""

    def __init__(self) -> None:
        """Begin with nothing found."""
        self._found = torch.zeros((), dtype=torch.bool, device=current())

    def note(self, values: Tensor, largest: float) -> None:
        """Note magnitudes above `largest`, and NaN."""
        self._found |= ~(values.abs() <= largest).all()

    def any(self) -> bool:
        """Tell whether a fault was noted."""
        return bool(self._found)


def upcast(raw: Tensor, dtype: str) -> Tensor:
    """Return the items that bytes are, as float64; not to be written to."""
    if dtype == "F64":
        return raw.view(torch.float64)
    if dtype == "F32":
        return raw.view(torch.float32).to(torch.float64)
    form = _NARROW[dtype]
    stored = raw.view(torch.int16) if form.bits == 16 else raw
    words = stored.to(torch.int32)
    if form.upper:
        return (words << form.shift).view(torch.float32).to(torch.float64)
    sign = 1 << (form.bits - 1)
    bits = (words & (sign - 1)) << form.shift
    bits |= torch.where((words & sign) != 0, _SINGLE_SIGN, 0).to(torch.int32)
    return bits.view(torch.float32).to(torch.float64) * 2.0**form.scale_exponent


def to_single(values: Tensor, faults: Faults) -> Tensor:
    """Return values rounded once to float32, as float64; every zero is +0."""
    rounded = values.to(torch.float32).to(torch.float64)
    faults.note(rounded, SINGLE_MAX)
    return rounded + 0.0


def downcast(values: Tensor, dtype: str, faults: Faults) -> Tensor:
    """Return values as bytes of `dtype`: one rounding to nearest even, every zero +0."""
    if dtype == "F64":
        faults.note(values, _DOUBLE_MAX)
        return (values + 0.0).view(torch.uint8)
    if dtype == "F32":
        return to_single(values, faults).to(torch.float32).view(torch.uint8)
    form = _NARROW[dtype]
    rounded = _rounded(values, form)
    faults.note(rounded, form.largest)
    if form.upper:
        bits = rounded.to(torch.float32).view(torch.int32)  # exact
        return (bits >> form.shift).to(torch.int16).view(torch.uint8)
    scaled = rounded * 2.0**-form.scale_exponent
    bits = scaled.to(torch.float32).view(torch.int32)  # exact
    magnitude = (bits & 0x7FFF_FFFF) >> form.shift
    if form.bits == 8:
        return (magnitude | torch.where(bits < 0, 0x80, 0)).to(torch.uint8)
    # Two's complement with the sign bit set: what int16 holds.
    signed = magnitude + torch.where(bits < 0, -0x8000, 0).to(torch.int32)
    return signed.to(torch.int16).view(torch.uint8)


def _rounded(values: Tensor, form: _Narrow) -> Tensor:
    """Round to a format's significand, in float64."""
    least = (_EXPONENT_BIAS + form.least_exponent) << 52
    power = (values.view(torch.int64) & _EXPONENT_FIELD).clamp(min=least)
    c = (power + (((53 - form.precision) << 52) + (1 << 51))).view(torch.float64)
    return ((values + c) - c) + 0.0
