"""Elementary functions on the device.

Owns the device's forms of `reference.polynomials`; those with `_of` in their names take
and return tensors. Does not own domains, constants or the reasons for a step: every line
stands for the line of the reference.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from crdtmerge.numerics.cuda.device import blocks_of, moved_array, square_root
from crdtmerge.numerics.reference.dtypes import Floats
from crdtmerge.numerics.reference.polynomials import (
    ANGLE_MAX,
    ASIN_TERMS,
    COS_TERMS,
    EXP_MAX,
    EXP_TERMS,
    EXP_ZERO,
    EXPONENT_BIAS,
    HALF_PI_PARTS,
    LARGEST,
    LN2,
    LN2_INVERSE,
    LN2_REST,
    LOG_TERMS,
    PI,
    PI_REST,
    SIGNIFICAND_SHIFT,
    SIN_TERMS,
    SMALLEST_NORMAL,
    SQRT_HALF_BITS,
    TANH_ONE,
    check_domain,
)


def sin_of(x: Tensor) -> Tensor:
    """Return the sine of angles within `ANGLE_MAX`."""
    magnitude = x.abs()
    far = magnitude > PI
    turns = torch.where(far, torch.round(magnitude * (1 / PI)), 0.0)
    high, low = _less_quarters(magnitude, 2 * turns)
    rest, rest_low = torch.where(far, high, magnitude), torch.where(far, low, 0.0)
    return _sign(x) * _alternate(_sine(rest, rest_low), turns)


def cos_of(x: Tensor) -> Tensor:
    """Return the cosine of angles within `ANGLE_MAX`."""
    magnitude = x.abs()
    turns = torch.round(magnitude * (1 / PI) - 0.5)
    high, low = _less_quarters(magnitude, 2 * turns + 1)
    return -_alternate(_sine(high, low), turns)


def acos_of(x: Tensor) -> Tensor:
    """Return the angles whose cosines are `x`, each from -1 to 1."""
    magnitude = x.abs()
    far = magnitude > 0.5
    half_angle = _asin(square_root(torch.where(far, (1 - magnitude) * 0.5, 0.0)))
    beyond = torch.where(x > 0, 2 * half_angle, (PI - 2 * half_angle) + PI_REST)
    near = PI / 2 - (_asin(torch.where(far, 0.0, x)) - PI_REST / 2)
    return torch.where(far, beyond, near)


def exp_of(x: Tensor) -> Tensor:
    """Return the exponentials of numbers up to `EXP_MAX`."""
    power, less_one, _ = _reduced_exp(x.clamp(min=EXP_ZERO))
    first = power.clamp(-1000, 1000)
    return ((1 + less_one) * _power_of_two(first)) * _power_of_two(power - first)


def log_of(x: Tensor) -> Tensor:
    """Return the natural logarithms of finite numbers above 0."""
    tiny = x < SMALLEST_NORMAL
    bits = torch.where(tiny, x * 2.0**54, x).view(torch.int64)
    power = (bits - SQRT_HALF_BITS) >> SIGNIFICAND_SHIFT
    f = (bits - (power << SIGNIFICAND_SHIFT)).view(torch.float64) - 1
    k = torch.where(tiny, power - 54, power).to(torch.float64)
    s = f / (2 + f)
    squared = s * s
    half = 0.5 * (f * f)
    rest = s * (half + squared * _horner(LOG_TERMS, squared)) + k * LN2_REST
    return k * LN2 - ((half - rest) - f)


def tanh_of(x: Tensor) -> Tensor:
    """Return the hyperbolic tangents of finite numbers."""
    power, less_one, lost = _reduced_exp(2 * x.abs().clamp(max=TANH_ONE))
    two = _power_of_two(power)
    e, e_lost = _two_sum(two - 1, two * less_one)
    e_lost = e_lost + two * lost
    below, below_lost = _two_sum(e, torch.full_like(e, 2.0))
    quotient = e / below
    rest = (e_lost - quotient * (below_lost + e_lost)) / below
    return torch.copysign(quotient + rest, x)


def _sine(high: Tensor, low: Tensor) -> Tensor:
    """Return the sine of high + low; above pi/2 (and up to pi) low is 0."""
    sign = _sign(high)
    x, rest_low = sign * high, sign * low
    turned = torch.where(x > PI / 2, (PI - x) + PI_REST, x)
    rest = (PI / 2 - turned) + (PI_REST / 2 - rest_low)
    rest_squared = rest * rest
    tail = _horner(COS_TERMS, rest_squared)
    cosine = 1 - (0.5 * rest_squared - (rest_squared * rest_squared) * tail)
    squared = turned * turned
    small = turned + (turned * (squared * _horner(SIN_TERMS, squared)) + rest_low)
    return sign * torch.where(turned > PI / 4, cosine, small)


def _less_quarters(x: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return x - count * pi/2 as a sum of two."""
    high, low = x, torch.zeros_like(x)
    for part in HALF_PI_PARTS:
        high, lost = _two_sum(high, -(count * part))
        low = low + lost
    total = high + low
    return total, low - (total - high)


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return a + b and, exactly, what its rounding lost."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _alternate(x: Tensor, turns: Tensor) -> Tensor:
    """Return x where `turns` is even, -x where it is odd."""
    return torch.where((turns.to(torch.int64) & 1) != 0, -x, x)


def _sign(x: Tensor) -> Tensor:
    """Return 1 or -1, with the sign of each item, zeros included."""
    return torch.copysign(torch.ones_like(x), x)


def _asin(x: Tensor) -> Tensor:
    """Return the arc sine for |x| up to 1/2."""
    squared = x * x
    return x + x * (squared * _horner(ASIN_TERMS, squared))


def _reduced_exp(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return k, and exp(r) - 1 as a sum of two, with x = k ln 2 + r."""
    k = torch.round(x * LN2_INVERSE)
    high, low = x - k * LN2, k * LN2_REST
    r = high - low
    rest = r * r * _horner(EXP_TERMS, r) + ((high - r) - low)
    less_one = r + rest
    return k.to(torch.int64), less_one, (r - less_one) + rest


def _power_of_two(power: Tensor) -> Tensor:
    """Return 2**power, from 2**-1022 to 2**1023."""
    return ((power + EXPONENT_BIAS) << SIGNIFICAND_SHIFT).view(torch.float64)


def _horner(terms: Sequence[float], x: Tensor) -> Tensor:
    total = torch.full_like(x, terms[-1])
    for term in reversed(terms[:-1]):
        total = total * x + term
    return total


def sin(x: Floats) -> Floats:
    """Return the sine of angles up to `ANGLE_MAX` on either side of 0."""
    check_domain("sin", x, -ANGLE_MAX, ANGLE_MAX)
    return _blockwise(sin_of, x)


def cos(x: Floats) -> Floats:
    """Return the cosine of angles up to `ANGLE_MAX` on either side of 0."""
    check_domain("cos", x, -ANGLE_MAX, ANGLE_MAX)
    return _blockwise(cos_of, x)


def acos(x: Floats) -> Floats:
    """Return the angles from 0 to pi whose cosines are `x`, each from -1 to 1."""
    check_domain("acos", x, -1.0, 1.0)
    return _blockwise(acos_of, x)


def exp(x: Floats) -> Floats:
    """Return the exponentials of numbers up to `EXP_MAX`; of -746 and below it is +0."""
    check_domain("exp", x, -LARGEST, EXP_MAX)
    return _blockwise(exp_of, x)


def log(x: Floats) -> Floats:
    """Return the natural logarithms of finite numbers above 0, subnormal ones included."""
    check_domain("log", x, 2.0**-1074, LARGEST)
    return _blockwise(log_of, x)


def tanh(x: Floats) -> Floats:
    """Return the hyperbolic tangents of finite numbers; zero keeps its sign."""
    check_domain("tanh", x, -LARGEST, LARGEST)
    return _blockwise(tanh_of, x)


def _blockwise(function: Callable[[Tensor], Tensor], x: Floats) -> Floats:
    """Return what a function makes of the items, in the shape that they came in."""
    flat = np.ascontiguousarray(x).reshape(-1)
    out = np.empty(flat.size)
    for part in blocks_of(range(flat.size)):
        cut = slice(part.start, part.stop)
        out[cut] = function(moved_array(flat[cut])).cpu().numpy()
    return out.reshape(x.shape)
