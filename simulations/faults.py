"""What goes wrong in a simulated world: one frozen value, part of every repro.

Owns the kinds of faults, their limits and how they are said on a command line. Does not own
who suffers them: messages do in `network`, dials and fetches in `world`, links and machines
in `weather`. Seed and faults together decide a whole run.
"""

from dataclasses import asdict, dataclass, fields
from typing import Final

from crdtmerge.errors import BadInputError

CHANCE_MAX: Final = 0.5
"""What fails more often than not is no network, and waiting for luck has no bound."""
DELAY_MAX_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Faults:
    """How often each fault happens, and how long messages take.

    Real links (gRPC streams) keep their order and lose nothing until they are cut: `refuse`
    and `cut` are their faults. `loss`, `duplicate` and `reorder` go beyond: a session must
    stay safe, and get on, over links that know no order at all.
    """

    loss: float = 0.0
    """Chance that a message never arrives."""
    duplicate: float = 0.0
    """Chance that a message arrives a second time, later."""
    reorder: float = 0.0
    """Chance that a message is held up, and overtaken by those sent after it."""
    delay: float = 0.08
    """Longest time that a message takes if nothing holds it up, in seconds."""
    refuse: float = 0.0
    """Chance that a dial or a fetch fails."""
    cut: float = 0.0
    """Chance that a link is cut, each round."""
    crash: float = 0.0
    """Chance that a machine crashes, each round; it comes back with its disk."""
    partition: float = 0.0
    """Chance that the network falls apart, each round; it heals after some."""
    power: float = 0.0
    """Chance that a machine's power goes amid what it writes next, each round.

    Above 0 machines keep all on simulated disks, which lose and tear what was not synced.
    """

    def check(self) -> None:
        """Refuse what is out of range.

        Raises:
            BadInputError: names the fault and its range.
        """
        for name, value in self.items():
            most = DELAY_MAX_S if name == "delay" else CHANCE_MAX
            if not 0.0 <= value <= most:  # false for what is not a number, too
                raise BadInputError(
                    f"{name} is {value:g}, not 0 to {most:g}",
                    hint="a chance of 0.3 means three times in ten; delay is in seconds",
                )

    def items(self) -> list[tuple[str, float]]:
        """Return names and values, in the order above."""
        return list(asdict(self).items())

    def options(self) -> str:
        """Return the options of a command line that say these faults exactly."""
        return " ".join(f"--{name} {value!r}" for name, value in self.items())


CALM: Final = Faults()
"""Nothing goes wrong: links are as a local network's."""
STORM: Final = Faults(
    loss=0.3,
    duplicate=0.1,
    reorder=0.2,
    delay=0.2,
    refuse=0.1,
    cut=0.05,
    crash=0.03,
    partition=0.1,
)
"""Everything goes wrong at once, more often than in any network worth the name."""
NAMES: Final = tuple(field.name for field in fields(Faults))
