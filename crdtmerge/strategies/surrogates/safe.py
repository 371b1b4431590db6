"""safe_merge: where it matters most to safety, one contribution's word stands alone.

Owns `safe_merge/1`. Does not own evidence (`evidential.given`), nor magnitudes at a place
(`sparsify.trim`).

Formula: one contribution, with the flag `safety`, is the safety model. Of each tensor the
ceil(q items) entries that are most important to it, and all that tie with the last, are its
own (`revert=safety`) or the base's (`revert=base`); all others are the weighted mean of all
contributions, the safety model among them.

A surrogate for the name `safe_merge` in the registry of 26 strategies of Gillespie 2026
(arXiv:2605.19373), and no method of a paper of its own. What its program says of it is
another rule: the 10% of entries with the largest variance between models become the base's.
Variance tells where models disagree, not what safety needs; and the base is seldom the safe
one. So importance is measured on the safety model, by `importance`:
  task    the square of its task vector (the default, which needs no evidence)
  fisher  the diagonal of its Fisher matrix
  snip    |theta * gradient|, its SNIP score
Of evidence only that of the safety model is read. A tensor for which it attaches none goes
by `task`.

Ours: all of it, as said. Evidence counts in float32, so that ties are those of float32.
Tensors of any shape are taken alike. Without a safety model it is the weighted mean; two of
them are refused. No measure here tells whether the merged model is safe. mergekit has no
such method.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats, Tau, each_item, rounded
from crdtmerge.strategies.base import (
    FALSE,
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Values,
)
from crdtmerge.strategies.evidential.given import array_of
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.means import weighted_mean, whole_weights
from crdtmerge.strategies.sparsify import trim
from crdtmerge.strategies.tensors import (
    FOR_ONE,
    Term,
    base_of,
    in_parts,
    participants,
    refuse_negative,
    refuse_zero,
    tau_of,
    theta_of,
    vector_of,
)

NAME: Final = "safe_merge"
TASK: Final = "task"


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, NAME, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    safety = _safety_model(inputs, terms)
    if safety is None or not inputs.items:
        return emit_weighted(inputs, inputs.weights, 0, sum(inputs.weights))
    importance = _importance(inputs, safety)
    least = trim(importance, inputs.values.units("q")).least
    weights = whole_weights(terms)[:, np.newaxis]
    to_base = inputs.values.choice("revert") == "base"
    kept = base_of(inputs) if to_base else theta_of(inputs, safety)

    def formula(rows: Floats) -> Floats:
        mean = weighted_mean(rows[2:], weights)
        return np.where(np.abs(rows[0]) >= least, rows[1], mean)

    vectors = [importance, kept, *(theta_of(inputs, term) for term in terms)]
    return in_parts(inputs, lambda output: each_item(vectors, output, formula))


def _safety_model(inputs: Inputs, terms: Sequence[Term]) -> Term | None:
    """Return the one that is marked, None if none is.

    Raises:
        ContractError: several are.
    """
    found = [term for term in terms if term.values.flag("safety")]
    if len(found) > 1:
        message = (
            f"tensor {inputs.tensor!r}: {NAME} takes one safety model, and"
            f" {len(found)} are marked"
        )
        hint = f"set safety=true for exactly one, {FOR_ONE}"
        raise ContractError(message, hint=hint)
    return found[0] if found else None


def _importance(inputs: Inputs, safety: Term) -> Tau:
    """Return a vector whose magnitudes order the entries."""
    kind = inputs.values.choice("importance")
    array = None if kind == TASK else array_of(inputs, safety, kind)
    if array is None:
        return tau_of(inputs, safety)  # its magnitudes stand as its squares do
    return vector_of(rounded(np.ascontiguousarray(array).reshape(-1), safety.label))


def _reads(values: Values) -> tuple[str, ...]:
    kind = values.choice("importance")
    return () if kind == TASK else (kind,)


SAFE_MERGE = Strategy(
    name=NAME,
    version=1,
    summary="Average, but keep what is most important to one safety model (surrogate)",
    paper="Gillespie 2026, CRDT merging, https://arxiv.org/abs/2605.19373",
    parameters=(
        Parameter(
            "importance",
            "choice",
            TASK,
            None,
            "what tells how important an entry is to the safety model",
            choices=("fisher", "snip", TASK),
        ),
        Parameter(
            "q",
            "decimal",
            "0.1",
            None,
            "share of the entries that is reverted, the most important ones",
            maximum=DECIMAL_UNIT,
        ),
        Parameter(
            "revert",
            "choice",
            "safety",
            None,
            "whose entries those are: the safety model's or the base's",
            choices=("base", "safety"),
        ),
        Parameter(
            "safety",
            "flag",
            FALSE,
            None,
            "this contribution is the safety model",
            per_model=True,
        ),
    ),
    evidence=_reads,
    memory=Memory(shared=28, each=8),
    emit=_emit,
)
