"""safe_merge: what matters to a safety model stays as it is there, the rest is averaged.

Owns `safe_merge/1`. Does not own evidence (`given`), nor trims (`sparsify`).

A surrogate of SafeMERGE (Djuhera et al. 2025, arXiv:2503.17239), which picks whole layers
by a cosine to a safety subspace. Formula (ours): contributions marked `safety` say, by
their importance, which share `q` of a tensor's items is theirs; there the output is the
weighted mean of the safety models (`revert`: safety) or the base, elsewhere the weighted
mean of all. crdt-merge's strategy of this name is another: the 10% of items that vary most
go back to the base.

`importance` is their task vector's square, or the evidence `fisher` or `snip`; where nobody
marked attaches that, the square. Of several the items of any count; what ties with the last
counts too. Where none is marked it is the plain weighted mean. Negative weights are
refused. mergekit has no such method.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats as Array
from crdtmerge.numerics import (
    Singles,
    at_least,
    each_item,
    rounded,
    sum_over,
    values_of,
)
from crdtmerge.strategies.base import (
    FALSE,
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Values,
)
from crdtmerge.strategies.evidential.given import LACKING, told
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.sparsify import trim
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    tau_of,
    vector_of,
)

SQUARE: Final = "square"


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, "safe_merge", inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    marked = [term for term in terms if term.values.flag("safety")]
    if not marked or not inputs.items:
        return emit_weighted(inputs, inputs.weights, 0, sum(inputs.weights))
    mask = _theirs(inputs, marked)
    shares = _shares(terms, terms)
    others = _shares(terms, marked)
    reverts = inputs.values.choice("revert") == "safety"

    def formula(rows: Array) -> Array:
        base, theirs, taus = rows[0], rows[1] > 0, rows[2:]
        safe = sum_over(others * taus) if reverts else np.zeros(base.shape)
        found: Array = base + np.where(theirs, safe, sum_over(shares * taus))
        return found

    vectors = [
        base_of(inputs),
        vector_of(mask.astype(np.float32)),
        *(tau_of(inputs, term) for term in terms),
    ]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _shares(terms: Sequence[Term], counted: Sequence[Term]) -> Array:
    """Return each weight over the sum of those counted, (n, 1); others have 0."""
    total, places = sum(t.weight for t in counted), {t.place for t in counted}
    return np.array([[t.weight / total if t.place in places else 0.0] for t in terms])


def _theirs(inputs: Inputs, marked: Sequence[Term]) -> NDArray[np.bool_]:
    """Return which items matter to the safety models."""
    mask = np.zeros(inputs.items, bool)
    for term, score in _scores(inputs, marked):
        keep = trim(vector_of(score), term.values.units("q"))
        mask |= at_least(score, keep.least)
    return mask


def _scores(inputs: Inputs, marked: Sequence[Term]) -> Sequence[tuple[Term, Singles]]:
    """Return how much each item matters, in float32; of a square its root: one order."""
    kind = inputs.values.choice("importance")
    found = () if kind == SQUARE else told(inputs, marked, kind)
    if found:
        return [(one.term, rounded(one.array.reshape(-1))) for one in found]
    return [(t, rounded(np.abs(values_of(tau_of(inputs, t))))) for t in marked]


def _reads(values: Values) -> tuple[str, ...]:
    kind = values.choice("importance")
    return () if kind == SQUARE else (kind,)


SAFE_MERGE = Strategy(
    name="safe_merge",
    version=1,
    summary="Average all but what matters to a safety model: a surrogate",
    paper="Djuhera et al. 2025, SafeMERGE, https://arxiv.org/abs/2503.17239",
    parameters=(
        Parameter(
            "importance",
            "choice",
            default=SQUARE,
            mergekit_default=None,
            help="what tells how much an item matters to a safety model",
            choices=("fisher", "snip", SQUARE),
        ),
        LACKING,
        Parameter(
            "q",
            "decimal",
            default="0.1",
            mergekit_default=None,
            help="share of a tensor's items that is a safety model's",
            maximum=DECIMAL_UNIT,
            per_model=True,
        ),
        Parameter(
            "revert",
            "choice",
            default="safety",
            mergekit_default=None,
            help="what these items become: as in the safety models, or as in the base",
            choices=("base", "safety"),
        ),
        Parameter(
            "safety",
            "flag",
            default=FALSE,
            mergekit_default=None,
            help="whether a contribution is a safety model",
            per_model=True,
        ),
    ),
    evidence=_reads,
    memory=Memory(shared=48, each=24),
    emit=_emit,
)
