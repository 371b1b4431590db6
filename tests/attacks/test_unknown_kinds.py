"""Records of a kind that this version does not know: kept, passed on, never guessed at."""

from pathlib import Path

import pytest

from crdtmerge.bodies import Ban, SpaceId
from crdtmerge.errors import (
    MalformedRecordError,
    NotAdmissibleError,
    UpgradeNeededError,
)
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.sync.messages import SignedBytes
from nodes.home import open_home
from nodes.spaces import Spaces
from tests.archives import Shared
from tests.attacks.fortress import Fortress
from tests.attacks.guard import guarded
from tests.attacks.siege import Siege
from tests.attacks.test_forged_records import fields_of, packed
from tests.properties.cast import (
    CARL,
    MAINTAINERS,
    OWNERS,
    READER,
    STRANGER,
    unknown,
    write,
)


def spoken(home: Path, *, critical: bool) -> SignedRecord:
    """Let the author of a home say what this version does not know."""
    with open_home(home, write=True) as opened:
        spaces = Spaces(opened.records, opened.blobs)
        (space,) = spaces.all()
        opset = spaces.opset(space)
        own = [r for r in opset.records.values() if r.author == opened.author.public]
        last = max(own, key=lambda record: record.author_seq)
        record = make_record(
            space=space,
            author=opened.author.public,
            author_seq=last.author_seq + 1,
            prev=last.id,
            auth=SpaceId(space),
            body=unknown(),
            critical=critical,
        )
        signed = sign_record(record, opened.author)
        spaces.commit(space, [signed])
        return signed


def test_unknown_critical_kind_is_kept_and_passed_on(fortress: Fortress) -> None:
    """It comes in as any record does, goes out to who asks, and changes no meaning."""
    strange = fortress.next(CARL, unknown(), critical=True)
    shown = fortress.spaces().view(fortress.space)

    async def attack(siege: Siege) -> None:
        await siege.feeds(CARL, strange)
        held = siege.node.spaces.fetch(fortress.space, [strange.record.id])
        assert SignedBytes(strange.record.data, strange.signature) in held.records

    fortress.takes([strange], attack)
    view = fortress.spaces().view(fortress.space)
    assert view.unknown_critical == ("census",)
    assert (view.visible, view.ranks) == (shown.visible, shown.ranks)


def test_unknown_critical_kind_stops_resolve(tmp_path: Path) -> None:
    """Nobody merges on without the effect that others know: not a byte is written."""
    shared = Shared.at(tmp_path)
    spoken(shared.ann, critical=False)
    shared.resolved(shared.ann)
    spoken(shared.ann, critical=True)
    with guarded(tmp_path, UpgradeNeededError, "census"):
        shared.fleet.call(shared.ann, "resolve", out=tmp_path / "other")


def test_unknown_critical_kind_of_a_reader_ends_with_its_rights(
    fortress: Fortress,
) -> None:
    """Whoever stops a space so is named by its signature, and a ban goes on without."""
    fortress.say(READER, unknown())
    fortress.pen.write(READER, unknown("veto"), critical=True)
    fortress.keep()
    assert fortress.spaces().view(fortress.space).unknown_critical == ("veto",)
    fortress.say(OWNERS[0], Ban("author", READER.public))
    fortress.keep()
    assert fortress.spaces().view(fortress.space).unknown_critical == ()
    again = fortress.next(READER, unknown("veto"), critical=True)
    fortress.takes([again], lambda siege: siege.feeds(CARL, again))
    assert fortress.spaces().view(fortress.space).unknown_critical == ()


@pytest.mark.parametrize("critical", [False, True])
def test_unknown_kind_of_a_stranger(fortress: Fortress, critical: bool) -> None:
    """Nobody without a grant stops a space, or fills it with what nobody can read."""
    lie = write(STRANGER, fortress.pen.genesis.record, unknown(), critical=critical)
    fortress.withstands(NotAdmissibleError, lambda siege: siege.feeds(CARL, lie))


def test_known_kind_with_a_flag_that_it_has_not(fortress: Fortress) -> None:
    """A ban that calls itself critical, to stop older versions, is no record."""
    true = fortress.next(MAINTAINERS[0], Ban("author", CARL.public))
    fields = fields_of(true)
    fields[7] = 1
    lie = SignedBytes(packed(fields), true.signature)
    fortress.withstands(MalformedRecordError, lambda siege: siege.feeds(CARL, lie))
