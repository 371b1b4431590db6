"""The three mechanisms of sync between two real sessions, every frame encoded.

Owns sets whose records are made up but have their true ids, and what crosses the wire.
Does not own signatures or disks: records are taken as they come.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.sync.messages import (
    GENERATION_BYTES,
    IDS_MAX,
    MESSAGE_BYTES_MAX,
    FeedReply,
    Heartbeat,
    Message,
    RecordsReply,
    SignedBytes,
)
from crdtmerge.sync.pulls import Cursor, Learned
from crdtmerge.sync.session import SECRET_BYTES, Session
from crdtmerge.trie import Trie
from nodes.convert import decode, encode

SPACE: Final = SpaceId(bytes(32))
RECORD_BYTES: Final = 236
SIGNATURE: Final = bytes(64)
FITTING: Final = (MESSAGE_BYTES_MAX - 32 * IDS_MAX) // (RECORD_BYTES + 80)
"""Records in a message that may also have to name as many ids as can be asked for."""


def record(number: int) -> SignedBytes:
    """Return the bytes of a record."""
    return SignedBytes(number.to_bytes(RECORD_BYTES, "big"), SIGNATURE)


def id_of(signed: SignedBytes) -> RecordId:
    """Return the id of a record."""
    return RecordId(digest(Domain.RECORD, signed.data))


class Numbered:
    """A set of numbered records: the port `crdtmerge.sync.pulls.Spaces`."""

    def __init__(self, name: str, numbers: dict[bytes, int], trie: Trie) -> None:
        """Hold the records of these numbers, by their ids, in this order."""
        self.numbers, self.order = numbers, list(numbers)
        self._trie = trie
        self.generation = digest(Domain.SEED, name.encode())[:GENERATION_BYTES]

    def heartbeat(self, space: SpaceId) -> Heartbeat:
        """Return where the set stands."""
        count = len(self.order)
        return Heartbeat(space, self._trie.root, count, self.generation, count)

    def trie(self, _space: SpaceId) -> Trie:
        """Return the trie of all ids."""
        return self._trie

    def feed(self, space: SpaceId, after: int) -> FeedReply:
        """Return the records after one."""
        keys = self.order[after : after + FITTING]
        through = after + len(keys)
        records = tuple(record(self.numbers[key]) for key in keys)
        more = through < len(self.order)
        return FeedReply(space, self.generation, through, more, records)

    def fetch(self, space: SpaceId, ids: Sequence[bytes]) -> RecordsReply:
        """Return records by id."""
        sent, rest = ids[:FITTING], ids[FITTING:]
        records = tuple(record(self.numbers[key]) for key in sent)
        return RecordsReply(space, records, tuple(rest))

    def listed(self, _space: SpaceId, _record: bytes) -> bool:
        """Nothing is dead."""
        return False

    def receive(
        self, _space: SpaceId, records: Sequence[SignedBytes]
    ) -> tuple[RecordId, ...]:
        """Take records."""
        came = {id_of(s): int.from_bytes(s.data, "big") for s in records}
        fresh = [key for key in came if key not in self._trie]
        self.numbers |= {key: came[key] for key in fresh}
        self.order += fresh
        self._trie = self._trie.insert(fresh)
        return tuple(fresh)


@dataclass
class Wire:
    """Two greeted sessions, and what they said since."""

    sides: tuple[Session, Session]
    kinds: Counter[str] = field(default_factory=Counter)
    size: int = 0
    """Beside heartbeats and records."""
    heartbeat_bytes: int = 0
    round_trips: float = 0.0

    def run(self) -> None:
        """Let one side beat, and carry all that follows, one flight after the other."""
        flight = [(0, item) for item in self.sides[0].heartbeats()]
        while flight := self._carried(flight):
            self.round_trips += 0.5

    def _carried(
        self, flight: Sequence[tuple[int, Message | Learned]]
    ) -> list[tuple[int, Message | Learned]]:
        said: list[tuple[int, Message | Learned]] = []
        for sender, item in flight:
            if not isinstance(item, Learned):
                frame = encode(item)
                self.kinds[type(item).__name__] += 1
                self._count(item, frame)
                answers = self.sides[1 - sender].handle(decode(frame))
                said += [(1 - sender, answer) for answer in answers]
        return [pair for pair in said if not isinstance(pair[1], Learned)]

    def _count(self, item: Message, frame: bytes) -> None:
        if isinstance(item, Heartbeat):
            self.heartbeat_bytes += len(frame)
        elif isinstance(item, FeedReply | RecordsReply):
            self.size += len(encode(replace(item, records=())))
        else:
            self.size += len(frame)


def mechanisms(count: int) -> list[dict[str, Any]]:
    """Return what each mechanism costs at `count` records, with both sides pulling."""
    numbers: dict[bytes, int] = {id_of(record(n)): n for n in range(count)}
    trie = Trie.build(numbers)
    assert trie.root
    rows = [_row("equal roots", numbers, trie, 0, cursors=True)]
    rows += [_row("feed", numbers, trie, d, cursors=True) for d in (1, 100)]
    rows += [_row("repair", numbers, trie, d, cursors=False) for d in (1, 100, 1_000)]
    return rows


def _row(
    name: str, numbers: dict[bytes, int], trie: Trie, lacking: int, *, cursors: bool
) -> dict[str, Any]:
    """Measure one mechanism: one side lacks the last records of the other."""
    left_out = list(numbers)[len(numbers) - lacking :]
    fewer = {k: v for k, v in numbers.items() if v < len(numbers) - lacking}
    theirs = Numbered("theirs", dict(numbers), trie)
    ours = Numbered("ours", fewer, trie.delete(left_out))
    wire = Wire((_session(theirs), _session(ours)))
    greet(wire.sides)
    if cursors:  # both have read all that was there before
        known = Cursor(theirs.generation, len(fewer))
        wire.sides[1].cursors[SPACE] = known
        wire.sides[0].cursors[SPACE] = Cursor(ours.generation, len(fewer))
    start = time.process_time()
    wire.run()
    took = time.process_time() - start
    if theirs.trie(SPACE).root != ours.trie(SPACE).root:
        raise SystemExit(f"{name}: the two sides differ")
    return {
        "mechanism": name,
        "n": len(numbers),
        "d": lacking,
        "bytes": wire.size,
        "heartbeat_bytes": wire.heartbeat_bytes,
        "messages": sum(wire.kinds.values()),
        "kinds": dict(sorted(wire.kinds.items())),
        "round_trips": wire.round_trips,
        "cpu_s": round(took, 4),
    }


def _session(spaces: Numbered) -> Session:
    return Session(spaces, frozenset([SPACE]), {}, "benchmark", bytes(SECRET_BYTES))


def greet(sides: tuple[Session, Session]) -> None:
    """Let both say hello; what they say of their sets is lost."""
    for sender, receiver in (sides, sides[::-1]):
        hello, *_ = sender.open()
        assert not isinstance(hello, Learned)
        receiver.handle(decode(encode(hello)))
