"""Strategies that only inner products decide: one pass, coefficients, one weighted sum.

Owns the path that they share: the matrix of inner products of all who take part, of one
tensor or of the whole model; coefficients found from it alone; the sum that they weigh.
Does not own how a method finds its coefficients, nor the sum (`forms`).

Where a method takes task vectors, the base has what coefficients leave of 1; where it
takes whole weights, the base is no term. Exact: the sum, on the grid, of coefficients
that are rounded half-even to 9 places. Inner products are summed along the tree; those of
a whole model are added over its tensors exactly and rounded once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, Literal, TypeAlias

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Floats,
    Items,
    Weighed,
    inner_products,
    theta_grid,
    weighted_sum,
)
from crdtmerge.recipe import Parameters
from crdtmerge.strategies.base import (
    Inputs,
    Measures,
    Memory,
    Parameter,
    Parts,
    Values,
    Whole,
)
from crdtmerge.strategies.forms import terms_of
from crdtmerge.strategies.tensors import (
    Term,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    tau_of,
    theta_of,
)

SCOPE: Final = Parameter(
    "scope",
    "choice",
    "model",
    None,
    "inner products of the whole model, or of each tensor by itself",
    choices=("model", "tensor"),
    whole=True,
)


MEMORY: Final = Memory(shared=24, each=8)
"""What inner products take: the vectors of up to 2**20 items in float64, and products."""

MODEL_SCALE: Final = 64
"""Power of two that whole weights are divided by in inner products of a whole model.

One for all tensors, as their products are added; those of the largest F64 stay finite.
"""


@dataclass(frozen=True, slots=True)
class Gram:
    """Inner products of those who take part, and what else coefficients depend on.

    `matrix` is (n, n), float64, in canonical order; anchors, if the method has any, are
    the last of the n. `weights` (units, all above zero) and `own` are of the others.
    """

    matrix: Floats
    weights: tuple[int, ...]
    values: Values
    own: tuple[Values, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights divided by their sum, in float64."""
        total = sum(self.weights)
        return tuple(weight / total for weight in self.weights)


Coefficients: TypeAlias = Callable[[Gram], Sequence[float]]
"""From inner products to one coefficient for each, anchors included."""

Anchors: TypeAlias = Callable[[Inputs, Sequence[Term]], Sequence[Items]]
"""Vectors that a method makes of all task vectors, in float32, to measure these by."""


def _none(_inputs: Inputs, _terms: Sequence[Term]) -> Sequence[Items]:
    return ()


@dataclass(frozen=True, slots=True)
class GramMethod:
    """One method: its name in errors, its coefficients, and what vectors are.

    `on`: task vectors; whole weights; or task vectors where there is a base. `scoped`
    tells that it has the parameter `scope`; else inner products are of each tensor.
    """

    name: str
    coefficients: Coefficients
    on: Literal["tau", "theta", "either"] = "tau"
    scoped: bool = False
    anchors: Anchors = _none

    def emit(self, inputs: Inputs) -> Parts:
        """Return the output tensor: the sum that the coefficients weigh.

        Raises:
            ContractError: an input breaks the contract, a weight is negative, or all are
                zero.
        """
        exponent, terms = self._terms(inputs)
        anchors = self.anchors(inputs, terms)
        if inputs.coefficients is None:
            matrix = self._matrix(inputs, terms, anchors, exponent)
            weights, own = _told(terms)
            found = units_of(
                self.coefficients(Gram(matrix, weights, inputs.values, own))
            )
        else:
            given = inputs.coefficients
            places = [term.place for term in terms]
            count = len(inputs.contributions)
            places += range(count, count + len(anchors))
            found = tuple(given[place] for place in places)
        return self._sum(inputs, exponent, terms, anchors, found)

    def map(self, inputs: Inputs) -> Measures:
        """Return the inner products of all, row by row; those of weight zero are zero."""
        _, terms = self._terms(inputs)
        anchors = self.anchors(inputs, terms)
        count = len(inputs.contributions)
        places = [term.place for term in terms]
        places += range(count, count + len(anchors))
        size = count + len(anchors)
        found = np.zeros((size, size))
        matrix = self._matrix(inputs, terms, anchors, MODEL_SCALE)
        found[np.ix_(places, places)] = matrix
        return tuple(found.reshape(-1).tolist())

    def reduce(self, measures: Sequence[Measures], whole: Whole) -> tuple[int, ...]:
        """Return the coefficients of all in units, anchors last; zero of weight zero.

        Raises:
            ContractError: a weight is negative, or all are zero.
        """
        refuse_negative(whole.weights, self.name)
        refuse_zero([weight for weight in whole.weights if weight], "")
        totals = np.array([math.fsum(pair) for pair in zip(*measures, strict=True)])
        size = math.isqrt(totals.size)
        count = len(whole.weights)
        places = _canonical_places(whole)
        everywhere = [*places, *range(count, size)]
        matrix = totals.reshape(size, size)[np.ix_(everywhere, everywhere)]
        weights = tuple(whole.weights[place] for place in places)
        own = tuple(whole.own[place] for place in places)
        found = units_of(self.coefficients(Gram(matrix, weights, whole.values, own)))
        placed = dict(zip(everywhere, found, strict=True))
        return tuple(placed.get(place, 0) for place in range(size))

    def reduces(self, values: Values) -> bool:
        """Tell whether inner products of the whole model are asked for."""
        return self.scoped and values.choice(SCOPE.name) == "model"

    def _terms(self, inputs: Inputs) -> tuple[int, tuple[Term, ...]]:
        refuse_negative(inputs.weights, self.name, inputs.tensor)
        exponent, terms = participants(inputs, inputs.weights)
        refuse_zero(terms, inputs.tensor)
        return exponent, terms

    def _on_tau(self, inputs: Inputs) -> bool:
        return self.on == "tau" or (self.on == "either" and inputs.base is not None)

    def _matrix(
        self,
        inputs: Inputs,
        terms: Sequence[Term],
        anchors: Sequence[Items],
        exponent: int,
    ) -> Floats:
        """Return the inner products of one tensor.

        SUBTLE: those of whole weights are scaled by a power of two, so that no product
        of an F64 tensor overflows: their coefficients hang on ratios alone. Of a whole
        model that power is one for all tensors, whose products would not add up else.
        Task vectors are float32, whose products cannot overflow, and keep their scale.
        """
        on_tau = self._on_tau(inputs)
        of = tau_of if on_tau else theta_of
        vectors = [*(of(inputs, term) for term in terms), *anchors]
        scale = 0 if on_tau else exponent
        matrix: Floats = inner_products(vectors, inputs.items, range(1), scale)[0]
        return matrix

    def _sum(
        self,
        inputs: Inputs,
        exponent: int,
        terms: Sequence[Term],
        anchors: Sequence[Items],
        coefficients: Sequence[int],
    ) -> Parts:
        pairs = zip(terms, coefficients[: len(terms)], strict=True)
        weighed = [replace(term, weight=weight) for term, weight in pairs]
        of_terms = sum(coefficients[: len(terms)])  # an anchor brings no base with it
        rest = DECIMAL_UNIT - of_terms if self._on_tau(inputs) else 0
        anchored = zip(anchors, coefficients[len(terms) :], strict=True)
        found = [Weighed(anchor, weight) for anchor, weight in anchored]
        found += terms_of(inputs, weighed, rest)
        grid = theta_grid(exponent, inputs.dtype)
        return in_parts(
            inputs, lambda output: weighted_sum(found, DECIMAL_UNIT, grid, output)
        )


def _told(terms: Sequence[Term]) -> tuple[tuple[int, ...], tuple[Values, ...]]:
    return tuple(t.weight for t in terms), tuple(t.values for t in terms)


def _canonical_places(whole: Whole) -> list[int]:
    """Return where those of weight stand, in canonical order (`tensors.canonical`)."""
    found = [place for place, weight in enumerate(whole.weights) if weight]

    def key(place: int) -> tuple[bytes, int, Parameters]:
        own = whole.own[place].parameters
        return whole.contents[place], whole.weights[place], own

    return sorted(found, key=key)


def units_of(coefficients: Sequence[float]) -> tuple[int, ...]:
    """Return coefficients in units, each rounded half-even to 9 places."""
    return tuple(round(Fraction(c) * DECIMAL_UNIT) for c in coefficients)


def summing_to_one(coefficients: Sequence[float]) -> list[float]:
    """Return coefficients that sum to 1, rounded to 9 places so that they still do.

    What the roundings leave goes to the largest, the first of several.
    """
    units = list(units_of(coefficients))
    largest = units.index(max(units))
    units[largest] += DECIMAL_UNIT - sum(units)
    return [unit / DECIMAL_UNIT for unit in units]


def squared_distances(matrix: Floats) -> Floats:
    """Return the squared distances of all pairs, (n, n), none below zero, symmetric.

    |a - b|^2 = (<a, a> + <b, b>) - 2 <a, b>, in float64: the error is relative to the
    vectors' own squares, not to a small distance.
    """
    squares = np.diagonal(matrix)
    sums = squares[:, np.newaxis] + squares[np.newaxis, :]
    found: Floats = np.maximum(sums - 2.0 * matrix, 0.0)
    return found


def image(matrix: Floats, coefficients: Floats) -> Floats:
    """Return the inner products of each vector with sum(c_j v_j): (n,), in order."""
    total = np.zeros(len(matrix))
    for column, coefficient in zip(matrix.T, coefficients, strict=True):
        total = total + column * coefficient
    return total


def inner(left: Floats, right: Floats) -> float:
    """Return the sum of products of two short vectors, in order."""
    total = 0.0
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        total += a * b
    return total
