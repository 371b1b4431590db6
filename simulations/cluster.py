"""A cluster: simulated nodes of one space, and the performer of their effects.

Owns what `nodes.runtime` owns in a real process: ticks, dials, fetches, trust; and what
people do: contribute, ban, join, crash. Does not own the wires (`network`), nor what must
hold afterwards (`checkers`).
"""

import random
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, assert_never

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId, Domain, digest
from crdtmerge.errors import CorruptBlobError
from crdtmerge.identity import SigningKey
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.policy import Rank
from crdtmerge.recipe import Recipe
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica, found_space
from crdtmerge.sync.messages import Message
from nodes.effects import (
    BlobFailed,
    BlobStored,
    Close,
    Dial,
    Effect,
    Fetch,
    Input,
    MessageReceived,
    PeerClosed,
    PeerOpened,
    RecordsCommitted,
    Send,
    Ticked,
    Trust,
)
from nodes.node import Node
from nodes.spaces import Spaces
from nodes.store.memory import MemoryBlobs, MemoryRecords

from .clock import Clock
from .network import Network

TICK_S: Final = 1.0
DIAL_TIMEOUT_S: Final = 1.0
TENSOR_ITEMS: Final = 64
BASE: Final = ContentId(digest(Domain.CONTENT, b"the base of every simulation"))
RECIPE: Final = Recipe("linear/1")


@dataclass(slots=True, eq=False)
class Machine:
    """One simulated machine: what survives a crash, and the core if it runs."""

    name: str
    author: SigningKey
    transport: bytes
    records: MemoryRecords
    blobs: MemoryBlobs
    spaces: Spaces
    node: Node | None = None
    life: int = 0
    members: frozenset[bytes] = frozenset()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self.name}.sim:7000"


@dataclass(slots=True)
class Cluster:
    """All machines, one space, one seed."""

    seed: int
    clock: Clock = field(default_factory=Clock)
    machines: list[Machine] = field(default_factory=list)
    ledger: set[RecordId] = field(default_factory=set)
    network: Network = field(init=False)
    space: SpaceId = field(init=False)
    rng: random.Random = field(init=False)
    events: int = 0
    _log: bytes = b""
    _by_transport: dict[bytes, Machine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Found the space on the first machine, which owns it."""
        self.rng = self._random("cluster")
        network_rng = self._random("network")
        self.network = Network(self.clock, network_rng, self._deliver, self._closed)
        owner = self._add_machine()
        nonce = self._bytes("nonce")[:16]
        genesis = found_space(
            owner.author, name="simulated", mode="members", base=BASE, nonce=nonce
        )
        self.space = SpaceId(genesis.record.id)
        self.commit(owner, genesis)
        self.commit(owner, self.replica(owner).set_recipe(RECIPE))
        self._announce(owner)
        self._start(owner)

    # --- what people do -----------------------------------------------------------------

    @property
    def owner(self) -> Machine:
        """The machine of the owner."""
        return self.machines[0]

    def replica(self, machine: Machine) -> Replica:
        """Return the space as the author of `machine` sees it."""
        return Replica(machine.spaces.opset(self.space), machine.author)

    def commit(self, machine: Machine, *records: SignedRecord) -> None:
        """Store records that a command of `machine` made, and tell its node."""
        fresh = machine.spaces.commit(records[0].record.space_id, records)
        self.ledger |= set(fresh)
        self.submit(machine, RecordsCommitted(self.space, fresh))

    def join(self, rank: Rank = Rank.CONTRIBUTOR) -> Machine:
        """Let one more machine join through the owner's, and start it."""
        owner, machine = self.owner, self._add_machine()
        self.commit(owner, self.replica(owner).grant(machine.author.public, rank))
        self.welcome(machine)
        self.commit(owner, self._announce(machine))
        self._start(machine)
        return machine

    def welcome(self, machine: Machine) -> None:
        """Give `machine` the records of the owner, as a ticket would."""
        known = self.owner.spaces.opset(self.space).signed.values()
        machine.spaces.commit(self.space, tuple(known))

    def contribute(self, machine: Machine, model: str = "") -> ContentId:
        """Contribute a small model; the same `model` name is the same content."""
        label = model or f"{machine.name}/{len(self.ledger)}"
        entries: list[TensorEntry] = []
        for tensor in ("layer.bias", "layer.weight"):
            data = self._random(f"{label}/{tensor}").randbytes(4 * TENSOR_ITEMS)
            blob = machine.blobs.add(data)
            entries.append(TensorEntry(tensor, "F32", (TENSOR_ITEMS,), blob))
        manifest = Manifest("full", BASE, tuple(entries))
        machine.blobs.add(manifest.encode())
        self.commit(
            machine,
            self.replica(machine).contribute(manifest, weight=DECIMAL_UNIT, note=label),
        )
        return manifest.content_id

    def fill(self, machine: Machine, count: int) -> None:
        """Let the author of `machine` say `count` things at once."""
        opset, batch = machine.spaces.opset(self.space), list[SignedRecord]()
        for _ in range(count):
            replica = Replica(opset, machine.author)
            batch.append(replica.announce(machine.transport, (machine.address,)))
            opset = opset.insert(batch[-1:])
        self.commit(machine, *batch)

    def crash(self, machine: Machine) -> None:
        """Kill the process of `machine`; its disk stays."""
        machine.node = None
        machine.life += 1
        self.network.cut_all(machine.transport)
        self._note(machine, "crash")

    def restart(self, machine: Machine) -> None:
        """Start `machine` again from its disk."""
        assert machine.node is None
        machine.spaces = Spaces(machine.records, machine.blobs)
        self._start(machine)

    def lose_disk(self, machine: Machine) -> None:
        """Give a crashed `machine` an empty disk, and the records of the owner."""
        assert machine.node is None
        generation = self._bytes(f"{machine.name}/{machine.life}")[:16]
        machine.records = MemoryRecords(generation)
        machine.blobs = MemoryBlobs()
        machine.spaces = Spaces(machine.records, machine.blobs)
        self.welcome(machine)

    # --- time ---------------------------------------------------------------------------

    @property
    def running(self) -> list[Machine]:
        """The machines whose process runs."""
        return [machine for machine in self.machines if machine.node is not None]

    def run(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass."""
        self.clock.run_until(self.clock.now + seconds)

    @property
    def log_digest(self) -> str:
        """Digest of all that happened, in its order."""
        return self._log.hex()

    # --- performing effects -------------------------------------------------------------

    def submit(self, machine: Machine, item: Input) -> None:
        """Hand one input to a node that runs, and perform what follows."""
        self._note(machine, repr(item))  # inputs hold no set: one order
        if machine.node is None:
            return
        for effect in machine.node.handle(item, self.clock.now):
            self._perform(machine, effect)

    def _perform(self, machine: Machine, effect: Effect) -> None:
        match effect:
            case Send(peer, message):
                self.network.send(machine.transport, peer, message)
            case Dial():
                self._dial(machine, effect)
            case Close(peer, reason):
                self._note(machine, f"close {self._by_transport[peer].name}: {reason}")
                self.network.cut(machine.transport, peer)
            case Fetch():
                self._fetch(machine, effect)
            case Trust(members):
                machine.members = members
            case _:
                assert_never(effect)

    def _dial(self, machine: Machine, dial: Dial) -> None:
        me, peer = machine.transport, dial.peer
        callee, life = self._by_transport[peer], machine.life

        def answered() -> None:
            if machine.life != life or self.network.linked(me, peer):
                return  # it crashed, or the peer's own dial was quicker
            trusted = me in callee.members and peer in machine.members
            known = callee.address in dial.addresses
            self.network.open(me, peer)
            assert known
            if trusted:
                self.submit(machine, PeerOpened(peer))
                self.submit(callee, PeerOpened(me))
            else:
                self.network.cut(me, peer)

        def refused() -> None:
            if machine.life == life and not self.network.linked(me, peer):
                self.submit(machine, PeerClosed(peer))

        if callee.node is not None and self.network.reaches(me, peer):
            self.clock.after(self.network.delay(0), answered)
        else:
            self.clock.after(DIAL_TIMEOUT_S, refused)

    def _fetch(self, machine: Machine, fetch: Fetch) -> None:
        peer, life = self._by_transport[fetch.peer], machine.life

        def ended() -> None:
            if machine.life == life:
                self.submit(machine, self._fetched(machine, peer, fetch))

        self.clock.after(self.network.delay(fetch.size), ended)

    def _fetched(self, machine: Machine, peer: Machine, fetch: Fetch) -> Input:
        """Move one blob between two stores, as `nodes.runtime` would over a channel."""
        serves = peer.node is not None and self.network.reaches(
            machine.transport, peer.transport
        )
        if not serves or fetch.space not in peer.spaces.shared_with(machine.transport):
            return BlobFailed(peer.transport, fetch.blob, lied=False)
        served = peer.spaces.serves(fetch.space, fetch.blob)
        if not served or not peer.blobs.has(fetch.blob):
            return BlobFailed(peer.transport, fetch.blob, lied=False)
        data = peer.blobs.read(fetch.blob, fetch.size)
        self.network.traffic.blobs += 1
        self.network.traffic.blob_bytes += len(data)
        try:
            machine.blobs.receive(fetch.blob, data)
        except CorruptBlobError:
            return BlobFailed(peer.transport, fetch.blob, lied=True)
        return BlobStored(peer.transport, fetch.blob)

    def _deliver(self, sender: bytes, receiver: bytes, message: Message) -> None:
        self.submit(self._by_transport[receiver], MessageReceived(sender, message))

    def _closed(self, one: bytes, other: bytes) -> None:
        self.submit(self._by_transport[one], PeerClosed(other))

    # --- machines -----------------------------------------------------------------------

    def _add_machine(self) -> Machine:
        name = f"node{len(self.machines)}"
        records = MemoryRecords(self._bytes(f"{name}/generation")[:16])
        blobs = MemoryBlobs()
        machine = Machine(
            name,
            SigningKey(self._bytes(f"{name}/author")),
            self._bytes(f"{name}/transport"),
            records,
            blobs,
            Spaces(records, blobs),
        )
        self.machines.append(machine)
        self._by_transport[machine.transport] = machine
        return machine

    def _announce(self, machine: Machine) -> SignedRecord:
        address = (machine.address,)
        announced = self.replica(machine).announce(machine.transport, address)
        self.commit(machine, announced)
        return announced

    def _start(self, machine: Machine) -> None:
        """Start the process of `machine`, and its ticks at a phase of its own."""
        rng = self._random(f"{machine.name}/{machine.life}")
        machine.node = Node(machine.transport, machine.spaces, rng, "simulated/1")
        self._note(machine, "start")
        life = machine.life

        def tick() -> None:
            if machine.life == life:
                self.submit(machine, Ticked())
                self.clock.after(TICK_S, tick)

        self.clock.after(rng.uniform(0, TICK_S), tick)

    def _random(self, label: str) -> random.Random:
        return random.Random(self._bytes(label))  # noqa: S311  a seed decides it all

    def _bytes(self, label: str) -> bytes:
        return digest(Domain.SEED, f"simulation {self.seed} {label}".encode())

    def _note(self, machine: Machine, what: str) -> None:
        self.events += 1
        line = f"{self.clock.now!r} {machine.name} {what}"
        self._log = sha256(self._log + line.encode()).digest()
