"""What members cost a node that has never met them: memory, disk, and the next to join.

Owns how it is measured: real node cores over the real store on a simulated disk, at two
sizes, and a straight line through both. Does not own the timer. What a book of addresses
takes at most is measured too: it is bounded, whatever the members.
"""

import gc
import tracemalloc
from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import ContentId, Domain, digest
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica, found_space
from nodes.book import ROWS_MAX, Book
from nodes.effects import RecordsCommitted, Ticked
from nodes.node import Node
from nodes.spaces import Spaces
from simulations.disks.power_loss import Loss
from simulations.disks.storage import DiskStorage
from simulations.world import World

from .calibration import Timer

SIZES: Final = (1000, 4000)


@dataclass(frozen=True, slots=True)
class Held:
    """What a node takes that has so many members; bytes, and seconds of the processor."""

    members: int
    record_bytes: int
    """Of the members' records: one each, where the space is open to all."""
    memory: int
    """Of what they mean: who stands how, who is trusted, where they listen."""
    next_seconds: float
    """Of taking in one member more."""


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line through two measurements, by members."""

    record_bytes: float
    memory: float
    next_seconds: float
    first: Held
    measured: tuple[Held, ...]
    book: int
    """Bytes of a full book of addresses."""

    def at(self, members: int) -> Held:
        """Return what so many members would take."""
        more = members - self.first.members
        return Held(
            members,
            round(self.first.record_bytes + self.record_bytes * more),
            round(self.first.memory + self.memory * more),
            self.first.next_seconds + self.next_seconds * more,
        )


def measure(seed: int, timer: Timer) -> Line:
    """Measure at two sizes, and draw the line."""
    one, other = (_hold(members, seed, timer) for members in SIZES)
    more = other.members - one.members
    return Line(
        (other.record_bytes - one.record_bytes) / more,
        (other.memory - one.memory) / more,
        (other.next_seconds - one.next_seconds) / more,
        one,
        (one, other),
        _book(),
    )


def _hold(members: int, seed: int, timer: Timer) -> Held:
    """Open a home of a space with so many members, and start its node."""
    storage = DiskStorage(bytes(16))
    me, last, record_bytes = _found(storage, members, seed)
    storage.lose_power(Loss("none"))  # what its node reads is on the disk alone
    storage.open()
    gc.collect()
    tracemalloc.start()
    spaces = Spaces(storage.records, storage.blobs)
    node = Node(me, spaces, World(seed).random("node"), "model/1")
    node.handle(Ticked(), 1.0)
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    (space,) = spaces.all()
    fresh = spaces.commit(space, [last])
    began = timer()
    node.handle(RecordsCommitted(space, fresh), 2.0)
    return Held(members, record_bytes, memory, timer() - began)


def _found(
    storage: DiskStorage, members: int, seed: int
) -> tuple[bytes, SignedRecord, int]:
    """Keep the records of a space whose members all announced a node.

    Returns the first one's transport key, the record of one member more, and how many
    bytes were kept.
    """
    keys = [SigningKey(_drawn(seed, "author", n)) for n in range(members + 1)]
    ends = [SigningKey(_drawn(seed, "node", n)).public for n in range(members + 1)]
    genesis = found_space(
        keys[0], name="model", mode="open", base=ContentId(bytes(32)), nonce=bytes(16)
    )
    space = SpaceId(genesis.record.id)
    begun = OpSet(space).insert([genesis])
    *announced, last = (
        Replica(begun, key).announce(end, (f"node{n}.example:7000",))
        for n, (key, end) in enumerate(zip(keys, ends, strict=True))
    )
    kept = [genesis, *announced]
    storage.records.append(space, kept)
    size = sum(len(one.record.data) + len(one.signature) for one in kept)
    return ends[0], last, size


def _drawn(seed: int, what: str, number: int) -> bytes:
    return digest(Domain.SEED, f"model {seed} {what} {number}".encode())


def _book() -> int:
    """Return the bytes of a full book of addresses."""
    gc.collect()
    tracemalloc.start()
    book = Book()
    for number in range(ROWS_MAX):
        node = digest(Domain.SEED, number.to_bytes(8, "big"))
        book.worked(node, f"node{number}.example:7000", float(number))
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size
