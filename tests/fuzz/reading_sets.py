"""What is done with several records or messages: a set that grows, a session, a node.

Owns the reads of the targets that keep a state: what comes out must be one set, whatever
was said in which order. Keys and ids, which a fuzzer cannot guess, are named by numbers.
"""

import random
from collections.abc import Sequence
from functools import cache
from typing import Final

from crdtmerge.bodies import (
    BODIES,
    Body,
    Epoch,
    Genesis,
    SpaceId,
    Unknown,
    give_consent,
    runs_of,
)
from crdtmerge.codec import Value, decode
from crdtmerge.errors import EncodingError, RemoteError
from crdtmerge.forks import Fork, prove_fork
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import link_of
from crdtmerge.record import (
    RECORD_BYTES_MAX,
    SignedRecord,
    make_record,
    sign_record,
    well_formed,
)
from crdtmerge.sync.messages import Goodbye, Hello, Peers, Probes
from nodes import convert
from nodes.effects import MessageReceived, PeerClosed, PeerOpened, Ticked
from nodes.node import Node
from nodes.spaces import Spaces
from nodes.store.memory import MemoryBlobs, MemoryRecords
from tests.fuzz.seeds import KNOWN, NODE
from tests.properties.cast import AUTHORS, BASE, OWNERS, outcome, wire
from tests.unit.peers import SPACE, session, spaces_with

RECORDS_MAX: Final = 40
FRAMES_MAX: Final = 64
TICKS_OF: Final = 8
"""A tick passes at a node after so many frames."""

# --- histories --------------------------------------------------------------------------


def read_history(data: bytes) -> None:
    """Play a history: [rules of the space, [author, grant, back, kind, body], ...].

    What cannot be written is passed over. All orders of the rest make one set.
    """
    match decode(data, RECORD_BYTES_MAX):
        case [[int(opened), int(threshold), int(cut)], *steps]:
            pass
        case _:
            raise EncodingError("no history")
    first = _genesis("open" if opened else "members", threshold, cut)
    made = [first]
    opset = OpSet(SpaceId(first.record.id)).insert([first])
    for step in steps[:RECORDS_MAX]:
        try:
            signed = wire(_said(step, made, opset.space))
            opset = opset.insert([signed])
        except RemoteError:
            continue
        made.append(signed)
    expected, half = outcome(opset), made[: len(made) // 2]
    assert outcome(OpSet(opset.space).insert(reversed(made))) == expected
    assert outcome(OpSet(opset.space).insert([first, *half]).join(opset)) == expected


def _genesis(mode: str, threshold: int, cut: int) -> SignedRecord:
    owners = tuple(owner.public for owner in OWNERS)
    rules = 1 + threshold % len(owners), bool(cut)
    body = Genesis("fuzzed", mode, BASE, owners, bytes(16), *rules)
    record = make_record(
        space=b"", author=owners[0], author_seq=0, prev=b"", auth=b"", body=body
    )
    return sign_record(record, OWNERS[0])


def _said(step: Value, made: Sequence[SignedRecord], space: SpaceId) -> SignedRecord:
    """Return the record of a step; with `back` its author uses its last number again."""
    match step:
        case [int(who), int(grant), int(back), str(kind), value]:
            pass
        case _:
            raise EncodingError("no step")
    key = AUTHORS[who % len(AUTHORS)]
    own = [s.record for s in made if s.record.author == key.public]
    own = own[:-1] if back and own and own[-1].author_seq else own
    record = make_record(
        space=space,
        author=key.public,
        author_seq=own[-1].author_seq + 1 if own else 0,
        prev=own[-1].id if own else b"",
        auth=made[grant % len(made)].record.id,
        body=_body(kind, value, made, space),
        critical=False,
    )
    return sign_record(record, key)


def _body(
    kind: str, value: Value, made: Sequence[SignedRecord], space: SpaceId
) -> Body:
    match value:
        case [int(one), int(other)] if kind == Fork.KIND:
            pair = [made[n % len(made)] for n in (one, other)]
            first = pair[0].record
            signed = [(s.record.data, s.signature) for s in pair]
            return prove_fork(space, first.author, first.author_seq, signed)
        case [int(), *_] as numbers if kind == Epoch.KIND:
            listed = {made[n % len(made)] for n in numbers if isinstance(n, int)}
            return Epoch(runs_of((s.record.id, link_of(s.record)) for s in listed))
        case _:
            pass
    named = _named(value, made, space)
    known = BODIES.get(kind)
    return known.from_value(named) if known else Unknown(kind, named)


def _named(value: Value, made: Sequence[SignedRecord], space: SpaceId) -> Value:
    """Put ids, keys and consents in place of the one, two and three bytes naming them."""
    if isinstance(value, bytes):
        match value:
            case bytes() if len(value) == 1:
                return made[value[0] % len(made)].record.id
            case bytes() if len(value) == 2:
                return _key(value[1]).public
            case bytes() if len(value) == 3:
                return give_consent(_key(value[2]), space, _key(value[1]).public)
        return value
    if isinstance(value, int | str):
        return value
    items = [_named(item, made, space) for item in value]
    ids = [item for item in items if isinstance(item, bytes)]
    return sorted(set(ids)) if len(ids) == len(items) > 1 else items


def _key(number: int) -> SigningKey:
    return AUTHORS[number % len(AUTHORS)]


# --- sessions and nodes -----------------------------------------------------------------


def frames(data: bytes) -> list[bytes]:
    """Return pieces of bytes, each with its length in two bytes before it."""
    found: list[bytes] = []
    while len(data) >= 2 and len(found) < FRAMES_MAX:
        length = int.from_bytes(data[:2], "big")
        found.append(data[2 : 2 + length])
        data = data[2 + length :]
    return found


@cache
def _template() -> Spaces:
    return spaces_with("fuzzed", KNOWN)


def known_spaces() -> Spaces:
    """Return spaces that know a few records: a copy of some that were made once."""
    made = Spaces(MemoryRecords(bytes(16)), MemoryBlobs())
    made.records.append(SPACE, _template().records.load(SPACE))
    made._opsets[SPACE] = _template().opset(SPACE)
    return made


def check_spaces(spaces: Spaces) -> None:
    """Check that what is stored is the set, and that each record of it holds."""
    held = spaces.records.load(SPACE)
    assert {signed.record.id for signed in held} == set(spaces.trie(SPACE))
    for signed in held[len(KNOWN) + 1 :]:
        well_formed(signed.record.data, signed.signature)


def read_session(data: bytes) -> None:
    """Let a peer say several things to a session; the set afterwards is one that holds."""
    spaces = known_spaces()
    ours = session(spaces)
    ours.open()
    try:
        for frame in frames(data):
            for said in ours.handle(convert.decode(frame)):
                assert not isinstance(said, Goodbye | Peers | Probes)
                assert isinstance(said, Hello) or said.space == SPACE
    finally:
        check_spaces(spaces)


def read_node(data: bytes) -> None:
    """Let a member say several things to a node, which answers or hangs up, no more."""
    spaces, peer = known_spaces(), bytes(NODE.public)
    node = Node(bytes([2]) * 32, spaces, random.Random(7), "fuzz/1")
    node.handle(Ticked(), 0.0)
    node.handle(PeerOpened(peer), 0.5)
    for number, frame in enumerate(frames(data), start=1):
        try:
            message = convert.decode(frame)
        except RemoteError as e:
            node.handle(PeerClosed(peer, type(e).__name__), number)
            break
        node.handle(MessageReceived(peer, message), number)
        if number % TICKS_OF == 0:
            node.handle(Ticked(), number)
    node.handle(Ticked(), 100.0)
    check_spaces(spaces)
