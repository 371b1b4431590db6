"""Frames carry messages unchanged, and nothing that breaks a stated limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.digest import BlobId
from crdtmerge.errors import MalformedMessageError, MessageTooLargeError
from crdtmerge.manifest import TensorEntry
from crdtmerge.record import RECORD_BYTES_MAX
from crdtmerge.sync.attestations import ATTESTATION_BYTES_MAX
from crdtmerge.sync.listings import TENSORS_MAX
from crdtmerge.sync.messages import (
    AGE_MAX_S,
    ATTESTERS_MAX,
    CLUE_BYTES,
    IDS_MAX,
    LISTED_MAX,
    PREFIXES_MAX,
    SALT_BYTES,
    SECTIONS_MAX,
    Attestations,
    AttestationsRequest,
    Clues,
    CompareReply,
    CompareRequest,
    FeedReply,
    FeedRequest,
    Goodbye,
    Heartbeat,
    Held,
    Hello,
    Ids,
    Message,
    PeerSaid,
    PeersReply,
    PeersRequest,
    Probed,
    ProbeReply,
    ProbeRequest,
    RecordsReply,
    RecordsRequest,
    Rumour,
    Section,
    SignedBytes,
    TensorsReply,
    TensorsRequest,
    TrieInner,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.runs import Run
from crdtmerge.sync.transfer import ENCODINGS_MAX, RUNS_MAX, Wanted
from nodes.convert import (
    decode,
    encode,
    from_fetch_request,
    from_frame,
    from_join_frame,
    to_fetch_request,
    to_frame,
    to_join_frame,
)
from nodes.join_messages import (
    Announce,
    Answer,
    Challenge,
    Done,
    JoinHello,
    JoinMessage,
    Welcome,
)
from nodes.limits import FRAME_BYTES_MAX, NUMBER_MAX
from nodes.wire import replica_pb2 as wire

SPACE = b"s" * 32
GENERATION = b"g" * 16
SALT = b"s" * SALT_BYTES
RECORD = SignedBytes(b"data", b"x" * 64)
TENSOR = TensorEntry("t", "F32", (2,), BlobId(SPACE))

digests = st.binary(min_size=32, max_size=32)
generations = st.binary(min_size=16, max_size=16)
signatures = st.binary(min_size=64, max_size=64)
numbers = st.integers(0, NUMBER_MAX)
prefixes = st.lists(st.integers(0, 15), max_size=64).map(tuple)
ids = st.lists(digests, max_size=5).map(tuple)
records = st.lists(
    st.builds(SignedBytes, st.binary(min_size=1, max_size=50), signatures), max_size=4
).map(tuple)
leaves = st.builds(TrieLeaf, prefixes, st.lists(digests, max_size=16).map(tuple))
inners = st.builds(
    TrieInner, prefixes, st.lists(digests, min_size=16, max_size=16).map(tuple)
)
salts = st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES)
clues = st.binary(min_size=CLUE_BYTES, max_size=CLUE_BYTES)


def sections(items: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[Section, ...]]:
    """Draw sections whose ids are shown as `items`."""
    listed = st.builds(Ids, prefixes, st.lists(items, max_size=8).map(tuple))
    sixteen = st.lists(clues, min_size=16, max_size=16).map(tuple)
    return st.lists(listed | st.builds(Clues, prefixes, sixteen), max_size=3).map(tuple)


asked_numbers = st.integers(1, NUMBER_MAX)
held = st.builds(Held, digests, asked_numbers, generations)
tensors = st.builds(
    TensorEntry,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.sampled_from(["F32", "BF16", "I64"]),
    st.lists(st.integers(0, 2**9), max_size=3).map(tuple),
    digests.map(BlobId),
)
agents = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=128)
said = st.builds(
    PeerSaid,
    digests,
    st.lists(st.integers(1, 65535).map("host.example:{}".format), max_size=4).map(
        tuple
    ),
    st.integers(0, AGE_MAX_S),
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.just(Goodbye()),
    st.just(PeersRequest()),
    st.just(ProbeRequest()),
    st.builds(
        ProbeReply,
        st.lists(
            st.builds(Probed, st.just("host.example:7"), st.integers(1, 255)),
            max_size=4,
        ).map(tuple),
        st.integers(0, 2**31 - 1),
        st.just("192.0.2.1"),
    ),
    st.builds(PeersReply, st.lists(said, max_size=16).map(tuple)),
    st.builds(
        Hello,
        st.integers(1, 2**32 - 1),
        agents,
        st.booleans(),
        st.integers(0, 2**64 - 1),
    ),
    st.builds(
        Heartbeat,
        digests,
        digests,
        numbers,
        generations,
        numbers,
        numbers,
        st.booleans(),
        st.just(b"") | generations,
    ),
    st.builds(FeedRequest, digests, generations, numbers, numbers),
    st.builds(
        FeedReply, digests, generations, numbers, st.booleans(), records, numbers
    ),
    st.builds(TrieRequest, digests, st.lists(prefixes, max_size=5).map(tuple), numbers),
    st.builds(
        TrieReply, digests, st.lists(leaves | inners, max_size=3).map(tuple), numbers
    ),
    st.builds(CompareRequest, digests, salts, sections(clues), numbers),
    st.builds(
        CompareReply, digests, sections(digests), st.integers(1, SECTIONS_MAX), numbers
    ),
    st.builds(RecordsRequest, digests, ids, numbers),
    st.builds(RecordsReply, digests, records, ids, numbers),
    st.builds(Rumour, digests, records),
    st.builds(AttestationsRequest, digests, st.lists(held, max_size=4).map(tuple)),
    st.builds(Attestations, digests, records),
    st.builds(
        TensorsRequest, digests, digests, st.integers(0, TENSORS_MAX), asked_numbers
    ),
    st.builds(
        TensorsReply,
        digests,
        digests,
        st.integers(4, NUMBER_MAX),
        st.lists(tensors, max_size=4).map(tuple),
        asked_numbers,
    ),
)
join_messages: st.SearchStrategy[JoinMessage] = st.one_of(
    st.builds(JoinHello, digests),
    st.builds(Challenge, digests),
    st.builds(Answer, digests, digests, signatures, signatures, digests),
    st.builds(Welcome, records),
    st.builds(Announce, records),
    st.just(Done()),
)
BLOB = b"b" * 32


@given(messages)
def test_a_message_survives_the_wire_unchanged(message: Message) -> None:
    """Encoding and decoding is the identity, and the decoded value is hashable."""
    received = decode(encode(message))
    assert received == message
    assert hash(received) == hash(message)


@given(join_messages)
def test_a_join_message_survives_the_wire_unchanged(message: JoinMessage) -> None:
    """Encoding and decoding is the identity, also for messages without content."""
    sent = to_join_frame(message).SerializeToString()
    assert from_join_frame(wire.JoinFrame.FromString(sent)) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    """Bytes of a peer never raise anything but our own error."""
    try:
        message = decode(data)
    except MalformedMessageError:
        return
    assert decode(encode(message)) == message


WRONG: dict[str, Message] = {
    "short space": FeedRequest(b"s" * 31, GENERATION, 0),
    "no space": RecordsRequest(b"", ()),
    "long root": Heartbeat(SPACE, b"r" * 33, 0, GENERATION, 0),
    "short generation": Heartbeat(SPACE, b"r" * 32, 0, b"g", 0),
    "count above 63 bits": Heartbeat(SPACE, b"r" * 32, 2**63, GENERATION, 0),
    "sequence above 63 bits": FeedRequest(SPACE, GENERATION, 2**63),
    "number above 63 bits": TrieReply(SPACE, (), 2**63),
    "version zero": Hello(0, "a"),
    "a range without its version": Hello(1, "a", oldest=2, newest=3),
    "a range that ends before it begins": Hello(2, "a", oldest=2, newest=1),
    "half a range": Hello(1, "a", oldest=1),
    "a probe of many": ProbeReply((Probed("a.example:1", 1),) * 5),
    "an outcome of nothing": ProbeReply((Probed("a.example:1", 0),)),
    "a probed nothing": ProbeReply((Probed("a.example", 1),)),
    "a host that moves the cursor": ProbeReply((), 0, "\x1b[2J"),
    "a host without end": ProbeReply((), 0, "h" * 65),
    "long agent": Hello(1, "a" * 129),
    "agent with an escape": Hello(1, "\x1b[2J"),
    "too many prefixes": TrieRequest(SPACE, ((1,),) * (PREFIXES_MAX + 1)),
    "nibble above 15": TrieRequest(SPACE, ((16,),)),
    "prefix too deep": TrieRequest(SPACE, ((0,) * 65,)),
    "too many nodes": TrieReply(SPACE, (TrieLeaf((), ()),) * (PREFIXES_MAX + 1)),
    "leaf of 17": TrieReply(SPACE, (TrieLeaf((), (SPACE,) * 17),)),
    "15 children": TrieReply(SPACE, (TrieInner((), (SPACE,) * 15),)),
    "short salt": CompareRequest(SPACE, SALT[1:], ()),
    "too many sections": CompareRequest(
        SPACE, SALT, (Ids((), ()),) * (SECTIONS_MAX + 1)
    ),
    "section too deep": CompareRequest(SPACE, SALT, (Ids((0,) * 65, ()),)),
    "list of 65": CompareRequest(
        SPACE, SALT, (Ids((), (bytes(CLUE_BYTES),) * (LISTED_MAX + 1)),)
    ),
    "whole id in a question": CompareRequest(SPACE, SALT, (Ids((), (SPACE,)),)),
    "clue of an id in an answer": CompareReply(SPACE, (Ids((), (b"clue",)),), 1),
    "15 clues": CompareReply(SPACE, (Clues((), (b"clue",) * 15),), 1),
    "clue of 3 bytes": CompareReply(SPACE, (Clues((), (b"hin",) * 16),), 1),
    "nothing covered": CompareReply(SPACE, (), 0),
    "too much covered": CompareReply(SPACE, (), SECTIONS_MAX + 1),
    "too many ids": RecordsRequest(SPACE, (SPACE,) * (IDS_MAX + 1)),
    "too many unsent": RecordsReply(SPACE, (), (SPACE,) * (IDS_MAX + 1)),
    "short signature": Rumour(SPACE, (SignedBytes(b"d", b"x" * 63),)),
    "mark of 15 bytes": Heartbeat(
        SPACE, b"r" * 32, 0, GENERATION, 0, attested=b"m" * 15
    ),
    "features above 64 bits": Hello(1, "a", features=2**64),
    "too many attestations": Attestations(SPACE, (RECORD,) * (ATTESTERS_MAX + 1)),
    "attestation too large": Attestations(
        SPACE, (SignedBytes(b"d" * (ATTESTATION_BYTES_MAX + 1), b"x" * 64),)
    ),
    "attestation unsigned": Attestations(SPACE, (SignedBytes(b"d", b""),)),
    "held by nobody": AttestationsRequest(SPACE, (Held(b"", 1, GENERATION),)),
    "too many held": AttestationsRequest(
        SPACE, (Held(SPACE, 1, GENERATION),) * (ATTESTERS_MAX + 1)
    ),
    "question without a number": TensorsRequest(SPACE, SPACE, 0),
    "page longer than the list": TensorsReply(SPACE, SPACE, 0, (TENSOR,), 1),
    "tensor without a name": TensorsReply(
        SPACE, SPACE, 1, (TensorEntry("", "F32", (), BlobId(SPACE)),), 1
    ),
    "tensor of a long shape": TensorsReply(
        SPACE, SPACE, 1, (TensorEntry("t", "F32", (1,) * 9, BlobId(SPACE)),), 1
    ),
    "tensor of no dtype": TensorsReply(
        SPACE, SPACE, 1, (TensorEntry("t", "F99", (), BlobId(SPACE)),), 1
    ),
    "record without bytes": Rumour(SPACE, (SignedBytes(b"", b"x" * 64),)),
    "record too large": FeedReply(
        SPACE,
        GENERATION,
        1,
        more=False,
        records=(SignedBytes(b"d" * (RECORD_BYTES_MAX + 1), b"x" * 64),),
    ),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_message_that_breaks_a_limit_is_not_sent(name: str) -> None:
    """We never send what a peer would refuse."""
    with pytest.raises(MalformedMessageError):
        to_frame(WRONG[name])


def _frame(**body: object) -> wire.Frame:
    return wire.Frame(**body)  # type: ignore[arg-type]  # one field, chosen by name


WRONG_FRAMES: dict[str, wire.Frame] = {
    "no body": wire.Frame(),
    "empty hello": _frame(hello=wire.Hello()),
    "empty heartbeat": _frame(heartbeat=wire.Heartbeat()),
    "nibble above 15": _frame(
        trie_request=wire.TrieRequest(space=SPACE, prefixes=[b"\x10"])
    ),
    "too many prefixes": _frame(
        trie_request=wire.TrieRequest(space=SPACE, prefixes=[b""] * (PREFIXES_MAX + 1))
    ),
    "node without body": _frame(
        trie_reply=wire.TrieReply(space=SPACE, nodes=[wire.TrieNode(prefix=b"")])
    ),
    "section without body": _frame(
        compare_request=wire.CompareRequest(
            space=SPACE, salt=SALT, sections=[wire.Section(prefix=b"")]
        )
    ),
    "ids of a section cut in the middle": _frame(
        compare_reply=wire.CompareReply(
            space=SPACE, covered=1, sections=[wire.Section(ids=SPACE + b"x")]
        )
    ),
    "hashes of 15 children": _frame(
        trie_reply=wire.TrieReply(space=SPACE, nodes=[wire.TrieNode(hashes=SPACE * 15)])
    ),
    "ids cut in the middle": _frame(
        records_request=wire.RecordsRequest(space=SPACE, ids=SPACE + b"x")
    ),
    "too many ids": _frame(
        records_request=wire.RecordsRequest(space=SPACE, ids=SPACE * (IDS_MAX + 1))
    ),
    "record without signature": _frame(
        rumour=wire.Rumour(space=SPACE, records=[wire.SignedRecord(data=b"d")])
    ),
    "sequence above 63 bits": _frame(
        feed_request=wire.FeedRequest(space=SPACE, generation=GENERATION, after=2**63)
    ),
}


@pytest.mark.parametrize("name", sorted(WRONG_FRAMES))
def test_a_frame_that_breaks_a_limit_is_refused(name: str) -> None:
    """What a peer sends is checked whatever its own code checked."""
    with pytest.raises(MalformedMessageError):
        from_frame(WRONG_FRAMES[name])


def test_a_join_frame_that_breaks_a_limit_is_refused() -> None:
    """A stranger's frames are held to their sizes too."""
    for frame in (
        wire.JoinFrame(),
        wire.JoinFrame(challenge=wire.Challenge(nonce=b"n" * 31)),
        wire.JoinFrame(answer=wire.Answer(author=b"a" * 32, node=b"n" * 32)),
        wire.JoinFrame(announce=wire.Announce(records=[wire.SignedRecord()])),
    ):
        with pytest.raises(MalformedMessageError):
            from_join_frame(frame)


def test_a_frame_above_the_limit_is_neither_sent_nor_read() -> None:
    """Many records that are each small enough do not make one frame too large."""
    record = SignedBytes(b"d" * RECORD_BYTES_MAX, b"x" * 64)
    fitting = Rumour(SPACE, (record,) * 16)
    assert decode(encode(fitting)) == fitting
    with pytest.raises(MessageTooLargeError):
        encode(Rumour(SPACE, (record,) * 17))
    with pytest.raises(MessageTooLargeError):
        decode(bytes(FRAME_BYTES_MAX + 1))


def test_fetch_requests_name_whole_digests() -> None:
    """A fetch is refused for its form before any store is asked."""
    whole = Wanted(True, (Run(0, 1 << 20),), b"\x01\x02", BLOB)
    request = to_fetch_request(SPACE, BLOB, whole)
    again = wire.FetchRequest.FromString(request.SerializeToString())
    assert from_fetch_request(again) == (SPACE, BLOB, whole)
    bare = Wanted(False, ())
    for space, blob, wanted in (
        (b"", BLOB, bare),
        (SPACE, b"b", bare),
        (SPACE, BLOB, Wanted(False, (Run(1 << 20, 1),))),
        (SPACE, BLOB, Wanted(False, (Run(0, 0),))),
        (SPACE, BLOB, Wanted(False, (Run(0, (1 << 20) + 1),))),
        (SPACE, BLOB, Wanted(False, (Run(0, 1),) * (RUNS_MAX + 1))),
        (SPACE, BLOB, Wanted(False, (), bytes(ENCODINGS_MAX + 1))),
        (SPACE, BLOB, Wanted(False, (), b"\x01", b"short")),
    ):
        with pytest.raises(MalformedMessageError):
            to_fetch_request(space, blob, wanted)
    with pytest.raises(MalformedMessageError):
        from_fetch_request(wire.FetchRequest(space=SPACE))
