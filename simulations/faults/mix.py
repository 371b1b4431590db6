"""How often each kind of fault happens in a run: one frozen value, part of every repro.

Owns the chances, their limits and how they are said on a command line. Does not own the
kinds (`catalogue`), nor when one strikes (`dice`). Seed and mix decide a whole run.
"""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from crdtmerge.errors import BadInputError

from .catalogue import FAULTS, Area

CHANCE_MAX: Final = 0.5
"""What fails more often than not is no network, and waiting for luck has no bound."""
DELAY_S: Final = 0.08
DELAY_MAX_S: Final = 10.0


DISKS: Final = 0.25
"""Share of the runs drawn from a storm whose machines keep all on simulated disks."""
LIARS: Final = 0.4
"""Share of them in which members lie."""


@dataclass(frozen=True, slots=True)
class Faults:
    """The chance of each kind, and how long messages take that nothing holds up.

    Real links (gRPC streams) keep their order and lose nothing until they are cut. `loss`,
    `duplicate` and `reorder` go beyond: a session must stay safe, and get on, over links
    that know no order at all.
    """

    chances: tuple[tuple[str, float], ...] = ()
    """Names and chances above 0, in the order of the catalogue."""
    delay: float = DELAY_S
    """Longest time that a message takes if nothing holds it up, in seconds."""
    _by_name: Mapping[str, float] = field(
        init=False, repr=False, compare=False, hash=False
    )

    def __post_init__(self) -> None:
        """Let chances be found by name."""
        object.__setattr__(self, "_by_name", dict(self.chances))

    @classmethod
    def of(cls, delay: float = DELAY_S, **chances: float) -> Self:
        """Return a mix by the names of its kinds.

        Raises:
            BadInputError: names the kind that there is not, or a chance out of its range.
        """
        for name in chances:
            if name not in FAULTS:
                known = ", ".join(FAULTS)
                raise BadInputError(
                    f"no fault is called {name!r}", hint=f"known: {known}"
                )
        told = tuple((name, chances[name]) for name in FAULTS if chances.get(name))
        mix = cls(told, delay)
        mix.check()
        return mix

    @classmethod
    def told(cls, options: Iterable[str], delay: float = DELAY_S) -> Self:
        """Return the mix of options such as `loss=0.3`; `none` is no fault at all.

        Raises:
            BadInputError: one of them is not of this form, or as `of`.
        """
        chances = {}
        for option in options:
            name, _, chance = option.partition("=")
            if option == "none":
                continue
            try:
                chances[name.replace("-", "_")] = float(chance)
            except ValueError as e:
                hint = "for example loss=0.3"
                raise BadInputError(f"{option!r} is no fault", hint=hint) from e
        return cls.of(delay, **chances)

    def but(self, delay: float | None = None, **chances: float) -> Self:
        """Return this mix with other chances of some kinds.

        Raises:
            BadInputError: as `of`.
        """
        chosen = self.delay if delay is None else delay
        return self.of(chosen, **(dict(self.chances) | chances))

    def __getitem__(self, name: str) -> float:
        """Return the chance of one kind."""
        return self._by_name.get(name, 0.0)

    def drawn(self, rng: random.Random) -> Self:
        """Return about half of the kinds, drawn: runs differ more where each lacks some.

        Source: Groce et al., Swarm testing, ISSTA 2012. Kinds of disks are seldom drawn,
        and then most of them: machines on simulated disks take several times as long.
        """
        on_disks, among_liars = rng.random() < DISKS, rng.random() < LIARS
        shares = {"disk": on_disks * 0.8, "member": among_liars * 0.6}
        kept = {
            name: chance
            for name, chance in self.chances
            if rng.random() < shares.get(FAULTS[name].area, 0.5)
        }
        return self.of(self.delay, **kept)

    def of_area(self, area: Area) -> bool:
        """Tell whether any kind of an area happens at all."""
        return any(FAULTS[name].area == area for name, _ in self.chances)

    def check(self) -> None:
        """Refuse what is out of range.

        Raises:
            BadInputError: names the fault and its range.
        """
        limits = ((*told, CHANCE_MAX) for told in self.chances)
        for name, value, most in (*limits, ("delay", self.delay, DELAY_MAX_S)):
            if not 0.0 <= value <= most:  # false for what is not a number, too
                raise BadInputError(
                    f"{name} is {value:g}, not 0 to {most:g}",
                    hint="a chance of 0.3 means three times in ten; delay is in seconds",
                )

    def items(self) -> list[tuple[str, float]]:
        """Return names and values that are not 0, the delay last."""
        return [*self.chances, ("delay", self.delay)]

    def options(self) -> str:
        """Return the options of a command line that say these faults exactly."""
        told = [f"{name}={value!r}" for name, value in self.chances] or ["none"]
        said = " ".join(f"--fault {option}" for option in told)
        return f"{said} --delay {self.delay!r}"


CALM: Final = Faults()
"""Nothing goes wrong: links are as a local network's."""
STORM: Final = Faults.of(0.2, **{fault.name: fault.storm for fault in FAULTS.values()})
"""Everything goes wrong at once, more often than in any network worth the name."""
ROUGH: Final = Faults.of(
    0.2,
    loss=0.3,
    duplicate=0.1,
    reorder=0.2,
    refuse=0.1,
    cut=0.05,
    crash=0.03,
    partition=0.1,
)
"""What any honest network and machines do, as often as in a storm."""
