"""metagpt: task arithmetic with coefficients from the norms of the task vectors.

Owns `metagpt/1`. Does not own the weighted sum (`forms`).

Formula (MetaGPT, Zhou et al. 2024, arXiv:2406.11385): out = theta_0 + sum(l_k tau_k) with
l_k = |tau_k|^2 / sum_j |tau_j|^2 over the whole model. Ours: a contribution's weight
multiplies its square (equal weights give the paper's formula), and coefficients are
rounded half-even to 9 places. Exact: everything between the tensors' sums of squares and
that rounding, in rationals; and the emitted sum, on the grid, where the base is one more
term with weight 1 - sum(l_k). Float tensors count, integer tensors have no task vector.
"""

from collections.abc import Sequence
from fractions import Fraction

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import inner_products
from crdtmerge.strategies.base import (
    Inputs,
    Measures,
    Memory,
    Parts,
    Strategy,
    Whole,
    part_by_part,
)
from crdtmerge.strategies.forms import emit_weighted
from crdtmerge.strategies.tensors import Term, participants, refuse_negative, tau_of


def _map(inputs: Inputs) -> Measures:
    """Return the sum of squares of each task vector; weights play no part here."""
    _, terms = participants(inputs, (1,) * len(inputs.contributions))
    squares = {term.place: _squares(inputs, term) for term in terms}
    return tuple(squares[place] for place in range(len(terms)))


def _squares(inputs: Inputs, term: Term) -> float:
    tau = tau_of(inputs, term)
    return float(inner_products([tau], inputs.items, range(1), 0)[0, 0, 0])


def _reduce(squares: Sequence[Measures], whole: Whole) -> tuple[int, ...]:
    """Return the coefficients in units; all zero if no contribution differs.

    Raises:
        ContractError: a weight is negative.
    """
    weights = whole.weights
    refuse_negative(weights, "metagpt")
    totals = [Fraction(0)] * len(weights)
    for tensor in squares:
        pairs = zip(totals, tensor, strict=True)
        totals = [total + Fraction(square) for total, square in pairs]
    shares = [w * total for w, total in zip(weights, totals, strict=True)]
    total_share = sum(shares)
    if not total_share:
        return (0,) * len(weights)
    return tuple(round(share * DECIMAL_UNIT / total_share) for share in shares)


def _emit(inputs: Inputs) -> Parts:
    if inputs.coefficients is None:
        message = "metagpt emits only after its reduce step"
        raise ContractError(message)
    rest = DECIMAL_UNIT - sum(inputs.coefficients)
    return emit_weighted(inputs, inputs.coefficients, rest, DECIMAL_UNIT)


METAGPT = Strategy(
    name="metagpt",
    version=1,
    summary="Task arithmetic with coefficients in proportion to squared norms",
    paper="Zhou et al. 2024, MetaGPT, https://arxiv.org/abs/2406.11385",
    memory=Memory(shared=28),
    held=part_by_part,
    emit=_emit,
    map=_map,
    reduce=_reduce,
)
