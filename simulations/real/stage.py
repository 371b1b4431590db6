"""What a story may ask of the world it is told in, be that simulated or real.

Owns the words. Does not own the worlds (`scene`, `twin`), nor the stories (`stories`): each
is told once, and plays in both.
"""

import random
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Figures:
    """What a told story came to: counts from when all had met to when all agreed.

    Rounds are heartbeats, of a second in both worlds, from the last disturbance on.
    """

    records: int
    contributions: int
    lasted: float
    """Rounds of the whole story, in each of which every node says how it is."""
    record_rounds: float
    """Until all held the same records."""
    rounds: float
    """Until all held the contents too."""
    messages: int
    message_bytes: int | None
    """Of messages alone; None where only what wires carry is known."""
    content_bytes: int
    """Encoded bytes of contents that nodes took in."""
    carried_bytes: int | None
    """All that wires carried, with TCP, TLS and the headers of frames."""
    packets: int | None

    def facts(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return asdict(self)


class Stage(Protocol):
    """A world with the members of one space, all of whose nodes run and have met."""

    rng: random.Random
    """Decides what the story leaves to chance."""

    @property
    def names(self) -> tuple[str, ...]:
        """The members; the first owns the space."""

    def contribute(self, name: str) -> None:
        """Let a member contribute a new model, which is acknowledged."""

    def refuse_contribution(self, name: str) -> None:
        """Let a member try to contribute where that cannot be: nothing is acknowledged."""

    def remove_one(self, name: str) -> None:
        """Let a member remove a contribution of its own."""

    def rest(self, rounds: float) -> None:
        """Let heartbeats pass."""

    def expect_apart(self, one: str, other: str) -> None:
        """Check that two members do not hold the same records."""

    # --- processes ------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """End the process of a member, as SIGKILL does."""

    def kill_amid(self, name: str) -> None:
        """End it amid a contribution, which is acknowledged or not, as it happens."""

    def revive(self, name: str) -> None:
        """Start it again; what was not acknowledged is contributed again."""

    def pause(self, name: str, rounds: float) -> None:
        """Let it stand still for so long from now on; what comes next goes on meanwhile."""

    def upgrade(self, name: str) -> None:
        """End it in order, and start the version after."""

    # --- networks -------------------------------------------------------------------------

    def part(self, island: Collection[str]) -> None:
        """Let nothing pass between these and the others."""

    def silence(self, senders: Collection[str]) -> None:
        """Lose what these send to the others, who still reach them."""

    def leave_only(self, middle: str) -> None:
        """Let everybody reach this member and nobody else."""

    def unplug(self, name: str) -> None:
        """Let a member reach nobody, and know."""

    def heal(self) -> None:
        """Let everybody reach everybody."""

    def storm(self) -> None:
        """Lose, delay, reorder, double and corrupt what is on its way."""

    def narrow(self) -> None:
        """Let links carry few bytes a second."""

    def calm(self) -> None:
        """End a storm, or what is narrow."""

    # --- disks ----------------------------------------------------------------------------

    def fill_disk(self, name: str) -> None:
        """Leave no room on the disk of a member."""

    def free_disk(self, name: str) -> None:
        """Give it room again."""

    # --- the end --------------------------------------------------------------------------

    def settle(self) -> Figures:
        """Wait until all agree, check every promise, and return what it came to.

        Raises:
            NotConvergedError: a promise does not hold.
        """
