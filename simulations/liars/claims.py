"""Fault 37: false counts and sizes, in what is said of sets, pages, records and blobs.

Owns the lies. Does not own what believing one would cost: that is what `bounds` looks at.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from crdtmerge.bodies import Add
from crdtmerge.digest import DIGEST_BYTES, BlobId
from crdtmerge.manifest import MANIFEST_BYTES_MAX
from crdtmerge.record import sign_record
from crdtmerge.replica import best_grant
from crdtmerge.sync.listings import TENSORS_MAX
from crdtmerge.sync.messages import (
    AGE_MAX_S,
    GENERATION_BYTES,
    IDS_MAX,
    CompareReply,
    FeedReply,
    FeedRequest,
    Heartbeat,
    Message,
    PeersReply,
    RecordsReply,
    RecordsRequest,
    TensorsReply,
)
from crdtmerge.sync.transfer import SIZE_BYTES
from simulations.links.downloads import Reply

from .liar import Liar, Lie, next_record

LIE_S: Final = (2.0, 12.0)
"""How long a member keeps to a claim."""
HUGE: Final = 2**62
"""A count or number that no set has, and that every message can carry."""
HUGE_BYTES: Final = 1 << 39
"""A size that a grant allows."""


@dataclass(frozen=True, slots=True)
class FalseReply(Reply):
    """A blob whose stream begins with a size, or a list, that is not its own."""

    claim: str = ""

    def messages(self, blob: BlobId) -> Iterator[bytes]:
        """Yield the reply, with what comes first made false."""
        first, *rest = Reply.messages(self, blob)
        size = int.from_bytes(first, "little")
        yield SIZES[self.claim](size).to_bytes(SIZE_BYTES, "little")
        if self.claim == "longer list":
            rest = [rest[0] * 2, *rest[1:]] if rest else rest
        yield from rest


SIZES: Final[Mapping[str, Callable[[int], int]]] = {
    "larger": lambda size: size + 1,
    "smaller": lambda size: size // 2,
    "huge": lambda _: HUGE_BYTES,
    "longer list": lambda size: size,
}
"""What a stream says of the size of its blob."""


@dataclass
class Claims(Lie):
    """One false claim, in all that it can be put into."""

    rng: random.Random
    claim: str

    def says(self, _peer: bytes, message: Message) -> Iterable[Message]:
        """Make it in whatever the node says."""
        return (CLAIMS[self.claim](message, self.rng),)

    def serves(self, _peer: bytes, reply: Reply) -> Reply:
        """Make one of a blob's size, too."""
        given = {f.name: getattr(reply, f.name) for f in fields(Reply)}
        return FalseReply(**given, claim=self.rng.choice(list(SIZES)))


def _of_counts(message: Message, _rng: random.Random) -> Message:
    match message:
        case Heartbeat():
            return replace(message, count=HUGE)
        case TensorsReply():
            return replace(message, total=TENSORS_MAX)
        case PeersReply(peers=peers):
            return PeersReply(tuple(replace(p, age_s=AGE_MAX_S) for p in peers))
        case _:
            return message


def _of_nothing(message: Message, _rng: random.Random) -> Message:
    return replace(message, count=0) if isinstance(message, Heartbeat) else message


def _of_numbers(message: Message, _rng: random.Random) -> Message:
    """Be ahead of itself: who believes that it has read so far reads no more."""
    match message:
        case Heartbeat():
            return replace(message, sequence=HUGE)
        case FeedReply():
            return replace(message, through=HUGE)
        case CompareReply():
            return replace(message, sections=())
        case _:
            return message


def _of_lives(message: Message, rng: random.Random) -> Message:
    """Have a store that began anew, each time."""
    if isinstance(message, Heartbeat | FeedReply):
        return replace(message, generation=rng.randbytes(GENERATION_BYTES))
    return message


def _of_roots(message: Message, rng: random.Random) -> Message:
    """Differ, always."""
    match message:
        case Heartbeat():
            return replace(message, root=rng.randbytes(DIGEST_BYTES))
        case RecordsReply():
            unsent = tuple(rng.randbytes(DIGEST_BYTES) for _ in range(64))
            return replace(message, unsent=unsent)
        case _:
            return message


CLAIMS: Final[Mapping[str, Callable[[Message, random.Random], Message]]] = {
    "counts": _of_counts,
    "nothing": _of_nothing,
    "numbers": _of_numbers,
    "lives": _of_lives,
    "roots": _of_roots,
}
"""What a message is made to say, by what the lie is about."""


def lie_size(liar: Liar, rng: random.Random) -> bool:
    """Keep to one false claim for some time; at once, ask for more than anybody has."""
    peers = liar.peers()
    if not peers:
        return False
    claim = rng.choice(list(CLAIMS))
    liar.lies.append(Claims(liar.now + rng.uniform(*LIE_S), rng, claim))
    space, peer = liar.cluster.space, rng.choice(peers)
    made_up = tuple(rng.randbytes(DIGEST_BYTES) for _ in range(IDS_MAX // 16))
    node = liar.machine.node
    assert node is not None
    number = node.sessions[peer].pulls.questions + HUGE
    liar.tell(peer, FeedRequest(space, rng.randbytes(GENERATION_BYTES), HUGE, number))
    liar.tell(peer, RecordsRequest(space, made_up, number + 1))
    if rng.random() < 0.5:
        _add_of_another_size(liar, rng)
    return True


def _add_of_another_size(liar: Liar, rng: random.Random) -> None:
    """Offer what somebody offers already, and sign sizes that are not its own."""
    cluster, machine = liar.cluster, liar.machine
    opset, me = machine.spaces.opset(cluster.space), machine.author.public
    adds = [s.record.body for s in opset.signed.of_kinds(frozenset({"add"}))]
    if not adds or best_grant(opset, me) is None:
        return
    body = rng.choice(adds)
    assert isinstance(body, Add)
    more = min(body.manifest_bytes + 1, MANIFEST_BYTES_MAX)
    wrong = rng.choice((1, more, MANIFEST_BYTES_MAX))
    lie = replace(body, manifest_bytes=wrong, content_bytes=HUGE_BYTES)
    signed = sign_record(next_record(liar, me, lie), machine.author)
    cluster.commit(machine, signed)
