"""Scenarios, attackers by name, and what strategies are told: literal tables.

Owns these tables. Does not own what an attacker does (`attackers`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.quality.merging import Words


@dataclass(frozen=True, slots=True)
class Scenario:
    """So many contribute, and the last of them are poisoned."""

    name: str
    poisoned: int
    models: int
    kinds: tuple[str, ...]

    @property
    def honest(self) -> int:
        """How many are not poisoned."""
        return self.models - self.poisoned


CLEAN: Final = "nobody"
FLIPPED: Final = "flipped"
SCALED: Final = "scaled by -10"
BACKDOOR: Final = "backdoor"
REPLACING: Final = "replacing"
CLOSE: Final = "close"
PAIR: Final = "clean pair"
COPIES: Final = "near copies"

FACTORS: Final[Mapping[str, float]] = {FLIPPED: -1.0, SCALED: -10.0}
"""Untargeted attackers: what they multiply an honest task vector with."""

KINDS: Final = (CLEAN, FLIPPED, SCALED, BACKDOOR, REPLACING, CLOSE)

ONE: Final = Scenario("1 of 8", 1, 8, KINDS)
TWO: Final = Scenario("2 of 8", 2, 8, (*KINDS, PAIR))
MANY: Final = Scenario("5 of 12", 5, 12, (COPIES,))
MOST: Final = Scenario("8 of 15", 8, 15, (COPIES,))
SCENARIOS: Final = (ONE, TWO, MANY, MOST)

HONEST: Final = 8
"""Honest contributors that are trained; scenarios take the first of them."""

_F: Final[Mapping[str, Words]] = {
    "1 of 8": {"f": "1"},
    "2 of 8": {"f": "2"},
    "5 of 12": {"f": "4"},
    "8 of 15": {"f": "6"},
}

ROBUST: Final[Mapping[str, Mapping[str, Words]]] = {
    "median": {},
    "trimmed_mean": {
        "1 of 8": {"beta": "0.125"},
        "2 of 8": {"beta": "0.25"},
        "5 of 12": {"beta": "0.42"},
        "8 of 15": {"beta": "0.47"},
    },
    "krum": _F,
    "multi_krum": _F,
    "geometric_median": {},
    "centered_clip": {},
    "bulyan": {
        "1 of 8": {"f": "1"},
        "2 of 8": {"f": "1"},
        "5 of 12": {"f": "2"},
        "8 of 15": {"f": "3"},
    },
}
"""What each robust strategy is told of each scenario; the same where nobody is poisoned.

Where there are more bad ones than it can be told of, it is told of as many as it takes:
Krum of floor((n - 3) / 2), Bulyan of floor((n - 3) / 4), a trimmed mean of under half.
"""

_SHORT: Final[Words] = {"lambda": "0.2"}
"""Sums of eight task vectors at full length are no models (`docs/quality.md`)."""

CONTRAST: Final[Mapping[str, Words]] = {
    "linear": {},
    "karcher": {},
    "ties": {},
    "task_arithmetic": _SHORT,
    "dare_linear": _SHORT,
    "dare_ties": _SHORT,
    "breadcrumbs": _SHORT,
}
"""Strategies that promise nothing about poison, and what they are told."""

SETTLED: Final = 0.1
"""Attack success up to which a strategy is said to keep a backdoor out."""


def words_of(strategy: str, scenario: str) -> Words:
    """Return what a strategy is told in a scenario."""
    if strategy in ROBUST:
        return ROBUST[strategy].get(scenario, {})
    return CONTRAST[strategy]
