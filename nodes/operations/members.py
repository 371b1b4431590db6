"""The verb `space members`: who takes part in a space, with which rights.

Owns what is told of an author. Does not own the rules that give rights (`policy`), nor
changing them (`granting`, `banning`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from crdtmerge.bodies import Grant, RecordId, Successor
from crdtmerge.identity import AuthorId
from crdtmerge.orset import OpSet
from crdtmerge.policy import Authority, given_by
from crdtmerge.replica import GIVING

from . import arguments as given
from .approving import pending_facts
from .forking import forked_numbers
from .granting import authority_facts
from .live import Answer, Arguments, Context, Tell
from .selection import authors_of, choose_space
from .standing import bans_of, endings_of, left, revocations_of


@dataclass(slots=True)
class _Member:
    """What the records say of one author."""

    nodes: list[bytes] = field(default_factory=list)
    contributions: list[bytes] = field(default_factory=list)
    records: int = 0
    effective: int = 0


def space_members(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Return every author of a space, those of highest rank first."""
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    opset = context.spaces.opset(space)
    view = opset.view
    found = _members(opset)
    grants = _grants(opset)
    forked = forked_numbers(opset)
    order = sorted(found, key=lambda a: (-int(view.ranks.get(a, -1)), a))
    return {
        "space": space.hex(),
        "name": context.spaces.name(space),
        "members": [
            {
                "author": author.hex(),
                "you": author == context.key.public,
                **_rights(opset, author, grants.get(author)),
                "forked": forked.get(author, []),
                "nodes": [node.hex() for node in found[author].nodes],
                "contributions": [c.hex() for c in found[author].contributions],
                "records": found[author].records,
                "effective": found[author].effective,
            }
            for author in order
        ],
        "pending": pending_facts(opset, context.key.public),
    }


def _members(opset: OpSet) -> dict[AuthorId, _Member]:
    view = opset.view
    found = {author: _Member() for author in authors_of(opset)}
    for record in opset.records.values():
        found[record.author].records += 1
        found[record.author].effective += record.id in view.effective
    for visible in view.visible:
        for author in visible.authors:
            found[author].contributions.append(visible.content)
    for node, claims in view.node_authors.items():
        for author in claims:
            found[author].nodes.append(node)
    return found


def _grants(opset: OpSet) -> Mapping[AuthorId, tuple[RecordId, Authority]]:
    """Return what `best_grant` says of each author, by one pass over the records."""
    view, genesis = opset.view, opset.view.genesis
    found: dict[AuthorId, tuple[RecordId, Authority]] = {}
    for author in view.ranks:
        if (given_there := given_by(genesis, author, opset.get)) is not None:
            found[author] = (genesis.id, given_there)
    for signed in opset.signed.of_kinds(GIVING):
        record, body = signed.record, signed.record.body
        key = record.id
        if not isinstance(body, Grant | Successor) or key not in view.effective:
            continue
        author = body.author if isinstance(body, Grant) else body.key
        authority = given_by(record, author, opset.get)
        before = found.get(author)
        if authority and (not before or _more((key, authority), before)):
            found[author] = (key, authority)
    return found


def _more(one: tuple[RecordId, Authority], other: tuple[RecordId, Authority]) -> bool:
    return (one[1].measure, one[0]) > (other[1].measure, other[0])


def _rights(
    opset: OpSet, author: AuthorId, grant: tuple[RecordId, Authority] | None
) -> Answer:
    """Return rank, limits, the grant they come from, and who took them away."""
    rank = opset.view.ranks.get(author)
    banned, revoked = bans_of(opset, author), revocations_of(opset, author)
    ended = endings_of(opset, author)
    state = "member" if rank is not None else "none"
    state = "contested" if author in opset.view.contested else state
    state = "quarantined" if author in opset.view.quarantined else state
    state = "ended" if ended else state
    state = "left" if left(opset, author) else state
    facts = authority_facts(grant[1]) if grant else {}
    return {
        "rank": rank.name.lower() if rank is not None else None,
        "state": "banned" if banned else "revoked" if revoked else state,
        "since": grant[0].hex() if grant else None,
        "weight_cap": facts.get("weight_cap"),
        "records_max": facts.get("records_max"),
        "bytes_max": facts.get("bytes_max"),
        "revoked_by": [key.hex() for key in revoked],
        "banned_by": [key.hex() for key in banned],
        "ended_by": [key.hex() for key in ended],
        "keys": [key.hex() for key in opset.view.identity(author)],
    }
