"""Many simulated nodes of one space, and the spread of one record after another.

Owns the world that is measured: real node cores, whose messages cross as encoded frames,
on simulated links and a simulated clock. What is not real: nothing is on a disk, and a set
that many nodes reach is computed once (`sharing`). Every node checks the signature of each
record that it takes itself. Does not own what is measured and printed: that is
`benchmarks.gossip`, and `model` for its check.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import RecordId, SpaceId, Unknown
from crdtmerge.digest import ContentId
from crdtmerge.orset import OpSet
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.replica import Replica, found_space
from nodes.effects import RecordsCommitted
from simulations.checking.checkers import NotConvergedError

from .faults import Faults
from .sharing import Inserts, SharedSpaces
from .world import TICK_S, Machine, World

MEET_TICKS: Final = 12
"""Time to dial and to be dialled, before anything is measured."""
STEP_S: Final = TICK_S / 20
PATIENCE_TICKS: Final = 200
NEWS_BYTES: Final = 64


@dataclass(frozen=True)
class Spread:
    """How one record spread: periods until so many nodes had it, and what that took."""

    half: float
    most: float
    """Until 99 of a hundred had it."""
    all: float
    periods: float
    """Periods that were watched, until messages on their way had ended."""
    messages: int
    bytes: int


class Town:
    """A space of `count` nodes that have met."""

    def __init__(
        self,
        count: int,
        loss: float,
        rumours: int,
        seed: int,
        *,
        make: Callable[..., World] = World,
        shared: bool = True,
    ) -> None:
        """Found the space, let everybody join it, and let them meet.

        Unless sets are `shared`, each node computes its own.
        """
        faults = Faults.of(loss=loss)
        self.world = make(seed, faults, rumours=rumours)
        self.rng: random.Random = self.world.random("news")
        self.inserts = Inserts()
        machines = [self.world.add_machine() for _ in range(count)]
        self.genesis = found_space(
            machines[0].author,
            name="town",
            mode="open",
            base=ContentId(bytes(32)),
            nonce=self.world.draw("nonce")[:16],
        )
        self.space = SpaceId(self.genesis.record.id)
        self.said = dict.fromkeys(machines, 0)
        begun = OpSet(self.space).insert([self.genesis])
        announced = [
            Replica(begun, m.author).announce(m.transport, (m.address,))
            for m in machines
        ]
        self.last = dict(zip(machines, announced, strict=True))
        self.heard: dict[RecordId, list[float]] = {}
        """When nodes took each record since, in the order of time."""
        for machine in machines:
            spaces = machine.spaces = SharedSpaces(machine.records, machine.blobs)
            spaces.share(self.inserts if shared else Inserts())
            spaces.commit(self.space, [self.genesis, *announced])
            spaces.on_taken = self._taken
        for machine in machines:
            self.world.start(machine)
        self.world.run(MEET_TICKS * TICK_S)

    @property
    def machines(self) -> list[Machine]:
        """The nodes."""
        return self.world.machines

    def idle(self, ticks: int) -> tuple[float, float]:
        """Return messages and bytes a node and period while nothing happens."""
        traffic = self.world.network.traffic
        before = traffic.messages, traffic.message_bytes
        self.world.run(ticks * TICK_S)
        share = ticks * len(self.machines)
        messages = traffic.messages - before[0]
        return messages / share, (traffic.message_bytes - before[1]) / share

    def spread(self) -> Spread:
        """Let somebody say something, and watch until all have heard it.

        Raises:
            NotConvergedError: somebody never does.
        """
        traffic, clock = self.world.network.traffic, self.world.clock
        before = traffic.messages, traffic.message_bytes
        speaker = self.rng.choice(self.machines)
        signed = self.news(speaker)
        began, count = clock.now, len(self.machines)
        fresh = speaker.spaces.commit(self.space, [signed])
        self.world.submit(speaker, RecordsCommitted(self.space, fresh))
        heard = self.heard[fresh[0]]
        while len(heard) < count:
            self.world.run(STEP_S)
            if clock.now - began > PATIENCE_TICKS * TICK_S:
                raise NotConvergedError(f"{count - len(heard)} nodes never heard")
        self.world.run(self.rng.uniform(TICK_S, 2 * TICK_S))
        half, most, last = (
            (heard[math.ceil(share * count) - 1] - began) / TICK_S
            for share in (0.5, 0.99, 1.0)
        )
        return Spread(
            half,
            most,
            last,
            (clock.now - began) / TICK_S,
            traffic.messages - before[0],
            traffic.message_bytes - before[1],
        )

    def _taken(self, records: tuple[RecordId, ...]) -> None:
        for record in records:
            self.heard.setdefault(record, []).append(self.world.clock.now)

    def news(self, machine: Machine) -> SignedRecord:
        """Return a record of a kind that has no effect, the next of its author."""
        last = self.last[machine].record
        record = make_record(
            space=self.space,
            author=machine.author.public,
            author_seq=last.author_seq + 1,
            prev=last.id,
            auth=self.genesis.record.id,
            body=Unknown("note", self.rng.randbytes(NEWS_BYTES)),
        )
        self.last[machine] = sign_record(record, machine.author)
        return self.last[machine]
