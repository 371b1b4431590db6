"""Making signed records and committing them, one maker at a time.

Owns that no two commands of one home sign records of the same `author_seq`: that would be
a fork of our own author. Does not own what the records say.
"""

from collections.abc import Callable, Iterable

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.faults import Fault
from crdtmerge.forks import Fork
from crdtmerge.policy import View
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


def publish_all(
    context: Context,
    space: SpaceId,
    makes: Iterable[Callable[[Replica], SignedRecord]],
) -> list[RecordId]:
    """Sign what each of `makes` says, one after the other; commit all of it or nothing.

    Raises:
        LocalError: one of them refused, or the store did; nothing was published.
    """
    with context.spaces.lock:
        current, batch = replica(context, space), list[SignedRecord]()
        for make in makes:
            batch.append(make(current))
            current = Replica(current.opset.insert(batch[-1:]), current.key)
        context.spaces.publish(space, batch)
    return [signed.record.id for signed in batch]


def publish_fault(context: Context, space: SpaceId, fault: Fault) -> RecordId:
    """Publish a fault, unless the set holds one of its content; return what shows it.

    Raises:
        LocalError: this author may not say it, or the store refused.
    """
    with context.spaces.lock:
        known = context.spaces.view(space).faults.get(fault.content)
        return known or publish(context, space, lambda r: r.report(fault))


def publish_fork(context: Context, space: SpaceId, fork: Fork) -> RecordId:
    """Publish a fork, unless the set holds one of author and number; return what shows it.

    Raises:
        LocalError: this author may not say it, or the store refused.
    """
    with context.spaces.lock:
        shown = context.spaces.view(space).forks
        known = [f.record for f in shown if f.place == fork.place]
        return known[0] if known else publish(context, space, lambda r: r.report(fork))


def replica(context: Context, space: SpaceId) -> Replica:
    """Return the present set of `space` with this home's author."""
    return Replica(context.spaces.opset(space), context.home.signer(space))


def name_node(context: Context, node: bytes) -> None:
    """Publish the key of this node, without an address, where the set has no word of it.

    Peers let in only nodes that an author with rights has named; a space without other
    authors has no peers.
    """
    for space in context.spaces.all():
        with context.spaces.lock:
            view, me = context.spaces.view(space), context.key.public
            needed = me not in view.node_authors.get(node, ()) and len(view.ranks) > 1
            if needed and _may_say(context, space, view):
                publish(context, space, lambda r: r.announce(node, ()))


def announce_node(context: Context, node: bytes, addresses: tuple[str, ...]) -> None:
    """Publish where this node listens, in each space whose set does not say so yet."""
    for space in context.spaces.all():
        with context.spaces.lock:
            view, me = context.spaces.view(space), context.key.public
            said = view.nodes.get(node) == addresses
            said = said and me in view.node_authors.get(node, ())
            if not said and _may_say(context, space, view):
                publish(context, space, lambda r: r.announce(node, addresses))


def _may_say(context: Context, space: SpaceId, view: View) -> bool:
    """Tell whether this author has rights there, and is known to know its own records."""
    me = context.key.public
    sure = context.home.anchor.doubt(space) is None
    return sure and view.has_rights(me) and me not in view.quarantined
