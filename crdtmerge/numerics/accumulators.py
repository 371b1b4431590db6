"""Kernels that stop halfway: sums as planes that can be kept, and merges made of them.

Owns their public signatures and checks. Does not own which backend serves (`backends`),
nor which contributions planes hold: whoever keeps planes knows, and checks the limits of
the whole (`check_sum`).

`finish_*` of the sum of the planes of any cut of a set has the bytes of the merge of that
set in one go (`weighted_sum`, `thinned_sum`, `consensus`). `sum_planes` and the others
take a part of a tensor, so that planes can be worked on in pieces.
"""

from collections.abc import Sequence

import numpy as np

from crdtmerge.errors import ContractError
from crdtmerge.numerics.backends import serving
from crdtmerge.numerics.kernels import check_part, check_sum, check_voters
from crdtmerge.numerics.reference.accumulating import sum_rows, vote_rows
from crdtmerge.numerics.reference.dtypes import Data
from crdtmerge.numerics.reference.grid import Grid, check_divisor
from crdtmerge.numerics.vectors import (
    Items,
    Output,
    Planes,
    Vector,
    Voter,
    Weighed,
)

_PLANES = "F64"
"""A dtype for an output that is none: planes are float64."""


def sum_planes(
    terms: Sequence[Weighed], grid: Grid, part: range, name: str = ""
) -> Planes:
    """Return the planes of sum(weight * vector) over the items of `part`.

    Raises:
        ContractError: sum|W| or the number of products is outside the contract, sizes
            differ, or a difference is beyond float32.
    """
    check_sum(((t.weight, t.vector.significand_bits) for t in terms), name)
    _check_inputs([term.vector for term in terms], part, name)
    module = serving("sum_planes", len(part))
    found: Planes = module.sum_planes(terms, grid, part)
    return found


def thinned_planes(
    voters: Sequence[Voter], grid: Grid, part: range, name: str = ""
) -> Planes:
    """Return the planes of sum(coefficient * kept tau) over the items of `part`.

    Raises:
        ContractError: as for `sum_planes`.
    """
    _check_voters(voters, part, name)
    module = serving("thinned_planes", len(part))
    found: Planes = module.thinned_planes(voters, grid, part)
    return found


def vote_planes(
    voters: Sequence[Voter], grid: Grid, part: range, name: str = ""
) -> Planes:
    """Return the planes of the votes over the items of `part`.

    An item votes on the side of the sign of weight * tau; there its coefficient * tau is
    summed, and its weight.

    Raises:
        ContractError: as for `sum_planes`.
    """
    _check_voters(voters, part, name)
    module = serving("vote_planes", len(part))
    found: Planes = module.vote_planes(voters, grid, part)
    return found


def finish_sum(
    planes: Planes, terms: Sequence[Weighed], divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the output's items of (what `planes` hold + sum(weight * vector)) / divisor.

    `planes` are those of the output's part.

    Raises:
        ContractError: as for `weighted_sum`; or the planes are none of such a sum.
    """
    check_divisor(divisor)
    check_part([term.vector for term in terms], output)
    check_sum(((t.weight, t.vector.significand_bits) for t in terms), output.name)
    whole = _checked(planes, sum_rows(grid), output)
    module = serving("finish_sum", len(output.part))
    found: Data = module.finish_sum(whole, terms, divisor, grid, output)
    return found


def finish_thinned(
    base: Items, planes: Planes, divisor: int, grid: Grid, output: Output
) -> Data:
    """Return the output's items of base + what `planes` hold / divisor.

    Raises:
        ContractError: as for `thinned_sum`; or the planes are none of such a sum.
    """
    check_divisor(divisor)
    check_part([base], output)
    whole = _checked(planes, sum_rows(grid), output)
    module = serving("finish_thinned", len(output.part))
    found: Data = module.finish_thinned(base, whole, divisor, grid, output)
    return found


def finish_votes(
    base: Items,
    planes: Planes,
    grid: Grid,
    output: Output,
    *,
    scale: float,
    normalize: bool,
) -> Data:
    """Return the output's items of base + scale * q, with the q of `consensus`.

    Raises:
        ContractError: a result is beyond the output dtype, or the planes are none of
            votes.
    """
    check_part([base], output)
    whole = _checked(planes, vote_rows(grid), output)
    module = serving("finish_votes", len(output.part))
    found: Data = module.finish_votes(
        base, whole, grid, output, scale=scale, normalize=normalize
    )
    return found


def _check_inputs(vectors: Sequence[Vector], part: range, name: str) -> None:
    check_part(vectors, Output(_PLANES, part, name))


def _check_voters(voters: Sequence[Voter], part: range, name: str) -> None:
    check_voters(voters, name)
    _check_inputs([voter.tau for voter in voters], part, name)


def _checked(planes: Planes, rows: int, output: Output) -> Planes:
    """Return planes as loops read them; refuse those of another shape."""
    expected = (rows, len(output.part))
    if planes.shape != expected or planes.dtype != np.float64:
        message = f"planes of {planes.dtype} {planes.shape} are not float64 {expected}"
        raise ContractError(message)
    return np.ascontiguousarray(planes)
