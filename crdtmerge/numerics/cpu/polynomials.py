"""Elementary functions of one number, and compiled loops of them over arrays.

Owns the fast forms of `reference.polynomials`; the functions of one number, with `_of` in
their names, are taken in by other loops as well. Does not own domains, constants or the
reasons for a step: every line stands for the line of the reference, choices included, so
that loops have no branches and become vector code.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from crdtmerge.numerics.cpu.compiling import compiled, inlined
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

_ASIN_LOWER: Final = ASIN_TERMS[:13]
_ASIN_UPPER: Final = ASIN_TERMS[13:]
"""Cut in two: a longer loop over coefficients is not unrolled, and so stays scalar."""


@inlined
def sin_of(x: Any) -> Any:
    """Return the sine of an angle within `ANGLE_MAX`."""
    magnitude = abs(x)
    far = magnitude > PI
    turns = np.rint(magnitude * (1 / PI)) if far else 0.0
    high, low = less_quarters_of(magnitude, 2 * turns)
    rest = high if far else magnitude
    rest_low = low if far else 0.0
    found = sine_of(rest, rest_low)
    return np.copysign(1.0, x) * (-found if np.int64(turns) & 1 else found)


@inlined
def cos_of(x: Any) -> Any:
    """Return the cosine of an angle within `ANGLE_MAX`."""
    magnitude = abs(x)
    turns = np.rint(magnitude * (1 / PI) - 0.5)
    high, low = less_quarters_of(magnitude, 2 * turns + 1)
    found = sine_of(high, low)
    return -(-found if np.int64(turns) & 1 else found)


@inlined
def acos_of(x: Any) -> Any:
    """Return the angle whose cosine is `x`, from -1 to 1."""
    magnitude = abs(x)
    far = magnitude > 0.5
    half = np.sqrt((1 - magnitude) * 0.5)
    angle = asin_of(half if far else x)  # one series for both
    beyond = 2 * angle if x > 0 else (PI - 2 * angle) + PI_REST
    near = PI / 2 - (angle - PI_REST / 2)
    return beyond if far else near


@inlined
def exp_of(x: Any) -> Any:
    """Return the exponential of a number up to `EXP_MAX`."""
    power, less_one, _ = reduced_exp_of(max(x, EXP_ZERO))
    first = min(max(power, -1000), 1000)
    return ((1 + less_one) * power_of_two_of(first)) * power_of_two_of(power - first)


@inlined
def log_of(x: Any) -> Any:
    """Return the natural logarithm of a finite number above 0."""
    tiny = x < SMALLEST_NORMAL
    bits = np.float64(x * (2.0**54 if tiny else 1.0)).view(np.int64)
    power = (bits - SQRT_HALF_BITS) >> SIGNIFICAND_SHIFT
    f = np.int64(bits - (power << SIGNIFICAND_SHIFT)).view(np.float64) - 1
    k = np.float64(power - (54 if tiny else 0))
    s = f / (2 + f)
    squared = s * s
    half = 0.5 * (f * f)
    rest = s * (half + squared * horner_of(LOG_TERMS, squared)) + k * LN2_REST
    return k * LN2 - ((half - rest) - f)


@inlined
def tanh_of(x: Any) -> Any:
    """Return the hyperbolic tangent of a finite number."""
    power, less_one, lost = reduced_exp_of(2 * min(abs(x), TANH_ONE))
    two = power_of_two_of(power)
    e, e_lost = two_sum_of(two - 1, two * less_one)
    e_lost = e_lost + two * lost
    below, below_lost = two_sum_of(e, 2.0)
    quotient = e / below
    rest = (e_lost - quotient * (below_lost + e_lost)) / below
    return np.copysign(quotient + rest, x)


@inlined
def sine_of(high: Any, low: Any) -> Any:
    """Return the sine of high + low; above pi/2 (and up to pi) low is 0."""
    sign = np.copysign(1.0, high)
    x = sign * high
    rest_low = sign * low
    turned = (PI - x) + PI_REST if x > PI / 2 else x
    rest = (PI / 2 - turned) + (PI_REST / 2 - rest_low)
    rest_squared = rest * rest
    tail = horner_of(COS_TERMS, rest_squared)
    cosine = 1 - (0.5 * rest_squared - (rest_squared * rest_squared) * tail)
    squared = turned * turned
    small = turned + (turned * (squared * horner_of(SIN_TERMS, squared)) + rest_low)
    return sign * (cosine if turned > PI / 4 else small)


@inlined
def asin_of(x: Any) -> Any:
    """Return the arc sine for |x| up to 1/2."""
    squared = x * x
    upper = horner_of(_ASIN_UPPER, squared)
    return x + x * (squared * horner_on(upper, _ASIN_LOWER, squared))


@inlined
def less_quarters_of(x: Any, count: Any) -> Any:
    """Return x - count * pi/2 as a sum of two."""
    high, low = x, 0.0
    for part in HALF_PI_PARTS:
        high, lost = two_sum_of(high, -(count * part))
        low = low + lost
    total = high + low
    return total, low - (total - high)


@inlined
def reduced_exp_of(x: Any) -> Any:
    """Return k, and exp(r) - 1 as a sum of two, with x = k ln 2 + r."""
    k = np.rint(x * LN2_INVERSE)
    high = x - k * LN2
    low = k * LN2_REST
    r = high - low
    rest = r * r * horner_of(EXP_TERMS, r) + ((high - r) - low)
    less_one = r + rest
    return np.int64(k), less_one, (r - less_one) + rest


@inlined
def two_sum_of(a: Any, b: Any) -> Any:
    """Return a + b and, exactly, what its rounding lost."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


@inlined
def power_of_two_of(power: Any) -> Any:
    """Return 2**power, from 2**-1022 to 2**1023."""
    return np.int64((power + EXPONENT_BIAS) << SIGNIFICAND_SHIFT).view(np.float64)


@inlined
def horner_on(total: Any, terms: Any, x: Any) -> Any:
    """Return total * x**n + the value of a polynomial of n coefficients."""
    for place in range(len(terms) - 1, -1, -1):
        total = total * x + terms[place]
    return total


@inlined
def horner_of(terms: Any, x: Any) -> Any:
    """Return the value of a polynomial, coefficients ascending."""
    return horner_on(terms[-1], terms[:-1], x)


@compiled
def _sin(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = sin_of(x[i])


@compiled
def _cos(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = cos_of(x[i])


@compiled
def _acos(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = acos_of(x[i])


@compiled
def _exp(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = exp_of(x[i])


@compiled
def _log(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = log_of(x[i])


@compiled
def _tanh(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = tanh_of(x[i])


def sin(x: Floats) -> Floats:
    """Return the sine of angles up to `ANGLE_MAX` on either side of 0."""
    check_domain("sin", x, -ANGLE_MAX, ANGLE_MAX)
    return _looped(_sin, x)


def cos(x: Floats) -> Floats:
    """Return the cosine of angles up to `ANGLE_MAX` on either side of 0."""
    check_domain("cos", x, -ANGLE_MAX, ANGLE_MAX)
    return _looped(_cos, x)


def acos(x: Floats) -> Floats:
    """Return the angles from 0 to pi whose cosines are `x`, each from -1 to 1."""
    check_domain("acos", x, -1.0, 1.0)
    return _looped(_acos, x)


def exp(x: Floats) -> Floats:
    """Return the exponentials of numbers up to `EXP_MAX`; of -746 and below it is +0."""
    check_domain("exp", x, -LARGEST, EXP_MAX)
    return _looped(_exp, x)


def log(x: Floats) -> Floats:
    """Return the natural logarithms of finite numbers above 0, subnormal ones included."""
    check_domain("log", x, 2.0**-1074, LARGEST)
    return _looped(_log, x)


def tanh(x: Floats) -> Floats:
    """Return the hyperbolic tangents of finite numbers; zero keeps its sign."""
    check_domain("tanh", x, -LARGEST, LARGEST)
    return _looped(_tanh, x)


def _looped(loop: Callable[[Any, Any], None], x: Floats) -> Floats:
    """Return what a loop makes of the items, in the shape that they came in."""
    out = np.empty(x.shape)
    loop(np.ascontiguousarray(x).reshape(-1), out.reshape(-1))
    return out
