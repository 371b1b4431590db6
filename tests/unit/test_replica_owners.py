"""Approvals and successors as one author's side writes them: nothing in vain."""

import pytest

from crdtmerge.bodies import RecordId, SpaceId, give_consent
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId
from crdtmerge.errors import BadSignatureError, NotAllowedError, NotFoundError
from crdtmerge.identity import SigningKey
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.orset import OpSet
from crdtmerge.policy import Rank
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica, found_space
from tests.properties.cast import (
    BASE,
    CARL,
    CLEO,
    MAINTAINERS,
    OTTO,
    OWNERS,
    STRANGER,
    THREE,
    Pen,
    key,
    wire,
)

OLGA, OMAR = OWNERS
MIA, MAX = MAINTAINERS
NEXT, LAST = key("next"), key("last")
TENSOR = TensorEntry("a", "F32", (2,), BlobId(b"\x01" * 32))
MANIFEST = Manifest("full", BASE, (TENSOR,))


def after(opset: OpSet, *signed: SignedRecord) -> OpSet:
    """Return the set with these records, over the wire: all must be admissible."""
    return opset.insert(map(wire, signed))


def rotated(opset: OpSet, old: SigningKey, new: SigningKey) -> OpSet:
    """Return the set where `old` named `new`."""
    consent = give_consent(new, opset.space, old.public)
    return after(opset, Replica(opset, old).name_successor(new.public, consent))


def test_a_space_is_founded_with_several_owners() -> None:
    """Owners and rules stand in the genesis; the founder is one of them."""
    first = found_space(
        OLGA,
        name="digits",
        mode="members",
        base=BASE,
        nonce=bytes(16),
        owners=[OTTO.public, OMAR.public],
        threshold=2,
        quarantine=True,
    )
    opset = OpSet(SpaceId(first.record.id)).insert([wire(first)])
    assert {o for o, r in opset.view.ranks.items() if r is Rank.OWNER} == {
        o.public for o in THREE
    }


def test_owners_approve_what_waits() -> None:
    """A grant of a maintainer waits for a second owner, who signs it once."""
    opset = Pen.start(owners=THREE, threshold=2).opset()
    grant = Replica(opset, OLGA).grant(STRANGER.public, Rank.MAINTAINER)
    opset = after(opset, grant)
    act = grant.record.id
    for who, wrong in ((OLGA, "signed"), (MIA, "needs the rank of owner")):
        with pytest.raises(NotAllowedError, match=wrong):
            Replica(opset, who).approve(act)
    with pytest.raises(NotFoundError):
        Replica(opset, OMAR).approve(RecordId(bytes(32)))
    opset = after(opset, Replica(opset, OMAR).approve(act))
    assert opset.view.ranks[STRANGER.public] is Rank.MAINTAINER
    with pytest.raises(NotAllowedError, match="waits for no"):
        Replica(opset, OTTO).approve(act)


def test_owners_judge_each_other_where_a_council_can() -> None:
    """With three owners a ban of one waits for a second; a sole owner bans nobody above."""
    opset = Pen.start(owners=THREE).opset()
    ban = Replica(opset, OLGA).ban("author", OTTO.public)
    opset = after(opset, ban)
    revoke = Replica(opset, OLGA).revoke(OTTO.public, ())
    opset = after(opset, revoke)
    assert {act.record for act in opset.view.pending} == {
        ban.record.id,
        revoke.record.id,
    }
    with pytest.raises(NotAllowedError):
        Replica(opset, OLGA).ban("author", OLGA.public)
    with pytest.raises(NotAllowedError):
        Replica(opset, MIA).ban("author", OTTO.public)


@pytest.mark.parametrize("old", [OLGA, MIA, CLEO])
def test_a_key_goes_on_and_ends_the_one_before(old: SigningKey) -> None:
    """Rotation at any rank: the new key speaks, and retires the old one."""
    opset = rotated(Pen.start().opset(), old, NEXT)
    head = Replica(opset, NEXT).last_records(old.public)
    opset = after(opset, Replica(opset, NEXT).revoke(old.public, head))
    add = Replica(opset, NEXT).contribute(MANIFEST, weight=DECIMAL_UNIT, note="")
    opset = after(opset, add)
    assert [v.authors for v in opset.view.visible] == [(NEXT.public,)]
    assert opset.view.rightless == {old.public}
    with pytest.raises(NotAllowedError, match="ended by the one after it"):
        Replica(opset, old).contribute(MANIFEST, weight=DECIMAL_UNIT, note="")
    after(opset, Replica(opset, NEXT).remove([add.record.id]))


def test_the_key_before_ends_nobody() -> None:
    """A contributor's old key cannot revoke; nor does an owner's, its own next one."""
    for old in (CLEO, OLGA):
        opset = rotated(Pen.start().opset(), old, NEXT)
        with pytest.raises(NotAllowedError):
            Replica(opset, old).revoke(NEXT.public, ())


def test_a_successor_is_fresh_and_named_once() -> None:
    """A key with a part, a second successor, or a consent to something else is refused."""
    opset = Pen.start().opset()
    space = opset.space
    mine = Replica(opset, CLEO)
    with pytest.raises(NotAllowedError, match="part in this space"):
        mine.name_successor(CARL.public, give_consent(CARL, space, CLEO.public))
    with pytest.raises(BadSignatureError):
        mine.name_successor(NEXT.public, give_consent(NEXT, space, CARL.public))
    opset = rotated(opset, CLEO, NEXT)
    with pytest.raises(NotAllowedError, match="first one counts"):
        rotated(opset, CLEO, LAST)
    with pytest.raises(NotAllowedError, match="part in this space"):
        rotated(opset, CARL, NEXT)


def test_a_grant_goes_to_the_last_key() -> None:
    """Else a promotion would leave the key in use behind."""
    opset = rotated(Pen.start().opset(), CLEO, NEXT)
    with pytest.raises(NotAllowedError, match="has followed") as refused:
        Replica(opset, OLGA).grant(CLEO.public, Rank.MAINTAINER)
    assert NEXT.public.hex() in str(refused.value.hint)
    after(opset, Replica(opset, OLGA).grant(NEXT.public, Rank.MAINTAINER))


def test_a_revocation_keeps_the_heads_of_all_keys() -> None:
    """What is here of an identity stays, and nothing new counts."""
    opset = Pen.start().opset()
    add = Replica(opset, CLEO).contribute(MANIFEST, weight=DECIMAL_UNIT, note="")
    opset = rotated(after(opset, add), CLEO, NEXT)
    opset = after(
        opset,
        Replica(opset, NEXT).contribute(MANIFEST, weight=DECIMAL_UNIT, note="again"),
    )
    heads = Replica(opset, MIA).last_records(NEXT.public)
    assert len(heads) == 2
    before = opset.view.visible
    opset = after(opset, Replica(opset, MIA).revoke(NEXT.public, heads))
    assert opset.view.visible == before
    assert opset.view.rightless == {CLEO.public, NEXT.public}
    with pytest.raises(NotAllowedError, match="revoked"):
        Replica(opset, NEXT).contribute(MANIFEST, weight=DECIMAL_UNIT, note="more")


def test_owners_say_who_follows_a_lost_key() -> None:
    """One of them names the key, another approves it."""
    opset = Pen.start(owners=THREE).opset()
    consent = give_consent(NEXT, opset.space, OTTO.public)
    with pytest.raises(NotAllowedError, match="needs the rank of owner"):
        Replica(opset, MIA).name_successor(NEXT.public, consent, OTTO.public)
    lost = give_consent(NEXT, opset.space, MAX.public)
    with pytest.raises(NotAllowedError, match="no owner's key"):
        Replica(opset, OLGA).name_successor(NEXT.public, lost, MAX.public)
    claim = Replica(opset, OLGA).name_successor(NEXT.public, consent, OTTO.public)
    opset = after(opset, claim)
    opset = after(opset, Replica(opset, OMAR).approve(claim.record.id))
    assert opset.view.identity(NEXT.public) == (OTTO.public, NEXT.public)
    after(opset, Replica(opset, NEXT).grant(STRANGER.public, Rank.MAINTAINER))


def test_a_lift_of_what_one_owner_did_alone_is_a_maintainers() -> None:
    """The rank that an act was acted with counts, not that of who did it."""
    opset = Pen.start(owners=THREE, threshold=2).opset()
    ban = Replica(opset, OLGA).ban("content", bytes(32))
    opset = after(opset, ban)
    lifted = after(opset, Replica(opset, MIA).lift(ban.record.id))
    assert not lifted.view.bans
    opset = after(opset, Replica(opset, OLGA).ban("content", bytes([1]) * 32))
    (other,) = set(opset.view.bans) - {ban.record.id}
    assert other not in {act.record for act in opset.view.pending}
