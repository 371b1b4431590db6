"""Attestations are what their nodes signed, and nothing else gets into a table."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import SpaceId
from crdtmerge.codec import encode
from crdtmerge.digest import BlobId, Domain, digest
from crdtmerge.errors import (
    BadSignatureError,
    MalformedAttestationError,
    MalformedMessageError,
)
from crdtmerge.identity import Purpose, SigningKey
from crdtmerge.manifest import TensorEntry
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.sync import attestations as module
from crdtmerge.sync.attestations import (
    ATTESTATION_BYTES_MAX,
    PLATFORM_CHARACTERS_MAX,
    Attestation,
    Table,
    check,
    decode_attestation,
)
from crdtmerge.sync.listings import Listing, differing, page
from crdtmerge.sync.messages import MESSAGE_BYTES_MAX, SignedBytes
from nodes.convert import encode as frame_bytes
from nodes.limits import FRAME_BYTES_MAX

SPACE = SpaceId(b"s" * 32)
KEYS = [SigningKey(digest(Domain.SEED, bytes([n]))) for n in range(4)]
MEMBERS = frozenset(key.public for key in KEYS[:3])


def said(node: int = 0, counter: int = 1, model: bytes = b"o" * 32) -> Attestation:
    return Attestation(
        SPACE, KEYS[node].public, counter, b"m" * 32, model, 1, "Linux x86_64, cpu"
    )


def signed(node: int = 0, counter: int = 1, model: bytes = b"o" * 32) -> SignedBytes:
    return said(node, counter, model).sign(KEYS[node])


def test_an_attestation_survives_its_bytes_and_its_limits_hold() -> None:
    """What was signed is what is read, and the longest one fits its bound."""
    longest = replace(
        said(counter=2**63 - 1),
        contract=2**31 - 1,
        platform="p" * PLATFORM_CHARACTERS_MAX,
    )
    for one in (said(), longest):
        assert decode_attestation(one.encode()) == one
        assert check(one.sign(KEYS[0])).attestation == one
    assert len(longest.encode()) <= ATTESTATION_BYTES_MAX


@pytest.mark.parametrize(
    "wrong",
    [
        replace(said(), counter=0),
        replace(said(), counter=2**63),
        replace(said(), model=b"short"),
        replace(said(), merge_id=b""),
        replace(said(), node=b"n" * 31),
        replace(said(), contract=0),
        replace(said(), platform=""),
        replace(said(), platform="\x1b[2J"),
        replace(said(), platform="p" * (PLATFORM_CHARACTERS_MAX + 1)),
        replace(said(), platform="Ünix"),
    ],
)
def test_an_attestation_out_of_bounds_is_none(wrong: Attestation) -> None:
    """Terminals show the platform, and nothing unbounded is kept."""
    with pytest.raises(MalformedAttestationError):
        decode_attestation(wrong.encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_an_attestation_or_malformed(data: bytes) -> None:
    """Bytes of a peer never raise anything but our own error."""
    with pytest.raises(MalformedAttestationError):
        decode_attestation(data)


def test_another_version_is_refused() -> None:
    """A later form would come under a feature of its own."""
    later = encode([2, SPACE, KEYS[0].public, 1, b"m" * 32, b"o" * 32, 1, "x"])
    with pytest.raises(MalformedAttestationError):
        decode_attestation(later)


def test_only_the_node_itself_attests_and_for_this_purpose() -> None:
    """Another key, another purpose or a changed field is not what the node said."""
    one = said()
    data = one.encode()
    forged = (
        SignedBytes(data, KEYS[1].sign(Purpose.ATTESTATION, data)),
        SignedBytes(data, KEYS[0].sign(Purpose.RECORD, data)),
        SignedBytes(replace(one, counter=2).encode(), one.sign(KEYS[0]).signature),
    )
    table = Table(SPACE)
    for item in forged:
        with pytest.raises(BadSignatureError):
            table.take(item, MEMBERS)
    assert not table.latest


def test_the_latest_counts_and_a_replay_changes_nothing() -> None:
    """The counter decides, whatever comes when; an older one costs no verification."""
    table = Table(SPACE)
    assert table.take(signed(counter=5), MEMBERS)
    unsigned = replace(signed(counter=4), signature=bytes(64))
    assert table.take(unsigned, MEMBERS) is None
    assert table.take(signed(counter=5), MEMBERS) is None
    assert table.latest[KEYS[0].public].attestation.counter == 5


def test_who_is_no_member_is_not_heard_and_who_leaves_is_forgotten() -> None:
    """A stranger's signature is not even looked at."""
    table = Table(SPACE)
    assert table.take(replace(signed(3), signature=b""), MEMBERS) is None
    table.take(signed(0), MEMBERS)
    table.take(signed(1), MEMBERS)
    table.keep_only(MEMBERS - {KEYS[1].public})
    assert set(table.latest) == {KEYS[0].public}


def test_an_attestation_of_another_space_is_malformed() -> None:
    """Nobody carries what was said in one space into another."""
    other = replace(said(), space=SpaceId(b"t" * 32)).sign(KEYS[0])
    with pytest.raises(MalformedAttestationError):
        Table(SPACE).take(other, MEMBERS)


POOL = [
    signed(node, counter, bytes([model]) * 32)
    for node in range(4)
    for counter in (1, 2, 3)
    for model in (1, 2)
]


@given(st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=30))
def test_any_order_and_repetition_give_the_same_table(chosen: list[int]) -> None:
    """The table is a function of the set of attestations, two of one counter included."""
    tables = []
    for order in (chosen, chosen[::-1], sorted(chosen), [*chosen, *chosen]):
        table = Table(SPACE)
        for index in order:
            table.take(POOL[index], MEMBERS)
        tables.append(table)
    # An oracle of its own: the largest (counter, bytes) of each member.
    best: dict[bytes, tuple[int, bytes]] = {}
    for index in chosen:
        found = decode_attestation(POOL[index].data)
        if found.node in MEMBERS:
            place = found.counter, POOL[index].data
            best[found.node] = max(best.get(found.node, place), place)
    for table in tables:
        assert {n: h.place for n, h in table.latest.items()} == best
        assert table.mark == tables[0].mark
        assert bool(table.mark) == bool(best)


@given(st.sets(st.integers(0, len(POOL) - 1)), st.sets(st.integers(0, len(POOL) - 1)))
def test_one_exchange_each_way_makes_two_tables_equal(
    mine: set[int], theirs: set[int]
) -> None:
    """What a peer lacks is told from what it holds; equal marks mean equal tables."""
    one, other = Table(SPACE), Table(SPACE)
    for table, chosen in ((one, mine), (other, theirs)):
        for index in sorted(chosen):
            table.take(POOL[index], MEMBERS)
    for asker, server in ((one, other), (other, one)):
        for item in server.unknown_to(asker.held()):
            asker.take(item, MEMBERS)
    assert one.latest == other.latest
    assert one.mark == other.mark
    assert one.unknown_to(other.held()) == ()


# --- lists of tensors -------------------------------------------------------------------


def entries(count: int, name: str = "t") -> tuple[TensorEntry, ...]:
    return tuple(
        TensorEntry(f"{name}{n:06}", "F32", (n % 7, 3), BlobId(n.to_bytes(32, "big")))
        for n in range(count)
    )


def test_a_long_list_comes_in_pages_that_fit_a_message() -> None:
    """Pages follow one another to the end, and none is above what a frame may be."""
    from crdtmerge.sync.messages import TensorsReply

    tensors = entries(9000, "a name of usual length, such as model.layers.0.weight.")
    listing = Listing(model_digest(tensors))
    pages = 0
    while not pages or len(listing.got) < len(tensors):
        part = page(tensors, len(listing.got))
        frame = frame_bytes(TensorsReply(SPACE, listing.model, 9000, part, 1))
        assert MESSAGE_BYTES_MAX // 2 < len(frame) < FRAME_BYTES_MAX or pages
        whole = listing.take(len(tensors), part)
        pages += 1
    assert whole
    assert tuple(listing.got) == tensors
    assert pages > 1


@pytest.mark.parametrize(
    "lie",
    [
        lambda t: (3, t[:3]),  # shorter, and said to be whole
        lambda t: (4, (t[1], t[0], *t[2:])),
        lambda t: (4, (*t[:3], replace(t[3], blob=BlobId(b"x" * 32)))),
        lambda t: (4, (*t[:3], replace(t[3], shape=(1,)))),
        lambda t: (3, t),
        lambda t: (4, t[:0]),
        lambda t: (4, (t[0], t[0], *t[1:3])),
    ],
)
def test_a_list_that_is_not_of_the_model_is_a_lie(lie: object) -> None:
    """Only what the model digest was made of passes: a peer cannot blame other tensors."""
    tensors = entries(4)
    listing = Listing(model_digest(tensors))
    total, told = lie(tensors)  # type: ignore[operator]
    with pytest.raises(MalformedMessageError):
        listing.take(total, told)


def test_tensors_that_differ_are_named() -> None:
    """By bytes, by shape, or by being there at all."""
    ours, theirs = entries(5), list(entries(5))
    theirs[1] = replace(theirs[1], blob=BlobId(b"x" * 32))
    theirs[3] = replace(theirs[3], dtype="BF16")
    del theirs[4]
    assert differing(ours, theirs) == ("t000001", "t000003", "t000004")
    assert differing(ours, ours) == ()


def test_the_mark_of_a_table_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each beat, said or heard, looks at it: a flood of beats must find it ready."""
    table = Table(SPACE)
    table.take(signed(0), MEMBERS)
    first = table.mark
    made: list[bytes] = []

    def counted(domain: Domain, data: bytes) -> bytes:
        made.append(data)
        return digest(domain, data)

    monkeypatch.setattr(module, "digest", counted)
    monkeypatch.setattr(module, "digest_value", lambda _d, _v: pytest.fail("again"))
    assert [table.mark for _ in range(3)] == [first] * 3
    assert table.unknown_to(table.held()) == ()
    assert made == []
    monkeypatch.undo()
    table.take(signed(1), MEMBERS)
    assert table.mark != first
    table.keep_only([KEYS[0].public])
    assert table.mark == first
