"""New keys for old: who takes one sheds no ban, no limit, and takes nobody else's place."""

from itertools import pairwise

import pytest

from crdtmerge.bodies import Ban, Revoke, SpaceId, Successor, give_consent
from crdtmerge.errors import BadSignatureError, NotAdmissibleError
from crdtmerge.identity import SigningKey
from crdtmerge.policy import Rank, View
from crdtmerge.record import SignedRecord
from tests.attacks.fortress import Fortress
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    OWNERS,
    STRANGER,
    add_of,
    grant_of,
    key,
    write,
)

NEXT, THIEF = key("cleo's next"), key("a thief's own")


def view_of(fortress: Fortress) -> View:
    """Return what the set on the disk means."""
    return fortress.spaces().view(fortress.space)


def shown(fortress: Fortress) -> set[bytes]:
    """Return the visible contents."""
    return {bytes(v.content) for v in view_of(fortress).visible}


def taken(fortress: Fortress, *records: SignedRecord) -> None:
    """Let a member bring records, and nothing but them."""
    fortress.takes(records, lambda siege: siege.feeds(CARL, *records), shown=True)


def naming(fortress: Fortress, author: SigningKey, to: SigningKey) -> SignedRecord:
    """Let an author name who follows its key."""
    record = fortress.pen.name(author, to)
    return fortress.pen.known[record.id]


@pytest.mark.parametrize("when", ["before", "after"])
def test_rotation_evading_a_ban(fortress: Fortress, when: str) -> None:
    """A ban falls on all keys of an author, those that it names later too."""
    records = []
    if when == "before":
        records.append(naming(fortress, CLEO, NEXT))
    fortress.say(OWNERS[0], Ban("author", CLEO.public))
    fortress.keep()
    before = shown(fortress)
    assert before == set()
    if when == "after":
        records.append(naming(fortress, CLEO, NEXT))
    records.append(fortress.say(NEXT, add_of(CONTENTS[0])))
    fresh = [
        r for r in records if r.record.id not in fortress.spaces().opset(fortress.space)
    ]
    taken(fortress, *fresh)
    assert shown(fortress) == before
    assert NEXT.public not in view_of(fortress).ranks or (
        NEXT.public in view_of(fortress).rightless
    )


def test_rotation_evading_a_revocation(fortress: Fortress) -> None:
    """What is named after the last accepted record names nobody."""
    last = fortress.pen.last[CLEO.public]
    fortress.say(OWNERS[0], Revoke(CLEO.public, (last.id,)))
    fortress.keep()
    before = shown(fortress)
    late = naming(fortress, CLEO, NEXT)
    add = fortress.say(NEXT, add_of(CONTENTS[0]))
    taken(fortress, late, add)
    assert shown(fortress) == before


def test_rotation_by_a_thief(fortress: Fortress) -> None:
    """Who stole a key names its own: its owner names another, and neither is believed.

    The thief gains no more than the key had; a council, or who granted, ends it.
    """
    grant = fortress.pen.grants[CLEO.public]
    space = SpaceId(fortress.space)
    last = fortress.pen.last[CLEO.public]
    true = naming(fortress, CLEO, NEXT)
    consent = give_consent(THIEF, space, CLEO.public)
    stolen = write(
        CLEO, grant, Successor(CLEO.public, THIEF.public, consent), after=last
    )
    add = write(THIEF, stolen.record, add_of(CONTENTS[0]))
    taken(fortress, true, stolen, add)
    view = view_of(fortress)
    assert set(view.contested) == {CLEO.public}
    assert bytes(CONTENTS[0]) not in shown(fortress)
    assert THIEF.public not in view.ranks


def test_successor_of_anothers_key(fortress: Fortress) -> None:
    """Only owners, together, say who follows a key that is not their own."""
    consent = give_consent(CARL, fortress.space, CLEO.public)
    lie = fortress.next(CARL, Successor(CLEO.public, CARL.public, consent))
    fortress.withstands(NotAdmissibleError, lambda siege: siege.feeds(CARL, lie))


def test_successor_without_its_consent(fortress: Fortress) -> None:
    """Nobody makes a key follow that did not sign for it, here and for this key."""
    elsewhere = give_consent(NEXT, SpaceId(bytes(32)), CLEO.public)
    others = give_consent(NEXT, fortress.space, CARL.public)
    for consent in (bytes(64), elsewhere, others):
        lie = fortress.next(CLEO, Successor(CLEO.public, NEXT.public, consent))
        fortress.withstands(BadSignatureError, lambda s: s.feeds(CARL, lie))  # noqa: B023


def test_rotation_sheds_no_rank(fortress: Fortress) -> None:
    """A contributor's next key is a contributor, and grants nothing."""
    named = naming(fortress, CLEO, NEXT)
    taken(fortress, named)
    assert view_of(fortress).ranks[NEXT.public] is Rank.CONTRIBUTOR
    lie = fortress.next(NEXT, grant_of(STRANGER, Rank.READER))
    fortress.withstands(NotAdmissibleError, lambda siege: siege.feeds(CARL, lie))


def test_endless_rotation(fortress: Fortress) -> None:
    """A batch of keys that follow each other is refused, however long, in any order."""
    space, auth = fortress.space, fortress.pen.grants[CLEO.public]
    keys = [CLEO, *(key(f"link {number}") for number in range(1200))]
    chain: list[SignedRecord] = []
    for one, other in pairwise(keys):
        consent = give_consent(other, space, one.public)
        body = Successor(one.public, other.public, consent)
        after = fortress.pen.last[CLEO.public] if one is CLEO else None
        chain.append(write(one, auth, body, after=after))
        auth = chain[-1].record
    backwards = chain[::-1]
    fortress.withstands(NotAdmissibleError, lambda siege: siege.feeds(CARL, *backwards))
