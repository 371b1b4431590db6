"""Valid inputs to begin with: what peers send, as our own encoders make it.

Owns the seeds of the targets that read bytes of peers. Does not own those that read files
(`seeds_files`). A fuzzer that starts from these needs not guess a form, only break it.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from crdtmerge.bodies import (
    Approve,
    Epoch,
    Evaluation,
    Genesis,
    NodeAddress,
    RecordId,
    Successor,
    give_consent,
    runs_of,
)
from crdtmerge.codec import Value, encode
from crdtmerge.digest import CHUNK_BYTES, Domain, chunk_digests, digest
from crdtmerge.encodings import Form
from crdtmerge.encodings import encode as encode_chunk
from crdtmerge.encodings.planes import Effort
from crdtmerge.faults import Fault
from crdtmerge.forks import prove_fork
from crdtmerge.identity import SigningKey
from crdtmerge.membership import prove_membership
from crdtmerge.policy import link_of
from crdtmerge.proofs import prove
from crdtmerge.recipe import Rule
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.strategies import STRATEGIES, make_recipe
from crdtmerge.sync.attestations import Attestation
from crdtmerge.sync.compare import ClueDescent, compare
from crdtmerge.sync.messages import (
    FEATURES,
    PROTOCOL_VERSION,
    SALT_BYTES,
    Attestations,
    AttestationsRequest,
    CompareReply,
    FeedReply,
    FeedRequest,
    Goodbye,
    Heartbeat,
    Held,
    Hello,
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
    SignedBytes,
    TensorsReply,
    TensorsRequest,
    TrieInner,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.runs import Run
from crdtmerge.sync.transfer import Wanted, announce
from crdtmerge.trie import Trie
from nodes import convert
from nodes.join_messages import (
    Announce,
    Answer,
    Challenge,
    Done,
    JoinHello,
    JoinMessage,
    Welcome,
)
from nodes.tls import make_leaf
from tests.properties.cast import AUTHORS as CAST
from tests.properties.cast import FAULTS
from tests.strategies import NEEDS, Need
from tests.unit.peers import (
    BASE,
    GENESIS,
    MEMBER,
    OWNER,
    SPACE,
    grant,
    note,
    notes,
    raw,
)
from tests.vectors.formats import MANIFEST, RECIPE, VALUES, fault, history
from tests.vectors.formats import MEMBER as SECOND
from tests.vectors.formats import OWNER as FIRST

AUTHORS: Final = {key.public: key for key in (*CAST, FIRST, SECOND, OWNER, MEMBER)}
"""Keys that are known here, so that what a fuzzer makes of their records is signed."""
GENERATION: Final = bytes(16)
NODE: Final = SigningKey(digest(Domain.SEED, b"a node"))
LEAVES: Final = (bytes(NODE.public),)
BIG: Final = bytes(range(256)) * (CHUNK_BYTES // 128) + b"tail!"
"""A blob of three chunks, the last of which is short."""
SMALL: Final = b"a small blob"
SALT: Final = bytes(SALT_BYTES)
COMPARED: Final = [digest(Domain.RECORD, bytes([n])) for n in range(180)]
"""Ids of two tries that are compared: the first half is in both."""


def _address() -> SignedRecord:
    """Return the record that makes NODE a node of the owner's."""
    record = make_record(
        space=SPACE,
        author=OWNER.public,
        author_seq=9,
        prev=digest(Domain.RECORD, b"any"),
        auth=GENESIS.record.id,
        body=NodeAddress(bytes(NODE.public), ("192.0.2.1:7420",)),
    )
    return sign_record(record, OWNER)


KNOWN: Final = (*notes(range(1, 4)), _address())
"""What a session or a node knows before a peer says a word."""


def values() -> Iterator[bytes]:
    """Yield canonical values of every form."""
    yield from (encode(value) for value in VALUES.values())


def decimals() -> Iterator[bytes]:
    """Yield decimals."""
    yield from (b"0", b"1", b"-3.5", b"0.000000001", b"999999999.999999999", b"1000")


def records() -> Iterator[bytes]:
    """Yield a record of each kind."""
    yield from (signed.record.data for signed in history().values())
    yield fault(next(iter(history().values())).record.id).record.data
    pair = [(s.record.data, s.signature) for s in (note(3), note(3, 9))]
    consent = give_consent(MEMBER, SPACE, OWNER.public)
    for body in (
        Approve(RecordId(bytes(32))),
        Successor(OWNER.public, MEMBER.public, consent),
        prove_fork(SPACE, OWNER.public, 3, pair),
        Epoch(runs_of((s.record.id, link_of(s.record)) for s in (note(3), note(7)))),
        Evaluation("content", BASE, "accuracy", "held-out", -(10**8), "ours"),
    ):
        record = make_record(
            space=SPACE,
            author=OWNER.public,
            author_seq=5,
            prev=bytes(32),
            auth=SPACE,
            body=body,
        )
        yield record.data
    ruled = Genesis("ruled", "members", BASE, (OWNER.public,), bytes(16), 1, True)
    first = make_record(
        space=b"", author=OWNER.public, author_seq=0, prev=b"", auth=b"", body=ruled
    )
    yield first.data


def faults() -> Iterator[bytes]:
    """Yield faults that are true, of an item and of a size."""
    shown = fault(bytes(32)).record.body
    assert isinstance(shown, Fault)
    yield from (encode(one.to_value()) for one in (shown, *FAULTS))


def memberships() -> Iterator[bytes]:
    """Yield proofs at several depths, of ids that are there and of one that is not."""
    for count in (0, 5, 40, 500):
        ids = [digest(Domain.RECORD, n.to_bytes(2, "little")) for n in range(count)]
        for item in (*ids[:1], bytes(32)):
            yield prove_membership(Trie.build(ids), item).to_bytes()


def proofs() -> Iterator[bytes]:
    """Yield proofs of one leaf and of several."""
    for size, spans in (
        (5, [(0, 5)]),
        (3000, [(0, 8), (2990, 10)]),
        (9000, [(1000, 100), (4096, 32)]),
        (20_000, [(12_345, 1)]),
    ):
        found, proof = prove(Domain.BLOB, bytes(size), spans)
        yield encode([proof.to_value(), found, [list(span) for span in spans]])


def manifests() -> Iterator[bytes]:
    """Yield a manifest with files and evidence."""
    yield MANIFEST.encode()


def recipes() -> Iterator[bytes]:
    """Yield a recipe of each strategy, with steps, rules, gradients and extras."""
    rules = (
        Rule("layers:0..-2:regex:.*bias", (("weight", "2"),), "tag:math"),
        Rule("name:head", (("weight", "0,0.5,1"),), f"content:{'a' * 64}"),
    )
    yield encode(RECIPE.to_value())
    for name in sorted(STRATEGIES):
        need = NEEDS.get(name, Need({}))
        yield encode(make_recipe(name, need.parameters).to_value())
    rich = make_recipe(
        "ties",
        {"density": "0.1,0.9"},
        rules,
        "BF16",
        "contribution",
        pre=["trim"],
        extras={"missing": "base", "io_budget": "1GB"},
    )
    yield encode(rich.to_value())


def messages() -> Iterator[Message]:
    """Yield a message of each kind, such that a session understands it."""
    root, some = digest(Domain.RECORD, b"root"), [raw(s) for s in notes(range(4, 7))]
    yield Hello(PROTOCOL_VERSION, "fuzz/1", heard=True, features=FEATURES)
    yield Heartbeat(SPACE, root, 7, GENERATION, 7, 1, echo=True)
    yield Heartbeat(SPACE, root, 700, GENERATION, 700)
    yield FeedRequest(SPACE, GENERATION, 2, 1)
    yield FeedReply(SPACE, GENERATION, 7, False, tuple(some), 1)
    yield TrieRequest(SPACE, ((), (1, 2)), 1)
    yield TrieReply(SPACE, (TrieLeaf((), (root,)),), 1)
    yield TrieReply(SPACE, (TrieInner((), (root,) * 16), TrieLeaf((3,), ())), 1)
    yield from comparing()
    yield RecordsRequest(SPACE, (root, SPACE), 1)
    yield RecordsReply(SPACE, tuple(some), (root,), 1)
    yield Rumour(SPACE, (raw(grant(4)),))
    yield Goodbye()
    yield PeersRequest()
    yield ProbeRequest()
    yield ProbeReply((Probed("a.example:7", 1),), 3, "192.0.2.1")
    yield PeersReply(
        (PeerSaid(bytes(NODE.public), ("10.0.0.7:7420", "[2001:db8::1]:1"), 61),)
    )
    yield from beside()


def comparing() -> Iterator[Message]:
    """Yield what two tries say of each other, level by level."""
    ours, theirs = Trie.build(COMPARED[:90]), Trie.build(COMPARED)
    descent = ClueDescent(salt=SALT)
    while question := descent.question(SPACE, ours):
        covered, found = compare(theirs, question.salt, question.sections)
        reply = CompareReply(SPACE, tuple(found), covered, 1)
        descent.take(ours, reply)
        yield replace(question, number=1)
        yield reply


def comparisons() -> Iterator[bytes]:
    """Yield the frames of a comparison."""
    yield from map(convert.encode, comparing())


def beside() -> Iterator[Message]:
    """Yield a message of each kind that stands beside the set."""
    said, tensors = attestation(), MANIFEST.tensors
    yield AttestationsRequest(SPACE, (Held(bytes(NODE.public), 3, bytes(16)),))
    yield Attestations(SPACE, (said.sign(NODE),))
    yield TensorsRequest(SPACE, said.model, 0, 1)
    yield TensorsReply(SPACE, said.model, len(tensors), tensors, 1)


def attestation() -> Attestation:
    """Return what NODE attests: the model of the golden manifest's tensors."""
    model = model_digest(MANIFEST.tensors)
    node = bytes(NODE.public)
    return Attestation(SPACE, node, 4, bytes(32), model, 2, "CPython 3.11, x86_64")


def attestations() -> Iterator[bytes]:
    """Yield attestations."""
    yield attestation().encode()


def listings() -> Iterator[bytes]:
    """Yield a page that is a whole list, and one of more."""
    *_, reply = beside()
    assert isinstance(reply, TensorsReply)
    yield convert.encode(reply)
    yield convert.encode(replace(reply, total=7))


def forks() -> Iterator[bytes]:
    """Yield forks: of small records, and of large ones."""
    for size in (8, 5000):
        pair = [
            (s.record.data, s.signature) for s in (note(3, size), note(3, size + 1))
        ]
        yield encode(prove_fork(SPACE, OWNER.public, 3, pair).to_value())


def histories() -> Iterator[bytes]:
    """Yield histories of every kind of record, in terms that the target reads."""
    add: list[Value] = [b"c" * 32, bytes(32), 100, 1000, "1", b"", ""]
    members: list[Value] = [
        [0, 0, 0, "grant", [b"\0\2", 2, "1", 1000, 1 << 30]],
        [2, 1, 0, "grant", [b"\0\4", 1, "0.5", 100, 1 << 20]],
        [4, 2, 0, "add", add],
    ]
    yield encode([[0, 0, 0], *members])
    compacted: list[Value] = [
        [4, 2, 0, "remove", [[b"\3"]]],
        [4, 2, 0, "add", add],
        [0, 0, 0, "epoch", [3, 4]],
        [1, 0, 0, "epoch", [1, 2, 5, 6]],
        [4, 2, 0, "add", add],
    ]
    yield encode([[0, 0, 0], *members, *compacted])
    yield encode([[0, 1, 0], *members, *compacted, [1, 0, 0, "approve", [b"\6"]]])
    acts: list[Value] = [
        [0, 0, 0, "remove", [[b"\3"]]],
        [2, 1, 0, "ban", ["content", b"c" * 32]],
        [0, 0, 0, "lift", [b"\5"]],
        [0, 0, 0, "revoke", [b"\0\4", [b"\3"]]],
        [0, 0, 0, "recipe", [RECIPE.to_value(), []]],
        [0, 0, 0, "node", [b"n" * 32, ["192.0.2.1:1"]]],
    ]
    yield encode([[1, 0, 0], *members, *acts])
    council: list[Value] = [
        [0, 0, 0, "ban", ["author", b"\0\4"]],
        [1, 0, 0, "approve", [b"\4"]],
        [0, 0, 0, "successor", [b"\0\0", b"\0\7", b"\0\0\7"]],
        [1, 0, 0, "approve", [b"\6"]],
    ]
    yield encode([[0, 1, 0], *members, *council])
    forked: list[Value] = [
        [4, 2, 0, "add", [b"d" * 32, *add[1:]]],
        [4, 2, 1, "add", [b"e" * 32, *add[1:]]],
        [2, 1, 0, "fork", [4, 5]],
        [0, 0, 0, "lift", [b"\6"]],
    ]
    yield encode([[0, 0, 1], *members, *forked])


def frames() -> Iterator[bytes]:
    """Yield a frame of each message."""
    yield from map(convert.encode, messages())


def joined(pieces: "list[bytes]") -> bytes:
    """Return pieces with their lengths before them, as a target takes them."""
    return b"".join(len(piece).to_bytes(2, "big") + piece for piece in pieces)


def sessions() -> Iterator[bytes]:
    """Yield what a peer says: hello and one more, and all of it."""
    hello, *rest = frames()
    yield from (joined([hello, frame]) for frame in rest)
    beat, far, *others = rest
    yield joined([hello, beat, *others])
    yield joined([hello, far, *others])


def join_frames() -> Iterator[bytes]:
    """Yield a frame of each message of the join stream."""
    some = (SignedBytes(b"data", bytes(64)),)
    made: tuple[JoinMessage, ...] = (
        JoinHello(SPACE),
        Challenge(bytes(32)),
        Answer(bytes(32), bytes(32), bytes(64), bytes(64), bytes(32)),
        Welcome(some),
        Announce(some),
        Done(),
    )
    yield from (convert.to_join_frame(one).SerializeToString() for one in made)


def fetch_requests() -> Iterator[bytes]:
    """Yield requests for bytes of a blob."""
    for wanted in (
        Wanted(True, (Run(0, 1), Run(7, 3))),
        Wanted(False, (), b"\1\2\3", bytes(32)),
    ):
        yield convert.to_fetch_request(SPACE, bytes(32), wanted).SerializeToString()


def replies() -> Iterator[bytes]:
    """Yield replies: a small blob with its list, and encoded chunks of a large one."""
    listed = [*announce(len(SMALL), chunk_digests(SMALL), want_chunk_list=True)]
    yield b"\0" + joined([*listed, SMALL])
    yield b"\1" + joined([*listed, SMALL])
    chunk = encode_chunk(bytes(CHUNK_BYTES), width=2)
    based = encode_chunk(
        BIG[:CHUNK_BYTES], width=2, against=BIG[:CHUNK_BYTES], form=Form.XOR
    )
    assert chunk is not None
    assert based is not None
    size = len(BIG).to_bytes(8, "little")
    yield bytes([1 | 2 | 4]) + joined([size, chunk])
    yield bytes([1 | 2 | 4 | 1 << 6]) + joined([size, based, chunk])
    yield b"\6" + joined(
        [*announce(len(BIG), chunk_digests(BIG), want_chunk_list=True)]
    )


def chunks() -> Iterator[bytes]:
    """Yield encoded chunks of every form and width."""
    raw_chunk = bytes(range(200)) * 4 + bytes(700)
    for form in Form:
        for width in (1, 2, 4, 8):
            made = encode_chunk(
                raw_chunk,
                width=width,
                against=BIG[: len(raw_chunk)],
                form=form,
                effort=Effort.SMALL,
            )
            if made is not None and not (form is Form.PLAIN and width > 1):
                yield len(raw_chunk).to_bytes(2, "big") + b"\x08" + made


@cache
def _leaf() -> bytes:
    key = ec.derive_private_key(7, ec.SECP256R1())
    dates = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    return make_leaf(NODE, *dates, key).chain_pem


def certificates() -> Iterator[bytes]:
    """Yield a leaf of a member, and of nobody."""
    yield b"m" + _leaf()
    yield b"-" + _leaf()
    assert x509.load_pem_x509_certificate(_leaf()).public_bytes(
        serialization.Encoding.PEM
    )
