"""The kernels: what each computes, checked, and handed to the backend that serves.

Owns their public signatures and the checks that all backends share, so that a backend
does arithmetic alone. Does not own which backend serves (`backends`). Shapes are in
items; weights, coefficients and divisors are integers in units of 10**-9.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from crdtmerge.errors import ContractError
from crdtmerge.numerics.backends import serving
from crdtmerge.numerics.contract import TERMS_MAX, check_weights, prefix
from crdtmerge.numerics.reference.chances import check_chances
from crdtmerge.numerics.reference.dtypes import (
    TAU_BITS,
    Data,
    Floats,
    Singles,
    TensorFacts,
    check_dtype,
    fault_of,
    item_count,
)
from crdtmerge.numerics.reference.grid import Grid, check_divisor, pieces
from crdtmerge.numerics.reference.selection import check_place, row_count
from crdtmerge.numerics.vectors import (
    Items,
    Keep,
    Output,
    Settled,
    Tau,
    Vector,
    Voter,
    Weighed,
    check_counts,
)


def inspect(data: Data, dtype: str) -> TensorFacts:
    """Return whether all items are finite, and the exponent of the largest magnitude.

    Where one is not, the facts name the first such item.

    Raises:
        ContractError: `dtype` has no arithmetic, or `data` is not whole items.
    """
    module = serving("inspect", item_count(data, dtype))
    found: TensorFacts = module.inspect(data, dtype)
    return found if found.finite else replace(found, fault=fault_of(data, dtype))


def weighted_sum(
    terms: Sequence[Weighed], divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the output's items of sum(weight * vector) / divisor.

    Exact on the grid, divided once, rounded once; any part of a tensor has the bytes that
    it has in the whole.

    Raises:
        ContractError: sum|W|, the number of products or the divisor is outside the
            contract, sizes differ, or a result is beyond the output dtype.
    """
    check_divisor(divisor)
    check_part([term.vector for term in terms], output)
    check_sum(((t.weight, t.vector.significand_bits) for t in terms), output.name)
    module = serving("weighted_sum", len(output.part))
    found: Data = module.weighted_sum(terms, divisor, grid, output)
    return found


def thinned_sum(
    base: Items,
    voters: Sequence[Voter],
    divisor: int,
    grid: Grid,
    output: Output,
) -> Data:
    """Return the output's items of base + sum(coefficient * kept tau) / divisor.

    The sum is exact on the grid and divided once; the addition and `dtype` round once
    each.

    Raises:
        ContractError: as for `weighted_sum`; or a difference is beyond float32.
    """
    check_divisor(divisor)
    check_part([base, *(voter.tau for voter in voters)], output)
    check_voters(voters, output.name)
    module = serving("thinned_sum", len(output.part))
    found: Data = module.thinned_sum(base, voters, divisor, grid, output)
    return found


def consensus(
    base: Items,
    voters: Sequence[Voter],
    grid: Grid,
    output: Output,
    *,
    scale: float,
    normalize: bool,
) -> Data:
    """Return the output's items of base + scale * q: what agrees with the majority.

    Formula (TIES-Merging, Yadav et al. 2023, arXiv:2306.01708, section 4, in mergekit's
    weighted form): the elected sign of an item is that of sum(c_k tau_k) over what each
    voter k keeps, zero counts as +; q is the same sum over those whose w_k tau_k has this
    sign, divided by the sum of their w_k. It is 0 if none has; where negative weights
    make the sum of weights zero it counts as 1, as in mergekit. Without `normalize` q is
    the sum itself. Coefficients c_k stand for w_k where voters are rescaled.

    Exact: both sums and the sum of weights, on the grid. Ours: task vectors are rounded
    to float32, and the order of the roundings (q, scale * q, the sum with the base, the
    dtype).

    Raises:
        ContractError: as for `thinned_sum`.
    """
    check_part([base, *(voter.tau for voter in voters)], output)
    check_voters(voters, output.name)
    module = serving("consensus", len(output.part))
    found: Data = module.consensus(
        base, voters, grid, output, scale=scale, normalize=normalize
    )
    return found


def weighted_median(
    vectors: Sequence[Vector],
    weights: Sequence[int],
    output: Output,
) -> Data:
    """Return the output's items of the mean of the lower and the upper weighted median.

    Sorted by value, the lower is the first whose cumulated weight reaches half of all,
    the upper the first whose cumulated weight exceeds it.

    Raises:
        ContractError: there is no vector, or not one weight above zero for each; sizes
            differ, sum|W| is outside the contract, or a result is beyond the output
            dtype.
    """
    check_part(vectors, output)
    check_weights(weights, output.name)
    if not vectors or len(vectors) != len(weights) or min(weights) <= 0:
        message = (
            f"{prefix(output.name)}{len(vectors)} vectors with {len(weights)} weights"
            " have no median: each needs a weight above zero"
        )
        raise ContractError(message)
    module = serving("weighted_median", len(output.part))
    found: Data = module.weighted_median(vectors, weights, output)
    return found


def kth_largest(tau: Tau, *places: int) -> list[float]:
    """Return the k-th largest magnitude of a task vector for each k, all in one pass.

    Places are counted from 1; what is found are float32.

    Raises:
        ContractError: it has no k-th item, or a difference is beyond float32.
    """
    for k in places:
        check_place(k, tau.count)
    module = serving("kth_largest", tau.count)
    found: list[float] = module.kth_largest(tau, places)
    return found


def inner_products(
    vectors: Sequence[Vector], length: int, sets: range, exponent: int
) -> Floats:
    """Return (sets, n, n) inner products of n vectors, each cut in rows of `length`.

    Row s of each vector makes matrix s, for s in `sets`. Items are scaled by 2**-exponent
    first; products are summed in float64 along the tree (`reference.reductions`).

    Raises:
        ContractError: the vectors' sizes differ or do not hold the rows.
    """
    items = check_counts(list(vectors))
    if not 0 <= sets.start * length <= sets.stop * length <= items:
        message = f"rows {sets} of {length} items are not in vectors of {items}"
        raise ContractError(message)
    if not sets:
        return np.zeros((0, len(vectors), len(vectors)))
    module = serving("inner_products", length * len(sets))
    found: Floats = module.inner_products(vectors, length, sets, exponent)
    return found


def magnitude_sum(tau: Tau, keep: Keep) -> float:
    """Return the sum of the magnitudes of the items that stay, along the tree.

    Raises:
        ContractError: a difference is beyond float32, or the items are not whole rows.
    """
    check_keep(tau, keep)
    return float(serving("magnitude_sum", tau.count).magnitude_sum(tau, keep))


def settle(tau: Tau, keep: Keep) -> Settled:
    """Return a rule with its answers, and the sums of magnitudes of all and of the kept.

    One pass tells all three, and draws need not be made again: it takes a bit an item.
    What is zero stays nowhere. The rule must not rescale.

    Raises:
        ContractError: a difference is beyond float32, the items are not whole rows, or
            the rule rescales.
    """
    check_keep(tau, keep)
    if keep.changes:
        raise ContractError("a mask cannot say what rescaled items are")
    found: Settled = serving("settle", tau.count).settle(tau, keep)
    return found


def kept_of(tau: Tau, keep: Keep, part: range | None = None) -> Singles:
    """Return items of a task vector as float32, those that do not stay +0.

    They are those of `part`, or all.

    Raises:
        ContractError: a difference is beyond float32, or what is rescaled; the items are
            not whole rows, or the part is outside.
    """
    check_keep(tau, keep)
    items = range(tau.count) if part is None else part
    check_part([tau], Output("F32", items))
    found: Singles = serving("kept_of", len(items)).kept_of(tau, keep, items)
    return found


def check_part(vectors: Sequence[Vector], output: Output) -> None:
    """Refuse vectors that do not go together, or do not have the items asked for.

    Raises:
        ContractError: sizes differ, or the part is outside.
    """
    check_dtype(output.dtype)
    part, name = output.part, output.name
    items = check_counts(list(vectors), name) if vectors else part.stop
    if part.step != 1 or not 0 <= part.start <= part.stop <= items:
        message = f"{prefix(name)}items {part} are not in vectors of {items}"
        raise ContractError(message)


def check_keep(tau: Tau, keep: Keep) -> None:
    """Refuse chances of which some are none, and items that are not whole rows of them.

    Raises:
        ContractError: they are.
    """
    if keep.chances is not None:
        check_chances(keep.chances)
        row_count(tau.count, keep.chances.row)


def check_voters(voters: Sequence[Voter], name: str) -> None:
    """Refuse voters whose sums would not stay exact, or whose two sides cannot be told.

    Raises:
        ContractError: a sum is outside the contract, or a coefficient has another sign
            than its weight.
    """
    check_weights((voter.weight for voter in voters), name)
    for voter in voters:
        check_keep(voter.tau, voter.keep)
    if any(
        voter.coefficient and voter.weight * voter.coefficient <= 0 for voter in voters
    ):
        message = f"{prefix(name)}a coefficient has another sign than its weight"
        raise ContractError(message)
    check_sum(((v.coefficient, TAU_BITS) for v in voters), name)


def check_sum(terms: Iterable[tuple[int, int]], name: str) -> None:
    """Refuse a sum that would not stay exact on the grid.

    `terms` are (weight, significant bits of the vector's items).

    Raises:
        ContractError: sum|W| or the number of products is outside the contract.
    """
    found = list(terms)
    check_weights((weight for weight, _ in found), name)
    products = sum(pieces(weight, bits) for weight, bits in found)
    if products > TERMS_MAX:
        message = (
            f"{prefix(name)}a sum of {products} products is above the limit of"
            f" {TERMS_MAX}"
        )
        raise ContractError(message)
