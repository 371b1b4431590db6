"""Weighted means of some contributions, exact on the grid.

Owns the integers that stand for proportions, and the mean that they weigh, rounded once
to the output dtype or to float64 for a formula that goes on from it. Does not own who is
averaged with which proportion: strategies say that.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    WEIGHT_BITS,
    Data,
    Floats,
    Items,
    Output,
    Shifted,
    each_item,
    theta_grid,
    weighted_sum,
)
from crdtmerge.strategies.base import Inputs, Memory, Parts
from crdtmerge.strategies.forms import terms_of
from crdtmerge.strategies.tensors import Term, in_parts, theta_of

JOINING: Final = Memory(shared=10)
"""The output's blocks until they are joined, and those being worked on."""


def in_proportion(ratios: Sequence[Fraction]) -> tuple[int, ...]:
    """Return integers in these proportions, none below zero, one above it.

    Exact where such integers are within the contract's sum|W|; else rounded half-even to
    9 places of the sum.
    """
    common = 1
    for ratio in ratios:
        common *= ratio.denominator // math.gcd(common, ratio.denominator)
    whole = [int(ratio * common) for ratio in ratios]
    if sum(whole) >= 1 << WEIGHT_BITS:
        shared = math.gcd(*whole)
        whole = [number // shared for number in whole]
    if sum(whole) >= 1 << WEIGHT_BITS:
        total = sum(whole)
        whole = [round(Fraction(number * DECIMAL_UNIT, total)) for number in whole]
    return tuple(whole)


def mean_of(
    inputs: Inputs,
    exponent: int,
    terms: Sequence[Term],
    output: Output,
) -> Data:
    """Return the weighted mean of the terms as `output`.

    Raises:
        ContractError: the sum leaves the contract, or a result is beyond the dtype.
    """
    weighed = terms_of(inputs, [term for term in terms if term.weight], 0)
    divisor = sum(term.weight for term in terms)
    grid = theta_grid(exponent, inputs.dtype)
    return weighted_sum(weighed, divisor, grid, output)


def mean_in(
    inputs: Inputs, exponent: int, terms: Sequence[Term], ratios: Sequence[Fraction]
) -> Parts:
    """Return the mean of the terms in these proportions as the output tensor."""
    weights = in_proportion(ratios)
    weighed = [replace(t, weight=w) for t, w in zip(terms, weights, strict=True)]
    return in_parts(inputs, lambda output: mean_of(inputs, exponent, weighed, output))


def mean_vector(
    inputs: Inputs, exponent: int, terms: Sequence[Term]
) -> Items | Shifted:
    """Return the weighted mean of the terms to be read on, rounded once to float64.

    One contribution is read as it is given.
    """
    if len(terms) == 1:
        return theta_of(inputs, terms[0])
    name = f"tensor {inputs.tensor!r}"
    output = Output("F64", range(inputs.items), name)
    return Items(mean_of(inputs, exponent, terms, output), "F64")


def copy_of(inputs: Inputs, vector: Items | Shifted, scale: float = 1.0) -> Parts:
    """Return one tensor times `scale` as the output tensor; no zero is -0.

    A scale of 1 leaves every item of a tensor that keeps its dtype as it is.

    Raises:
        ContractError: a result is beyond the output dtype.
    """

    def formula(rows: Floats) -> Floats:
        found: Floats = rows[0] * scale + 0.0
        return found

    return in_parts(inputs, lambda output: each_item([vector], output, formula))
