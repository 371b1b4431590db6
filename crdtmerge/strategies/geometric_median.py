"""geometric_median and centered_clip: centres that no far contribution moves far.

Owns `geometric_median/1`, `centered_clip/1` and distances to a centre. Does not own inner
products and the sum (`gram`).

Both move a centre v = sum(c_i x_i), sum(c_i) = 1, a fixed number of times. All that they
need are squared distances D of pairs: |x_i - v|^2 = sum_j c_j D_ij - sum_jk c_j c_k D_jk
/ 2, in float64, in canonical order. D comes from inner products, over the whole model or
one tensor (`scope`), so distances that are tiny beside the vectors are not told apart.

geometric_median (RFA, Pillutla et al. 2019, arXiv:1912.13445; Weiszfeld 1937): v minimises
sum(w_i |x_i - v|). From the mean by weight, c_i <- w_i / max(d_i, nu), divided by their
sum. x are task vectors or, without a base, whole weights. Exact: the emitted sum, and
that the coefficients, rounded to 9 places, sum to 1. Ours: nu = eps times the mean of
distances to the start, so that no scale of models changes the result (the authors' nu is
absolute); the number of iterations (the authors stop by tolerance, and use few).

centered_clip (Karimireddy et al. 2020, arXiv:2012.10333): v <- v + sum(s_i (x_i - v)
min(1, rho / d_i)), with s_i = w_i / sum(w). x are task vectors. Exact: the emitted sum.
Ours: v starts at the median by weight of each item, rounded to float32, or at the mean
(the paper starts at the last round's v, and a merge has no round before); rho = 0 stands
for the median by weight of the distances to v, anew in each iteration (the paper gives no
rule); 10 iterations (the authors' default is 1). A start at the median is a vector of its
own, whose coefficient shrinks; with it the coefficients sum to 1.

mergekit has no such methods.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, Items, Output, weighted_median
from crdtmerge.strategies.base import Inputs, Memory, Parameter, Strategy, part_by_part
from crdtmerge.strategies.gram import (
    MEMORY,
    SCOPE,
    Gram,
    GramMethod,
    image,
    inner,
    squared_distances,
    summing_to_one,
)
from crdtmerge.strategies.tensors import Term, tau_of

_ITERATIONS_MAX: Final = 1000 * DECIMAL_UNIT


def distances_to(squares: Floats, centre: Floats) -> list[float]:
    """Return the distance of each vector to sum(c_i x_i), of coefficients that sum to 1.

    `squares` are the squared distances of pairs. No distance is below zero.
    """
    sums = image(squares, centre)
    half = 0.5 * inner(sums, centre)
    return [math.sqrt(max(0.0, value - half)) for value in sums.tolist()]


def _geometric_median(gram: Gram) -> Sequence[float]:
    shares = gram.shares
    squares = squared_distances(gram.matrix)
    found = list(shares)
    distances = distances_to(squares, np.array(found))
    pairs = zip(shares, distances, strict=True)
    least = gram.values.real("eps") * math.fsum(s * d for s, d in pairs)
    if not least:  # all in one place: each is the median
        return summing_to_one(found)
    for _ in range(gram.values.count("iterations")):
        pairs = zip(shares, distances, strict=True)
        pulls = [share / max(distance, least) for share, distance in pairs]
        total = math.fsum(pulls)
        found = [pull / total for pull in pulls]
        distances = distances_to(squares, np.array(found))
    return summing_to_one(found)


def _centered_clip(gram: Gram) -> Sequence[float]:
    count, shares = len(gram.weights), gram.shares
    squares = squared_distances(gram.matrix)
    found = [*shares] if len(squares) == count else [*(0.0,) * count, 1.0]
    for _ in range(gram.values.count("iterations")):
        distances = distances_to(squares, np.array(found))[:count]
        rho = gram.values.real("rho") or _middle(distances, gram.weights)
        pairs = zip(shares, distances, strict=True)
        steps = [s if d <= rho else s * (rho / d) for s, d in pairs]
        rest = 1.0 - math.fsum(steps)
        found = [coefficient * rest for coefficient in found]
        for place, step in enumerate(steps):
            found[place] += step
    return summing_to_one(found)


def _middle(values: Sequence[float], weights: Sequence[int]) -> float:
    """Return the mean of the lower and the upper median by weight."""
    total, passed = sum(weights), 0
    lower = math.nan
    for value, weight in sorted(zip(values, weights, strict=True)):
        before, passed = passed, passed + weight
        if 2 * before < total <= 2 * passed:
            lower = value
        if 2 * passed > total:
            return (lower + value) * 0.5
    message = "no weight is above zero"
    raise AssertionError(message)


def _start(inputs: Inputs, terms: Sequence[Term]) -> Sequence[Items]:
    """Return the median of task vectors, where the centre starts there."""
    if inputs.values.choice("start") == "mean":
        return ()
    output = Output("F32", range(inputs.items), f"tensor {inputs.tensor!r}")
    vectors = [tau_of(inputs, term) for term in terms]
    median = weighted_median(vectors, [term.weight for term in terms], output)
    return (Items(median, "F32"),)


def _iterations(default: int) -> Parameter:
    return Parameter(
        "iterations",
        "integer",
        default=str(default),
        mergekit_default=None,
        help="how often the centre is moved",
        minimum=DECIMAL_UNIT,
        maximum=_ITERATIONS_MAX,
        whole=True,
    )


_MEDIAN: Final = GramMethod(
    "geometric_median", _geometric_median, on="either", scoped=True
)
_CLIP: Final = GramMethod("centered_clip", _centered_clip, scoped=True, anchors=_start)

GEOMETRIC_MEDIAN = Strategy(
    name="geometric_median",
    version=1,
    summary="The point of the smallest sum of distances to all contributions",
    paper="Pillutla et al. 2019, RFA, https://arxiv.org/abs/1912.13445",
    parameters=(
        Parameter(
            "eps",
            "decimal",
            default="0.00000001",
            mergekit_default=None,
            help="distances count as this share of the mean one at least",
            minimum=1,
            maximum=DECIMAL_UNIT,
            whole=True,
        ),
        _iterations(64),
        SCOPE,
    ),
    needs_base=False,
    prefers_base=True,
    memory=MEMORY,
    held=part_by_part,
    emit=_MEDIAN.emit,
    map=_MEDIAN.map,
    reduce=_MEDIAN.reduce,
    reduces=_MEDIAN.reduces,
)

CENTERED_CLIP = Strategy(
    name="centered_clip",
    version=1,
    summary="Move a centre by changes clipped to a length",
    paper="Karimireddy et al. 2020, https://arxiv.org/abs/2012.10333",
    parameters=(
        _iterations(10),
        Parameter(
            "rho",
            "decimal",
            default="0",
            mergekit_default=None,
            help="longest pull of a contribution; 0 stands for the median distance",
            maximum=10**6 * DECIMAL_UNIT,
            whole=True,
        ),
        SCOPE,
        Parameter(
            "start",
            "choice",
            default="median",
            mergekit_default=None,
            help="where the centre starts: the median of each item, or the mean",
            choices=("median", "mean"),
            whole=True,
        ),
    ),
    memory=Memory(shared=24, each=24),
    emit=_CLIP.emit,
    map=_CLIP.map,
    reduce=_CLIP.reduce,
    reduces=_CLIP.reduces,
)
