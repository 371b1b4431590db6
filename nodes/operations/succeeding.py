"""Keys that follow keys: rotation, a spare key, recovery, in all spaces of a home.

Owns which records say so in which space, and their order. Does not own the key files
(`nodes.next_key`), what a succession means (`policy.chains`), nor prompts and options.

A key is first named by the one that it follows, everywhere; then it takes its place; then
it ends it, everywhere: from then on whoever has the old key can say nothing. Each step may
be broken off, and done again: what was said is not said twice.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from crdtmerge.bodies import RecordId, SpaceId, give_consent
from crdtmerge.errors import ConflictError, NotAllowedError, NotFoundError
from crdtmerge.identity import AuthorId, Signer
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica, named_successor

from .live import Answer, Context
from .publishing import publish, publish_all, replica
from .selection import SHORT, find_record_of

NOWHERE: Final = "this author has rights in no space here: nothing had to be said"
NAMED_ALREADY: Final = "every space here names this key already: nothing had to be said"
FIRST_COUNTS: Final = (
    "the first successor that a key names counts: change to that one with `crdtmerge key"
    " recover FILE`, or let somebody of higher rank grant a new key what you had"
)


def require_nameable(context: Context, key: AuthorId | None) -> None:
    """Check that a key can be named in every space: before any file or record is made.

    `key` is None if it is not made yet.

    Raises:
        RestoredError: this author may not sign in one for now.
        ConflictError: another key was named in one already.
        NotAllowedError: in one the key has a part of its own, or this author's rights do
            not reach so far.
    """
    for space in _places(context):
        context.home.anchor.require_sure(space)
        named = named_successor(context.spaces.opset(space), context.key.public)
        if named is not None and named != key:
            raise ConflictError(
                f"in space {context.spaces.name(space)!r} the key"
                f" {named.hex()[:SHORT]} was named to follow yours",
                hint=FIRST_COUNTS,
            )
        if named is None:
            _require_successor(context, space, key)


def _require_successor(context: Context, space: SpaceId, key: AuthorId | None) -> None:
    """Check that `key` could be named in `space`, and say in which one it cannot."""
    try:
        replica(context, space).require_successor(key)
    except NotAllowedError as e:
        name = context.spaces.name(space)
        raise NotAllowedError(f"in space {name!r}: {e}", hint=e.hint) from e


def name_everywhere(context: Context, key: Signer) -> list[Answer]:
    """Name `key` as the one that follows this author's, wherever no key is named yet.

    Returns the spaces, with the record that says so in each.

    Raises:
        NotAllowedError: in a space the key has a part of its own, or no records are left.
    """
    said: list[Answer] = []
    for space in _places(context):
        with context.spaces.lock:
            opset, me = context.spaces.opset(space), context.key.public
            if named_successor(opset, me) is None:
                consent = give_consent(key, space, me)
                name = partial(_name, key=key.public, consent=consent)
                record = publish(context, space, name)
                said.append({**_space_facts(context, space), "record": record.hex()})
    return said


def retire_everywhere(context: Context, keep: Iterable[str] = ()) -> list[Answer]:
    """End the keys that this home's author follows, and name its node, in each space.

    Of an ended key what is known here stays in effect; or, where `keep` names records of
    it, those and what precedes them alone.

    Raises:
        NotFoundError: `keep` names what is no record of such a key in any space.
    """
    wanted, found = list(keep), set[str]()
    plans = [
        (space, keys, _kept(context, space, keys, wanted, found))
        for space in context.spaces.all()
        if (keys := earlier_keys(context, space))
    ]
    if unknown := [text for text in wanted if text not in found]:
        message = f"{unknown[0]!r} is no record of a key before this home's"
        raise NotFoundError(
            message, hint="`crdtmerge log` lists the records of a space"
        )
    return [_retire(context, space, keys, kept) for space, keys, kept in plans]


def require_follower(context: Context, key: AuthorId) -> None:
    """Check that `key` follows this author's in every space where that has rights.

    Raises:
        ConflictError: in one it does not: the author would lose its rights there.
    """
    for space in _places(context):
        view = context.spaces.view(space)
        if not view.follows(key, context.key.public):
            raise ConflictError(
                f"in space {context.spaces.name(space)!r} the key {key.hex()[:SHORT]}"
                " does not follow this home's",
                hint="`crdtmerge key spare FILE` names it there, while the old key is here",
            )


def earlier_keys(context: Context, space: SpaceId) -> tuple[AuthorId, ...]:
    """Return the keys before this home's author that nobody after them has ended."""
    view, me = context.spaces.view(space), context.key.public
    chain = view.identity(me)
    ended = {body.author for body in view.endings.values()}
    before = chain[: chain.index(me)] if me in chain else ()
    return tuple(key for key in before if key not in ended)


def has_rights(context: Context) -> bool:
    """Tell whether this home's author has rights in any space here."""
    return bool(_places(context))


def _places(context: Context) -> list[SpaceId]:
    """Return the spaces in which this home's author has rights."""
    me = context.key.public
    spaces = context.spaces
    return [space for space in spaces.all() if spaces.view(space).has_rights(me)]


def _kept(
    context: Context,
    space: SpaceId,
    keys: Iterable[AuthorId],
    wanted: Iterable[str],
    found: set[str],
) -> dict[AuthorId, list[RecordId]]:
    """Return which records of each key are accepted; note what was `found` of `wanted`."""
    current = replica(context, space)
    kept: dict[AuthorId, list[RecordId]] = {}
    for key in keys:
        named: list[RecordId] = []
        for text in wanted:
            try:
                named.append(find_record_of(current.opset, key, text))
                found.add(text)
            except NotFoundError:
                continue
        own = current.opset.records
        heads = [r for r in current.last_records(key) if own[r].author == key]
        kept[key] = named or heads
    return kept


def _retire(
    context: Context,
    space: SpaceId,
    keys: Iterable[AuthorId],
    kept: dict[AuthorId, list[RecordId]],
) -> Answer:
    node, me = context.home.node.public, context.key.public
    view = context.spaces.view(space)
    makes: list[Callable[[Replica], SignedRecord]] = [
        partial(_end, key=key, accepted=kept[key]) for key in keys
    ]
    if me not in view.node_authors.get(node, ()):
        addresses = view.nodes.get(node, ())
        # SUBTLE: first, or peers cut this node off for as long as it takes to say more.
        makes.insert(0, lambda r: r.announce(node, addresses))
    records = publish_all(context, space, makes)
    return {
        **_space_facts(context, space),
        "retired": [key.hex() for key in keys],
        "records": [record.hex() for record in records],
    }


def _name(current: Replica, *, key: AuthorId, consent: bytes) -> SignedRecord:
    return current.name_successor(key, consent)


def _end(
    current: Replica, *, key: AuthorId, accepted: Iterable[RecordId]
) -> SignedRecord:
    return current.revoke(key, accepted)


def _space_facts(context: Context, space: SpaceId) -> Answer:
    return {"space": space.hex(), "name": context.spaces.name(space)}
