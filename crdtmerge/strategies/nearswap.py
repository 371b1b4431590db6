"""nearswap: the base, moved to the other model by at most t an item.

Owns `nearswap/1`. Does not own the mean of several models (`averages`).

Formula (NearSwap, alchemonaut 2024, https://huggingface.co/alchemonaut/
QuartetAnemoi-70B-t0.0001; no paper): out = (1 - w) a + w b with w = min(1, t / |b - a|),
a the base, b the other model, and w = 1 where a = b. That is b where |b - a| <= t, else a
moved by t towards b, which is how it is computed here: one float64 difference, compared
with t, and one addition. The default of t is the author's; mergekit has none.

Ours: of several contributions b is their weighted mean, exact on the grid and rounded once
to float64 (the author lets them act one after the other, where order matters). Where
mergekit differs: it puts 10**-6 for a smaller |b - a|, so that with t below 10**-6 near
items hardly move.
"""

from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, each_item
from crdtmerge.strategies.averages import mean_vector
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Parts, Strategy, Values
from crdtmerge.strategies.tensors import (
    base_of,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
)

MEAN_BYTES: Final = 18
"""The mean in float64, its blocks or the output's until they are joined."""


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "nearswap", inputs.tensor)
    exponent, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    most = inputs.values.real("t")

    def moved(rows: Floats) -> Floats:
        base, other = rows
        way = other - base
        step = np.where(way < 0, -most, most)
        found: Floats = np.where(np.abs(way) <= most, other, base + step) + 0.0
        return found

    vectors = [base_of(inputs), mean_vector(inputs, exponent, terms)]
    return in_parts(inputs, lambda output: each_item(vectors, output, moved))


def _held(_values: Values) -> Memory:
    """Keep the mean of several; one alone is read where it lies."""
    return Memory(several=MEAN_BYTES)


NEARSWAP = Strategy(
    name="nearswap",
    version=1,
    summary="Take the other model's items where they are near, else move by t",
    paper="alchemonaut 2024, https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    parameters=(
        Parameter(
            "t",
            "decimal",
            "0.0001",
            None,
            "how far an item of the base moves at most",
            minimum=1,
            maximum=1000 * DECIMAL_UNIT,
        ),
    ),
    memory=Memory(shared=MEAN_BYTES),
    held=_held,
    emit=_emit,
)
