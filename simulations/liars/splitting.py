"""Fault 35: two records of one number, each shown to others.

Owns the two records, and who is shown which. Does not own who notices (`nodes.forks`), nor
what follows (`crdtmerge.policy`).
"""

import random

from crdtmerge.errors import NotAllowedError, RestoredError
from crdtmerge.record import SignedRecord
from crdtmerge.sync.messages import Rumour

from .liar import Liar, signed_bytes


def equivocate(liar: Liar, rng: random.Random) -> bool:
    """Sign two records of one number; one goes the usual way, the other to some peers."""
    peers = liar.peers()
    try:
        one, other = (_branch(liar, models=rng.random() < 0.5) for _ in range(2))
    except (
        NotAllowedError,
        RestoredError,
    ):  # it is out, or its home saw an earlier fork
        return False
    if not peers:
        return False
    shown = Rumour(liar.cluster.space, (signed_bytes(other),))
    for peer in rng.sample(peers, (len(peers) + 1) // 2):
        liar.tell(peer, shown)
    liar.cluster.commit(liar.machine, one)
    return True


def _branch(liar: Liar, *, models: bool) -> SignedRecord:
    """Return what its author could say next: each call gives another record."""
    cluster, machine, label = liar.cluster, liar.machine, liar.label()
    if models:
        return cluster.sign_contribution(machine, label, machine)[1]
    address = (f"{label.replace(' ', '')}.sim:7000",)
    return liar.replica.announce(machine.transport, address)
