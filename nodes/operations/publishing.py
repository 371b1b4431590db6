"""Making signed records and committing them, one maker at a time.

Owns that no two commands of one home sign records of the same `author_seq`: that would be
a fork of our own author. Does not own what the records say.
"""

from collections.abc import Callable

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica

from .live import Context


def publish(
    context: Context, space: SpaceId, make: Callable[[Replica], SignedRecord]
) -> RecordId:
    """Sign what `make` says about the present set, commit it, and return its id.

    Raises:
        LocalError: `make` refused, or the store did; nothing was published.
    """
    # SUBTLE: the lock spans signing and committing, or two commands would both see the
    # same last record of ours and sign two successors of it.
    with context.spaces.lock:
        signed = make(replica(context, space))
        context.spaces.publish(space, [signed])
    return signed.record.id


def replica(context: Context, space: SpaceId) -> Replica:
    """Return the present set of `space` with this home's author."""
    return Replica(context.spaces.opset(space), context.key)


def announce_node(context: Context, node: bytes, addresses: tuple[str, ...]) -> None:
    """Publish where this node listens, in each space whose set does not say so yet."""
    for space in context.spaces.all():
        with context.spaces.lock:
            view, me = context.spaces.view(space), context.key.public
            said = view.nodes.get(node) == addresses
            said = said and me in view.node_authors.get(node, ())
            if not said and me in view.ranks and me not in view.rightless:
                publish(context, space, lambda r: r.announce(node, addresses))
