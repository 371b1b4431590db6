"""Lists of dead records, and dead records that come again: what they can do, and cannot.

Owns the attacks of members and of owners on a running node. Does not own the rules one by
one (tests/unit/test_policy_dead.py), nor their laws (tests/properties/test_epochs.py).
"""

import msgpack

from crdtmerge.bodies import Epoch, RecordId, Remove, runs_of
from crdtmerge.errors import (
    MalformedRecordError,
    NotAdmissibleError,
)
from crdtmerge.orset import OpSet
from crdtmerge.policy import link_of
from crdtmerge.record import RECORD_BYTES_MAX, SignedRecord, make_record, sign_record
from crdtmerge.sync.messages import SignedBytes
from tests.attacks.fortress import Fortress
from tests.attacks.siege import Siege
from tests.attacks.test_forged_records import fed
from tests.properties.cast import CARL, CLEO, MAINTAINERS, OWNERS, unknown

MIA, _ = MAINTAINERS
OLGA, OMAR = OWNERS


def listing(fortress: Fortress, *ids: RecordId) -> Epoch:
    """Return the body that lists records as what they are."""
    known = fortress.pen.known
    return Epoch(runs_of((i, link_of(known[i].record)) for i in ids))


def compacted(fortress: Fortress) -> list[SignedRecord]:
    """Let Cleo take back what it contributed, and an owner list all of that."""
    add = fortress.contribute(CLEO, b"taken back")
    remove = fortress.say(CLEO, Remove((add.record.id,)))
    fortress.say(CLEO, unknown())
    dead = [add, remove]
    fortress.say(OLGA, listing(fortress, *(s.record.id for s in dead)))
    fortress.keep()
    return dead


def test_dead_records_that_are_replayed(fortress: Fortress) -> None:
    """As an answer and as rumours, again and again: nothing changes, nobody is cut off."""
    dead = compacted(fortress)

    async def replay(siege: Siege) -> None:
        for _ in range(3):
            await siege.feeds(CARL, *dead)

    fortress.withstands(None, replay)


def test_dead_records_under_false_signatures(fortress: Fortress) -> None:
    """They are dropped before a signature is looked at: no work is to be had by them."""
    dead = [SignedBytes(s.record.data, bytes(64)) for s in compacted(fortress)]
    fortress.withstands(None, fed(*dead))


def test_another_record_that_names_the_dead_comes_in(fortress: Fortress) -> None:
    """A stale remove of a dead add is a record like others, and brings nothing back."""
    add, _ = compacted(fortress)
    stale = fortress.next(CARL, Remove((add.record.id,)))
    fortress.takes([stale], fed(stale))


def test_a_list_by_anybody_but_an_owner(fortress: Fortress) -> None:
    """A maintainer and a contributor list what they dislike: it stays."""
    add = fortress.contribute(CARL, b"disliked")
    for author in (MIA, CLEO):
        lie = fortress.next(author, listing(fortress, add.record.id))
        fortress.withstands(NotAdmissibleError, fed(lie))


def test_a_list_that_is_too_long(fortress: Fortress) -> None:
    """Two thousand ids fit into a record; three thousand are none."""
    add = fortress.contribute(CARL, b"one of many")
    ids = b"".join(n.to_bytes(32, "big") for n in range(3000))
    link = link_of(add.record)
    body = [[link.author, link.auth, [[1, bytes(32), ids]]]]
    true = fortress.next(OLGA, listing(fortress, add.record.id)).record
    fields = msgpack.unpackb(true.data, raw=False)
    data = msgpack.packb([*fields[:8], body], use_bin_type=True)
    assert len(data) > RECORD_BYTES_MAX
    with fortress.refuses(MalformedRecordError):
        fortress.spaces().receive(fortress.space, [SignedBytes(data, bytes(64))])


def test_a_list_of_what_nobody_has(fortress: Fortress) -> None:
    """Full of ids that never were: it is kept, and all else is as it was."""
    add = fortress.contribute(CARL, b"there all the same")
    link = link_of(add.record)
    ids = b"".join(bytes([7]) + n.to_bytes(31, "big") for n in range(1900))
    true = fortress.next(OLGA, listing(fortress, add.record.id)).record
    run = runs_of([(add.record.id, link)])[0]
    fake = type(run)(run.author, run.auth, 500, bytes(32), ids)
    record = make_record(
        space=true.space,
        author=true.author,
        author_seq=true.author_seq,
        prev=true.prev,
        auth=true.auth,
        body=Epoch((fake,)),
    )
    full = sign_record(record, OLGA)
    fortress.takes([full], fed(full))


def test_two_owners_list_at_once(fortress: Fortress) -> None:
    """Overlapping lists, in either order and by either way: one set."""
    adds = [fortress.contribute(CARL, bytes([n]) * 9).record.id for n in range(3)]
    fortress.say(CARL, unknown())
    fortress.keep()
    one = fortress.next(OLGA, listing(fortress, *adds[:2]))
    other = fortress.next(OMAR, listing(fortress, *adds[1:]))
    known = list(fortress.pen.known.values())
    roots: set[bytes] = set()
    for order in ([one, other], [other, one]):
        opset = OpSet(fortress.space).insert(known)
        for signed in order:
            opset = opset.insert([signed])
        assert not set(adds) & set(opset.signed)
        roots.add(opset.root)
    assert len(roots) == 1


def test_an_owner_lists_what_is_live(fortress: Fortress) -> None:
    """It goes, as an owner may have it; the same model under a new record is back."""
    add = fortress.contribute(CARL, b"live")
    fortress.say(CARL, unknown())
    fortress.say(OLGA, listing(fortress, add.record.id))
    fortress.keep()
    content = fortress.pen.known[add.record.id].record.body.content  # type: ignore[union-attr]
    shown = {v.content for v in fortress.spaces().view(fortress.space).visible}
    assert content not in shown
    again = fortress.contribute(CARL, b"live")
    assert again.record.id != add.record.id
    shown = {v.content for v in fortress.spaces().view(fortress.space).visible}
    assert content in shown
