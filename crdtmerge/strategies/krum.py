"""krum and multi_krum: keep who lies close to most others.

Owns `krum/1`, `multi_krum/1`, their scores and the number of bad contributions that such
methods withstand. Does not own inner products and the sum (`gram`).

Formula (Blanchard et al. 2017, arXiv:1703.02757): of n vectors, up to f of them bad,
n >= 2f + 3, the score of each is the sum of its n - f - 2 smallest squared distances to
others. krum takes the vector of the lowest score, multi_krum the mean of the m lowest.
Exact: the choice, given the scores; who stands first in canonical order wins a tie. Ours:
f = 0 stands for the largest that n allows, floor((n - 3) / 2), as nobody needs such a
method against none; m = 0 for n - f (the authors' own code takes n - f - 2); distances
are Euclidean over the whole model or one tensor (`scope`), between task vectors or,
without a base, whole weights; they come from inner products in float64, so distances
that are tiny beside the vectors themselves are not told apart.

Weights: multi_krum averages the chosen by weight. Scores look at no weight, and so does
krum: a weight above zero makes no other choice. Counted are those of weight above zero.
An author who can make exact ties can also choose a digest that wins them; of three
contributions, where one neighbour counts, the two nearest always tie. mergekit has no such
methods.
"""

from collections.abc import Callable, Sequence
from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies.base import Parameter, Strategy, Values, part_by_part
from crdtmerge.strategies.gram import (
    MEMORY,
    SCOPE,
    Gram,
    GramMethod,
    squared_distances,
    summing_to_one,
)

_COUNT_MAX: Final = 1000 * DECIMAL_UNIT


def bad_count(count: int, asked: int, strategy: str, factor: int) -> int:
    """Return f, how many of `count` may be bad: as asked, or (0) as many as can be.

    Raises:
        ContractError: there are fewer than factor * f + 3.
    """
    found = asked or max(0, (count - 3) // factor)
    if count >= factor * found + 3:
        return found
    message = (
        f"{strategy} needs {factor * found + 3} contributions of weight above zero"
        f" to withstand {found} bad ones, not {count}"
    )
    lower = "lower f, or " if asked else ""
    hint = f"{lower}wait for more contributions, or take a median"
    raise ContractError(message, hint=hint)


def fewest_for(factor: int) -> Callable[[Values], int]:
    """Return what tells how many contributions f needs: factor * f + 3."""
    return lambda values: factor * values.count("f") + 3


def f_parameter(rule: str) -> Parameter:
    """Return the declaration of f, whose automatic value is `rule`."""
    return Parameter(
        "f",
        "integer",
        default="0",
        mergekit_default=None,
        help=f"how many contributions may be bad; 0 stands for {rule} of n",
        maximum=_COUNT_MAX,
        whole=True,
    )


def ranked(distances: Floats, pool: Sequence[int], neighbours: int) -> list[int]:
    """Return those of `pool` from the lowest score up, the first of equal ones first.

    A score is the sum of the smallest squared distances to `neighbours` others of the
    pool, or to all others if there are fewer.
    """
    return sorted(pool, key=lambda one: (_score(distances, one, pool, neighbours), one))


def _score(distances: Floats, one: int, pool: Sequence[int], neighbours: int) -> float:
    others = sorted(float(distances[one, other]) for other in pool if other != one)
    total = 0.0
    for distance in others[:neighbours]:
        total += distance
    return total


def _closest(gram: Gram, strategy: str) -> tuple[list[int], int]:
    """Return all from the lowest score up, and f."""
    count = len(gram.weights)
    bad = bad_count(count, gram.values.count("f"), strategy, factor=2)
    distances = squared_distances(gram.matrix)
    return ranked(distances, range(count), count - bad - 2), bad


def _krum(gram: Gram) -> Sequence[float]:
    order, _ = _closest(gram, "krum")
    return [float(place == order[0]) for place in range(len(order))]


def _multi_krum(gram: Gram) -> Sequence[float]:
    order, bad = _closest(gram, "multi_krum")
    most = len(order) - bad
    chosen = gram.values.count("m") or most
    if chosen > most:
        message = (
            f"multi_krum cannot choose {chosen} of {len(order)} contributions"
            f" if {bad} of them may be bad"
        )
        raise ContractError(message, hint=f"lower m to {most}, or lower f")
    kept = frozenset(order[:chosen])
    weights = [w if place in kept else 0 for place, w in enumerate(gram.weights)]
    total = sum(weights)
    return summing_to_one([weight / total for weight in weights])


_KRUM: Final = GramMethod("krum", _krum, on="either", scoped=True)
_MULTI: Final = GramMethod("multi_krum", _multi_krum, on="either", scoped=True)
_F: Final = f_parameter("floor((n - 3) / 2)")

KRUM = Strategy(
    name="krum",
    version=1,
    summary="Take the one contribution that lies closest to most others",
    paper="Blanchard et al. 2017, https://arxiv.org/abs/1703.02757",
    parameters=(_F, SCOPE),
    needs_base=False,
    prefers_base=True,
    memory=MEMORY,
    held=part_by_part,
    fewest=fewest_for(2),
    emit=_KRUM.emit,
    map=_KRUM.map,
    reduce=_KRUM.reduce,
    reduces=_KRUM.reduces,
)

MULTI_KRUM = Strategy(
    name="multi_krum",
    version=1,
    summary="Average the contributions that lie closest to most others",
    paper="Blanchard et al. 2017, https://arxiv.org/abs/1703.02757",
    parameters=(
        _F,
        Parameter(
            "m",
            "integer",
            default="0",
            mergekit_default=None,
            help="how many contributions are averaged; 0 stands for n - f",
            maximum=_COUNT_MAX,
            whole=True,
        ),
        SCOPE,
    ),
    needs_base=False,
    prefers_base=True,
    memory=MEMORY,
    held=part_by_part,
    fewest=fewest_for(2),
    emit=_MULTI.emit,
    map=_MULTI.map,
    reduce=_MULTI.reduce,
    reduces=_MULTI.reduces,
)
