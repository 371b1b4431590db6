"""The three forms of sums: of tensors, of what stays of task vectors, and of votes.

Owns each of them computed without planes, begun as planes, and finished from planes;
and the weighted sum that strategies with other coefficients end in. Does not own what a
strategy puts in (`sums.Portion`), nor arithmetic (`numerics`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import ClassVar, TypeAlias

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    SIGNIFICAND_BITS,
    TAU_BITS,
    Data,
    Grid,
    Planes,
    Weighed,
    check_sum,
    check_weights,
    consensus,
    finish_sum,
    finish_thinned,
    finish_votes,
    sum_planes,
    sum_rows,
    tau_grid,
    theta_grid,
    thinned_planes,
    thinned_sum,
    vote_planes,
    vote_rows,
    weighted_sum,
)
from crdtmerge.strategies.base import Inputs, Parts, Values, Weights
from crdtmerge.strategies.sums import ONE, Ending, Portion, Share, Thinned
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    given_of,
    in_parts,
    output_of,
    participants,
    tau_of,
)

Sparsifier: TypeAlias = Callable[[Inputs, Term], Thinned]
"""Tells from a contribution's own tensor, the base's and the recipe what it brings."""


def emit_weighted(
    inputs: Inputs, weights: Weights, base_weight: int, divisor: int
) -> Parts:
    """Return (sum of weights * contributions + base_weight * base) / divisor.

    A contribution given as a task vector counts as base + tau: its weight goes to both.

    Raises:
        ContractError: an input breaks the contract, or the divisor is zero.
    """
    exponent, terms = participants(inputs, weights)
    grid = theta_grid(exponent, inputs.dtype)
    weighed = terms_of(inputs, terms, base_weight)
    return in_parts(inputs, lambda output: weighted_sum(weighed, divisor, grid, output))


def terms_of(inputs: Inputs, terms: Sequence[Term], base_weight: int) -> list[Weighed]:
    """Return what is summed; the base takes the weights of task vectors too."""
    rest = base_weight + sum(term.weight for term in terms if term.is_tau)
    weighed = [Weighed(given_of(inputs, term), term.weight) for term in terms]
    return [*weighed, *_rest_of(inputs, rest)]


def _rest_of(inputs: Inputs, rest: int) -> list[Weighed]:
    return [Weighed(base_of(inputs), rest)] if rest else []


def _plain(_values: Values) -> Fraction:
    return ONE


@dataclass(frozen=True, slots=True)
class TensorSum:
    """(sum of coefficients * tensors + rest * base) / divisor.

    Coefficients are weights times `factor`. With `adds_to_base` they weigh task vectors:
    the base's own weight is what they leave of the divisor.
    """

    of_task_vectors: ClassVar[bool] = False

    divisor: Callable[[Inputs], int]
    factor: Callable[[Values], Fraction] = _plain
    adds_to_base: bool = False

    def grid(self, exponent: int, dtype: str) -> Grid:
        """Return the grid of tensors."""
        return theta_grid(exponent, dtype)

    def rows(self, grid: Grid) -> int:
        """Return how many limbs the sum has."""
        return sum_rows(grid)

    def portion(self, inputs: Inputs, term: Term) -> Portion:
        """Return the tensor, or the task vector, as it is given."""
        share = Share(term.weight, self.factor(inputs.values), term.is_tau)
        return Portion(share, given_of(inputs, term))

    def common(self, shares: Iterable[Share]) -> Fraction:
        """Return 1: every factor enters the coefficients, which are rounded."""
        del shares
        return ONE

    def planes(
        self,
        portions: Sequence[Portion],
        common: Fraction,
        grid: Grid,
        part: range,
        name: str,
    ) -> Planes:
        """Return the limbs of the sum of coefficients * what is given."""
        terms = [Weighed(p.vector, p.share.units(common)) for p in portions]
        return sum_planes(terms, grid, part, name)

    def ending(self, inputs: Inputs, shares: Sequence[Share]) -> Ending:
        """Return divisor and base's weight; task vectors bring their base with them."""
        divisor, name = self.divisor(inputs), f"tensor {inputs.tensor!r}"
        rest = self._base_weight(divisor, [share.units() for share in shares])
        rest += sum(share.units() for share in shares if share.is_tau)
        bits = SIGNIFICAND_BITS[inputs.dtype]
        terms = [(s.units(), TAU_BITS if s.is_tau else bits) for s in shares]
        check_sum((term for term in [*terms, (rest, bits)] if term[0]), name)
        return Ending(divisor=divisor, rest=rest)

    def reads_base(self, ending: Ending) -> bool:
        """Tell whether the base is a term."""
        return ending.rest != 0

    def finish(
        self, inputs: Inputs, planes: Planes, grid: Grid, ending: Ending, part: range
    ) -> Data:
        """Add the base as one more term, divide, round."""
        rest = _rest_of(inputs, ending.rest)
        return finish_sum(planes, rest, ending.divisor, grid, output_of(inputs, part))

    def emit(self, inputs: Inputs) -> Parts:
        """Return the output tensor, without planes."""
        divisor, factor = self.divisor(inputs), self.factor(inputs.values)
        coefficients = [Share(w, factor).units() for w in inputs.weights]
        base_weight = self._base_weight(divisor, coefficients)
        return emit_weighted(inputs, coefficients, base_weight, divisor)

    def _base_weight(self, divisor: int, coefficients: Weights) -> int:
        return divisor - sum(coefficients) if self.adds_to_base else 0


@dataclass(frozen=True, slots=True)
class ThinnedSum:
    """base + (sum of coefficients * what stays of task vectors) / divisor."""

    of_task_vectors: ClassVar[bool] = True

    brings: Sparsifier
    divisor: Callable[[Inputs], int]

    def grid(self, exponent: int, dtype: str) -> Grid:
        """Return the grid of task vectors."""
        return tau_grid(exponent, dtype)

    def rows(self, grid: Grid) -> int:
        """Return how many limbs the sum has."""
        return sum_rows(grid)

    def portion(self, inputs: Inputs, term: Term) -> Portion:
        """Return the task vector and what of it stays."""
        return _tau_portion(self.brings, inputs, term)

    def common(self, shares: Iterable[Share]) -> Fraction:
        """Return 1: every factor enters the coefficients, which are rounded."""
        del shares
        return ONE

    def planes(
        self,
        portions: Sequence[Portion],
        common: Fraction,
        grid: Grid,
        part: range,
        name: str,
    ) -> Planes:
        """Return the limbs of the sum of coefficients * kept taus."""
        return thinned_planes([p.voter(common) for p in portions], grid, part, name)

    def ending(self, inputs: Inputs, shares: Sequence[Share]) -> Ending:
        """Return the divisor."""
        _check_votes(inputs, shares, ONE)
        return Ending(divisor=self.divisor(inputs))

    def reads_base(self, ending: Ending) -> bool:
        """Tell that the base is read: the sum is added to it."""
        del ending
        return True

    def finish(
        self, inputs: Inputs, planes: Planes, grid: Grid, ending: Ending, part: range
    ) -> Data:
        """Divide, add to the base, round."""
        output = output_of(inputs, part)
        return finish_thinned(base_of(inputs), planes, ending.divisor, grid, output)

    def emit(self, inputs: Inputs) -> Parts:
        """Return the output tensor, without planes."""
        exponent, terms = participants(inputs, inputs.weights)
        base, divisor = base_of(inputs), self.divisor(inputs)
        voters = [self.portion(inputs, term).voter() for term in terms]
        grid = self.grid(exponent, inputs.dtype)
        return in_parts(
            inputs, lambda output: thinned_sum(base, voters, divisor, grid, output)
        )


@dataclass(frozen=True, slots=True)
class Votes:
    """base + lambda * the disjoint mean of what stays of task vectors.

    Both signs are summed, so who agrees with the elected one can be told at the end.
    """

    of_task_vectors: ClassVar[bool] = True

    brings: Sparsifier

    def grid(self, exponent: int, dtype: str) -> Grid:
        """Return the grid of task vectors."""
        return tau_grid(exponent, dtype)

    def rows(self, grid: Grid) -> int:
        """Return how many planes both sides have."""
        return vote_rows(grid)

    def portion(self, inputs: Inputs, term: Term) -> Portion:
        """Return the task vector and what of it stays."""
        return _tau_portion(self.brings, inputs, term)

    def common(self, shares: Iterable[Share]) -> Fraction:
        """Return the factor that all who weigh anything share; 1 if they differ."""
        factors = {share.factor for share in shares if share.weight}
        return factors.pop() if len(factors) == 1 else ONE

    def planes(
        self,
        portions: Sequence[Portion],
        common: Fraction,
        grid: Grid,
        part: range,
        name: str,
    ) -> Planes:
        """Return the planes of the votes."""
        return vote_planes([p.voter(common) for p in portions], grid, part, name)

    def ending(self, inputs: Inputs, shares: Sequence[Share]) -> Ending:
        """Return the scale, and whether the sum is divided."""
        common = self.common(shares)
        _check_votes(inputs, shares, common)
        scale = Fraction(inputs.values.units("lambda"), DECIMAL_UNIT) * common
        return Ending(scale=float(scale), normalize=inputs.values.flag("normalize"))

    def reads_base(self, ending: Ending) -> bool:
        """Tell that the base is read: the mean is added to it."""
        del ending
        return True

    def finish(
        self, inputs: Inputs, planes: Planes, grid: Grid, ending: Ending, part: range
    ) -> Data:
        """Elect, average, scale, add to the base, round."""
        return finish_votes(
            base_of(inputs),
            planes,
            grid,
            output_of(inputs, part),
            scale=ending.scale,
            normalize=ending.normalize,
        )

    def emit(self, inputs: Inputs) -> Parts:
        """Return the output tensor, without planes."""
        exponent, terms = participants(inputs, inputs.weights)
        portions = [self.portion(inputs, term) for term in terms]
        shares = [portion.share for portion in portions]
        common, ending = self.common(shares), self.ending(inputs, shares)
        voters = [portion.voter(common) for portion in portions]
        elected = partial(
            consensus,
            base_of(inputs),
            voters,
            self.grid(exponent, inputs.dtype),
            scale=ending.scale,
            normalize=ending.normalize,
        )
        return in_parts(inputs, elected)


def with_lambda(brings: Sparsifier) -> Sparsifier:
    """Return a sparsifier whose factors have the parameter `lambda` in them.

    For sums, in which both are multiplied into the weight and rounded as one.
    """

    def scaled(inputs: Inputs, term: Term) -> Thinned:
        left = brings(inputs, term)
        factor = left.factor * Fraction(inputs.values.units("lambda"), DECIMAL_UNIT)
        return replace(left, factor=factor)

    return scaled


def _tau_portion(brings: Sparsifier, inputs: Inputs, term: Term) -> Portion:
    left = brings(inputs, term)
    return Portion(Share(term.weight, left.factor), tau_of(inputs, term), left.keep)


def _check_votes(inputs: Inputs, shares: Sequence[Share], common: Fraction) -> None:
    """Refuse task vectors whose sum would not stay exact."""
    name = f"tensor {inputs.tensor!r}"
    votes = [share for share in shares if share.weight]
    check_weights((share.weight for share in votes), name)
    check_sum(((share.units(common), TAU_BITS) for share in votes), name)
