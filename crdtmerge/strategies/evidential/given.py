"""Evidence as formulas read it: one array a contribution, and what is done without.

Owns who takes part where some attach evidence and others do not. Does not own what is
acceptable (`crdtmerge.evidence`): what comes here was checked and normalised.

Where nobody attaches the kind for a tensor (an embedding has no Gram matrix, a norm no
inputs), the strategy's fallback serves, which its docstring names. Where some do and some
do not, `lacking` says what becomes of those who do not: the merge is refused and names
one (`refuse`), or they take no part in that tensor (`leave_out`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies.base import Inputs, Parameter
from crdtmerge.strategies.tensors import Term

LACKING: Final = Parameter(
    "lacking",
    "choice",
    default="refuse",
    mergekit_default=None,
    help="what becomes of contributions without the evidence that others attach",
    choices=("leave_out", "refuse"),
)
"""A parameter of every strategy that reads the evidence of tensors."""


@dataclass(frozen=True, slots=True)
class Told:
    """A contribution that takes part, and what it attaches: the array of one kind."""

    term: Term
    array: Floats


def told(inputs: Inputs, terms: Sequence[Term], kind: str) -> tuple[Told, ...]:
    """Return who takes part with its evidence of one kind; nobody where none has any.

    Raises:
        ContractError: some attach it and some do not, and `lacking` is `refuse`.
    """
    arrays = [(term, array_of(inputs, term, kind)) for term in terms]
    found = tuple(Told(term, array) for term, array in arrays if array is not None)
    lacking = [term for term, array in arrays if array is None]
    if found and lacking and inputs.values.choice(LACKING.name) == "refuse":
        message = f"{lacking[0].label}: it attaches no evidence of kind {kind!r}"
        hint = (
            "its author can `crdtmerge contribute` it again with --evidence; or set"
            " lacking=leave_out, or leave the contribution out"
        )
        raise ContractError(message, hint=hint)
    return found


def array_of(inputs: Inputs, term: Term, kind: str) -> Floats | None:
    """Return what one contribution attaches of a kind, None if nothing."""
    if not inputs.evidence:
        return None
    return inputs.evidence[term.place].get(kind)
