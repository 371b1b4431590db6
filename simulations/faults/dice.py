"""When a fault strikes: drawn from the seed, counted, and left out where a repro says so.

Owns the draws. Each kind has a generator of its own, so a kind that is left out, or one
strike of it, changes no draw of another. Does not own chances (`mix`).
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .mix import Faults


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
    hits: Counter[str] = field(default_factory=Counter)
    """How often each kind was drawn, whether it struck or was left out."""
    struck: Counter[str] = field(default_factory=Counter)
    """How often each kind was injected."""
    _generators: dict[str, random.Random] = field(default_factory=dict)

    def strikes(self, name: str) -> bool:
        """Tell whether a fault strikes now; if so it is injected, and counted."""
        if strikes := self.arms(name):
            self.struck[name] += 1
        return strikes

    def arms(self, name: str) -> bool:
        """Tell whether a fault is to strike at the next occasion; who injects it counts."""
        chance = self.faults[name]
        if not chance or self.of(name).random() >= chance:
            return False
        self.hits[name] += 1
        return self.only is None or self.hits[name] in self.only.get(name, ())

    def of(self, name: str) -> random.Random:
        """Return the generator of one kind: for its draws, and how a strike turns out."""
        found = self._generators.get(name)
        if found is None:
            found = self._generators[name] = self.generator(f"fault {name}")
        return found
