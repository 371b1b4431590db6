"""What strategies are asked with, where their defaults are not all there is to say.

Owns the literal tables: grids, what some strategies need, and what robust ones are told of
the poison. A strategy that stands in no table is asked with its defaults. Does not own
which strategies there are: that is the library's table.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from benchmarks.quality.merging import Setting, Words
from crdtmerge.strategies import Strategy

Group: TypeAlias = Literal["tasks", "halves", "checkpoints"]
"""What is merged: ten fine-tunes by task, two by halves of the digits, or the checkpoints
of one run on all digits, which are the models that strategies with a `step` are for."""

SCALES: Final = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.7", "1", "1.5", "2")

GRIDS: Final[Mapping[str, Sequence[str]]] = {
    "lambda": SCALES,
    "scale": SCALES,
    "alpha": SCALES,
    "p": ("0.5", "0.9"),
    "density": ("0.1", "0.2", "0.5", "0.9"),
    "select_topk": ("0.1", "0.5", "1"),
    "t": ("0.0001", "0.001", "0.01", "0.1", "1"),
    "filter_wise": ("false", "true"),
    "average": ("sma", "wma", "ema"),
    "decay": ("linear", "cosine", "sqrt"),
}
"""Values by the name of a parameter: every strategy that declares one is tuned over it.

Task vectors of ten tasks are far longer together than the papers' defaults for one or two
would have them (Ilharco et al. 2023 use 0.3 for eight), so each gets a choice of scales.
"""

GRID_MAX: Final = 64
SLOW_GRID_MAX: Final = 9
"""Settings that one strategy is tried with, and one that decomposes or descends; a larger
grid is taken over fewer parameters, the first of `GRIDS`."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a strategy cannot do without: a group, parameters, and own ones by place.

    `own` takes the place of a model and how many there are.
    """

    group: Group = "tasks"
    parameters: Words = field(default_factory=dict)
    own: Callable[[int, int], Words] | None = None

    def setting(self, count: int) -> Setting:
        """Return the setting for so many models."""
        if self.own is None:
            return Setting(self.parameters)
        own = tuple(self.own(place, count) for place in range(count))
        return Setting(self.parameters, own)


def _step(place: int, _count: int) -> Words:
    return {"step": str(place + 1)}


def _part(place: int, _count: int) -> Words:
    return {"part": ("outer", "inner")[place]}


def _first(place: int, _count: int) -> Words:
    return {"select": "false" if place else "true"}


NEEDS: Final[Mapping[str, Need]] = {
    # Both networks have three numbered layers: the middle one is the inner part's.
    "layer_swap": Need("halves", {"bottom": "1", "top": "1", "transition": "0"}, _part),
    "passthrough": Need(own=_first),
    "pma": Need("checkpoints", own=_step),
    "wsm": Need("checkpoints", own=_step),
}
"""By plain name. Without a row: ten tasks, or two halves where ten are refused."""

ROBUST: Final[Mapping[str, Mapping[str, Words]]] = {
    "median": {},
    "trimmed_mean": {"1 of 5": {"beta": "0.2"}, "2 of 7": {"beta": "0.3"}},
    "krum": {"1 of 5": {"f": "1"}, "2 of 7": {"f": "2"}},
    "multi_krum": {"1 of 5": {"f": "1"}, "2 of 7": {"f": "2"}},
    "geometric_median": {},
    "centered_clip": {},
    # Its bound is n >= 4f + 3: seven bear one, and five none.
    "bulyan": {"1 of 5": {"f": "1"}, "2 of 7": {"f": "1"}},
}
"""What each robust strategy is told in each scenario; the same for the clean merge."""

CONTRAST: Final = ("linear", "ties")
"""Strategies that promise nothing about poison, measured beside the robust ones."""


def grid(strategy: Strategy, need: Need, count: int) -> list[Setting]:
    """Return all settings that a strategy is tuned over; none if it has no such choice."""
    free = {
        p.name: GRIDS[p.name]
        for p in strategy.parameters
        if p.name in GRIDS and p.name not in need.parameters
    }
    free = {name: free[name] for name in GRIDS if name in free}
    slow = ".spectral." in strategy.emit.__module__
    most = SLOW_GRID_MAX if slow else GRID_MAX
    while math.prod(len(values) for values in free.values()) > most:
        free.popitem()
    start = need.setting(count)
    if not free:
        return []
    return [
        Setting({**start.parameters, **dict(zip(free, values, strict=True))}, start.own)
        for values in itertools.product(*free.values())
    ]
