"""The compiled elementary functions against the readable ones: equal bytes."""

import math

import numpy as np
import pytest

from crdtmerge.errors import ContractError
from crdtmerge.numerics.cpu import polynomials as fast
from crdtmerge.numerics.reference import polynomials as reference
from crdtmerge.numerics.reference.dtypes import Floats

NAMES = ("sin", "cos", "acos", "exp", "log", "tanh")


def arguments(name: str) -> Floats:
    """Return numbers from all of a function's domain, its seams and its ends."""
    generator = np.random.default_rng(11)
    small = 10.0 ** -generator.uniform(0, 323, 4000)
    angles = [generator.uniform(0, top, 20_000) for top in (math.pi, 2.0**20)]
    seams = np.arange(0, 4000) * (math.pi / 4)
    positive = {
        "sin": [*angles, small, seams, np.nextafter(seams, 9e9), [2.0**20]],
        "cos": [*angles, small, seams, np.nextafter(seams, 9e9), [2.0**20]],
        "acos": [generator.uniform(0, 1, 20_000), small, 1 - small, [0.5, 1.0]],
        "exp": [generator.uniform(0, 709.7, 20_000), small, [709.782712893384]],
        "log": [2.0 ** generator.uniform(-1074, 1023.9, 20_000), 1 + small, [5e-324]],
        "tanh": [generator.uniform(0, 25, 20_000), small, [1e300]],
    }[name]
    found = np.concatenate([*positive, [0.0]])
    if name == "log":
        return found[found > 0]
    return np.concatenate([found, -found, [-745.1, -800.0] if name == "exp" else []])


@pytest.mark.parametrize("name", NAMES)
def test_compiled_functions_have_the_bytes_of_the_reference(name: str) -> None:
    """Over all of the domain, of both signs, subnormal numbers included."""
    x = arguments(name)
    got, expected = getattr(fast, name)(x), getattr(reference, name)(x)
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_strides_are_kept(name: str) -> None:
    """A matrix, every other item of one, a scalar and nothing at all."""
    x = np.linspace(0.1, 0.9, 60).reshape(6, 10)
    for cut in (x, x[::2, ::3], x.T, np.array(0.3), np.zeros(0), np.zeros((3, 0))):
        got, expected = getattr(fast, name)(cut), getattr(reference, name)(cut)
        assert got.shape == np.shape(expected)
        assert got.tobytes() == np.asarray(expected).tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_compiled_form_refuses_what_the_reference_refuses(name: str) -> None:
    """NaN and what is outside of the domain, with the same words."""
    outside = math.inf if name in {"exp", "tanh", "log"} else 2.0**21
    for argument in (math.nan, outside):
        said = []
        for module in (fast, reference):
            with pytest.raises(ContractError) as caught:
                getattr(module, name)(np.array([0.5, argument]))
            said.append(str(caught.value))
        assert said[0] == said[1]
