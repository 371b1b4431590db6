"""multislerp and karcher: the mean direction of models, at their mean length.

Owns `multislerp/1` and `karcher/1`. Does not own the inner products, nor the sum that
coefficients weigh (`gram`).

Formulas, with u_i = v_i / |v_i| and a_i the weights divided by their sum; v_i is a whole
tensor. Both give (sum a_i |v_i|) u, and differ in the unit vector u:

multislerp (a merge method of mergekit, no paper): u = m / |m| with m = sum(a_i u_i), the
direction of the mean of directions, on task vectors where there is a base, else on whole
weights. mergekit then adds a mean of tangents at u, projected by cosine and sine; these
tangents are u_i - <u_i, u> u, whose weighted sum is m - <m, u> u = 0, so no angle enters.
`normalize=false` takes weights as they are for the length; the direction is the same.

karcher (Karcher mean on the sphere, after Wang, Ye, Yin 2026, arXiv:2603.04972, whose
authors gave mergekit its method): from the u of multislerp, on whole weights, repeat
u <- cos|T| u + sin|T| T / |T|, T = sum(a_i (f_i / sin f_i) (u_i - cos f_i u)), cos f_i =
<u, u_i>; `max_iter` times, or until |T| < `tol`. mergekit has no weights here; equal ones
are its 1/n. That the paper counts and stops alike is taken from mergekit's method.

Exact: the sum that coefficients weigh. Everything before is done on the matrix of inner
products (sums along the tree) in float64, and coefficients are rounded to 9 places.

Ours, where there is no direction that is sure: a tensor of zeros, or one shorter than the
longest by a factor above 1,024, counts with its length alone (mergekit: of zeros, or for
karcher of a norm up to `tol`, whatever that of the others is). Where |m| is below `eps`,
for karcher 1/256, opposite models leave no mean direction, and the weighted mean is taken
(mergekit: of two; it refuses more, and karcher takes the first model's direction). Our
`eps` is 1/256 and not mergekit's 10**-8: below that, coefficients leave the contract. A
model opposite to u within 1/256 has no f_i / sin f_i that is sure, and pulls nowhere in
that step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, acos, cos, sin
from crdtmerge.strategies.base import (
    TRUE,
    Parameter,
    Strategy,
    never,
    part_by_part,
)
from crdtmerge.strategies.gram import MEMORY, Gram, GramMethod, image, inner

SHORTER: Final = 1 / 1024
OPPOSITE: Final = 1 / 256


@dataclass(frozen=True, slots=True)
class _Sphere:
    """The vectors that have a direction, by the cosines between them.

    `places` tells where they stand among all, `lengths` are of all; `shares` are theirs,
    of sum 1.
    """

    places: list[int]
    cosines: Floats
    shares: Floats
    lengths: Floats

    def norm(self, mix: Floats) -> float:
        """Return the length of a sum of directions."""
        square = inner(mix, image(self.cosines, mix))
        return float(np.sqrt(np.maximum(square, 0.0)))

    def unit(self, mix: Floats) -> Floats:
        """Return a sum of directions at length 1."""
        return mix / self.norm(mix)

    def coefficients(self, mix: Floats, length: float) -> list[float]:
        """Return what a sum of directions, at this length, weighs each vector with."""
        found = [0.0] * len(self.lengths)
        for place, part in zip(self.places, mix.tolist(), strict=True):
            found[place] = length * part / float(self.lengths[place])
        return found


def _sphere(gram: Gram) -> _Sphere:
    lengths = np.sqrt(np.diagonal(gram.matrix))
    least = SHORTER * max(lengths.tolist())
    places = [i for i, found in enumerate(lengths.tolist()) if found > least]
    norms = lengths[places]
    products = norms[:, np.newaxis] * norms[np.newaxis, :]
    cosines = gram.matrix[np.ix_(places, places)] / products
    cosines = np.minimum(np.maximum(cosines, -1.0), 1.0)
    cosines = np.where(np.eye(len(places), dtype=np.bool_), 1.0, cosines)
    total = sum(gram.weights[place] for place in places)
    shares = np.array([gram.weights[place] / total for place in places])
    return _Sphere(places, cosines, shares, lengths)


def _length(lengths: Floats, shares: Sequence[float]) -> float:
    return inner(lengths, np.array(shares))


def _multislerp(gram: Gram) -> Sequence[float]:
    sphere = _sphere(gram)
    weights: Sequence[float] = gram.shares
    if not gram.values.flag("normalize"):
        weights = tuple(weight / DECIMAL_UNIT for weight in gram.weights)
    if not sphere.places or sphere.norm(sphere.shares) < gram.values.real("eps"):
        return weights
    mix = sphere.unit(sphere.shares)
    return sphere.coefficients(mix, _length(sphere.lengths, weights))


def _karcher(gram: Gram) -> Sequence[float]:
    sphere = _sphere(gram)
    if not sphere.places or sphere.norm(sphere.shares) < OPPOSITE:
        return gram.shares
    mix = sphere.unit(sphere.shares)
    for _ in range(gram.values.count("max_iter")):
        tangent = _tangent(sphere, mix)
        length = sphere.norm(tangent)
        if length == 0.0 or length < gram.values.real("tol"):
            break
        angle = np.array([length])
        ahead = cos(angle) * mix + sin(angle) / length * tangent
        mix = sphere.unit(ahead)
    return sphere.coefficients(mix, _length(sphere.lengths, gram.shares))


def _tangent(sphere: _Sphere, mix: Floats) -> Floats:
    """Return the mean of the ways to all directions, at the unit vector `mix`."""
    cosine = np.minimum(np.maximum(image(sphere.cosines, mix), -1.0), 1.0)
    angle = acos(cosine)
    sine = sin(angle)
    there = sine > 0
    stretch = np.where(there, angle, 1.0) / np.where(there, sine, 1.0)
    unsure = (cosine < 0) & (sine < OPPOSITE)
    pull = sphere.shares * np.where(unsure, 0.0, stretch)
    return pull - inner(pull, cosine) * mix


_MULTISLERP = GramMethod("multislerp", _multislerp, on="either")
_KARCHER = GramMethod("karcher", _karcher, on="theta")

MULTISLERP = Strategy(
    name="multislerp",
    version=1,
    summary="The mean direction of task vectors (without a base: of models), mean length",
    paper="mergekit, https://github.com/arcee-ai/mergekit",
    parameters=(
        Parameter(
            "eps",
            "decimal",
            "0.00390625",
            "0.00000001",
            "a mean of directions shorter than this is none: the mean is taken",
            minimum=DECIMAL_UNIT // 1000,
            maximum=DECIMAL_UNIT,
        ),
        Parameter(
            "normalize",
            "flag",
            TRUE,
            TRUE,
            "weights are divided by their sum; mergekit: normalize_weights",
        ),
    ),
    needs_base=False,
    prefers_base=True,
    memory=MEMORY,
    held=part_by_part,
    emit=_MULTISLERP.emit,
)

KARCHER = Strategy(
    name="karcher",
    version=1,
    summary="The mean of models on the sphere, at their mean length",
    paper="Wang, Ye, Yin 2026, https://arxiv.org/abs/2603.04972",
    parameters=(
        Parameter(
            "max_iter",
            "integer",
            "10",
            "10",
            "at most so many steps",
            maximum=1000 * DECIMAL_UNIT,
        ),
        Parameter(
            "tol",
            "decimal",
            "0.00001",
            "0.00001",
            "a step shorter than this, in radians, is the last",
            maximum=DECIMAL_UNIT,
        ),
    ),
    needs_base=False,
    shifts=never,
    memory=MEMORY,
    held=part_by_part,
    emit=_KARCHER.emit,
)
