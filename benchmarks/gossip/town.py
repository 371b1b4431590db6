"""Many simulated nodes of one space, and the spread of one record after another.

Owns the world that is measured: real node cores, whose messages cross as encoded frames,
on simulated links and a simulated clock. What is not real: nothing is on a disk, and a set
that many nodes reach by the same records in the same order is computed once, as a value
that cannot change. Every node checks the signature of each record that it takes itself.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import RecordId, SpaceId, Unknown
from crdtmerge.digest import ContentId
from crdtmerge.orset import OpSet
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.replica import Replica, found_space
from nodes.effects import RecordsCommitted
from nodes.spaces import Spaces
from simulations.faults import Faults
from simulations.world import TICK_S, Machine, World

MEET_TICKS: Final = 12
"""Time to dial and to be dialled, before anything is measured."""
STEP_S: Final = TICK_S / 20
PATIENCE_TICKS: Final = 200
NEWS_BYTES: Final = 64


@dataclass
class Inserts:
    """Sets that were reached before, by the root they came from and what was added."""

    known: dict[tuple[bytes, tuple[RecordId, ...]], OpSet] = field(default_factory=dict)

    def insert(self, before: OpSet, batch: Sequence[SignedRecord]) -> OpSet:
        """Return the set with `batch` joined in."""
        key = before.root, tuple(signed.record.id for signed in batch)
        if key not in self.known:
            after = before.insert(batch)
            after.root, after.view  # noqa: B018  computed once, for all who hold it
            self.known[key] = after
        return self.known[key]


class SharedSpaces(Spaces):
    """The spaces of one node, whose sets are looked up before they are computed."""

    inserts: Inserts

    def commit(
        self, space: SpaceId, batch: Sequence[SignedRecord]
    ) -> tuple[RecordId, ...]:
        """Join `batch`; return the ids that were new."""
        with self.lock:
            before = self._opsets.get(space, OpSet(space))
            fresh = {s.record.id: s for s in batch if s.record.id not in before}
            if fresh:
                after = self.inserts.insert(before, tuple(fresh.values()))
                self.records.append(space, list(fresh.values()))
                self._opsets[space] = after
            return tuple(fresh)


@dataclass(frozen=True)
class Spread:
    """How one record spread: periods until so many nodes had it, and what that took."""

    half: float
    all: float
    periods: float
    """Periods that were watched, until messages on their way had ended."""
    messages: int
    bytes: int


class Town:
    """A space of `count` nodes that have met."""

    def __init__(self, count: int, loss: float, rumours: int, seed: int) -> None:
        """Found the space, let everybody join it, and let them meet."""
        faults = Faults.of(loss=loss)
        self.world = World(seed, faults, rumours=rumours)
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
        for machine in machines:
            machine.spaces = SharedSpaces(machine.records, machine.blobs)
            machine.spaces.inserts = self.inserts
            machine.spaces.commit(self.space, [self.genesis, *announced])
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
        """Let somebody say something, and watch until all have heard it."""
        traffic, clock = self.world.network.traffic, self.world.clock
        before = traffic.messages, traffic.message_bytes
        speaker = self.rng.choice(self.machines)
        signed = self.news(speaker)
        began = clock.now
        fresh = speaker.spaces.commit(self.space, [signed])
        self.world.submit(speaker, RecordsCommitted(self.space, fresh))
        without = list(self.machines)
        half = 0.0
        while without:
            self.world.run(STEP_S)
            without = [m for m in without if not self._has(m, fresh[0])]
            if not half and 2 * len(without) <= len(self.machines):
                half = clock.now - began
            if clock.now - began > PATIENCE_TICKS * TICK_S:
                raise SystemExit(f"{len(without)} nodes never heard")
        took = clock.now - began
        self.world.run(self.rng.uniform(TICK_S, 2 * TICK_S))
        return Spread(
            half / TICK_S,
            took / TICK_S,
            (clock.now - began) / TICK_S,
            traffic.messages - before[0],
            traffic.message_bytes - before[1],
        )

    def _has(self, machine: Machine, record: RecordId) -> bool:
        return record in machine.spaces.opset(self.space)

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
