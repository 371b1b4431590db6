"""Replicas that exchange what they have as the bytes of real messages.

Owns an exchange between two of them: a stream of frames by the real session, and after it
the blobs of what came, each once, by digest. Does not own when somebody exchanges, nor what
is said. A replica has a set, a store and blobs of its own.

What is real: records are encoded, decoded, checked and verified by each receiver; frames
are serialised and parsed; each receiver hashes each blob itself. What is not: bytes of a
blob are handed over and not copied, since they never change, and no wire is waited for.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import Add, RecordId, SpaceId
from crdtmerge.digest import (
    CHUNK_BYTES,
    BlobId,
    Domain,
    blob_id,
    chunk_count,
    chunk_digests,
    digest,
)
from crdtmerge.errors import CorruptBlobError
from crdtmerge.identity import SigningKey
from crdtmerge.manifest import decode_manifest
from crdtmerge.record import SignedRecord, well_formed
from crdtmerge.replica import Replica
from crdtmerge.sync.messages import GENERATION_BYTES, Heartbeat, Message, SignedBytes
from crdtmerge.sync.pulls import Learned
from crdtmerge.sync.runs import Run
from crdtmerge.sync.session import SECRET_BYTES, Session
from crdtmerge.sync.transfer import Incoming, Wanted, announce
from nodes.convert import (
    decode,
    encode,
    from_fetch_request,
    to_fetch_request,
)
from nodes.spaces import Spaces
from nodes.store.memory import MemoryBlobs, MemoryRecords

AGENT: Final = "paper/1"
ALL_BYTES: Final = 1 << 62


@dataclass(slots=True)
class Traffic:
    """What crossed between replicas."""

    exchanges: int = 0
    messages: int = 0
    message_bytes: int = 0
    blobs: int = 0
    blob_bytes: int = 0

    def add(self, other: "Traffic") -> None:
        """Count what another counted."""
        self.exchanges += other.exchanges
        self.messages += other.messages
        self.message_bytes += other.message_bytes
        self.blobs += other.blobs
        self.blob_bytes += other.blob_bytes

    def facts(self) -> dict[str, int]:
        """Return the counts by name."""
        return {
            "exchanges": self.exchanges,
            "messages": self.messages,
            "message_bytes": self.message_bytes,
            "blobs": self.blobs,
            "blob_bytes": self.blob_bytes,
        }


@dataclass(slots=True)
class CheckedBlobs(MemoryBlobs):
    """Blobs with the chunk lists that their receiver computed when they came."""

    lists: dict[BlobId, list[bytes]] = field(default_factory=dict)

    def add(self, data: bytes) -> BlobId:
        """Keep `data`, and return the id that its bytes give it."""
        chunks = chunk_digests(data)
        blob = blob_id(len(data), chunks)
        self._blobs[blob], self.lists[blob] = data, chunks
        return blob

    def receive(self, blob: BlobId, data: bytes) -> None:
        """Keep what a peer sent as `blob`; raises as that of any store does."""
        chunks = chunk_digests(data)
        if blob_id(len(data), chunks) != blob:
            raise CorruptBlobError(f"blob {blob.hex()[:12]} came with other bytes")
        self._blobs[blob], self.lists[blob] = data, chunks

    def everything(self) -> tuple[tuple[BlobId, bytes], ...]:
        """Return all blobs by id."""
        return tuple(sorted(self._blobs.items()))


@dataclass(slots=True, eq=False)
class Peer:
    """One replica: its author's key, its set and its blobs."""

    name: str
    key: SigningKey
    spaces: Spaces
    blobs: CheckedBlobs

    def say(self, space: SpaceId, *signed: SignedRecord) -> None:
        """Store records that its author made."""
        self.spaces.commit(space, signed)

    def replica(self, space: SpaceId) -> Replica:
        """Return the space as its author sees it."""
        return Replica(self.spaces.opset(space), self.key)


def make_peer(name: str) -> Peer:
    """Return a replica with nothing on it, whose keys its name decides."""
    drawn = digest(Domain.SEED, f"paper {name}".encode())
    records, blobs = MemoryRecords(drawn[:GENERATION_BYTES]), CheckedBlobs()
    return Peer(name, SigningKey(drawn), Spaces(records, blobs), blobs)


@dataclass(frozen=True, slots=True)
class State:
    """What one replica holds, as bytes: nothing of it is shared with any object."""

    name: str
    space: SpaceId
    records: tuple[SignedBytes, ...]
    blobs: tuple[tuple[BlobId, bytes], ...]


def saved(peer: Peer, space: SpaceId) -> State:
    """Return what a replica holds."""
    records, _, more = peer.spaces.records.after(space, 0, ALL_BYTES)
    assert not more
    blobs = peer.blobs.everything()
    return State(peer.name, space, tuple(records), blobs)


def opened(state: State) -> Peer:
    """Return a new replica made of bytes alone, all of them checked as if they had come."""
    peer = make_peer(state.name)
    said = [well_formed(bytes(r.data), bytes(r.signature)) for r in state.records]
    peer.say(state.space, *said)
    for blob, data in state.blobs:
        peer.blobs.receive(blob, bytes(bytearray(data)))
    return peer


# --- exchanges ----------------------------------------------------------------------------


def push(sender: Peer, receiver: Peer, space: SpaceId, traffic: Traffic) -> None:
    """Let `receiver` take all that `sender` has and it lacks; `sender` takes nothing."""
    _exchange(sender, receiver, space, traffic, both=False)


def meet(one: Peer, other: Peer, space: SpaceId, traffic: Traffic) -> None:
    """Let both take what the other has."""
    _exchange(one, other, space, traffic, both=True)


def _exchange(
    one: Peer, other: Peer, space: SpaceId, traffic: Traffic, *, both: bool
) -> None:
    """Run one stream to its end, then fetch.

    SUBTLE: a side begins to pull when it hears a heartbeat, and never else. So where only
    one is to take, its own heartbeats are not sent.
    """
    ends = (one, other)
    sessions = [_session(end, space, f"{one.name} to {other.name}") for end in ends]
    learned: tuple[list[RecordId], list[RecordId]] = ([], [])
    waiting: deque[tuple[int, bytes]] = deque()

    def send(side: int, said: Iterable[Message | Learned]) -> None:
        for item in said:
            if isinstance(item, Learned):
                learned[side].extend(item.records)
            elif both or side == 0 or not isinstance(item, Heartbeat):
                frame = encode(item)
                traffic.messages += 1
                traffic.message_bytes += len(frame)
                waiting.append((1 - side, frame))

    for side, session in enumerate(sessions):
        send(side, session.open())
    while waiting:
        side, frame = waiting.popleft()
        send(side, sessions[side].handle(decode(frame)))
    traffic.exchanges += 1
    for side, records in enumerate(learned):
        _fetch_all(ends[1 - side], ends[side], space, records, traffic)


def _session(peer: Peer, space: SpaceId, label: str) -> Session:
    """Return one end of a new stream: no exchange remembers another."""
    secret = digest(Domain.SEED, f"{label} {peer.name}".encode())[:SECRET_BYTES]
    return Session(peer.spaces, frozenset([space]), {}, AGENT, secret)


def _fetch_all(
    source: Peer,
    taker: Peer,
    space: SpaceId,
    records: Sequence[RecordId],
    traffic: Traffic,
) -> None:
    """Fetch the contents of new contributions, as far as they are not here."""
    for record in records:
        found = taker.spaces.opset(space).get(record)
        if found is None or not isinstance(found.body, Add):
            continue
        add = found.body
        _fetch(source, taker, space, (add.manifest, add.manifest_bytes), traffic)
        if not taker.blobs.has(add.manifest):
            continue  # the source lacks it too
        manifest = decode_manifest(taker.blobs.get(add.manifest))
        for blob, size in manifest.blobs().items():
            _fetch(source, taker, space, (blob, size), traffic)


def _fetch(
    source: Peer,
    taker: Peer,
    space: SpaceId,
    named: tuple[BlobId, int],
    traffic: Traffic,
) -> None:
    """Fetch one blob by a real request and the messages that answer it."""
    blob, size = named
    if taker.blobs.has(blob) or not source.blobs.has(blob):
        return
    wanted = Wanted(chunk_list=True, runs=(Run(0, chunk_count(size)),))
    request = to_fetch_request(space, blob, wanted)
    traffic.message_bytes += request.ByteSize()
    asked = from_fetch_request(request)[2]
    incoming, pieces = Incoming(blob, size, wanted), list[bytes]()
    for message in _answer(source.blobs, blob, asked):
        traffic.messages += 1
        traffic.blob_bytes += len(message)
        piece = incoming.take(message)
        if piece is not None:
            pieces.append(piece.data)
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    taker.blobs.receive(blob, data)
    traffic.messages += 1
    traffic.blobs += 1


def _answer(blobs: CheckedBlobs, blob: BlobId, asked: Wanted) -> Iterable[bytes]:
    data = blobs.get(blob)
    yield from announce(len(data), blobs.lists[blob], want_chunk_list=asked.chunk_list)
    if len(data) <= CHUNK_BYTES:
        yield data
        return
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
