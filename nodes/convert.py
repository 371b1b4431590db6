"""Messages to frames and back, strictly: what breaks a stated limit is refused.

Owns which field of a frame holds what. Does not own the limits (`limits`), nor what a
message means (`sync.session`), nor whether its digests and signatures hold.

Both ways check the plain value, so that we never send what a peer would refuse. A frame
was bounded in bytes before it came here (`FRAME_BYTES_MAX` is the receive limit of every
channel), so building a value before checking it costs at most one frame.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias, assert_never

from google.protobuf.message import DecodeError

from crdtmerge.digest import DIGEST_BYTES, BlobId
from crdtmerge.errors import MalformedMessageError
from crdtmerge.manifest import TensorEntry
from crdtmerge.sync.messages import (
    CLUE_BYTES,
    Attestations,
    AttestationsRequest,
    Beside,
    Clues,
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
    Peers,
    PeerSaid,
    PeersReply,
    PeersRequest,
    Probed,
    ProbeReply,
    ProbeRequest,
    Probes,
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
from crdtmerge.sync.runs import Run
from crdtmerge.sync.transfer import Wanted

from .join_messages import (
    Announce,
    Answer,
    Challenge,
    Done,
    JoinHello,
    JoinMessage,
    Welcome,
)
from .limits import check_fetch, check_join_message, check_message, check_size
from .wire import replica_pb2 as wire

_Body: TypeAlias = Any  # a message class of the wire, chosen by the name of its field


# --- fetch ------------------------------------------------------------------------------


def to_fetch_request(space: bytes, blob: bytes, wanted: Wanted) -> wire.FetchRequest:
    """Return a request for bytes of a blob as it travels.

    Raises:
        MalformedMessageError: a field breaks its limit.
    """
    check_fetch(space, blob, wanted)
    return wire.FetchRequest(
        space=space,
        blob=blob,
        want_chunk_list=wanted.chunk_list,
        runs=[wire.ChunkRun(first=run.first, count=run.count) for run in wanted.runs],
        encodings=wanted.encodings,
        against=wanted.against,
    )


def from_fetch_request(request: wire.FetchRequest) -> tuple[bytes, bytes, Wanted]:
    """Return the space, the blob and what is asked for of it.

    Raises:
        MalformedMessageError: a field breaks its limit.
    """
    runs = tuple(Run(run.first, run.count) for run in request.runs)
    wanted = Wanted(request.want_chunk_list, runs, request.encodings, request.against)
    check_fetch(request.space, request.blob, wanted)
    return request.space, request.blob, wanted


# --- sync -------------------------------------------------------------------------------


def to_frame(message: Message) -> wire.Frame:
    """Return `message` as it travels.

    Raises:
        MalformedMessageError: a field breaks its limit.
        MessageTooLargeError: the frame is above `FRAME_BYTES_MAX`.
    """
    check_message(message)
    frame = wire.Frame()
    if isinstance(message, Goodbye):
        frame.goodbye.SetInParent()
    elif isinstance(message, Peers):
        _write_peers(message, frame)
    elif isinstance(message, Probes):
        _write_probes(message, frame)
    elif isinstance(message, Beside):
        _write_beside(message, frame)
    else:
        _write(message, frame)
    check_size(frame.ByteSize())
    return frame


def from_frame(frame: wire.Frame) -> Message:
    """Return the message in `frame`.

    Raises:
        MalformedMessageError: the body is missing or unknown, or breaks a limit.
    """
    name = frame.WhichOneof("body")
    if name is None:
        raise MalformedMessageError("a frame without a body that we know")
    message = _READERS[name](getattr(frame, name))
    check_message(message)
    return message


def encode(message: Message) -> bytes:
    """Return the bytes of `message` on the wire; raises as `to_frame` does."""
    return to_frame(message).SerializeToString()


def decode(data: bytes) -> Message:
    """Return the message whose bytes on the wire are `data`.

    Raises:
        MalformedMessageError: they are no frame, or one that breaks a limit.
        MessageTooLargeError: they are above `FRAME_BYTES_MAX`.
    """
    check_size(len(data))
    try:
        frame = wire.Frame.FromString(data)
    except DecodeError as e:
        raise MalformedMessageError("bytes that are no frame") from e
    return from_frame(frame)


def _write(message: SetMessage, frame: wire.Frame) -> None:
    match message:
        case Hello(version, agent, heard, features, oldest, newest):
            frame.hello.version, frame.hello.agent = version, agent
            frame.hello.heard, frame.hello.features = heard, features
            frame.hello.oldest, frame.hello.newest = oldest, newest
        case Heartbeat(space, root, count, generation, sequence, answered, echo, mark):
            beat = wire.Heartbeat(
                space=space,
                root=root,
                count=count,
                generation=generation,
                sequence=sequence,
                answered=answered,
                echo=echo,
                attested=mark,
            )
            frame.heartbeat.CopyFrom(beat)
        case FeedRequest(space, generation, after, number):
            asked = frame.feed_request
            asked.space, asked.generation = space, generation
            asked.after, asked.number = after, number
        case FeedReply(space, generation, through, more, records, number):
            reply = frame.feed_reply
            reply.space, reply.generation = space, generation
            reply.through, reply.more, reply.number = through, more, number
            reply.records.extend(_wire_records(records))
        case TrieRequest() | TrieReply() | CompareRequest() | CompareReply():
            _write_comparing(message, frame)
        case RecordsRequest(space, ids, number):
            frame.records_request.space, frame.records_request.number = space, number
            frame.records_request.ids = b"".join(ids)
        case RecordsReply(space, records, unsent, number):
            frame.records_reply.space, frame.records_reply.number = space, number
            frame.records_reply.records.extend(_wire_records(records))
            frame.records_reply.unsent = b"".join(unsent)
        case Rumour(space, records):
            frame.rumour.space = space
            frame.rumour.records.extend(_wire_records(records))
        case _:
            assert_never(message)


def _write_comparing(message: Comparing, frame: wire.Frame) -> None:
    match message:
        case TrieRequest(space, prefixes, number):
            frame.trie_request.space, frame.trie_request.number = space, number
            frame.trie_request.prefixes.extend(bytes(p) for p in prefixes)
        case TrieReply(space, nodes, number):
            frame.trie_reply.space, frame.trie_reply.number = space, number
            frame.trie_reply.nodes.extend(_wire_node(node) for node in nodes)
        case CompareRequest(space, salt, sections, number):
            shown = frame.compare_request
            shown.space, shown.salt, shown.number = space, salt, number
            shown.sections.extend(map(_wire_section, sections))
        case CompareReply(space, sections, covered, number):
            found = frame.compare_reply
            found.space, found.covered, found.number = space, covered, number
            found.sections.extend(map(_wire_section, sections))
        case _:
            assert_never(message)


def _write_peers(message: Peers, frame: wire.Frame) -> None:
    match message:
        case PeersRequest():
            frame.peers_request.SetInParent()
        case PeersReply(peers):
            frame.peers_reply.SetInParent()
            frame.peers_reply.peers.extend(
                wire.PeerSaid(node=p.node, addresses=p.addresses, age_s=p.age_s)
                for p in peers
            )
        case _:
            assert_never(message)


def _write_probes(message: Probes, frame: wire.Frame) -> None:
    match message:
        case ProbeRequest():
            frame.probe_request.SetInParent()
        case ProbeReply(found, wait_s, seen_from):
            frame.probe_reply.SetInParent()
            frame.probe_reply.wait_s, frame.probe_reply.seen_from = wait_s, seen_from
            frame.probe_reply.found.extend(
                wire.Probed(address=p.address, outcome=p.outcome) for p in found
            )
        case _:
            assert_never(message)


def _write_beside(message: Beside, frame: wire.Frame) -> None:
    match message:
        case AttestationsRequest(space, held):
            frame.attestations_request.space = space
            frame.attestations_request.held.extend(
                wire.HeldAttestation(node=h.node, counter=h.counter, mark=h.mark)
                for h in held
            )
        case Attestations(space, items):
            frame.attestations.space = space
            frame.attestations.items.extend(
                wire.SignedAttestation(data=i.data, signature=i.signature)
                for i in items
            )
        case TensorsRequest(space, model, first, number):
            asked = wire.TensorsRequest(
                space=space, model=model, first=first, number=number
            )
            frame.tensors_request.CopyFrom(asked)
        case TensorsReply(space, model, total, tensors, number):
            reply = wire.TensorsReply(
                space=space, model=model, total=total, number=number
            )
            reply.tensors.extend(
                wire.Tensor(name=t.name, dtype=t.dtype, shape=t.shape, blob=t.blob)
                for t in tensors
            )
            frame.tensors_reply.CopyFrom(reply)
        case _:
            assert_never(message)


def _wire_records(records: Iterable[SignedBytes]) -> Iterable[wire.SignedRecord]:
    return (wire.SignedRecord(data=r.data, signature=r.signature) for r in records)


def _wire_node(node: TrieLeaf | TrieInner) -> wire.TrieNode:
    if isinstance(node, TrieLeaf):
        return wire.TrieNode(prefix=bytes(node.prefix), items=b"".join(node.items))
    return wire.TrieNode(prefix=bytes(node.prefix), hashes=b"".join(node.hashes))


def _records(records: Iterable[wire.SignedRecord]) -> tuple[SignedBytes, ...]:
    return tuple(SignedBytes(r.data, r.signature) for r in records)


def _wire_section(section: Section) -> wire.Section:
    if isinstance(section, Ids):
        return wire.Section(prefix=bytes(section.prefix), ids=b"".join(section.ids))
    return wire.Section(prefix=bytes(section.prefix), clues=b"".join(section.clues))


def _digests(joined: bytes, size: int = DIGEST_BYTES) -> tuple[bytes, ...]:
    if len(joined) % size:
        raise MalformedMessageError(f"{len(joined)} bytes are no list of {size} each")
    return tuple(
        [joined[start : start + size] for start in range(0, len(joined), size)]
    )


def _section(section: wire.Section, id_bytes: int) -> Section:
    prefix = tuple(section.prefix)
    match section.WhichOneof("body"):
        case "ids":
            return Ids(prefix, _digests(section.ids, id_bytes))
        case "clues":
            return Clues(prefix, _digests(section.clues, CLUE_BYTES))
        case _:
            raise MalformedMessageError("a section with neither ids nor clues")


def _node(node: wire.TrieNode) -> TrieLeaf | TrieInner:
    prefix = tuple(node.prefix)
    match node.WhichOneof("body"):
        case "items":
            return TrieLeaf(prefix, _digests(node.items))
        case "hashes":
            return TrieInner(prefix, _digests(node.hashes))
        case _:
            raise MalformedMessageError("a trie node with neither items nor hashes")


def _entry(tensor: wire.Tensor) -> TensorEntry:
    shape, blob = tuple(tensor.shape), BlobId(tensor.blob)
    return TensorEntry(tensor.name, tensor.dtype, shape, blob)


_READERS: Final[dict[str, Callable[[_Body], Message]]] = {
    "hello": lambda b: Hello(
        b.version, b.agent, b.heard, b.features, b.oldest, b.newest
    ),
    "heartbeat": lambda b: Heartbeat(
        b.space,
        b.root,
        b.count,
        b.generation,
        b.sequence,
        b.answered,
        b.echo,
        b.attested,
    ),
    "feed_request": lambda b: FeedRequest(b.space, b.generation, b.after, b.number),
    "feed_reply": lambda b: FeedReply(
        b.space, b.generation, b.through, b.more, _records(b.records), b.number
    ),
    "trie_request": lambda b: TrieRequest(
        b.space, tuple(tuple(prefix) for prefix in b.prefixes), b.number
    ),
    "trie_reply": lambda b: TrieReply(
        b.space, tuple(_node(n) for n in b.nodes), b.number
    ),
    "compare_request": lambda b: CompareRequest(
        b.space, b.salt, tuple(_section(n, CLUE_BYTES) for n in b.sections), b.number
    ),
    "compare_reply": lambda b: CompareReply(
        b.space,
        tuple(_section(n, DIGEST_BYTES) for n in b.sections),
        b.covered,
        b.number,
    ),
    "records_request": lambda b: RecordsRequest(b.space, _digests(b.ids), b.number),
    "records_reply": lambda b: RecordsReply(
        b.space, _records(b.records), _digests(b.unsent), b.number
    ),
    "rumour": lambda b: Rumour(b.space, _records(b.records)),
    "attestations_request": lambda b: AttestationsRequest(
        b.space, tuple(Held(h.node, h.counter, h.mark) for h in b.held)
    ),
    "attestations": lambda b: Attestations(b.space, _records(b.items)),
    "tensors_request": lambda b: TensorsRequest(b.space, b.model, b.first, b.number),
    "tensors_reply": lambda b: TensorsReply(
        b.space, b.model, b.total, tuple(map(_entry, b.tensors)), b.number
    ),
    "peers_request": lambda _: PeersRequest(),
    "peers_reply": lambda b: PeersReply(
        tuple(PeerSaid(p.node, tuple(p.addresses), p.age_s) for p in b.peers)
    ),
    "probe_request": lambda _: ProbeRequest(),
    "probe_reply": lambda b: ProbeReply(
        tuple(Probed(p.address, p.outcome) for p in b.found), b.wait_s, b.seen_from
    ),
    "goodbye": lambda _: Goodbye(),
}


# --- join -------------------------------------------------------------------------------


def to_join_frame(message: JoinMessage) -> wire.JoinFrame:
    """Return `message` as it travels; raises as `to_frame` does."""
    check_join_message(message)
    frame = wire.JoinFrame()
    match message:
        case JoinHello(space):
            frame.hello.space = space
        case Challenge(nonce):
            frame.challenge.nonce = nonce
        case Answer(author, node, author_signature, node_signature, mac):
            answer = wire.Answer(
                author=author,
                node=node,
                author_signature=author_signature,
                node_signature=node_signature,
                mac=mac,
            )
            frame.answer.CopyFrom(answer)
        case Welcome(records):
            frame.welcome.SetInParent()
            frame.welcome.records.extend(_wire_records(records))
        case Announce(records):
            frame.announce.SetInParent()
            frame.announce.records.extend(_wire_records(records))
        case Done():
            frame.done.SetInParent()
        case _:
            assert_never(message)
    check_size(frame.ByteSize())
    return frame


def from_join_frame(frame: wire.JoinFrame) -> JoinMessage:
    """Return the message in `frame`; raises as `from_frame` does."""
    name = frame.WhichOneof("body")
    if name is None:
        raise MalformedMessageError("a join frame without a body that we know")
    message = _JOIN_READERS[name](getattr(frame, name))
    check_join_message(message)
    return message


_JOIN_READERS: Final[dict[str, Callable[[_Body], JoinMessage]]] = {
    "hello": lambda b: JoinHello(b.space),
    "challenge": lambda b: Challenge(b.nonce),
    "answer": lambda b: Answer(
        b.author, b.node, b.author_signature, b.node_signature, b.mac
    ),
    "welcome": lambda b: Welcome(_records(b.records)),
    "announce": lambda b: Announce(_records(b.records)),
    "done": lambda _: Done(),
}
