"""A cluster: the machines of one space, and what their people do with it.

Owns founding, joining, contributing, and the ledger of what was committed anywhere. Does
not own processes and wires (`world`), nor what must hold afterwards (`checkers`).
"""

import random
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import LocalError
from crdtmerge.forks import Fork
from crdtmerge.identity import AuthorId
from crdtmerge.policy import Rank
from crdtmerge.recipe import Recipe
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica, found_space
from crdtmerge.strategies import make_recipe
from nodes.effects import RecordsCommitted
from nodes.forks import Forks
from nodes.store.memory import MemoryBlobs
from simulations.disks.storage import DiskStorage

from .models import Model, fine_tune, make_base
from .world import Machine, World

_DAMAGE: Final = ("damaged", "malformed", "not a database", "is not a store", "schema")
"""What errors of a store say that only damage explains."""

RECIPE: Final = make_recipe("linear", {})


def tells_damage(error: BaseException) -> bool:
    """Tell whether an error of a store says that it is damaged, not that it is in need."""
    said = str(error)
    return not isinstance(error, LocalError) or any(word in said for word in _DAMAGE)


@dataclass
class Cluster(World):
    """All machines, one space, one seed.

    `ledger` holds every record that a command committed, and `library` the bytes of every
    model that was contributed, whichever machines have them.
    """

    ledger: dict[RecordId, SignedRecord] = field(default_factory=dict)
    library: MemoryBlobs = field(default_factory=MemoryBlobs)
    quarantine: bool = False
    """Whether the space cuts off who signs two records of one number."""
    suspects: set[AuthorId] = field(default_factory=set)
    """The keys that liars sign with: what they said may be lost, but not for some only."""
    doubtful: dict[str, dict[RecordId, SignedRecord]] = field(default_factory=dict)
    """Records that machines were keeping when their power went: kept, or lost."""
    losable: dict[RecordId, SignedRecord] = field(default_factory=dict)
    """Records that lay on no other honest disk when one was lost: gone by right, unless
    one was under way to somebody."""
    set_back: set[AuthorId] = field(default_factory=set)
    """Whose disk was lost or put back: they alone may sign a number twice."""
    at_risk: set[BlobId] = field(default_factory=set)
    """Blobs that lay on no other honest disk when one was lost, or damaged in their
    place."""
    broken: set[str] = field(default_factory=set)
    """Machines whose store was found damaged: each gets an empty disk."""
    space: SpaceId = field(init=False)
    base: Model = field(init=False)
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Found the space on the first machine, which owns it."""
        World.__post_init__(self)
        self.rng = self.random("cluster")
        self.base = make_base(self.random("base"))
        self.base.store(self.library)
        owner = self._equip()
        genesis = found_space(
            owner.author,
            name="simulated",
            mode="members",
            base=self.base.content,
            nonce=self.draw("nonce")[:16],
            quarantine=self.quarantine,
        )
        self.space = SpaceId(genesis.record.id)
        self.commit(owner, genesis)
        self.set_recipe(owner, RECIPE)
        self._announce(owner)
        self.start(owner)

    @property
    def owner(self) -> Machine:
        """The machine of the owner."""
        return self.machines[0]

    def replica(self, machine: Machine) -> Replica:
        """Return the space as the author of `machine` sees it."""
        signer = machine.storage.signer(machine.author, self.space)
        return Replica(machine.spaces.opset(self.space), signer)

    def commit(self, machine: Machine, *records: SignedRecord) -> None:
        """Store records that a command of `machine` made, and tell its node."""
        offered = {s.record.id: s for s in records}
        self.doubtful.setdefault(machine.name, {}).update(offered)
        fresh = machine.spaces.commit(records[0].record.space_id, records)
        del self.doubtful[machine.name]
        self.ledger |= offered
        self.submit(machine, RecordsCommitted(self.space, fresh))

    def start(self, machine: Machine) -> None:
        """Start the process of `machine`, which shows forks as its author."""

        def show(_space: SpaceId, fork: Fork) -> None:
            self.commit(machine, self.replica(machine).report(fork))

        machine.forks = Forks(machine.spaces, machine.author.public, show)
        machine.spaces.on_refused = machine.forks.refused
        World.start(self, machine)

    def restart(self, machine: Machine) -> None:
        """Start `machine` again; what it has kept in spite of its end counts.

        Who lost a disk joins again first, if anybody runs to let them.
        """
        if machine.name in self.broken or not machine.storage.durable:
            self.lose_disk(machine)
        if not machine.storage.durable and not self._join_again(machine):
            machine.life += 1  # it comes again
            return
        before, held = set(machine.storage.durable), set(machine.storage.held)
        World.restart(self, machine)
        if machine.storage.harmed:
            self.let_go(machine, before, held)
        if machine.node is not None and self.space not in machine.spaces.all():
            self.broken.add(machine.name)  # its person finds an empty store
            self.crash(machine)
        if machine.node is None:
            return
        kept = machine.spaces.opset(self.space).signed
        for record, signed in self.doubtful.pop(machine.name, {}).items():
            if record in kept:
                self.ledger[record] = signed

    def fail(self, machine: Machine, error: Exception) -> None:
        """End the process of `machine`, and note what its error says of its disk."""
        if tells_damage(error):
            self.broken.add(machine.name)
            if not machine.storage.harmed:
                self.forgotten.append(f"{machine.name}: {error}")
        World.fail(self, machine, error)

    # --- losing -------------------------------------------------------------------------

    def lose_disk(self, machine: Machine) -> None:
        """Give a crashed `machine` an empty disk; its person joins anew at its restart."""
        before, held = set(machine.storage.durable), set(machine.storage.held)
        self.broken.discard(machine.name)
        self.empty_disk(machine)
        machine.storage.wait()
        self.let_go(machine, before, held)

    def put_back(self, machine: Machine, *, anew: bool) -> None:
        """Put a crashed `machine` back to the last copy of its disk."""
        assert isinstance(machine.storage, DiskStorage)
        before, held = set(machine.storage.durable), set(machine.storage.held)
        self.broken.discard(machine.name)
        machine.storage.put_back(anew=anew)
        self.let_go(machine, before, held)

    def let_go(
        self,
        machine: Machine,
        before: AbstractSet[RecordId],
        held: AbstractSet[BlobId],
    ) -> None:
        """Let go of what lay on no other disk: that is lost by right, and no more."""
        self.set_back.add(machine.author.public)
        self.give_up(before, held)

    def give_up(
        self, records: AbstractSet[RecordId], held: AbstractSet[BlobId]
    ) -> None:
        """Count on these no more, but for what lies on an honest disk now.

        What a liar has may never come from it: it keeps that to itself, or is thrown out.
        """
        gone, blobs = records, held
        for other in self.honest:
            gone, blobs = gone - other.storage.durable, blobs - other.storage.held
        self.at_risk |= blobs
        for record in sorted(gone & self.ledger.keys()):
            self.losable[record] = self.ledger.pop(record)

    def reckon(self) -> None:
        """Count what was given up for lost, and was under way to somebody."""
        for record in sorted(self.losable):
            if any(record in machine.storage.durable for machine in self.honest):
                self.ledger[record] = self.losable.pop(record)

    @contextmanager
    def commanded(self, machine: Machine) -> Iterator[None]:
        """Run a command on `machine`: what is refused was not acknowledged.

        The process goes on, as far as its disk lets it.
        """
        with self.powered(machine):
            try:
                yield
            except LocalError as e:
                if tells_damage(e):
                    raise
                machine.storage.refused(e)
                self._note(machine, f"refused: {type(e).__name__}")

    # --- joining ------------------------------------------------------------------------

    def join(self, rank: Rank = Rank.CONTRIBUTOR) -> Machine:
        """Let one more machine join through the owner's, and start it."""
        owner, machine = self.owner, self._equip()
        self.commit(owner, self.replica(owner).grant(machine.author.public, rank))
        if self.disks and owner.node is None:  # it ended amid telling of that
            self.restart(owner)
        self.welcome(machine)
        self.commit(owner, self._announce(machine))
        self.start(machine)
        return machine

    def welcome(self, machine: Machine, host: Machine | None = None) -> None:
        """Give `machine` the records of a host, the owner by default: a ticket does."""
        known = (host or self.owner).spaces.opset(self.space).signed.values()
        fresh = machine.spaces.commit(self.space, tuple(known))
        if machine.node is not None:
            self.submit(machine, RecordsCommitted(self.space, fresh))

    @property
    def admits(self) -> bool:
        """Whether the owner's machine can let somebody in now, wholly and not by half."""
        owner, fit = self.owner, False
        if owner.node is not None and owner.still is None:
            with self.commanded(owner):
                listed = self.space in owner.records.spaces()  # its disk answers
                fit = listed and owner.storage.fit and not owner.storage.doubted()
        return fit

    def admit(self, machine: Machine) -> None:
        """Let a machine in again that the owner's does not know any more.

        It cannot meet a peer before it has said where it is: its person adopts what there
        is (`store adopt`), once the owner's records are here.

        Raises:
            LocalError: one of the two signs nothing for now.
        """
        owner = self.owner
        if machine.author.public not in owner.spaces.view(self.space).ranks:
            self.commit(
                owner,
                self.replica(owner).grant(machine.author.public, Rank.CONTRIBUTOR),
            )
        self.welcome(machine)
        machine.storage.compared(self.space)
        announced = self._announce(machine)
        chain = machine.spaces.opset(self.space).chain(announced.record)
        self.commit(owner, *chain, announced)

    def _join_again(self, machine: Machine) -> bool:
        """Let a machine with an empty disk join; tell whether anybody runs to let it."""
        hosts = [other for other in self.running if other is not machine]
        if not hosts:
            return False
        with self.powered(machine):
            self.base.store(machine.blobs)
            self.welcome(machine, hosts[0])
        return bool(machine.storage.durable)

    def _equip(self) -> Machine:
        """Add a machine whose person has the base already: it does not travel."""
        machine = self.add_machine()
        self.base.store(machine.blobs)
        return machine

    def _announce(self, machine: Machine) -> SignedRecord:
        address = (machine.address,)
        announced = self.replica(machine).announce(machine.transport, address)
        self.commit(machine, announced)
        return announced

    # --- working ------------------------------------------------------------------------

    def contribute(self, machine: Machine, model: str = "") -> ContentId:
        """Contribute a small model; the same `model` name is the same content."""
        content, signed = self.sign_contribution(machine, model, machine)
        self.commit(machine, signed)
        return content

    def sign_contribution(
        self, machine: Machine, model: str, at: Machine
    ) -> tuple[ContentId, SignedRecord]:
        """Sign a contribution of a small model, whose bytes lie `at` another machine."""
        label = model or f"{machine.name}/{len(self.ledger)}"
        made = fine_tune(self.base, self.random(label))
        made.store(self.library)
        made.store(at.blobs)
        replica = self.replica(machine)
        signed = replica.contribute(made.manifest, weight=DECIMAL_UNIT, note=label)
        return made.content, signed

    def set_recipe(self, machine: Machine, recipe: Recipe) -> None:
        """Replace the recipe heads that `machine` knows of."""
        self.commit(machine, self.replica(machine).set_recipe(recipe))

    def fill(self, machine: Machine, count: int) -> None:
        """Let the author of `machine` say `count` things at once."""
        opset, batch = machine.spaces.opset(self.space), list[SignedRecord]()
        for _ in range(count):
            replica = Replica(opset, machine.author)
            batch.append(replica.announce(machine.transport, (machine.address,)))
            opset = opset.insert(batch[-1:])
        self.commit(machine, *batch)
