"""A cluster: the machines of one space, and what their people do with it.

Owns founding, joining, contributing, and the ledger of what was committed anywhere. Does
not own processes and wires (`world`), nor what must hold afterwards (`checkers`).
"""

import random
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId
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

from .models import Model, fine_tune, make_base
from .world import Machine, World

RECIPE: Final = make_recipe("linear", {})


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
        return Replica(machine.spaces.opset(self.space), machine.author)

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
        """Start `machine` again; what it has kept in spite of its end counts."""
        World.restart(self, machine)
        held = machine.spaces.opset(self.space).signed
        for record, signed in self.doubtful.pop(machine.name, {}).items():
            if record in held:
                self.ledger[record] = signed

    # --- joining ------------------------------------------------------------------------

    def join(self, rank: Rank = Rank.CONTRIBUTOR) -> Machine:
        """Let one more machine join through the owner's, and start it."""
        owner, machine = self.owner, self._equip()
        self.commit(owner, self.replica(owner).grant(machine.author.public, rank))
        self.welcome(machine)
        self.commit(owner, self._announce(machine))
        self.start(machine)
        return machine

    def welcome(self, machine: Machine) -> None:
        """Give `machine` the records of the owner, as a ticket would."""
        known = self.owner.spaces.opset(self.space).signed.values()
        machine.spaces.commit(self.space, tuple(known))

    def lose_disk(self, machine: Machine) -> None:
        """Give a crashed `machine` an empty disk; its person joins and fetches anew."""
        self.empty_disk(machine)
        self.base.store(machine.blobs)
        self.welcome(machine)

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
