"""Sine and arc cosine against decimals of 60 digits."""

import math
from collections.abc import Iterator
from decimal import Decimal, localcontext

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.numerics import Floats

DIGITS = 60


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


def test_the_sine_is_within_two_units_of_the_last_place() -> None:
    """From 0 to pi, near which it loses nothing to cancellation."""
    angles = points(math.pi)
    worst = max(
        units_off(found, sine_and_cosine(Decimal(angle))[0])
        for angle, found in zip(
            angles.tolist(), numerics.sin(angles).tolist(), strict=True
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
            inner.tolist(), numerics.acos(inner).tolist(), strict=True
        )
    )
    assert worst < 2


def test_ends_are_exact() -> None:
    """No angle and a half turn; nothing leaves their range."""
    assert numerics.acos(np.array([1.0, -1.0, 0.0])).tolist() == [
        0.0,
        math.pi,
        math.pi / 2,
    ]
    assert numerics.sin(np.array([0.0, math.pi / 2])).tolist() == [0.0, 1.0]
    assert numerics.sin(np.array([math.pi])).tolist() == [1.2246467991473532e-16]
