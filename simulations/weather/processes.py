"""Faults of processes: they end, stand still, and come back as another; and of clocks.

Owns which machines they strike, and when. Does not own what ending is (`world`), nor what
a release speaks (`releases`).
"""

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Final

from simulations.cluster import Cluster
from simulations.releases import CURRENT, RELEASES
from simulations.world import Interruption, Machine

from .coming import Coming

EFFECTS_MAX: Final = 12
"""Effects that a process still performs, at most, before it is struck amid them."""
PAUSE_S: Final = (0.2, 15.0)
"""How long a process stands still."""
LOOPS: Final = (2, 5)
"""How often a process is killed again after it was started."""
LOOP_UP_S: Final = (0.0, 1.5)
LOOP_DOWN_S: Final = (0.05, 0.5)
UPGRADE_S: Final = (0.2, 2.0)
"""How long it takes from the end of one release to the start of another."""
JUMP_S: Final = (1.0, 86_400.0)
"""By how much a clock jumps: drawn so that minutes are as likely as hours."""


def strike(cluster: Cluster, coming: Coming) -> None:
    """Draw this round's faults of processes."""
    for machine in cluster.running:
        for name, happen in HAPPENS.items():
            if cluster.dice.arms(name, machine.name) and machine.node is not None:
                happen(coming, machine, cluster.dice.how(name))


def pass_over(cluster: Cluster) -> None:
    """Let every process go on, and be of this release."""
    for machine in cluster.machines:
        machine.interruption = None
        if machine.still is not None:
            cluster.wake(machine)
        if machine.release is not CURRENT:
            if machine.node is not None:
                cluster.leave(machine)
            machine.release = CURRENT


def _crash(coming: Coming, machine: Machine, _rng: random.Random) -> None:
    coming.cluster.dice.struck["crash"] += 1
    coming.cluster.crash(machine)
    coming.restart(machine)


def _amid(
    coming: Coming,
    machine: Machine,
    rng: random.Random,
    name: str,
    action: Callable[[], None],
) -> None:
    """Let something happen to a process amid the effects of an input to come."""
    if machine.interruption is not None or machine.still is not None:
        return

    def happen() -> None:
        coming.cluster.dice.struck[name] += 1
        action()

    machine.interruption = Interruption(rng.randint(1, EFFECTS_MAX), happen)


def _crash_amid(coming: Coming, machine: Machine, rng: random.Random) -> None:
    action = partial(coming.cluster.crash, machine)
    _amid(coming, machine, rng, "crash_amid", action)


def _pause(coming: Coming, machine: Machine, rng: random.Random) -> None:
    action = partial(coming.cluster.pause, machine, rng.uniform(*PAUSE_S))
    _amid(coming, machine, rng, "pause", action)


def _restart_loop(coming: Coming, machine: Machine, rng: random.Random) -> None:
    coming.cluster.dice.struck["restart_loop"] += 1
    _loop(coming, machine, rng, rng.randint(*LOOPS))


def _loop(coming: Coming, machine: Machine, rng: random.Random, left: int) -> None:
    """Kill a process now, and as many times again soon after it started."""
    cluster = coming.cluster
    cluster.crash(machine)

    def started() -> None:
        life = machine.life

        def again() -> None:
            if machine.life == life and machine.node is not None and not coming.over:
                _loop(coming, machine, rng, left - 1)

        if left > 0:
            cluster.clock.after(rng.uniform(*LOOP_UP_S), again)

    coming.restart(machine, LOOP_DOWN_S, started)


def _upgrade(coming: Coming, machine: Machine, rng: random.Random) -> None:
    """Let a machine end in order, and come back as another release."""
    others = [release for release in (CURRENT, *RELEASES) if release != machine.release]
    coming.cluster.dice.struck["upgrade"] += 1
    coming.cluster.leave(machine)
    machine.release = rng.choice(others)
    coming.restart(machine, UPGRADE_S)


def _jump(
    name: str, sign: int, coming: Coming, machine: Machine, rng: random.Random
) -> None:
    coming.cluster.dice.struck[name] += 1
    least, most = map(math.log, JUMP_S)
    machine.ahead += sign * math.exp(rng.uniform(least, most))


HAPPENS: Final[dict[str, Callable[[Coming, Machine, random.Random], None]]] = {
    "crash": _crash,
    "crash_amid": _crash_amid,
    "pause": _pause,
    "restart_loop": _restart_loop,
    "upgrade": _upgrade,
    "clock_ahead": partial(_jump, "clock_ahead", 1),
    "clock_back": partial(_jump, "clock_back", -1),
}
"""What each kind does to a machine that runs."""
