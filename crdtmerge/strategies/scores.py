"""Which evaluations a recipe's strategy reads: of which metric, on which data.

Owns the one answer to that, for merge ids and for plans alike: what is read enters both.
Does not own which evaluations count (`crdtmerge.policy.scoring`), nor what becomes of them.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from crdtmerge.digest import ContentId
from crdtmerge.errors import CrdtMergeError
from crdtmerge.recipe import Recipe
from crdtmerge.strategies.base import Score, Values, never
from crdtmerge.strategies.recipes import check_recipe
from crdtmerge.strategies.table import known

METRIC: Final = "metric"
DATA: Final = "data"
"""Parameters of strategies that read evaluations: which; empty for any."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a strategy asks for; an empty word means any."""

    metric: str
    data: str

    def fits(self, metric: str, data: str) -> bool:
        """Tell whether an evaluation of this metric, on this data, is read."""
        return self.metric in {"", metric} and self.data in {"", data}


def scores_asked(recipe: Recipe) -> Asked | None:
    """Return what the strategy of `recipe` asks for, None if it reads no evaluation.

    SUBTLE: any recipe that arrived may come here. One that this version cannot use has no
    model here, and names none by what it would read.
    """
    try:
        strategy = known(recipe.strategy)
        if strategy is None or strategy.scores is never:
            return None
        check_recipe(recipe)
    except CrdtMergeError:
        return None
    values = Values(recipe.for_the_whole(()).parameters)
    if not strategy.scores(values):
        return None
    told = dict(values.parameters)
    return Asked(told.get(METRIC, ""), told.get(DATA, ""))


def scores_of(
    recipe: Recipe, contents: Collection[ContentId], scores: Iterable[Score]
) -> tuple[Score, ...]:
    """Return the scores of these contents that the strategy reads, sorted."""
    asked = scores_asked(recipe)
    if asked is None:
        return ()
    read = (s for s in scores if s.content in contents and asked.fits(s.metric, s.data))
    return tuple(sorted(read, key=_place))


def _place(score: Score) -> tuple[bytes, str, str, bytes, int]:
    return score.content, score.metric, score.data, score.author, score.value
