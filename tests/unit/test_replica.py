"""One author's side: what is written is admissible, and what would be vain is refused."""

import pytest

from crdtmerge.bodies import Grant, RecordId, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId
from crdtmerge.errors import MissingAuthorityError, NotAllowedError, NotFoundError
from crdtmerge.identity import SigningKey
from crdtmerge.manifest import EvidenceEntry, Manifest, TensorEntry
from crdtmerge.orset import OpSet
from crdtmerge.policy import Rank
from crdtmerge.recipe import Recipe
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica, found_space
from tests.properties.cast import (
    BASE,
    CARL,
    CLEO,
    CONTENTS,
    MAINTAINERS,
    OWNERS,
    READER,
    STRANGER,
    Pen,
    wire,
)

OLGA, MIA = OWNERS[0], MAINTAINERS[0]
TENSOR = TensorEntry("a", "F32", (2,), BlobId(b"\x01" * 32))
MANIFEST = Manifest(
    "full", BASE, (TENSOR,), evidence=(EvidenceEntry("fisher", TENSOR),)
)


def space_of(mode: str = "members") -> OpSet:
    """Return a space that OLGA has just founded."""
    first = found_space(OLGA, name="digits", mode=mode, base=BASE, nonce=bytes(16))
    return OpSet(SpaceId(first.record.id)).insert([wire(first)])


def after(opset: OpSet, *signed: SignedRecord) -> OpSet:
    """Return the set with these records, over the wire: all must be admissible."""
    return opset.insert(map(wire, signed))


def test_contribution_says_what_its_manifest_says() -> None:
    """The add carries content id, blob, sizes and evidence digest of the manifest."""
    opset = space_of()
    signed = Replica(opset, OLGA).contribute(MANIFEST, weight=DECIMAL_UNIT, note="hi")
    (shown,) = after(opset, signed).view.visible
    assert shown.content == MANIFEST.content_id
    assert shown.manifests == ((MANIFEST.blob, len(MANIFEST.encode())),)
    assert shown.evidence == MANIFEST.evidence_digest
    assert shown.notes == ("hi",)


def test_records_of_an_author_form_a_chain() -> None:
    """Each record is one above the author's last and names it."""
    opset = space_of()
    for seq in range(1, 5):
        signed = Replica(opset, OLGA).announce(b"\x02" * 32, [f"host:{seq}"])
        assert signed.record.author_seq == seq
        previous = opset.get(RecordId(signed.record.prev))
        assert previous is not None
        assert previous.author_seq == seq - 1
        opset = after(opset, signed)
    assert list(opset.view.nodes.values()) == [("host:4",)]


def test_member_acts_under_its_highest_grant() -> None:
    """Of several grants the one of highest rank is named, when it stands."""
    opset = space_of()
    low = Replica(opset, OLGA).grant(CLEO.public, Rank.CONTRIBUTOR)
    opset = after(opset, low)
    high = Replica(opset, OLGA).grant(CLEO.public, Rank.MAINTAINER)
    opset = after(opset, high)
    grant, authority = Replica(opset, CLEO).authority(Rank.READER)
    assert (grant, authority.rank) == (high.record.id, Rank.MAINTAINER)
    assert opset.chain(Replica(opset, CLEO).ban("content", bytes(32)).record) == [
        opset.signed[opset.view.genesis.id],
        opset.signed[high.record.id],
    ]


@pytest.mark.parametrize("key", [STRANGER, READER, CLEO])
def test_rank_too_low_is_refused_before_signing(key: SigningKey) -> None:
    """Whoever may not do it hears so at once, from its own replica."""
    replica = Replica(Pen.start().opset(), key)
    with pytest.raises(NotAllowedError):
        replica.set_recipe(Recipe("linear/1"))
    with pytest.raises(NotAllowedError):
        replica.ban("content", CONTENTS[0])
    with pytest.raises(NotAllowedError):
        replica.grant(STRANGER.public, Rank.READER)
    if key is not CLEO:
        with pytest.raises(NotAllowedError):
            replica.contribute(MANIFEST, weight=DECIMAL_UNIT, note="")


def test_grant_gives_less_than_the_author_has() -> None:
    """Neither the rank nor a limit of one's own grant can be passed on higher."""
    replica = Replica(Pen.start().opset(), MIA)
    with pytest.raises(NotAllowedError):
        replica.grant(STRANGER.public, Rank.MAINTAINER, records_max=1, bytes_max=1)
    with pytest.raises(NotAllowedError, match="limits"):
        replica.grant(STRANGER.public, Rank.CONTRIBUTOR)
    signed = replica.grant(
        STRANGER.public, Rank.CONTRIBUTOR, records_max=1000, bytes_max=1 << 30
    )
    assert isinstance(signed.record.body, Grant)
    assert STRANGER.public in after(replica.opset, signed).view.ranks


def test_remove_from_below_is_refused_before_signing() -> None:
    """One removes what is one's own or of lower rank, and what is an add."""
    pen = Pen.start()
    mine, theirs = pen.add(CLEO, CONTENTS[0]), pen.add(CARL, CONTENTS[1])
    opset = pen.opset()
    for author, add in ((CLEO, mine), (MIA, theirs)):
        left = after(opset, Replica(opset, author).remove([add])).view.visible
        assert add not in {a for shown in left for a in shown.adds}
    with pytest.raises(NotAllowedError):
        Replica(opset, CLEO).remove([mine, theirs])
    for unknown in (RecordId(bytes(32)), opset.view.genesis.id):
        with pytest.raises(NotFoundError):
            Replica(opset, CLEO).remove([unknown])


def test_ban_of_an_equal_is_refused_before_signing() -> None:
    """An author ban works downwards only; it would be stored in vain."""
    opset = Pen.start().opset()
    for target in (MAINTAINERS[1].public, OLGA.public, MIA.public):
        with pytest.raises(NotAllowedError):
            Replica(opset, MIA).ban("author", target)
    banned = after(opset, Replica(opset, MIA).ban("author", CLEO.public))
    assert banned.view.rightless == {CLEO.public}


def test_ban_and_lift_come_full_circle() -> None:
    """What a ban hid, the lift shows again, to the same visible root."""
    opset = space_of()
    olga = Replica(opset, OLGA)
    opset = after(opset, olga.contribute(MANIFEST, weight=DECIMAL_UNIT, note=""))
    ban = Replica(opset, OLGA).ban("content", MANIFEST.content_id)
    banned = after(opset, ban)
    assert banned.view.visible == ()
    lifted = after(banned, Replica(banned, OLGA).lift(ban.record.id))
    assert lifted.view.visible_root == opset.view.visible_root


def test_who_lost_its_rights_signs_nothing() -> None:
    """A banned author is told, rather than left to write records without effect."""
    opset = Pen.start().opset()
    banned = after(opset, Replica(opset, MIA).ban("author", CLEO.public))
    with pytest.raises(NotAllowedError, match="you were banned"):
        Replica(banned, CLEO).announce(b"\x02" * 32, [])


@pytest.mark.parametrize(("records", "size"), [(1, 1 << 30), (1000, 8)])
def test_limits_of_the_grant_hold_before_signing(records: int, size: int) -> None:
    """Too many records, or a model too large, is refused on one's own machine."""
    opset = space_of()
    grant = Replica(opset, OLGA).grant(
        CLEO.public, Rank.CONTRIBUTOR, records_max=records, bytes_max=size
    )
    opset = after(opset, grant)
    for _ in range(2):
        opset = after(opset, Replica(opset, CLEO).announce(b"\x02" * 32, []))
    with pytest.raises(NotAllowedError):
        Replica(opset, CLEO).contribute(MANIFEST, weight=DECIMAL_UNIT, note="")


def test_new_recipe_replaces_all_heads() -> None:
    """A conflict ends with the next recipe that is set."""
    opset = space_of()
    one = Replica(opset, OLGA).set_recipe(Recipe("linear/1"))
    two = Replica(opset, OLGA).set_recipe(Recipe("ties/1"))
    both = after(opset, one, two)
    assert len(both.view.recipe_heads) == 2
    three = Replica(both, OLGA).set_recipe(Recipe("dare_ties/1"))
    assert after(both, three).view.recipe_heads == (three.record.id,)


def test_anybody_contributes_to_an_open_space() -> None:
    """In an open space a newcomer needs no grant, up to the default cap."""
    opset = space_of("open")
    signed = Replica(opset, STRANGER).contribute(
        MANIFEST, weight=5 * DECIMAL_UNIT, note=""
    )
    (shown,) = after(opset, signed).view.visible
    assert shown.weight == DECIMAL_UNIT


def test_chain_misses_what_was_not_received() -> None:
    """A record whose grant is not in the set has no chain here."""
    pen = Pen.start()
    grant = pen.grants[CLEO.public]
    add = pen.known[pen.add(CLEO, CONTENTS[0])]
    without = pen.opset(without=[grant.id, add.record.id])
    with pytest.raises(MissingAuthorityError):
        without.chain(add.record)
    assert [s.record.id for s in pen.opset().chain(add.record)][-1] == grant.id


def test_a_revocation_keeps_what_it_accepts_and_nothing_after() -> None:
    """What the author contributed stays; what it says later is admitted in vain."""
    pen = Pen.start()
    kept = pen.add(CLEO, CONTENTS[0])
    opset = pen.opset()
    mia = Replica(opset, MIA)
    assert mia.last_records(CLEO.public) == (kept,)
    signed = mia.revoke(CLEO.public, mia.last_records(CLEO.public))
    late = Replica(opset, CLEO).contribute(MANIFEST, weight=DECIMAL_UNIT, note="")
    revoked = after(opset, signed)
    both = after(revoked, late)  # signed by who had not heard of it
    assert [v.adds for v in both.view.visible] == [(kept,)]
    assert both.view.visible_root == opset.view.visible_root
    assert list(both.view.revocations) == [signed.record.id]
    with pytest.raises(NotAllowedError, match="revoked"):
        Replica(revoked, CLEO).contribute(MANIFEST, weight=DECIMAL_UNIT, note="")
    none = after(opset, mia.revoke(CLEO.public, ()))
    assert none.view.visible == ()


def test_a_revocation_is_lifted_with_all_that_was_held_back() -> None:
    """A lift names the record: the author's rights and records are back."""
    pen = Pen.start()
    pen.add(CLEO, CONTENTS[0])
    opset = pen.opset()
    signed = Replica(opset, MIA).revoke(CLEO.public, ())
    revoked = after(opset, signed)
    lifted = after(revoked, Replica(revoked, OLGA).lift(signed.record.id))
    assert lifted.view.revocations == {}
    assert lifted.view.visible_root == opset.view.visible_root
    Replica(lifted, CLEO).contribute(MANIFEST, weight=DECIMAL_UNIT, note="")


def test_a_revocation_of_an_equal_or_of_others_records_is_refused() -> None:
    """It works downwards only, and accepts records of that author alone."""
    pen = Pen.start()
    theirs = pen.add(CARL, CONTENTS[1])
    opset = pen.opset()
    for target in (MAINTAINERS[1].public, OLGA.public, MIA.public):
        with pytest.raises(NotAllowedError):
            Replica(opset, MIA).revoke(target, ())
    with pytest.raises(NotAllowedError):
        Replica(opset, CLEO).revoke(READER.public, ())
    for alien in (theirs, RecordId(bytes(32))):
        with pytest.raises(NotFoundError):
            Replica(opset, MIA).revoke(CLEO.public, [alien])


def test_a_lift_that_would_have_no_effect_is_refused_before_signing() -> None:
    """Only what stands is lifted, and only by the rank that made it or above."""
    pen = Pen.start()
    add = pen.add(CLEO, CONTENTS[0])
    opset = pen.opset()
    for nothing in (add, RecordId(bytes(32))):
        with pytest.raises(NotFoundError):
            Replica(opset, OLGA).lift(nothing)
    ban = Replica(opset, OLGA).ban("content", CONTENTS[0])
    banned = after(opset, ban)
    with pytest.raises(NotAllowedError, match="owner"):
        Replica(banned, MIA).lift(ban.record.id)
    lifted = after(banned, Replica(banned, OLGA).lift(ban.record.id))
    with pytest.raises(NotFoundError):
        Replica(lifted, OLGA).lift(ban.record.id)


@pytest.mark.parametrize("first", [1, 5])
def test_member_acts_under_the_grant_of_highest_limits(first: int) -> None:
    """Of two grants of one rank the better counts, whatever their ids and order."""
    opset = space_of()
    for cap in (first, 6 - first):
        grant = Replica(opset, OLGA).grant(
            CLEO.public, Rank.CONTRIBUTOR, weight_cap=cap * DECIMAL_UNIT
        )
        opset = after(opset, grant)
    _, authority = Replica(opset, CLEO).authority(Rank.READER)
    assert authority.weight_cap == 5 * DECIMAL_UNIT
