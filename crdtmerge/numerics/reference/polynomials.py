"""Sine and arc cosine in float64, with the same bits everywhere.

Owns `sin` and `acos`. Does not own the angles (`strategies`). The functions of a C library
differ between systems in their last bits; these are fixed polynomials, of which every
step is one IEEE addition, subtraction, multiplication, division or square root.

Reductions. Pi is the sum of two float64, `PI` and `PI_REST`, so that pi - x and pi/2 - x
lose nothing where they cancel. `sin` turns x above pi/2 into pi - x, and takes the cosine
of pi/2 - x above pi/4. `acos` is pi/2 - asin(x) up to |x| = 1/2 and
2 asin(sqrt((1 - x) / 2)) beyond, where 1 - x is exact: so it keeps its relative accuracy
up to 1. Both series are those of Taylor, by Horner's rule, up to a term that is below
2**-58 of the result; coefficients are rationals rounded once to float64. Errors stay below
2 units of the last place; tests compare with decimals of 60 digits.
"""

from fractions import Fraction
from math import comb, factorial
from typing import Final

import numpy as np

from crdtmerge.numerics.reference.dtypes import Floats

PI: Final = float.fromhex("0x1.921fb54442d18p+1")
PI_REST: Final = float.fromhex("0x1.1a62633145c07p-53")
"""pi - PI, rounded: together they hold pi to 106 bits."""

SIN_TERMS: Final = tuple(
    float(Fraction((-1) ** k, factorial(2 * k + 1))) for k in range(1, 10)
)
COS_TERMS: Final = tuple(
    float(Fraction((-1) ** k, factorial(2 * k))) for k in range(2, 11)
)
ASIN_TERMS: Final = tuple(
    float(Fraction(comb(2 * k, k), 4**k * (2 * k + 1))) for k in range(1, 27)
)
"""Coefficients in ascending order, without the terms that are added exactly."""


def sin(x: Floats) -> Floats:
    """Return the sine of angles from 0 to pi."""
    turned = np.where(x > PI / 2, (PI - x) + PI_REST, x)
    rest = (PI / 2 - turned) + PI_REST / 2
    rest_squared = rest * rest
    tail = _horner(COS_TERMS, rest_squared)
    cosine = 1 - (0.5 * rest_squared - (rest_squared * rest_squared) * tail)
    squared = turned * turned
    small = turned + turned * (squared * _horner(SIN_TERMS, squared))
    found: Floats = np.where(turned > PI / 4, cosine, small)
    return found


def acos(x: Floats) -> Floats:
    """Return the angles from 0 to pi whose cosines are `x`, each from -1 to 1."""
    magnitude = np.abs(x)
    far = magnitude > 0.5
    half_angle = _asin(np.sqrt(np.where(far, (1 - magnitude) * 0.5, 0.0)))
    beyond = np.where(x > 0, 2 * half_angle, (PI - 2 * half_angle) + PI_REST)
    near = PI / 2 - (_asin(np.where(far, 0.0, x)) - PI_REST / 2)
    found: Floats = np.where(far, beyond, near)
    return found


def _asin(x: Floats) -> Floats:
    """Return the arc sine for |x| up to 1/2."""
    squared = x * x
    found: Floats = x + x * (squared * _horner(ASIN_TERMS, squared))
    return found


def _horner(terms: tuple[float, ...], x: Floats) -> Floats:
    total = np.full_like(x, terms[-1])
    for term in reversed(terms[:-1]):
        total = total * x + term
    return total
