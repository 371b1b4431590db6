"""Elementary functions in float64, with the same bits everywhere.

Owns `exp`, `log`, `sin`, `cos`, `acos` and `tanh`, their domains and their constants. Does
not own what they are used for (`strategies`). The functions of a C library differ between
systems in their last bits; these are fixed polynomials, of which every step is one IEEE
addition, subtraction, multiplication, division or square root, a rounding to an integer,
or an operation on the bits of an exponent.

Series are those of Taylor, by Horner's rule, up to a term that is below 2**-58 of the
result; coefficients are rationals rounded once to float64. What is reduced and how:

* `sin` turns x above pi/2 into pi - x, and takes the cosine of pi/2 - x above pi/4. Pi is
  the sum of two float64, so that nothing is lost where these cancel. Angles beyond pi,
  and all of `cos`, are first brought to within pi/2 by a multiple of pi/2, which four
  float64 hold (Cody and Waite, "Software manual for the elementary functions", 1980).
* `acos` is pi/2 - asin(x) up to |x| = 1/2 and 2 asin(sqrt((1 - x) / 2)) beyond, where
  1 - x is exact: so it keeps its relative accuracy up to 1.
* `exp` is 2**k exp(r) with k = rint(x / ln 2). The power of two comes last, in two steps
  of which only the second can round: so results below 2**-1022 are not rounded twice.
* `log` is k ln 2 + log(1 + f) with 1 + f from sqrt(1/2) to sqrt(2), and with
  s = f / (2 + f) the series of 2 artanh(s), of which f is taken exactly.
* `tanh` is e / (e + 2) with e = exp(2 |x|) - 1, made without subtracting near numbers.

Errors stay below 2 units of the last place; tests compare with decimals of 60 digits.
"""

from fractions import Fraction
from math import comb, factorial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.errors import ContractError
from crdtmerge.numerics.reference.dtypes import Floats

PI: Final = float.fromhex("0x1.921fb54442d18p+1")
PI_REST: Final = float.fromhex("0x1.1a62633145c07p-53")
"""pi - PI, rounded: together they hold pi to 106 bits."""

HALF_PI_PARTS: Final = tuple(
    float.fromhex(part)
    for part in (
        "0x1.921fb54400000p+0",
        "0x1.0b4611a600000p-34",
        "0x1.3198a2e000000p-69",
        "0x1.b839a252049c1p-104",
    )
)
"""pi/2 cut into three of 33 bits, whose multiples below 2**20 are exact, and the rest."""

LN2: Final = float.fromhex("0x1.62e42fefa3800p-1")
LN2_REST: Final = float.fromhex("0x1.ef35793c76730p-45")
"""ln 2 - LN2, rounded; LN2 has 42 bits, so that its multiples below 2**11 are exact."""

LN2_INVERSE: Final = float.fromhex("0x1.71547652b82fep+0")

ANGLE_MAX: Final = 2.0**20
EXP_MAX: Final = float.fromhex("0x1.62e42fefa39efp+9")
"""The largest number whose exponential is below 2**1024."""

EXP_ZERO: Final = -746.0
"""Below ln 2**-1075: the exponential is +0."""

TANH_ONE: Final = 20.0
"""From here on the hyperbolic tangent is 1 to the last bit."""

SIN_TERMS: Final = tuple(
    float(Fraction((-1) ** k, factorial(2 * k + 1))) for k in range(1, 10)
)
COS_TERMS: Final = tuple(
    float(Fraction((-1) ** k, factorial(2 * k))) for k in range(2, 11)
)
ASIN_TERMS: Final = tuple(
    float(Fraction(comb(2 * k, k), 4**k * (2 * k + 1))) for k in range(1, 27)
)
EXP_TERMS: Final = tuple(float(Fraction(1, factorial(k))) for k in range(2, 15))
LOG_TERMS: Final = tuple(float(Fraction(2, 2 * k + 1)) for k in range(1, 12))
"""Coefficients in ascending order, without the terms that are added exactly."""

SQRT_HALF_BITS: Final = 0x3FE6_A09E_667F_3BCD
SIGNIFICAND_SHIFT: Final = 52
EXPONENT_BIAS: Final = 1023
SMALLEST_NORMAL: Final = 2.0**-1022
LARGEST: Final = float.fromhex("0x1.fffffffffffffp+1023")


def check_domain(name: str, x: Floats, least: float, most: float) -> None:
    """Refuse arguments outside of `least` to `most`, both included, and NaN.

    Raises:
        ContractError: an argument is outside of the domain of `name`.
    """
    inside = (x >= least) & (x <= most)
    if not inside.all():
        found = float(x[~inside].flat[0])
        message = f"{name} of {found!r} is outside of its domain, {least!r} to {most!r}"
        raise ContractError(message)


def sin(x: Floats) -> Floats:
    """Return the sine of angles up to `ANGLE_MAX` on either side of 0.

    Raises:
        ContractError: an angle is beyond it, or NaN.
    """
    check_domain("sin", x, -ANGLE_MAX, ANGLE_MAX)
    magnitude = np.abs(x)
    far = magnitude > PI
    turns = np.where(far, np.rint(magnitude * (1 / PI)), 0.0)
    high, low = _less_quarters(magnitude, 2 * turns)
    rest, rest_low = np.where(far, high, magnitude), np.where(far, low, 0.0)
    return np.copysign(1.0, x) * _alternate(_sine(rest, rest_low), turns)


def cos(x: Floats) -> Floats:
    """Return the cosine of angles up to `ANGLE_MAX` on either side of 0.

    Raises:
        ContractError: an angle is beyond it, or NaN.
    """
    check_domain("cos", x, -ANGLE_MAX, ANGLE_MAX)
    magnitude = np.abs(x)
    turns = np.rint(magnitude * (1 / PI) - 0.5)
    high, low = _less_quarters(magnitude, 2 * turns + 1)
    return -_alternate(_sine(high, low), turns)


def acos(x: Floats) -> Floats:
    """Return the angles from 0 to pi whose cosines are `x`, each from -1 to 1.

    Raises:
        ContractError: a cosine is outside of these, or NaN.
    """
    check_domain("acos", x, -1.0, 1.0)
    magnitude = np.abs(x)
    far = magnitude > 0.5
    half_angle = _asin(np.sqrt(np.where(far, (1 - magnitude) * 0.5, 0.0)))
    beyond = np.where(x > 0, 2 * half_angle, (PI - 2 * half_angle) + PI_REST)
    near = PI / 2 - (_asin(np.where(far, 0.0, x)) - PI_REST / 2)
    found: Floats = np.where(far, beyond, near)
    return found


def exp(x: Floats) -> Floats:
    """Return the exponentials of numbers up to `EXP_MAX`; of -746 and below it is +0.

    Raises:
        ContractError: a number is above it, infinite, or NaN.
    """
    check_domain("exp", x, -LARGEST, EXP_MAX)
    power, less_one, _ = _reduced_exp(np.maximum(x, EXP_ZERO))
    first = np.minimum(np.maximum(power, -1000), 1000)
    found: Floats = (1 + less_one) * _power_of_two(first)  # exact
    found *= _power_of_two(power - first)
    return found


def log(x: Floats) -> Floats:
    """Return the natural logarithms of finite numbers above 0, subnormal ones included.

    Raises:
        ContractError: a number is 0, negative, infinite, or NaN.
    """
    check_domain("log", x, 2.0**-1074, LARGEST)
    tiny = x < SMALLEST_NORMAL
    bits = (x * np.where(tiny, 2.0**54, 1.0)).view(np.int64)  # exact
    power = (bits - SQRT_HALF_BITS) >> SIGNIFICAND_SHIFT
    f = (bits - (power << SIGNIFICAND_SHIFT)).view(np.float64) - 1  # exact
    k = (power - 54 * tiny).astype(np.float64)
    s = f / (2 + f)
    squared = s * s
    half = 0.5 * (f * f)
    rest = s * (half + squared * _horner(LOG_TERMS, squared)) + k * LN2_REST
    found: Floats = k * LN2 - ((half - rest) - f)
    return found


def tanh(x: Floats) -> Floats:
    """Return the hyperbolic tangents of finite numbers; zero keeps its sign.

    Raises:
        ContractError: a number is infinite or NaN.
    """
    check_domain("tanh", x, -LARGEST, LARGEST)
    power, less_one, lost = _reduced_exp(2 * np.minimum(np.abs(x), TANH_ONE))
    two = _power_of_two(power)
    e, e_lost = _two_sum(two - 1, two * less_one)
    e_lost = e_lost + two * lost
    below, below_lost = _two_sum(e, 2.0)
    quotient = e / below
    rest = (e_lost - quotient * (below_lost + e_lost)) / below
    found: Floats = np.copysign(quotient + rest, x)
    return found


def _sine(high: Floats, low: Floats) -> Floats:
    """Return the sine of high + low; above pi/2 (and up to pi) low is 0."""
    sign = np.copysign(1.0, high)
    x, rest_low = sign * high, sign * low
    turned = np.where(x > PI / 2, (PI - x) + PI_REST, x)
    rest = (PI / 2 - turned) + (PI_REST / 2 - rest_low)
    rest_squared = rest * rest
    tail = _horner(COS_TERMS, rest_squared)
    cosine = 1 - (0.5 * rest_squared - (rest_squared * rest_squared) * tail)
    squared = turned * turned
    small = turned + (turned * (squared * _horner(SIN_TERMS, squared)) + rest_low)
    return sign * np.where(turned > PI / 4, cosine, small)


def _less_quarters(x: Floats, count: Floats) -> tuple[Floats, Floats]:
    """Return x - count * pi/2 as a sum of two; `count` is an integer below 2**20."""
    high, low = x, np.zeros_like(x)
    for part in HALF_PI_PARTS:
        high, lost = _two_sum(high, -(count * part))
        low = low + lost
    total = high + low
    return total, low - (total - high)


def _two_sum(a: Floats, b: Floats | float) -> tuple[Floats, Floats]:
    """Return a + b and, exactly, what its rounding lost (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _alternate(x: Floats, turns: Floats) -> Floats:
    """Return x where `turns` is even, -x where it is odd."""
    found: Floats = np.where(turns.astype(np.int64) & 1, -x, x)
    return found


def _asin(x: Floats) -> Floats:
    """Return the arc sine for |x| up to 1/2."""
    squared = x * x
    found: Floats = x + x * (squared * _horner(ASIN_TERMS, squared))
    return found


def _reduced_exp(x: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return k and exp(r) - 1 with x = k ln 2 + r and |r| up to about (ln 2) / 2.

    The latter is the sum of two, of which the second is what the first lost.
    """
    k = np.rint(x * LN2_INVERSE)
    high, low = x - k * LN2, k * LN2_REST
    r = high - low
    rest = r * r * _horner(EXP_TERMS, r) + ((high - r) - low)
    less_one = r + rest
    return k.astype(np.int64), less_one, (r - less_one) + rest


def _power_of_two(power: NDArray[np.int64]) -> Floats:
    """Return 2**power, from 2**-1022 to 2**1023."""
    return ((power + EXPONENT_BIAS) << SIGNIFICAND_SHIFT).view(np.float64)


def _horner(terms: tuple[float, ...], x: Floats) -> Floats:
    total = np.full_like(x, terms[-1])
    for term in reversed(terms[:-1]):
        total = total * x + term
    return total
