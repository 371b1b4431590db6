"""What is fetched, from whom and in which order, whatever a member signs."""

import pytest

from crdtmerge.bodies import Add
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import BadSignatureError, MissingAuthorityError
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.policy import NODES_PER_AUTHOR_MAX, Visible
from crdtmerge.sync.messages import SignedBytes
from nodes import manifests
from nodes.choices import FETCH_RETRY_S, FETCHES_MAX, FETCHES_URGENT
from nodes.effects import (
    BlobFailed,
    BlobStored,
    Dial,
    Fetch,
    PeerClosed,
    Source,
    Ticked,
)
from nodes.gossip import DIAL_ADDRESSES_MAX
from nodes.looking import Seen
from nodes.manifests import Manifests
from nodes.spaces import WANTED_MAX, Spaces
from nodes.store.memory import MemoryBlobs
from tests.homes import wanted
from tests.unit.peers import BASE, SPACE, grant, note, raw, spaces_with
from tests.unit.test_node import Home, author, only, transport

CLAIMED = 3 * FETCHES_MAX


def claims(home: Home, count: int, first: int = 0) -> Manifest:
    """Make author 1 claim `count` tensors that nobody has."""
    entries = tuple(
        TensorEntry(f"t{n:07}", "U8", (1,), BlobId(n.to_bytes(32, "big")))
        for n in range(first, first + count)
    )
    manifest = Manifest("full", BASE, entries)
    home.blobs.add(manifest.encode())
    home.say(home.replica(1).contribute(manifest, weight=1, note=""))
    return manifest


def test_blobs_that_nobody_has_take_turns_with_the_others() -> None:
    """However many an author claims, each real blob is asked for in time."""
    home = Home(members=1)
    home.open(1)
    claims(home, CLAIMED)
    real = home.offer(1, b"real data")
    home.say(real)
    asked: list[BlobId] = []
    fetches = only(home.do(Ticked()), Fetch)
    for _ in range(2 * CLAIMED):
        fetch = fetches.pop(0)
        asked.append(fetch.blob)
        failed = BlobFailed(fetch.blob)
        fetches += only(home.do(failed, after=FETCH_RETRY_S), Fetch)
        if not fetches:
            fetches = only(home.do(Ticked()), Fetch)
    assert len(set(asked)) == CLAIMED + 1
    assert max(asked.count(blob) for blob in asked) <= 3


def test_a_slow_peer_holds_its_share_and_no_more() -> None:
    """A fetch goes to the peer that is asked for least."""
    home = Home(members=2)
    home.open(1, 2)
    claims(home, 100)
    fetches = only(home.do(Ticked()), Fetch)
    slow = transport(1)
    for _ in range(50):
        quick = next(f for f in fetches if f.sources[0].peer != slow)
        fetches.remove(quick)
        fetches += only(home.do(BlobStored(quick.blob)), Fetch)
        asked = sum(f.sources[0].peer == slow for f in fetches)
        assert asked <= (FETCHES_MAX - FETCHES_URGENT) // 2


def test_a_blob_of_two_spaces_comes_from_a_peer_of_either() -> None:
    """Who shares one of the two serves it in that one."""
    home = Home(members=1)
    other = home.found("other")
    for record in (home.offer(0, b"data"),):
        home.say(record)
    manifest = Manifest(
        "full", BASE, (TensorEntry("t0", "U8", (4,), MemoryBlobs().add(b"data")),)
    )
    home.say(home.replica(0, other).contribute(manifest, weight=1, note=""))
    home.open(1)  # a member of the first space only
    (fetch,) = only(home.do(Ticked()), Fetch)
    assert fetch.sources == (Source(transport(1), home.space),)


def test_a_manifest_is_gone_through_part_by_part() -> None:
    """What is looked for at a time is bounded; the next part follows."""
    home = Home(members=1)
    manifest = claims(home, WANTED_MAX + 5)
    seen: set[BlobId] = set()
    while part := wanted(home.spaces, home.space):
        assert len(part) <= WANTED_MAX
        seen |= part.keys()
        for blob in part:
            home.blobs._blobs[blob] = b"x"
    assert seen == {entry.blob for entry in manifest.tensors}
    assert len(home.spaces.missing(home.space)) == 0


def test_what_left_the_set_is_forgotten() -> None:
    """Neither what is complete nor what is lacking outlives its contribution."""
    home = Home(members=1)
    manifest = claims(home, 2)
    assert wanted(home.spaces, home.space)
    home.say(home.replica(0).ban("content", manifest.content_id))
    assert wanted(home.spaces, home.space) == {}
    assert home.spaces._seen[home.space].doubtful == {}
    assert not home.spaces._seen[home.space].whole


def test_what_is_whole_is_not_gone_through_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A record that says nothing of a contribution lets nobody look at it."""
    home = Home(members=1)
    manifest = claims(home, 2)
    for blob in wanted(home.spaces, home.space):
        home.blobs._blobs[blob] = b"x"
    assert wanted(home.spaces, home.space) == {}
    looked: list[ContentId] = []
    part = Spaces._part

    def counted(spaces: Spaces, visible: Visible, before: Seen) -> object:
        looked.append(visible.content)
        return part(spaces, visible, before)

    monkeypatch.setattr(Spaces, "_part", counted)
    other = claims(home, 3)
    assert wanted(home.spaces, home.space)
    assert looked == [other.content_id] != [manifest.content_id]
    home.spaces.look_again()
    assert wanted(home.spaces, home.space)
    assert set(looked[1:]) == {manifest.content_id, other.content_id}


def test_of_two_sizes_the_larger_bounds_a_fetch() -> None:
    """A false size of a tensor that another signed rightly does not keep it out."""
    home = Home(members=2)
    home.say(home.offer(1, b"data"))
    false = Manifest(
        "full", BASE, (TensorEntry("t0", "U8", (2,), MemoryBlobs().add(b"data")),)
    )
    home.blobs.add(false.encode())
    home.say(home.replica(2).contribute(false, weight=1, note=""))
    assert list(wanted(home.spaces, home.space).values()) == [4]
    assert list(home.spaces.missing(home.space).values()) == [4]


def test_only_what_a_space_needs_is_served_there() -> None:
    """Manifests and tensors of its visible contributions, and nothing else of the home."""
    home = Home(members=1)
    record = home.offer(1, b"data")
    home.say(record)
    body = record.record.body
    assert isinstance(body, Add)
    tensor, stray = home.blobs.add(b"data"), home.blobs.add(b"stray")
    assert home.spaces.serves(home.space, body.manifest)
    assert home.spaces.serves(home.space, tensor)
    assert not home.spaces.serves(home.space, stray)
    other = home.found("other")
    assert not home.spaces.serves(other, tensor)
    assert not home.spaces.serves(other, body.manifest)


# --- manifests in memory ---------------------------------------------------------------


def _manifest(count: int, name: str, *, one_blob: bool = False) -> Manifest:
    blob = BlobId(bytes(32))
    entries = tuple(
        TensorEntry(
            f"{name}{n:05}", "U8", (1,), blob if one_blob else BlobId(bytes([n] * 32))
        )
        for n in range(count)
    )
    return Manifest("full", BASE, entries)


@pytest.mark.parametrize("one_blob", [False, True])
def test_manifests_in_memory_are_bounded(
    monkeypatch: pytest.MonkeyPatch, *, one_blob: bool
) -> None:
    """By their entries: many names of one blob cost as much as many blobs."""
    monkeypatch.setattr(manifests, "ENTRIES_MAX", 250)
    blobs = MemoryBlobs()
    cache = Manifests(blobs)
    for name in "abcdef":
        data = _manifest(100, name, one_blob=one_blob).encode()
        assert cache.read(blobs.add(data), len(data)) is not None
    assert len(cache._kept) == 2
    data = _manifest(255, "z", one_blob=one_blob).encode()
    assert cache.read(blobs.add(data), len(data)) is not None
    assert len(cache._kept) == 1


def test_junk_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no manifest is not decoded at every look."""
    blobs = MemoryBlobs()
    cache, junk = Manifests(blobs), blobs.add(b"junk")
    assert cache.read(junk, 4) is None
    monkeypatch.setattr(manifests, "decode_manifest", None)
    assert cache.read(junk, 4) is None


# --- records and members ---------------------------------------------------------------


def test_what_hangs_on_nothing_costs_no_signature() -> None:
    """Records without their grant are refused before any is verified, which is dear."""
    spaces = spaces_with("one", [])
    granted = grant(1)
    loose = note(2, auth=granted.record)
    forged = SignedBytes(loose.record.data, bytes(64))
    with pytest.raises(MissingAuthorityError):
        spaces.receive(SPACE, [forged])
    with pytest.raises(BadSignatureError):
        spaces.receive(SPACE, [raw(granted), forged])


def test_an_author_brings_a_bounded_number_of_nodes() -> None:
    """Each may connect to everybody and is dialled by all: the last ones named count."""
    home = Home(members=1)
    names = [bytes([7, n]) + bytes(30) for n in range(NODES_PER_AUTHOR_MAX + 4)]
    for name in names:
        home.say(home.replica(1).announce(name, ()))
    of_author = {
        node
        for node, authors in home.spaces.view(home.space).node_authors.items()
        if author(1).public in authors
    }
    assert of_author == set(names[-NODES_PER_AUTHOR_MAX:])
    home.say(home.replica(1).announce(transport(1), ()))  # said again, it is back
    assert transport(1) in home.spaces.members()


def test_a_dial_tries_a_few_of_many_addresses() -> None:
    """Others may claim a key and give it addresses that lead nowhere."""
    home = Home(members=4)
    for number in (2, 3, 4):
        addresses = tuple(f"nowhere{number}{n}:1" for n in range(8))
        home.say(home.replica(number).announce(transport(1), addresses))
    dials = [d for d in only(home.do(Ticked()), Dial) if d.peer == transport(1)]
    (dial,) = dials
    assert len(dial.addresses) == DIAL_ADDRESSES_MAX


def test_a_ticket_s_address_serves_where_none_was_announced() -> None:
    """A node record without addresses does not hide what a ticket said."""
    home = Home(members=1)
    home.say(home.replica(1).announce(transport(1), ()))
    home.node.bootstrap[transport(1)] = ("ticket:1",)
    (dial,) = only(home.do(Ticked()), Dial)
    assert dial.addresses == ("ticket:1",)


def test_who_sent_no_message_is_banished() -> None:
    """A frame that breaks its limits costs as much as a message that breaks a rule."""
    home = Home(members=1)
    home.open(1)
    home.do(PeerClosed(transport(1), "MalformedMessageError"))
    assert home.node.dropped == {"MalformedMessageError": 1}
    assert only(home.do(Ticked(), after=40.0), Dial) == []
    assert only(home.do(Ticked(), after=40.0), Dial)


def test_cursors_of_who_left_are_forgotten() -> None:
    """What is kept for each peer goes with its membership, at once."""
    home = Home(members=1)
    home.do(Ticked())
    home.open(1)
    assert transport(1) in home.node._cursors
    home.say(home.replica(0).ban("author", author(1).public))
    home.do(Ticked())
    assert transport(1) not in home.node._cursors
    home.do(PeerClosed(transport(1)))
    home.do(Ticked())
    assert transport(1) not in home.node._cursors
