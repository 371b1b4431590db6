"""Elementary functions against decimals of 60 digits."""

import math
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from crdtmerge.errors import ContractError
from crdtmerge.numerics.reference import polynomials
from crdtmerge.numerics.reference.dtypes import Floats

DIGITS = 60
PI_DECIMAL = Decimal(
    "3.1415926535897932384626433832795028841971693993751058209749445923078164062862090"
)


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with localcontext() as context:
        context.prec = DIGITS
        yield


def sine_and_cosine(x: Decimal) -> tuple[Decimal, Decimal]:
    """Both by Taylor's series, until nothing changes."""
    sine = cosine = Decimal(0)
    term, k = Decimal(1), 0
    while k < 60 or abs(term) > Decimal(10) ** -DIGITS:
        signed = -term if k % 4 >= 2 else term
        if k % 2:
            sine += signed
        else:
            cosine += signed
        k += 1
        term = term * x / k
    return sine, cosine


def arc_cosine(x: float) -> Decimal:
    """By Newton's method from a library's value."""
    angle = Decimal(math.acos(x))
    for _ in range(3):
        sine, cosine = sine_and_cosine(angle)
        if sine:
            angle += (cosine - Decimal(x)) / sine
    return angle


def points(top: float) -> Floats:
    """Many points up to `top`: spread, near both ends, and at the seams."""
    generator = np.random.default_rng(5)
    near = 10.0 ** -generator.uniform(0, 15, 100)
    seams = np.array([0.25, 0.5, 0.75, 1.0]) * top
    return np.concatenate(
        [
            generator.uniform(0, top, 300),
            near,
            top - near,
            seams,
            np.nextafter(seams, 0),
            np.nextafter(seams[:-1], top),
        ]
    )


def units_off(found: float, exact: Decimal) -> float:
    return float(abs(Decimal(found) - exact) / Decimal(math.ulp(float(exact))))


def worst_of(
    function: Callable[[Floats], Floats],
    oracle: Callable[[Decimal], Decimal],
    x: Floats,
) -> float:
    """Return by how many units of the last place the function is off at most."""
    return max(
        units_off(found, oracle(Decimal(argument)))
        for argument, found in zip(x.tolist(), function(x).tolist(), strict=True)
    )


def within_half_a_turn(angle: Decimal) -> Decimal:
    """Return the angle less whole turns, by a pi of 60 digits."""
    turn = 2 * PI_DECIMAL
    return angle - turn * (angle / turn).to_integral_value()


def hyperbolic_tangent(x: Decimal) -> Decimal:
    """By the definition; near 0 by the first terms of its series."""
    if abs(x) < Decimal(10) ** -15:
        return x - x**3 / 3 + 2 * x**5 / 15
    return 1 - 2 / ((2 * x).exp() + 1)


def both_signs(x: Floats) -> Floats:
    return np.concatenate([x, -x])


def small_numbers() -> Floats:
    """Return numbers of every magnitude below 1, subnormal ones included."""
    generator = np.random.default_rng(8)
    drawn: Floats = 10.0 ** -generator.uniform(0, 323, 200)
    return np.concatenate([drawn, [5e-324, 2.0**-1022]])


def far_angles() -> Floats:
    """Return angles up to the last of the domain, many within a rounding of k pi/2."""
    generator = np.random.default_rng(9)
    quarters = np.concatenate([np.arange(1, 200), generator.integers(1, 667_000, 200)])
    near = quarters * (math.pi / 2)
    spread = generator.uniform(0, 2.0**20, 200)
    return np.concatenate([near, np.nextafter(near, 0), spread, [2.0**20]])


def test_the_sine_is_within_two_units_of_the_last_place() -> None:
    """From 0 to pi, near which it loses nothing to cancellation."""
    angles = points(math.pi)
    worst = max(
        units_off(found, sine_and_cosine(Decimal(angle))[0])
        for angle, found in zip(
            angles.tolist(), polynomials.sin(angles).tolist(), strict=True
        )
    )
    assert worst < 2


@pytest.mark.parametrize("sign", [1, -1])
def test_the_arc_cosine_is_within_two_units_of_the_last_place(sign: int) -> None:
    """From -1 to 1, near which the angle is as sure as the cosine."""
    cosines = sign * points(1.0)
    inner = cosines[np.abs(cosines) < 1]
    worst = max(
        units_off(found, arc_cosine(cosine))
        for cosine, found in zip(
            inner.tolist(), polynomials.acos(inner).tolist(), strict=True
        )
    )
    assert worst < 2


@pytest.mark.parametrize("place", [0, 1])
def test_sine_and_cosine_keep_to_two_units_at_any_angle_of_the_domain(
    place: int,
) -> None:
    """Of both signs, up to 2**20, and where they all but vanish."""
    angles = both_signs(np.concatenate([points(math.pi), far_angles(), [1e-300]]))
    function = (polynomials.sin, polynomials.cos)[place]

    def oracle(angle: Decimal) -> Decimal:
        return sine_and_cosine(within_half_a_turn(angle))[place]

    assert worst_of(function, oracle, angles) < 1.5


def test_the_exponential_is_within_a_unit_of_the_last_place() -> None:
    """From the least subnormal number to the largest finite one."""
    generator = np.random.default_rng(6)
    x = np.concatenate(
        [
            generator.uniform(-745, polynomials.EXP_MAX, 500),
            generator.uniform(-1, 1, 500),
            generator.uniform(-746, -708, 300),
            both_signs(small_numbers()),
            [polynomials.EXP_MAX],
        ]
    )
    assert worst_of(polynomials.exp, Decimal.exp, x) < 1


def test_an_exponential_below_the_normal_numbers_is_rounded_once() -> None:
    """It is the nearest, ties to even, to the power of two times the exact fraction."""
    x = np.linspace(-745.2, -708.4, 4001)
    power, less_one, _ = polynomials._reduced_exp(x)
    expected = [
        math.ldexp(round(Fraction(1 + fraction) * Fraction(2) ** (k + 1074)), -1074)
        for k, fraction in zip(power.tolist(), less_one.tolist(), strict=True)
    ]
    assert polynomials.exp(x).tolist() == expected


def test_the_logarithm_is_within_a_unit_of_the_last_place() -> None:
    """At all magnitudes, and near 1, where it keeps its relative accuracy."""
    generator = np.random.default_rng(7)
    near = both_signs(10.0 ** -generator.uniform(0.5, 15.9, 300))
    x = np.concatenate(
        [
            2.0 ** generator.uniform(-1074, 1023.9, 500),
            generator.uniform(0.5, 2, 500),
            1 + near,
            [5e-324, 2.0**-1022, np.finfo(np.float64).max, 0.5**0.5, 2**0.5],
        ]
    )
    assert worst_of(polynomials.log, Decimal.ln, x[x != 1]) < 1


def test_the_hyperbolic_tangent_is_within_two_units_of_the_last_place() -> None:
    """Of both signs, near 0 and where it becomes 1."""
    generator = np.random.default_rng(7)
    spread = [generator.uniform(0, top, 500) for top in (0.4, 1, 20)]
    x = both_signs(np.concatenate([*spread, small_numbers(), [19.0, 19.1, 20.0]]))
    assert worst_of(polynomials.tanh, hyperbolic_tangent, x) < 1.5


def test_functions_have_their_values_at_the_ends() -> None:
    """Zeros, the largest and smallest numbers: exact, with their signs."""

    def of(function: Callable[[Floats], Floats], *x: float) -> list[str]:
        return [value.hex() for value in function(np.array(x)).tolist()]

    largest = float(np.finfo(np.float64).max)
    assert of(polynomials.exp, 0.0, -0.0, -746.0, -largest) == of(
        np.array, 1.0, 1.0, 0.0, 0.0
    )
    assert of(polynomials.exp, -745.13, -745.14) == of(np.array, 5e-324, 0.0)
    assert of(polynomials.log, 1.0) == of(np.array, 0.0)
    assert of(polynomials.tanh, 0.0, -0.0, 20.0, -largest, 5e-324) == of(
        np.array, 0.0, -0.0, 1.0, -1.0, 5e-324
    )
    assert of(polynomials.sin, -0.0) == of(np.array, -0.0)
    assert of(polynomials.cos, 0.0, -0.0) == of(np.array, 1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("sin", np.nextafter(2.0**20, 2e6)),
        ("cos", -(2.0**21)),
        ("acos", 1.0000000000000002),
        ("exp", 709.7827128933841),
        ("exp", -math.inf),
        ("log", 0.0),
        ("log", -1.0),
        ("log", math.inf),
        ("tanh", math.inf),
        *((name, math.nan) for name in ("sin", "cos", "acos", "exp", "log", "tanh")),
    ],
)
def test_an_argument_outside_of_the_domain_is_refused_by_name(
    name: str, argument: float
) -> None:
    """The message names the function and the number; no infinity or NaN comes back."""
    with pytest.raises(ContractError, match=rf"{name} of {float(argument)!r} is"):
        getattr(polynomials, name)(np.array([1.0, argument]))


def test_ends_are_exact() -> None:
    """No angle and a half turn; nothing leaves their range."""
    assert polynomials.acos(np.array([1.0, -1.0, 0.0])).tolist() == [
        0.0,
        math.pi,
        math.pi / 2,
    ]
    assert polynomials.sin(np.array([0.0, math.pi / 2])).tolist() == [0.0, 1.0]
    assert polynomials.sin(np.array([math.pi])).tolist() == [1.2246467991473532e-16]
