"""Fault 39: a member that wears its peers out, with nothing that breaks a rule.

Owns what it does, round by round: records without end, adds of models that nobody has, and
questions without end. Does not own what honest nodes do about it (`nodes.quotas`), nor when
it floods (`scenarios`, `weather.members`).
"""

import random
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import NodeAddress, RecordId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId
from crdtmerge.errors import NotAllowedError, RestoredError
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.replica import best_grant
from crdtmerge.sync.messages import TrieRequest
from nodes.quotas import Quotas
from simulations.cluster import Cluster
from simulations.world import Machine

from .liar import Liar

TIGHT: Final = Quotas(
    peer_cost=512,
    peer_records=160,
    peer_bytes=32 << 10,
    peer_questions=2,
    author_rate=4,
    author_records=0,
    author_bytes=1 << 20,
    burst_s=8,
)
"""Quotas that a flood meets in seconds: 32 records of an author at once, 4 a second."""
RECORDS_A_ROUND: Final = 40
"""Forty times what an honest author says in these stories."""
QUESTIONS_A_ROUND: Final = 30
ADDS_A_ROUND: Final = 2
HUGE_BYTES: Final = 1 << 39


@dataclass
class Flooder:
    """One member, and what it has offered of what nobody has."""

    cluster: Cluster
    machine: Machine
    adds: list[RecordId] = field(default_factory=list)

    def flood(self) -> None:
        """Do in one round what an honest node does in a minute, and worse."""
        self.say(RECORDS_A_ROUND)
        for _ in range(ADDS_A_ROUND):
            self.offer()
        self.ask()

    def stop(self) -> None:
        """Take the adds back, and start anew: what was not read of it is gone."""
        replica = self.cluster.replica(self.machine)
        self.cluster.commit(self.machine, replica.remove(self.adds))
        self.cluster.crash(self.machine)
        self.cluster.restart(self.machine)

    def say(self, count: int) -> None:
        """Sign records of no use, one upon the other, and commit them at once."""
        opset, author = (
            self.machine.spaces.opset(self.cluster.space),
            self.machine.author,
        )
        grant = best_grant(opset, author.public)
        if grant is None:
            raise NotAllowedError("nobody may flood a space with records")
        own = [r for r in opset.records.values() if r.author == author.public]
        last = max(own, key=lambda r: r.author_seq)
        made: list[SignedRecord] = []
        for _ in range(count):
            last = make_record(
                space=self.cluster.space,
                author=author.public,
                author_seq=last.author_seq + 1,
                prev=last.id,
                auth=grant[0],
                body=NodeAddress(self.machine.transport, (self.machine.address,)),
            )
            made.append(sign_record(last, author))
        self.cluster.commit(self.machine, *made)

    def offer(self) -> None:
        """Add a model of a size that no disk has; its manifest is here, and it is valid."""
        label = f"{self.machine.name}/huge/{len(self.cluster.ledger)}"
        blob = BlobId(self.cluster.draw(label))
        entry = TensorEntry("w", "U8", (HUGE_BYTES,), blob)
        manifest = Manifest("full", self.cluster.base.content, (entry,))
        self.machine.blobs.add(manifest.encode())
        replica = self.cluster.replica(self.machine)
        made = replica.contribute(manifest, weight=DECIMAL_UNIT, note=label)
        self.cluster.commit(self.machine, made)
        self.adds.append(made.record.id)

    def ask(self) -> None:
        """Ask every peer for the root of its trie, again and again under new numbers."""
        node = self.machine.node
        if node is None:
            return  # it was killed amid what it said
        for peer, session in sorted(node.sessions.items()):
            for _ in range(QUESTIONS_A_ROUND):
                session.pulls.questions += 1  # its own session, ill used
                number = session.pulls.questions
                asked = TrieRequest(self.cluster.space, ((),), number)
                self.cluster.network.send(self.machine.transport, peer, asked)


def flood(liar: Liar, rng: random.Random) -> bool:
    """Flood for a round with one thing or all: records, adds, questions."""
    flooder, node = Flooder(liar.cluster, liar.machine), liar.machine.node
    if node is None or not node.sessions:
        return False
    chosen = rng.choice(("records", "adds", "questions", "all"))
    try:
        if chosen in {"adds", "all"}:
            flooder.offer()
        if chosen in {"records", "all"}:
            flooder.say(RECORDS_A_ROUND)
    except (NotAllowedError, RestoredError):  # it is out: questions are left to it
        chosen = "questions"
    if chosen in {"questions", "all"}:
        flooder.ask()
    return True
