"""Two peers without a network: real sessions over real spaces, joined by queues.

Owns the space that they share, how records are made for it, and the wire between them:
every message crosses as the bytes of its frame and is counted.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from crdtmerge.bodies import Genesis, Grant, SpaceId, Unknown
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId, Domain, digest
from crdtmerge.identity import SigningKey
from crdtmerge.record import Record, SignedRecord, make_record, sign_record
from crdtmerge.sync.messages import (
    FEATURES,
    GENERATION_BYTES,
    CompareReply,
    FeedReply,
    Hello,
    Message,
    RecordsReply,
    SignedBytes,
    TrieReply,
)
from crdtmerge.sync.pulls import Cursor, Learned
from crdtmerge.sync.pulls import Spaces as SyncSpaces
from crdtmerge.sync.session import SECRET_BYTES, Session
from nodes.convert import decode, encode
from nodes.spaces import Spaces
from nodes.store.memory import MemoryBlobs, MemoryRecords

OWNER: Final = SigningKey(digest(Domain.SEED, b"owner"))
MEMBER: Final = SigningKey(digest(Domain.SEED, b"member"))
BASE: Final = ContentId(bytes([0xBA]) * 32)
Reply = FeedReply | TrieReply | CompareReply | RecordsReply


def _genesis() -> SignedRecord:
    body = Genesis("pairs", "members", BASE, (OWNER.public,), b"n" * 16)
    record = make_record(
        space=b"", author=OWNER.public, author_seq=0, prev=b"", auth=b"", body=body
    )
    return sign_record(record, OWNER)


GENESIS: Final = _genesis()
SPACE: Final = SpaceId(GENESIS.record.id)


def note(
    number: int,
    size: int = 8,
    *,
    key: SigningKey = OWNER,
    auth: Record = GENESIS.record,
) -> SignedRecord:
    """Return record `number` of an author, of a kind that this version does not know."""
    body = Unknown("note", number.to_bytes(8, "big") + bytes(size))
    record = make_record(
        space=SPACE,
        author=key.public,
        author_seq=number,
        prev=digest(Domain.RECORD, number.to_bytes(8, "big")) if number else b"",
        auth=auth.id,
        body=body,
    )
    return sign_record(record, key)


def notes(numbers: Iterable[int], size: int = 8) -> list[SignedRecord]:
    """Return several of the owner's records."""
    return [note(number, size) for number in numbers]


def grant(number: int) -> SignedRecord:
    """Return a grant that lets MEMBER contribute."""
    body = Grant(MEMBER.public, 1, DECIMAL_UNIT, 1000, 1 << 30)
    record = make_record(
        space=SPACE,
        author=OWNER.public,
        author_seq=number,
        prev=digest(Domain.RECORD, b"any"),
        auth=GENESIS.record.id,
        body=body,
    )
    return sign_record(record, OWNER)


def raw(signed: SignedRecord) -> SignedBytes:
    """Return a record as it travels."""
    return SignedBytes(signed.record.data, signed.signature)


def spaces_with(name: str, records: Iterable[SignedRecord]) -> Spaces:
    """Return spaces on a new store, with the genesis and `records` in this order."""
    store = MemoryRecords(digest(Domain.SEED, name.encode())[:GENERATION_BYTES])
    spaces = Spaces(store, MemoryBlobs())
    spaces.commit(SPACE, [GENESIS])
    for start in range(0, len(batch := list(records)), 64):
        spaces.commit(SPACE, batch[start : start + 64])
    return spaces


@dataclass
class Wire:
    """Two sessions and what is under way between them.

    Both say that they speak `features`, whatever they can: so did the version before.
    """

    left: Session
    right: Session
    features: int = FEATURES
    kinds: Counter[str] = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)
    learned: list[Learned] = field(default_factory=list)

    def run(self, *, messages_max: int = 10_000) -> None:
        """Let both sides beat, and carry all that follows; both must fall silent."""
        queue: deque[tuple[Session, bytes]] = deque()
        for sender, receiver in ((self.left, self.right), (self.right, self.left)):
            said = sender.heartbeats() if sender.greeted else sender.open()
            self._put(queue, said, receiver)
        while queue:
            receiver, frame = queue.popleft()
            self.sizes.append(len(frame))
            assert len(self.sizes) <= messages_max, "the two never fall silent"
            other = self.left if receiver is self.right else self.right
            self._put(queue, receiver.handle(decode(frame)), other)

    def _put(
        self,
        queue: deque[tuple[Session, bytes]],
        said: list[Message | Learned],
        to: Session,
    ) -> None:
        for item in said:
            if isinstance(item, Learned):
                self.learned.append(item)
            else:
                said_item: Message = item
                if isinstance(item, Hello):
                    said_item = replace(item, features=self.features)
                self.kinds[type(item).__name__] += 1
                queue.append((to, encode(said_item)))

    @property
    def equal(self) -> bool:
        """Tell whether both sides have the same record root."""
        left, right = self.left.spaces, self.right.spaces
        return left.trie(SPACE).root == right.trie(SPACE).root


def session(
    spaces: SyncSpaces, cursors: dict[SpaceId, Cursor] | None = None
) -> Session:
    """Return a session over `spaces`."""
    kept = {} if cursors is None else cursors
    return Session(spaces, frozenset([SPACE]), kept, "tests/1", bytes(SECRET_BYTES))


def answer(to: Session, reply: Reply) -> list[Message | Learned]:
    """Hand `reply` to a session as the answer to what it asked last."""
    return to.handle(replace(reply, number=to.pulls.questions))


def connect(left: Spaces, right: Spaces, *, features: int = FEATURES) -> Wire:
    """Return the wire between two peers that have never met."""
    return Wire(session(left), session(right), features)


def ids(spaces: SyncSpaces) -> set[bytes]:
    """Return the ids of all records of a side."""
    return set(spaces.trie(SPACE))
