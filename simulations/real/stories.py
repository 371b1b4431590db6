"""The stories that play in both worlds.

Owns what happens and when. Does not own the worlds (`scene`, `twin`), nor what must hold
afterwards (`checks`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from .stage import Stage

Need = Literal["namespaces", "older"]


@dataclass(frozen=True, slots=True)
class Story:
    """One story: how it is told, and what its real world must have."""

    tell: Callable[[Stage, int], None]
    """Told with a number of times that the trouble comes."""
    times: int
    needs: frozenset[Need] = frozenset()
    own_disk: bool = False
    """Whether the last member has a small disk of its own."""
    stormy: bool = False
    """Whether its packets must be lost, by whatever this machine has for that."""

    @property
    def words(self) -> str:
        """What happens in it."""
        return (self.tell.__doc__ or "").splitlines()[0]


def kill(stage: Stage, times: int) -> None:
    """Nodes are killed at random moments amid their contributions, and start again."""
    for number in range(times):
        victim = stage.names[number % len(stage.names)]
        stage.kill_amid(victim)
        stage.contribute(stage.names[(number + 1) % len(stage.names)])
        stage.revive(victim)


def pause(stage: Stage, times: int) -> None:
    """A node stands still for many heartbeats while the others contribute."""
    for number in range(times):
        victim = stage.names[-1 - number % len(stage.names)]
        stage.pause(victim, PAUSE_ROUNDS)
        for name in stage.names:
            if name != victim:
                stage.contribute(name)
        stage.rest(PAUSE_ROUNDS)
        stage.contribute(victim)


def restart_loop(stage: Stage, times: int) -> None:
    """A node dies as soon as it listens, again and again, while the others contribute."""
    *others, victim = stage.names
    stage.contribute(victim)
    for number in range(times):
        stage.kill(victim)
        stage.contribute(others[number % len(others)])
        stage.revive(victim)
    stage.contribute(victim)


def disk_full(stage: Stage, times: int) -> None:
    """The disk of a member is full while all contribute; then it has room again."""
    *others, victim = stage.names
    stage.contribute(victim)
    for number in range(times):
        stage.fill_disk(victim)
        stage.refuse_contribution(victim)
        stage.contribute(others[number % len(others)])
        stage.rest(3)
        stage.free_disk(victim)
        stage.contribute(victim)


def upgrade(stage: Stage, times: int) -> None:
    """A group of the version before is upgraded one by one while all contribute."""
    for name in stage.names:
        for _ in range(times):
            stage.contribute(name)
        stage.upgrade(name)
        stage.contribute(name)


def islands(stage: Stage, times: int) -> None:
    """Two islands work apart, each with adds and a removal; then they meet again."""
    for name in stage.names:
        stage.contribute(name)
    stage.rest(2)
    for _ in range(times):
        island = sorted(stage.rng.sample(stage.names, len(stage.names) // 2))
        mainland = [name for name in stage.names if name not in island]
        stage.part(island)
        for name in stage.names:
            stage.contribute(name)
        stage.remove_one(island[0])
        stage.remove_one(mainland[0])
        stage.rest(APART_ROUNDS)
        stage.expect_apart(island[0], mainland[0])
        stage.heal()


def one_way(stage: Stage, times: int) -> None:
    """What some members send is lost, while what the others send still arrives."""
    for _ in range(times):
        mute = sorted(stage.rng.sample(stage.names, len(stage.names) // 2))
        stage.silence(mute)
        for name in stage.names:
            stage.contribute(name)
        stage.rest(APART_ROUNDS)
        stage.heal()


def bridge(stage: Stage, times: int) -> None:
    """Everybody reaches one member alone, through whom all news must go."""
    stage.leave_only(stage.names[-1])
    for _ in range(times):
        for name in stage.names:
            stage.contribute(name)
        stage.rest(2)


def flapping(stage: Stage, times: int) -> None:
    """The cable of a member is pulled out and put in again and again while all work."""
    for number in range(times):
        stage.unplug(stage.names[-1])
        stage.contribute(stage.names[number % len(stage.names)])
        stage.rest(FLAP_ROUNDS)
        stage.heal()
        stage.rest(FLAP_ROUNDS)


def weather(stage: Stage, times: int) -> None:
    """Packets are lost, late, doubled, overtaken and corrupted while all contribute."""
    stage.storm()
    for _ in range(times):
        for name in stage.names:
            stage.contribute(name)
        stage.rest(2)
    stage.rest(STORM_ROUNDS)
    stage.calm()


def narrow(stage: Stage, times: int) -> None:
    """Links carry few bytes a second while all contribute, and stay so."""
    stage.narrow()
    for _ in range(times):
        for name in stage.names:
            stage.contribute(name)


PAUSE_ROUNDS: Final = 6
APART_ROUNDS: Final = 6
FLAP_ROUNDS: Final = 1
STORM_ROUNDS: Final = 5

NAMESPACES: Final = frozenset[Need]({"namespaces"})

STORIES: Final[Mapping[str, Story]] = {
    "kill": Story(kill, 8),
    "pause": Story(pause, 2),
    "restart-loop": Story(restart_loop, 6),
    "disk-full": Story(disk_full, 2, NAMESPACES, own_disk=True),
    "upgrade": Story(upgrade, 1, frozenset({"older"})),
    "islands": Story(islands, 2, NAMESPACES),
    "one-way": Story(one_way, 1, NAMESPACES),
    "bridge": Story(bridge, 2, NAMESPACES),
    "flapping": Story(flapping, 5, NAMESPACES),
    "weather": Story(weather, 2, stormy=True),
    "narrow": Story(narrow, 1, NAMESPACES),
}
