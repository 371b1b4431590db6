"""Kernels on arrays: elementary functions, draws, sums over elements, choices.

Owns handing each to the backend that serves arrays of its length. Does not own what they
compute: signatures, checks and docstrings are those of the reference.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from crdtmerge.numerics.backends import serving
from crdtmerge.numerics.reference import (
    assignment,
    philox,
    polynomials,
    reductions,
    selection,
)

Given = ParamSpec("Given")
Result = TypeVar("Result")


def _served(kernel: Callable[Given, Result], place: int = 0) -> Callable[Given, Result]:
    """Return a kernel that a backend computes; argument `place` tells the length."""
    name = kernel.__name__

    @wraps(kernel)
    def call(*given: Given.args, **named: Given.kwargs) -> Result:
        measure: Any = given[place]
        items = measure if isinstance(measure, int) else measure.size
        found: Result = getattr(serving(name, items), name)(*given, **named)
        return found

    return call


sin = _served(polynomials.sin)
cos = _served(polynomials.cos)
acos = _served(polynomials.acos)
exp = _served(polynomials.exp)
log = _served(polynomials.log)
tanh = _served(polynomials.tanh)

random_words = _served(philox.random_words, 1)
bernoulli = _served(philox.bernoulli, 1)
normals = _served(philox.normals, 1)

dot = _served(reductions.dot)
sum_of_squares = _served(reductions.sum_of_squares)
mean = _served(reductions.mean)
variance = _served(reductions.variance)
largest = _served(reductions.largest)
largest_magnitude = _served(reductions.largest_magnitude)

rank_in_row = _served(selection.rank_in_row)
keep_n_of_m = _served(selection.keep_n_of_m)
quantile = _served(selection.quantile)
median = _served(selection.median)

assign = _served(assignment.assign)
