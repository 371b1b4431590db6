"""When a fault strikes: drawn from the seed, counted, and left out where a repro says so.

Owns the draws. Each kind has a generator of its own, so a kind that is left out, or one
strike of it, changes no draw of another. Does not own chances (`mix`), nor the log of what
struck (`world`).
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from .mix import Faults

Subject: TypeAlias = tuple[str | bytes, ...]
"""Whom a fault strikes: names of machines, transport keys, the kind of a message."""


class Strike(NamedTuple):
    """One fault that happened: the `hit`th of its kind, at `time` in virtual seconds."""

    name: str
    hit: int
    time: float
    subject: Subject


def untold(_name: str, _hit: int, _subject: Subject) -> None:
    """Tell nobody of a strike."""


@dataclass(slots=True)
class Dice:
    """The draws of one run: `faults` may be another mix later on."""

    faults: Faults
    generator: Callable[[str], random.Random]
    """Return the generator that a label names."""
    only: Mapping[str, frozenset[int]] | None = None
    """Which hits of each kind strike, counted from 1; all of them if there is no mapping.

    A kind that is not in the mapping never strikes.
    """
    told: Callable[[str, int, Subject], None] = untold
    """Called with each strike: its kind, which hit of it, and whom it strikes."""
    hits: Counter[str] = field(default_factory=Counter)
    """How often each kind was drawn, whether it struck or was left out."""
    struck: Counter[str] = field(default_factory=Counter)
    """How often each kind was injected."""
    _generators: dict[str, random.Random] = field(default_factory=dict)

    def strikes(self, name: str, *subject: str | bytes) -> bool:
        """Tell whether a fault strikes now; if so it is injected, and counted.

        The `subject` is said where the strikes of a run are listed.
        """
        if strikes := self.arms(name, *subject):
            self.struck[name] += 1
        return strikes

    def arms(self, name: str, *subject: str | bytes) -> bool:
        """Tell whether a fault is to strike at the next occasion; who injects it counts."""
        chance = self.faults[name]
        if not chance or self.of(name).random() >= chance:
            return False
        self.hits[name] += 1
        hit = self.hits[name]
        if self.only is not None and hit not in self.only.get(name, ()):
            return False
        self.told(name, hit, subject)
        return True

    def how(self, name: str) -> random.Random:
        """Return a generator for how the hit that was drawn last turns out.

        It is of this hit alone: where one is left out, the others turn out as they did.
        """
        return self.generator(f"fault {name} {self.hits[name]}")

    def count(self, name: str) -> None:
        """Count a kind that was armed, now that it strikes."""
        self.struck[name] += 1

    def of(self, name: str) -> random.Random:
        """Return the generator of one kind, of which its hits are drawn."""
        found = self._generators.get(name)
        if found is None:
            found = self._generators[name] = self.generator(f"fault {name}")
        return found
