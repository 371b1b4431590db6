"""aoe: parents mixed in the tensors in which they differ, else the main parent's.

Owns `aoe/1`. Does not own the mean (`averages`), nor which tensors a rule names
(`recipe`).

Formula (Assembly of Experts, Klagges et al. 2025, arXiv:2506.14794): in the tensors of a
set S in which ||theta_i - theta_main|| / sqrt(items) > delta for some parent i, out =
sum(l_i theta_i) with sum(l_i) = 1; every other tensor is the main parent's.

Ours, as the paper's text was not at hand in full: the norm is divided by the square root
of the number of items (a root mean square), one parent beyond delta is enough, and delta
0 (the default) takes every tensor in which anything differs. The l_i are the weights
divided by their sum. The contribution with `main` is the main parent; if none has it, the
base is, which then is no term of the sum. A contribution of weight zero is not there, and
no main parent either. S: `merge` is true unless a rule for tensors sets it false.

Exact: the mean, on the grid; and the main parent's items where they are taken. Differences
are rounded once to float64, their squares summed along the tree.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import (
    Floats,
    Items,
    Output,
    Shifted,
    each_item,
    inner_products,
)
from crdtmerge.strategies.averages import copy_of, mean_of
from crdtmerge.strategies.base import (
    FALSE,
    TRUE,
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Values,
)
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    theta_of,
)

DIFFERENCE_BYTES: Final = 40
"""One difference in float64, and the same again while its squares are summed."""


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "aoe", inputs.tensor)
    exponent, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    main = _main(inputs, terms)
    others = [term for term in terms if term is not main]
    vector = base_of(inputs) if main is None else theta_of(inputs, main)
    merge = inputs.values.flag("merge") and any(
        _differs(inputs, exponent, term, vector) for term in others
    )
    if merge:
        return in_parts(inputs, lambda output: mean_of(inputs, exponent, terms, output))
    return copy_of(inputs, vector)


def _main(inputs: Inputs, terms: Sequence[Term]) -> Term | None:
    """Return the main parent, None if it is the base.

    Raises:
        ContractError: several are marked, or none and there is no base.
    """
    marked = [term for term in terms if term.values.flag("main")]
    if len(marked) > 1:
        message = (
            f"tensor {inputs.tensor!r}: aoe has one main parent, not {len(marked)}"
        )
        raise ContractError(message, hint="set main=true for one contribution alone")
    if not marked and inputs.base is None:
        message = f"tensor {inputs.tensor!r}: aoe has neither a main parent nor a base"
        raise ContractError(message, hint="set main=true for one contribution")
    return marked[0] if marked else None


def _differs(inputs: Inputs, exponent: int, term: Term, main: Items | Shifted) -> bool:
    """Tell whether a parent's root mean square distance to the main one is above delta.

    SUBTLE: squares are of items scaled by a power of two, so that none overflows; the
    comparison is in rationals.
    """
    if not inputs.items:
        return False
    output = Output("F64", range(inputs.items), term.label)
    away = Items(each_item([theta_of(inputs, term), main], output, _difference), "F64")
    square = inner_products([away], inputs.items, range(1), exponent)[0, 0, 0]
    root = float(np.sqrt(square / inputs.items))
    distance = Fraction(root) * Fraction(math.ldexp(1.0, exponent))
    return distance > Fraction(inputs.values.units("delta"), DECIMAL_UNIT)


def _difference(rows: Floats) -> Floats:
    found: Floats = rows[0] - rows[1]
    return found


def _held(values: Values) -> Memory:
    """Keep a parent's differences, until the next one's."""
    return Memory(shared=DIFFERENCE_BYTES if values.flag("merge") else 0)


AOE = Strategy(
    name="aoe",
    version=1,
    summary="Mix parents in tensors in which they differ, else keep the main parent's",
    paper="Klagges et al. 2025, Assembly of Experts, https://arxiv.org/abs/2506.14794",
    parameters=(
        Parameter(
            "delta",
            "decimal",
            "0",
            None,
            "a root mean square difference above this is merged",
            maximum=1000 * DECIMAL_UNIT,
        ),
        Parameter(
            "main",
            "flag",
            FALSE,
            None,
            "this contribution is the main parent, not the base",
            per_model=True,
        ),
        Parameter("merge", "flag", TRUE, None, "else the main parent's tensor is kept"),
    ),
    needs_base=False,
    prefers_base=True,
    memory=Memory(shared=DIFFERENCE_BYTES),
    held=_held,
    emit=_emit,
)
