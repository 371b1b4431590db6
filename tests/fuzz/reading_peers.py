"""What is done with bytes of peers: decoded, encoded again, compared.

Owns the reads of the targets whose refusals are `PEER`. Sums and signatures over the bytes
are made anew where a decoder would look no further: a fuzzer cannot guess them.
"""

from dataclasses import replace

from google.protobuf.message import DecodeError

from crdtmerge import codec, encodings, membership
from crdtmerge.codec import decode, encode, format_decimal, parse_decimal
from crdtmerge.digest import (
    CHUNK_BYTES,
    BlobId,
    Domain,
    blob_id_of,
    chunk_digests,
    digest,
)
from crdtmerge.errors import EncodingError, LocalError, NotFoundError
from crdtmerge.faults import Fault, check_fault, find
from crdtmerge.forks import Fork, check_fork
from crdtmerge.formats.recipe_file import parse_recipe, recipe_of
from crdtmerge.formats.recipe_text import recipe_to_yaml
from crdtmerge.formats.yaml_text import parse_yaml
from crdtmerge.identity import Purpose, SigningKey
from crdtmerge.manifest import decode_manifest
from crdtmerge.proofs import proof_from_value, read_spans, verify
from crdtmerge.recipe import Recipe, recipe_from_value
from crdtmerge.record import RECORD_BYTES_MAX, decode_record, make_record, well_formed
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.rules import Place, Who
from crdtmerge.strategies import check_recipe
from crdtmerge.sync.attestations import decode_attestation
from crdtmerge.sync.compare import ClueDescent, compare
from crdtmerge.sync.listings import Listing
from crdtmerge.sync.messages import (
    MESSAGE_BYTES_MAX,
    CompareReply,
    CompareRequest,
    Ids,
    TensorsReply,
)
from crdtmerge.sync.runs import Run
from crdtmerge.sync.transfer import Incoming, Wanted
from crdtmerge.trie import Prefix, Trie
from nodes import coding, convert
from nodes.tls import peer_of
from nodes.wire import replica_pb2 as wire
from tests.fuzz.reading_sets import frames
from tests.fuzz.seeds import AUTHORS, BIG, COMPARED, LEAVES, SALT, SMALL
from tests.unit.peers import SPACE

PLACES = (Place("model.layers.3.bias", (3, 8)), Place("head.weight"), Place("", (0, 1)))
OURS, THEIRS = Trie.build(COMPARED[:90]), Trie.build(COMPARED)
MEMBERS = {digest(Domain.RECORD, n.to_bytes(2, "little")) for n in range(500)}
MEMBER_ROOT = Trie.build(MEMBERS).root
VISIBLE = (Who(bytes(32), (bytes(32),), ("math",)), Who(b"c" * 32))


def read_value(data: bytes) -> None:
    """Decode a canonical value: no other bytes are its encoding."""
    assert encode(decode(data, len(data))) == data


def read_decimal(data: bytes) -> None:
    """Read a decimal: one text a number."""
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        raise EncodingError("no text") from e
    assert format_decimal(parse_decimal(text)) == text


def read_record(data: bytes) -> None:
    """Decode a record, make it again of its fields, and let its author sign it."""
    record = decode_record(data)
    again = make_record(
        space=record.space,
        author=record.author,
        author_seq=record.author_seq,
        prev=record.prev,
        auth=record.auth,
        body=record.body,
        critical=record.critical,
    )
    assert again == record
    assert again.data == data
    key = AUTHORS.get(record.author, SigningKey(bytes(32)))
    signed = well_formed(data, key.sign(Purpose.RECORD, record.id))
    assert signed.record == record


def read_fault(data: bytes) -> None:
    """Read the body of a fault, and whether it is true."""
    value = decode(data, RECORD_BYTES_MAX)
    fault = Fault.from_value(value)
    assert encode(fault.to_value()) == data
    find(fault)
    check_fault(fault)


def read_fork(data: bytes) -> None:
    """Read the body of a fork, and whether it is true: also signed by keys known here."""
    fork = Fork.from_value(decode(data, RECORD_BYTES_MAX))
    assert encode(fork.to_value()) == data
    key = AUTHORS.get(fork.author)
    if key is not None:
        one, other = (
            replace(branch, signature=key.sign(Purpose.RECORD, branch.id))
            for branch in fork.branches
        )
        fork = replace(fork, branches=(one, other))
    check_fork(fork, SPACE)


def read_attestation(data: bytes) -> None:
    """Decode an attestation: no other bytes are its encoding."""
    assert decode_attestation(data).encode() == data


def read_listing(data: bytes) -> None:
    """Take a page of tensors, as if their model were the one that was asked for."""
    message = convert.decode(data)
    if not isinstance(message, TensorsReply):
        raise EncodingError("another message")
    listing = Listing(model_digest(message.tensors))
    assert listing.take(message.total, message.tensors) == (
        message.total == len(message.tensors)
    )


def read_membership(data: bytes) -> None:
    """Check a proof of membership under a root that it leads to, if there is one."""
    proof = membership.read_membership(data)
    assert proof.to_bytes() == data
    held = MEMBERS & {*proof.items}
    item = min(held, default=bytes(32))
    found = membership.check_membership(MEMBER_ROOT, item, proof)
    assert found == (item in MEMBERS)


def read_proof(data: bytes) -> None:
    """Verify a proof: [proof, digest, [[offset, size], ...]]."""
    match decode(data, RECORD_BYTES_MAX):
        case [shown, bytes(digest), [*pairs]]:
            pass
        case _:
            raise EncodingError("no proof with a digest and spans")
    spans: list[tuple[int, int]] = []
    for pair in pairs:
        match pair:
            case [int(offset), int(size)]:
                spans.append((offset, size))
            case _:
                raise EncodingError("no span")
    proof = proof_from_value(shown, codec.INTEGER_MAX)
    assert list(map(len, read_spans(proof, spans))) == [size for _, size in spans]
    assert verify(Domain.BLOB, digest, proof, spans) == read_spans(proof, spans)


def read_manifest(data: bytes) -> None:
    """Decode a manifest: no other bytes are its encoding."""
    manifest = decode_manifest(data)
    assert manifest.encode() == data
    assert manifest.size >= 0
    assert set(manifest.blobs()) == {blob for blob, _ in manifest.named_blobs()}
    assert len(manifest.content_id) == len(manifest.blob)


def read_recipe(data: bytes) -> None:
    """Read the recipe of a record; one that a resolve takes reads back from its text."""
    recipe = recipe_from_value(decode(data, RECORD_BYTES_MAX))
    assert encode(recipe.to_value()) == data
    try:
        check_recipe(recipe)
    except LocalError:  # it is kept, and a resolve says why it cannot be used
        return
    for place in PLACES:
        recipe.setting(place, VISIBLE)
    assert written(recipe) == recipe
    assert recipe.io_budget >= 0


def written(recipe: Recipe) -> Recipe:
    """Return what the text of a recipe reads back to."""
    return recipe_of(parse_recipe(parse_yaml(recipe_to_yaml(recipe))))


def read_frame(data: bytes) -> None:
    """Decode a frame of the sync stream: what comes out travels unchanged."""
    message = convert.decode(data)
    assert convert.decode(convert.encode(message)) == message


def read_comparison(data: bytes) -> None:
    """Take a frame of a comparison: answer a question, or take it for an answer."""
    message = convert.decode(data)
    if isinstance(message, CompareRequest):
        covered, found = compare(THEIRS, message.salt, message.sections)
        assert 0 < covered <= len(message.sections)
        reply = CompareReply(SPACE, tuple(found), covered)
        assert len(convert.encode(reply)) <= MESSAGE_BYTES_MAX
        named = [key for b in found if isinstance(b, Ids) for key in b.ids]
        assert all(key in THEIRS for key in named)
    elif isinstance(message, CompareReply):
        for frontier in ([()], [(3,), (4, 5), ()]):
            descent = ClueDescent(salt=SALT, frontier=list[Prefix](frontier))
            assert descent.question(SPACE, OURS) is not None
            descent.take(OURS, message)
            assert not any(key in OURS for key in descent.lacking)
    else:
        raise EncodingError("another message")


def read_join_frame(data: bytes) -> None:
    """Decode a frame of the join stream, of which gRPC parses the outermost form."""
    try:
        frame = wire.JoinFrame.FromString(data)
    except DecodeError as e:
        raise EncodingError("refused by gRPC") from e
    message = convert.from_join_frame(frame)
    assert convert.from_join_frame(convert.to_join_frame(message)) == message


def read_fetch_request(data: bytes) -> None:
    """Decode a request for bytes of a blob."""
    try:
        request = wire.FetchRequest.FromString(data)
    except DecodeError as e:
        raise EncodingError("refused by gRPC") from e
    asked = convert.from_fetch_request(request)
    assert convert.from_fetch_request(convert.to_fetch_request(*asked)) == asked


NOT_THERE = (NotFoundError,)
"""A blob larger than was signed: no lie of who has it, so it counts as not found."""


def read_reply(data: bytes) -> None:
    """Take a reply with bytes of a blob: the first byte says what was asked for."""
    if not data:
        raise EncodingError("nothing")
    first, runs = data[0], (Run(data[0] >> 4 & 3, 1 + (data[0] >> 6)),)
    chunks = chunk_digests(BIG) if first & 1 else None
    accepted = coding.ACCEPTED if first & 2 else b""
    wanted = Wanted(chunks is None, runs, accepted, bytes(32))
    blob = BIG_ID if first & 4 else SMALL_ID
    size = len(BIG) if first & 4 else len(SMALL)
    incoming = Incoming(blob, size, wanted, chunks if first & 4 else None)
    for message in frames(data[1:]):
        piece = incoming.take(message)
        if piece is not None:
            assert piece.encoded == (len(piece.data) < piece.length)
            assert len(piece.data) <= piece.length <= CHUNK_BYTES
            if piece.encoded:
                raw = coding.decoded(
                    piece.data, piece.index, piece.length, bytes(32), chunk_of_big
                )
                assert len(raw) == piece.length


def chunk_of_big(_: BlobId, index: int) -> bytes:
    """Return a chunk of the base that a peer encodes against."""
    return BIG[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


SMALL_ID = blob_id_of(SMALL)
BIG_ID = blob_id_of(BIG)


def read_chunk(data: bytes) -> None:
    """Decode an encoded chunk, whose length and base the first three bytes choose."""
    length = max(1, int.from_bytes(data[:2], "big") << (data[2] & 7 if data[2:] else 0))
    length = min(length, CHUNK_BYTES)
    base = BIG[:length] if data[2:] and data[2] & 8 else None
    raw = encodings.decode(data[3:], length=length, against=base)
    assert len(raw) == length
    assert encodings.decode(data[3:], length=length, against=base) == raw


def read_certificate(data: bytes) -> None:
    """Find out whose leaf this is; the first byte says who is a member."""
    members = LEAVES if data[:1] == b"m" else ()
    assert peer_of(data[1:], members) in LEAVES
