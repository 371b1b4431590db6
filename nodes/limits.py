"""What a message between nodes may hold: field sizes, counts and ranges.

Owns the limits that `proto/replica.proto` states, as checks on plain values. Does not own
the frames (`convert`), nor what a message means.
"""

from collections.abc import Iterable
from typing import Final, assert_never

from crdtmerge.bodies import is_address
from crdtmerge.digest import BLOB_BYTES_MAX, DIGEST_BYTES, chunk_count
from crdtmerge.errors import (
    MalformedManifestError,
    MalformedMessageError,
    MessageTooLargeError,
)
from crdtmerge.identity import KEY_BYTES, SIGNATURE_BYTES
from crdtmerge.manifest import TensorEntry, tensor_from_value
from crdtmerge.record import RECORD_BYTES_MAX
from crdtmerge.sync.attestations import ATTESTATION_BYTES_MAX, COUNTER_MAX
from crdtmerge.sync.listings import TENSORS_MAX
from crdtmerge.sync.messages import (
    AGE_MAX_S,
    ATTESTERS_MAX,
    CLUE_BYTES,
    GENERATION_BYTES,
    IDS_MAX,
    LISTED_MAX,
    MARK_BYTES,
    MESSAGE_BYTES_MAX,
    PEER_ADDRESSES_MAX,
    PEERS_MAX,
    PREFIXES_MAX,
    PROBED_MAX,
    SALT_BYTES,
    SECTIONS_MAX,
    SEEN_FROM_MAX,
    Attestations,
    AttestationsRequest,
    Beside,
    CompareReply,
    CompareRequest,
    Comparing,
    FeedReply,
    FeedRequest,
    Goodbye,
    Heartbeat,
    Held,
    Hello,
    Ids,
    Message,
    PeersReply,
    PeersRequest,
    ProbeReply,
    ProbeRequest,
    RecordsReply,
    RecordsRequest,
    Rumour,
    Section,
    SetMessage,
    SignedBytes,
    TensorsReply,
    TensorsRequest,
    TrieInner,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.transfer import ENCODINGS_MAX, RUNS_MAX, Wanted
from crdtmerge.trie import DEPTH_MAX, LEAF_MAX, RADIX, Prefix

from .join_messages import (
    MAC_BYTES,
    NONCE_BYTES,
    Announce,
    Answer,
    Challenge,
    Done,
    JoinHello,
    JoinMessage,
    Welcome,
)

FRAME_SLACK_BYTES: Final = 64 << 10
FRAME_BYTES_MAX: Final = MESSAGE_BYTES_MAX + FRAME_SLACK_BYTES
"""Largest encoded frame; the slack is for what encoding adds to a full message."""
JOINER_FRAME_BYTES_MAX: Final = 256 << 10
"""Largest encoded frame of a joiner, whom nobody has vouched for yet."""
CONTROL_BYTES_MAX: Final = 16 << 20
"""Largest request or reply on the control socket."""
AGENT_CHARACTERS_MAX: Final = 128
VERSION_MAX: Final = 2**32 - 1
OUTCOME_MAX: Final = 255
FEATURES_MAX: Final = 2**64 - 1
NUMBER_MAX: Final = 2**63 - 1
"""Largest sequence or count: every store holds 63 bits."""
CHUNKS_MAX: Final = chunk_count(BLOB_BYTES_MAX)


def check_message(message: Message) -> None:
    """Check the fields of a message of the sync stream.

    Raises:
        MalformedMessageError: one breaks its limit.
    """
    if isinstance(message, Hello):
        _check_hello(message)
        return
    if isinstance(message, Goodbye | PeersRequest | ProbeRequest):
        return
    if isinstance(message, ProbeReply):
        _check_probe(message)
        return
    if isinstance(message, PeersReply):
        _check_peers(message)
        return
    _check_length("space", message.space, DIGEST_BYTES)
    if isinstance(message, Beside):
        _check_beside(message)
    else:
        _check_set_message(message)


def _check_set_message(message: SetMessage) -> None:
    _check_number(message)
    match message:
        case Hello():
            return
        case Heartbeat():
            _check_heartbeat(message)
        case FeedRequest(generation=generation, after=after):
            _check_position(generation, after)
        case FeedReply():
            _check_position(message.generation, message.through)
            _check_records(message.records)
        case TrieRequest() | TrieReply() | CompareRequest() | CompareReply():
            _check_comparing(message)
        case RecordsRequest(ids=ids):
            _check_ids(ids)
        case RecordsReply(records=records, unsent=unsent):
            _check_records(records)
            _check_ids(unsent)
        case Rumour(records=records):
            _check_records(records)
        case _:
            assert_never(message)


def _check_comparing(message: Comparing) -> None:
    match message:
        case TrieRequest(prefixes=prefixes):
            _check_amount("trie nodes asked for", len(prefixes), PREFIXES_MAX)
            for prefix in prefixes:
                _check_prefix(prefix)
        case TrieReply(nodes=nodes):
            _check_amount("trie nodes", len(nodes), PREFIXES_MAX)
            for node in nodes:
                _check_node(node)
        case CompareRequest(salt=salt, sections=sections):
            _check_length("salt", salt, SALT_BYTES)
            _check_sections(sections, CLUE_BYTES)
        case CompareReply(sections=sections, covered=covered):
            _check_range("sections answered", covered, 1, SECTIONS_MAX)
            _check_sections(sections, DIGEST_BYTES)
        case _:
            assert_never(message)


def _check_heartbeat(beat: Heartbeat) -> None:
    _check_length("root", beat.root, DIGEST_BYTES)
    _check_range("count", beat.count, 0, NUMBER_MAX)
    _check_position(beat.generation, beat.sequence)
    _check_range("answered", beat.answered, 0, NUMBER_MAX)
    if beat.attested:
        _check_length("mark", beat.attested, MARK_BYTES)


def _check_beside(message: Beside) -> None:
    match message:
        case AttestationsRequest(held=held):
            _check_amount("attestations held", len(held), ATTESTERS_MAX)
            for item in held:
                _check_held(item)
        case Attestations(items=items):
            _check_amount("attestations", len(items), ATTESTERS_MAX)
            for signed in items:
                size = len(signed.data)
                _check_range("bytes of an attestation", size, 1, ATTESTATION_BYTES_MAX)
                _check_length("signature", signed.signature, SIGNATURE_BYTES)
        case TensorsRequest():
            _check_length("model digest", message.model, DIGEST_BYTES)
            _check_range("first tensor", message.first, 0, TENSORS_MAX)
            _check_range("number", message.number, 1, NUMBER_MAX)
        case TensorsReply(total=total, tensors=tensors):
            _check_length("model digest", message.model, DIGEST_BYTES)
            _check_range("tensors", total, 0, NUMBER_MAX)
            _check_range("number", message.number, 1, NUMBER_MAX)
            _check_amount("tensors of a page", len(tensors), total)
            for entry in tensors:
                _check_entry(entry)
        case _:
            assert_never(message)


def _check_peers(reply: PeersReply) -> None:
    _check_amount("nodes told of", len(reply.peers), PEERS_MAX)
    for said in reply.peers:
        _check_length("node key", said.node, KEY_BYTES)
        _check_amount("addresses of a node", len(said.addresses), PEER_ADDRESSES_MAX)
        _check_range("age", said.age_s, 0, AGE_MAX_S)
        if not all(map(is_address, said.addresses)):
            raise MalformedMessageError("an address is not host:port")


def _check_probe(reply: ProbeReply) -> None:
    _check_amount("addresses tried", len(reply.found), PROBED_MAX)
    _check_range("wait", reply.wait_s, 0, AGE_MAX_S)
    _check_amount("characters of a host", len(reply.seen_from), SEEN_FROM_MAX)
    if not reply.seen_from.isprintable():
        raise MalformedMessageError("a host with unprintable characters")
    for probed in reply.found:
        _check_range("outcome", probed.outcome, 1, OUTCOME_MAX)
        if not is_address(probed.address):
            raise MalformedMessageError("an address is not host:port")


def _check_held(item: Held) -> None:
    _check_length("node key", item.node, KEY_BYTES)
    _check_range("counter", item.counter, 1, COUNTER_MAX)
    _check_length("mark", item.mark, MARK_BYTES)


def _check_entry(entry: TensorEntry) -> None:
    try:
        tensor_from_value(entry.to_value())
    except MalformedManifestError as e:
        raise MalformedMessageError(str(e)) from e


def _check_number(message: SetMessage) -> None:
    if not isinstance(message, Hello | Heartbeat | Rumour):
        _check_range("number", message.number, 0, NUMBER_MAX)


def _check_hello(hello: Hello) -> None:
    _check_range("version", hello.version, 1, VERSION_MAX)
    if hello.oldest or hello.newest:
        _check_range("oldest version", hello.oldest, 1, hello.version)
        _check_range("newest version", hello.newest, hello.version, VERSION_MAX)
    _check_range("features", hello.features, 0, FEATURES_MAX)
    _check_amount("characters of an agent", len(hello.agent), AGENT_CHARACTERS_MAX)
    if not hello.agent.isprintable():
        # It is shown on terminals, which obey control characters.
        raise MalformedMessageError("an agent with unprintable characters")


def check_join_message(message: JoinMessage) -> None:
    """Check the fields of a message of the join stream.

    Raises:
        MalformedMessageError: one breaks its limit.
    """
    match message:
        case JoinHello(space):
            _check_length("space", space, DIGEST_BYTES)
        case Challenge(nonce):
            _check_length("nonce", nonce, NONCE_BYTES)
        case Answer():
            _check_length("author key", message.author, KEY_BYTES)
            _check_length("node key", message.node, KEY_BYTES)
            _check_length("signature", message.author_signature, SIGNATURE_BYTES)
            _check_length("signature", message.node_signature, SIGNATURE_BYTES)
            _check_length("mac", message.mac, MAC_BYTES)
        case Welcome(records) | Announce(records):
            _check_records(records)
        case Done():
            return
        case _:
            assert_never(message)


def check_fetch(space: bytes, blob: bytes, wanted: Wanted) -> None:
    """Check the fields of a fetch request.

    Raises:
        MalformedMessageError: one breaks its limit.
    """
    _check_length("space", space, DIGEST_BYTES)
    _check_length("blob", blob, DIGEST_BYTES)
    _check_amount("runs of chunks", len(wanted.runs), RUNS_MAX)
    for run in wanted.runs:
        _check_range("first chunk", run.first, 0, CHUNKS_MAX - 1)
        _check_range("chunks of a run", run.count, 1, CHUNKS_MAX)
    _check_amount("encodings", len(wanted.encodings), ENCODINGS_MAX)
    if wanted.against:
        _check_length("blob to encode against", wanted.against, DIGEST_BYTES)


def check_size(size: int) -> None:
    """Check how many bytes a frame has.

    Raises:
        MessageTooLargeError: they are above `FRAME_BYTES_MAX`.
    """
    if size > FRAME_BYTES_MAX:
        raise MessageTooLargeError(size, FRAME_BYTES_MAX)


def _check_position(generation: bytes, sequence: int) -> None:
    _check_length("generation", generation, GENERATION_BYTES)
    _check_range("sequence", sequence, 0, NUMBER_MAX)


def _check_records(records: Iterable[SignedBytes]) -> None:
    for record in records:
        _check_range("bytes of a record", len(record.data), 1, RECORD_BYTES_MAX)
        _check_length("signature", record.signature, SIGNATURE_BYTES)


def _check_ids(ids: tuple[bytes, ...]) -> None:
    _check_amount("record ids", len(ids), IDS_MAX)
    for key in ids:
        _check_length("record id", key, DIGEST_BYTES)


def _check_node(node: TrieLeaf | TrieInner) -> None:
    _check_prefix(node.prefix)
    if isinstance(node, TrieLeaf):
        digests = node.items
        _check_amount("digests of a leaf", len(digests), LEAF_MAX)
    else:
        digests = node.hashes
        _check_range("hashes of a node", len(digests), RADIX, RADIX)
    for digest in digests:
        _check_length("digest", digest, DIGEST_BYTES)


def _check_sections(sections: tuple[Section, ...], id_bytes: int) -> None:
    _check_amount("sections", len(sections), SECTIONS_MAX)
    for section in sections:
        _check_prefix(section.prefix)
        if isinstance(section, Ids):
            _check_amount("ids of a section", len(section.ids), LISTED_MAX)
            _check_lengths("listed id", section.ids, id_bytes)
        else:
            _check_range("clues of a section", len(section.clues), RADIX, RADIX)
            _check_lengths("clue", section.clues, CLUE_BYTES)


def _check_prefix(prefix: Prefix) -> None:
    _check_amount("nibbles of a prefix", len(prefix), DEPTH_MAX)
    if prefix and not 0 <= min(prefix) <= max(prefix) < RADIX:
        raise MalformedMessageError(f"a prefix with a step outside 0 to {RADIX - 1}")


def _check_length(what: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise MalformedMessageError(f"a {what} of {len(value)} bytes, not {length}")


def _check_lengths(what: str, values: tuple[bytes, ...], length: int) -> None:
    for size in set(map(len, values)) - {length}:
        raise MalformedMessageError(f"a {what} of {size} bytes, not {length}")


def _check_amount(what: str, amount: int, most: int) -> None:
    if amount > most:
        raise MalformedMessageError(f"{amount} {what}, at most {most} are allowed")


def _check_range(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise MalformedMessageError(f"{what}: {value} is not in {least} to {most}")
