"""What one message and one period cost a node, measured on real node cores.

Owns the meter: bytes of real frames by kind, and the processor's time of `Node.handle`, of
encoding and of decoding, by what was handled. Does not own the timer, which is an argument,
nor what follows from the costs (`prediction`). Sets are computed by each node for itself
here. Not measured: TLS, gRPC and disks, which a simulated world has not.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

import numpy as np

from crdtmerge.sync.messages import (
    FeedReply,
    FeedRequest,
    Heartbeat,
    Message,
    Rumour,
)
from nodes.convert import decode, encode
from nodes.effects import Effect, Input, MessageReceived, Send
from nodes.gossip import RUMOUR_FANOUT
from simulations.town import Town
from simulations.world import Machine, World

from .spread import BEAT, QUESTION, REPLY, RUMOUR

Timer: TypeAlias = Callable[[], float]
"""Seconds of the processor that this process has taken."""
KINDS: Final[dict[type[Message], str]] = {
    Heartbeat: BEAT,
    FeedRequest: QUESTION,
    FeedReply: REPLY,
    Rumour: RUMOUR,
}
OTHER: Final = "other"
NEWS: Final = " with news"
"""After the name of a kind: it brought a record, which was verified and passed on."""
IDLE_TICKS: Final = 30


@dataclass
class Metered(World):
    """A world that notes what its nodes take."""

    timer: Timer = field(default=lambda: 0.0)
    handled: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of the processor, by what was handled."""
    framing: float = 0.0
    """Seconds that encoding and decoding took."""
    frames: dict[str, list[tuple[int, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By kind, how many records each message held, and its bytes."""

    def _handle(self, machine: Machine, item: Input) -> None:
        assert machine.node is not None
        began = self.timer()
        effects = machine.node.handle(item, self.clock.now)
        took = self.timer() - began
        name = _name(item, effects)
        self.handled[name] += 1
        self.seconds[name] += took
        for effect in effects:
            if isinstance(effect, Send):
                self._frame(effect.message)
        self._perform_all(machine, effects)

    def _frame(self, message: Message) -> None:
        began = self.timer()
        frame = encode(message)
        decode(frame)
        self.framing += self.timer() - began
        held = len(message.records) if isinstance(message, FeedReply | Rumour) else 0
        name = KINDS.get(type(message), OTHER)
        self.frames[name].append((held, len(frame)))

    def forget(self) -> None:
        """Begin to count anew."""
        self.handled.clear()
        self.seconds.clear()
        self.frames.clear()
        self.framing = 0.0


def _name(item: Input, effects: list[Effect]) -> str:
    if not isinstance(item, MessageReceived):
        return type(item).__name__
    name = KINDS.get(type(item.message), OTHER)
    sent = (e.message for e in effects if isinstance(e, Send))
    return name + NEWS if any(isinstance(m, Rumour) for m in sent) else name


@dataclass(frozen=True, slots=True)
class Idle:
    """What a node takes in a period in which nothing happens."""

    messages: float
    bytes: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What things cost: bytes of messages, seconds of the processor."""

    nodes: int
    records: int
    bytes: dict[str, float]
    """Of a message, by kind: a rumour with its record and the chain which that hangs on,
    and a reply without records."""
    record_bytes: float
    """Of each record in a reply."""
    seconds: dict[str, float]
    """Of handling a message, by kind; `NEWS` where it brought a record."""
    frame_seconds: float
    """Of encoding a message once, and decoding it once."""
    idle: Idle


def calibrate(nodes: int, records: int, seed: int, timer: Timer) -> Calibration:
    """Measure a town of so many nodes while it idles and while news spreads.

    Raises:
        NotConvergedError: somebody never hears the news.
    """
    metered = partial(Metered, timer=timer)
    town = Town(nodes, 0.0, RUMOUR_FANOUT, seed, make=metered, shared=False)
    world = town.world
    assert isinstance(world, Metered)
    world.forget()
    messages, size = town.idle(IDLE_TICKS)
    spent = (sum(world.seconds.values()) + world.framing) / (nodes * IDLE_TICKS)
    world.forget()
    for _ in range(records):
        town.spread()
    sizes = {kind: np.array(world.frames[kind]) for kind in KINDS.values()}
    record_bytes = _slope(sizes[REPLY])
    means = {kind: float(size[:, 1].mean()) for kind, size in sizes.items()}
    means[REPLY] -= record_bytes * float(sizes[REPLY][:, 0].mean())
    sent = sum(map(len, world.frames.values()))
    return Calibration(
        nodes,
        records,
        means,
        record_bytes,
        {name: world.seconds[name] / count for name, count in world.handled.items()},
        world.framing / sent,
        Idle(messages, size, spent),
    )


def _slope(points: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> float:
    """Return by how much the bytes grow with each record."""
    return float(np.polyfit(points[:, 0], points[:, 1], 1)[0])
