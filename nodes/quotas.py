"""How much of this machine one peer, and one author, may use: limits that only delay.

Owns the numbers, the buckets of time, and what a message costs. Does not own the waiting
(`links`, or the simulator), which records of an author wait (`holding`), nor how many bytes
of contents may come (`offers`). Time is given: nothing here reads a clock.

What a peer sends is paid for before it is handled. Who owes is not read from until the debt
is paid: its messages wait in its own buffers, nothing is lost, and nobody else waits.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import BadInputError
from crdtmerge.identity import KEY_BYTES
from crdtmerge.sync.messages import (
    CLUE_BYTES,
    Attestations,
    AttestationsRequest,
    Clues,
    CompareReply,
    CompareRequest,
    FeedReply,
    FeedRequest,
    Message,
    PeersReply,
    PeersRequest,
    ProbeRequest,
    RecordsReply,
    RecordsRequest,
    Rumour,
    Section,
    SignedBytes,
    TensorsReply,
    TensorsRequest,
    TrieInner,
    TrieReply,
    TrieRequest,
)

BURST_S: Final = 512.0
"""What a bucket holds: who rested may use at once what so many seconds bring. At the rates
below that is a million records of a peer: a new node catches up with a large space without
a wait."""
PEER_COST: Final = 2048.0
"""Units of work a second that one peer may cause. One unit is one check of a signature,
0.14 ms of a core: this is 29 % of one."""
PEER_RECORDS: Final = 2048.0
PEER_BYTES: Final = float(1 << 20)
PEER_QUESTIONS: Final = 8.0
"""Questions a second that are answered: most take up to 10 ms, and bring up to 1 MiB; what
a comparison takes more is paid in units."""
AUTHOR_RATE: Final = 512.0
"""Records a second of one author: a quarter of what a peer may bring, so that the flood of
one author leaves room for others with whoever passes it on."""
AUTHOR_RECORDS: Final = 1_000_000
"""Records of one author that lie here: as many as a grant allows unless it says less."""
AUTHOR_BYTES: Final = 1 << 40
"""Bytes of the contributions of one author that are fetched without being asked for: 70
models of seven billion parameters in bf16, or thousands of adapters."""

OUTGOING_MAX: Final = 8192
OUTGOING_BYTES_MAX: Final = 32 << 20
"""What may wait for one peer; one that does not read what is said to it is cut off."""
WAITING_BYTES_MAX: Final = 256 << 20
"""What may wait for, and of, all peers; above, the one with the most is cut off."""

LEAST: Final[Mapping[str, float]] = {
    "peer_cost": 512.0,
    "peer_records": 160.0,
    "peer_bytes": float(32 << 10),
    "peer_questions": 1.0,
    "author_rate": 1.0,
    "author_records": 1,
    "author_bytes": 1,
}
"""The smallest limits. Those of peers let the largest message be paid for in some 30 s, or
an honest peer would take our silence for death."""
MOST: Final = 2**63 - 1

BYTES_A_UNIT: Final = 512
"""Bytes of a record that cost one unit more, to decode and to keep."""
PROOF_UNITS: Final = 80
"""What checking a fault or a fork takes at most: 11 ms, for trees of hashes."""
READ_UNITS: Final = 0.3
"""What a record costs that is decoded and not verified."""
FEED_UNITS: Final = 20.0
ASKED_UNITS: Final = 5.0
PREFIXES_A_UNIT: Final = 10
SECTIONS_A_UNIT: Final = 1
"""Sections of a comparison, asked or answered: for each one clues of sixteen nodes are
made, 0.1 ms where the hashes of these are not kept."""
IDS_A_UNIT: Final = 50
CALLERS_MAX: Final = 4096
MESSAGE_COST_BYTES: Final = 256
"""What any message counts for, beside its records and digests."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """The limits of one node; 0 is without limit.

    All but the last two are amounts a second.
    """

    peer_cost: float = PEER_COST
    peer_records: float = PEER_RECORDS
    peer_bytes: float = PEER_BYTES
    peer_questions: float = PEER_QUESTIONS
    author_rate: float = AUTHOR_RATE
    author_records: int = AUTHOR_RECORDS
    author_bytes: int = AUTHOR_BYTES
    burst_s: float = BURST_S

    def __post_init__(self) -> None:
        """Refuse what would stop honest peers.

        Raises:
            BadInputError: a limit is too small or too large.
        """
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value and not least <= value <= MOST:
                raise BadInputError(
                    f"the quota {name.replace('_', '-')} is {value:g}, not at least"
                    f" {least:g}",
                    hint="0 is without limit",
                )


DEFAULT: Final = Quotas()
NAMES: Final = tuple(f.name for f in fields(Quotas) if f.name in LEAST)
"""What a user may set."""


@dataclass(slots=True)
class Bucket:
    """Lets `rate` a second pass on average, and `rate * burst_s` at once after a rest.

    What is taken may be more than there is: the rest is a debt, and time pays it. So
    nothing is ever too dear to pass. A rate of 0 is without limit.
    """

    rate: float
    burst_s: float
    _level: float = field(init=False)
    _at: float = 0.0

    def __post_init__(self) -> None:
        """Start full."""
        self._level = self.most

    @property
    def most(self) -> float:
        """What it holds; at least one, or a small rate would let nothing pass."""
        return max(1.0, self.rate * self.burst_s)

    def level(self, now: float) -> float:
        """Return what may be taken at `now`; below 0 it is a debt."""
        earned = max(0.0, now - self._at) * self.rate
        self._at = max(now, self._at)
        self._level = min(self._level + earned, self.most)
        return self._level

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, whatever there is."""
        if self.rate:
            self._level = self.level(now) - amount

    def give_back(self, amount: float) -> None:
        """Return what was taken and not used."""
        if self.rate:
            self._level = min(self._level + amount, self.most)

    def wait(self, now: float) -> float:
        """Return in how many seconds there is no debt any more."""
        return max(0.0, -self.level(now) / self.rate) if self.rate else 0.0

    def full(self, now: float) -> bool:
        """Tell whether it is as good as new."""
        return not self.rate or self.level(now) >= self.most


@dataclass(slots=True)
class Buckets:
    """One bucket for each caller; who did not call for longest is forgotten."""

    rate: float
    burst_s: float
    most: int = CALLERS_MAX
    _kept: OrderedDict[bytes, Bucket] = field(default_factory=OrderedDict)

    def of(self, caller: bytes) -> Bucket:
        """Return the bucket of `caller`, a full one if it is new."""
        bucket = self._kept.setdefault(caller, Bucket(self.rate, self.burst_s))
        self._kept.move_to_end(caller)
        if len(self._kept) > self.most:
            self._kept.popitem(last=False)
        return bucket

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._kept)


@dataclass(frozen=True, slots=True)
class Price:
    """What a message costs its sender."""

    units: float
    size: int
    records: int = 0
    questions: int = 0


def price_of(message: Message) -> Price:  # noqa: PLR0911  one case a message type
    """Return what a message costs, before it is decoded: by its size and its records.

    Once they are decoded, and before any is verified, it is known what they cost in truth.
    """
    size = weight(message)
    match message:
        case FeedReply() | RecordsReply() | Rumour():
            return Price(units_of(message.records), size, len(message.records))
        case Attestations(items=items):
            return Price(units_of(items), size)
        case FeedRequest():
            return Price(FEED_UNITS, size, questions=1)
        case AttestationsRequest() | TensorsRequest() | PeersRequest() | ProbeRequest():
            return Price(ASKED_UNITS, size, questions=1)
        case TrieRequest(prefixes=prefixes):
            return Price(1 + len(prefixes) / PREFIXES_A_UNIT, size, questions=1)
        case RecordsRequest(ids=ids):
            return Price(1 + len(ids) / IDS_A_UNIT, size, questions=1)
        case CompareRequest(sections=sections):
            return Price(1 + len(sections) / SECTIONS_A_UNIT, size, questions=1)
        case TrieReply(nodes=nodes):
            return Price(1 + len(nodes) / PREFIXES_A_UNIT, size)
        case CompareReply(sections=sections):
            return Price(1 + len(sections) / SECTIONS_A_UNIT, size)
        case _:
            return Price(1, size)


def units_of_answer(message: object) -> float:
    """Return what it took to make an answer, beyond what its question was priced at.

    A section of a question leads to up to sixteen of the answer: nobody knows beforehand.
    """
    if isinstance(message, CompareReply):
        return len(message.sections) / SECTIONS_A_UNIT
    return 0.0


def units_of(records: tuple[SignedBytes, ...]) -> float:
    """Return what it costs to verify `records`: a signature each, and what is hashed."""
    return len(records) + sum(len(r.data) for r in records) / BYTES_A_UNIT


def weight(message: Message) -> int:
    """Return about how many bytes a message that waits takes."""
    match message:
        case Attestations(items=items):
            size = sum(len(i.data) + len(i.signature) for i in items)
        case TensorsReply(tensors=tensors):
            size = sum(len(t.name) + DIGEST_BYTES for t in tensors)
        case FeedReply(records=records) | Rumour(records=records):
            size = sum(len(r.data) + len(r.signature) for r in records)
        case RecordsReply(records=records, unsent=unsent):
            size = sum(len(r.data) + len(r.signature) for r in records)
            size += DIGEST_BYTES * len(unsent)
        case RecordsRequest(ids=ids):
            size = DIGEST_BYTES * len(ids)
        case PeersReply(peers=peers):
            size = sum(KEY_BYTES + sum(map(len, p.addresses)) for p in peers)
        case TrieReply(nodes=nodes):
            digests = (n.hashes if isinstance(n, TrieInner) else n.items for n in nodes)
            size = DIGEST_BYTES * sum(map(len, digests))
        case CompareRequest(sections=sections):
            size = sum(_weight_of(section, CLUE_BYTES) for section in sections)
        case CompareReply(sections=sections):
            size = sum(_weight_of(section, DIGEST_BYTES) for section in sections)
        case _:
            size = 0
    return MESSAGE_COST_BYTES + size


def _weight_of(section: Section, id_bytes: int) -> int:
    if isinstance(section, Clues):
        return CLUE_BYTES * len(section.clues)
    return id_bytes * len(section.ids)


class Account:
    """What one peer may still use."""

    __slots__ = ("bytes", "questions", "records", "units")

    def __init__(self, quotas: Quotas) -> None:
        """Start with full buckets."""
        self.units = Bucket(quotas.peer_cost, quotas.burst_s)
        self.records = Bucket(quotas.peer_records, quotas.burst_s)
        self.bytes = Bucket(quotas.peer_bytes, quotas.burst_s)
        self.questions = Bucket(quotas.peer_questions, quotas.burst_s)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """All of them."""
        return self.units, self.records, self.bytes, self.questions

    def pay(self, price: Price, now: float) -> None:
        """Take what a message costs, whatever there is."""
        self.units.take(price.units, now)
        self.records.take(price.records, now)
        self.bytes.take(price.size, now)
        self.questions.take(price.questions, now)

    def wait(self, now: float) -> float:
        """Return in how many seconds nothing is owed any more."""
        return max(bucket.wait(now) for bucket in self.buckets)

    def full(self, now: float) -> bool:
        """Tell whether nothing would be lost by forgetting it."""
        return all(bucket.full(now) for bucket in self.buckets)


@dataclass(slots=True)
class Accounts:
    """The accounts of all peers; they outlive streams, or a new one would pay all debts."""

    quotas: Quotas
    units: float = 0.0
    """What peers have cost since the start, in units."""
    pauses: int = 0
    paused_seconds: float = 0.0
    _peers: dict[bytes, Account] = field(default_factory=dict)

    def pay(self, peer: bytes, price: Price, now: float) -> None:
        """Take what a message of `peer` costs, before it is handled."""
        if peer not in self._peers:
            self._peers[peer] = Account(self.quotas)
        self._peers[peer].pay(price, now)
        self.units += price.units

    def settle(self, peer: bytes, paid: float, units: float, now: float) -> None:
        """Let a message that was paid for cost `units` in truth."""
        bucket = self._peers[peer].units
        if units > paid:
            bucket.take(units - paid, now)
        else:
            bucket.give_back(paid - units)
        self.units += units - paid

    def pause(self, peer: bytes, now: float) -> float:
        """Return for how many seconds `peer` is not to be read from; counts it."""
        account = self._peers.get(peer)
        wait = account.wait(now) if account is not None else 0.0
        if wait > 0:
            self.pauses += 1
            self.paused_seconds += wait
        return wait

    def change(self, quotas: Quotas) -> None:
        """Hold to other limits from now on; debts of the old ones are forgotten."""
        self.quotas = quotas
        self._peers.clear()

    def forget(self, now: float) -> None:
        """Forget the accounts that are as good as new."""
        self._peers = {p: a for p, a in self._peers.items() if not a.full(now)}

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._peers)
