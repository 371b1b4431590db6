"""A key that has no rights any more, and signs as if it had them still.

Owns the course of it: an author is let in, contributes, and is revoked; what its key signs
afterwards hangs on what it could see before. Such a record is well-formed and admissible,
so all nodes take it; and it must never count.
"""

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import Rank
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica
from crdtmerge.sync.messages import SignedBytes
from simulations.models import Model, fine_tune

from .liar import Ghost, Liar, signed_bytes


def backdated(liar: Liar) -> SignedBytes | None:
    """Return what a revoked author signs, as if it had not heard of that.

    None while the owner cannot let anybody in, and take it back.
    """
    cluster = liar.cluster
    if liar.ghost is None and cluster.owner.node is not None:
        with cluster.powered(cluster.owner):
            liar.ghost = _let_in_and_out(liar)
    if liar.ghost is None:
        return None
    model, signed = _contribution(liar, liar.ghost.past, liar.ghost.key)
    model.store(liar.machine.blobs)
    liar.ghost.past = liar.ghost.past.insert([signed])
    liar.ghost.void.add(model.content)
    return signed_bytes(signed)


def _let_in_and_out(liar: Liar) -> Ghost:
    """Let an author in, let it contribute a model, and revoke what it says from then on."""
    cluster, owner = liar.cluster, liar.cluster.owner
    key = SigningKey(cluster.draw(liar.label()))
    cluster.suspects.add(key.public)
    cluster.commit(owner, cluster.replica(owner).grant(key.public, Rank.CONTRIBUTOR))
    model, signed = _contribution(liar, owner.spaces.opset(cluster.space), key)
    model.store(owner.blobs)
    cluster.commit(owner, signed)
    past, judge = owner.spaces.opset(cluster.space), cluster.replica(owner)
    cluster.commit(owner, judge.revoke(key.public, judge.last_records(key.public)))
    return Ghost(key, past)


def _contribution(
    liar: Liar, opset: OpSet, key: SigningKey
) -> tuple[Model, SignedRecord]:
    label = liar.label()
    model = fine_tune(liar.cluster.base, liar.cluster.random(label))
    model.store(liar.cluster.library)
    replica = Replica(opset, key)
    signed = replica.contribute(model.manifest, weight=DECIMAL_UNIT, note=label)
    return model, signed
