"""Fault 34: records that nobody signed, or that their author may not make.

Owns the forgeries, and how they are brought: pushed as news, or put into an answer. Does
not own why each is refused (`crdtmerge.record`, `crdtmerge.policy`).
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from crdtmerge.bodies import Ban, Body, Grant, NodeAddress
from crdtmerge.digest import Domain, digest
from crdtmerge.identity import Purpose, SigningKey
from crdtmerge.policy import (
    BYTES_MAX_DEFAULT,
    RECORDS_MAX_DEFAULT,
    WEIGHT_CAP_DEFAULT,
    Rank,
)
from crdtmerge.record import sign_record
from crdtmerge.replica import best_grant, found_space
from crdtmerge.sync.messages import (
    FeedReply,
    Message,
    RecordsReply,
    Rumour,
    SignedBytes,
)

from .ghosts import backdated
from .liar import Liar, Lie, next_record, signed_bytes

ANSWER_S: Final = 10.0
"""How long a forgery waits for a question whose answer it can be put into."""
ARRAY_OF_NINE: Final = b"\x99"
LONGER: Final = b"\xdc\x00\x09"
"""The head of a record, and another spelling of it: the same values, other bytes."""


@dataclass
class Slipped(Lie):
    """A forged record at the end of the next answer to one peer."""

    victim: bytes = b""
    forged: SignedBytes | None = None

    def says(self, peer: bytes, message: Message) -> Iterable[Message]:
        """Put it into an answer, once."""
        forged, fits = self.forged, isinstance(message, FeedReply | RecordsReply)
        if forged is None or peer != self.victim or not fits:
            return (message,)
        self.forged = None
        assert isinstance(message, FeedReply | RecordsReply)
        if isinstance(message, FeedReply):
            message = replace(message, through=message.through + 1)
        return (replace(message, records=(*message.records, forged)),)


def forge(liar: Liar, rng: random.Random) -> bool:
    """Bring one forged record to one peer; tell whether there was any."""
    peers = liar.peers()
    if not peers:
        return False
    forged = FORGERIES[rng.choice(list(FORGERIES))](liar)
    if forged is None:
        return False
    bring(liar, rng.choice(peers), forged, answers=rng.random() < 1 / 3)
    return True


def bring(liar: Liar, peer: bytes, forged: SignedBytes, *, answers: bool) -> None:
    """Push a record as news, or put it into the next answer to a peer."""
    if answers:
        liar.lies.append(Slipped(liar.now + ANSWER_S, peer, forged))
    else:
        liar.tell(peer, Rumour(liar.cluster.space, (forged,)))


def _harmless(liar: Liar) -> Body:
    return NodeAddress(liar.machine.transport, (liar.machine.address,))


def _broken(liar: Liar) -> SignedBytes:
    """Its own record; one bit of the signature is another."""
    key = liar.machine.author
    true = sign_record(next_record(liar, key.public, _harmless(liar)), key)
    changed = bytes([true.signature[0] ^ 1]) + true.signature[1:]
    return SignedBytes(true.record.data, changed)


def _anothers(liar: Liar) -> SignedBytes:
    """A record in the owner's name, signed by a key of its own."""
    owner = liar.cluster.owner.author.public
    record = next_record(liar, owner, Ban("author", owner))
    return signed_bytes(sign_record(record, liar.machine.author))


def _stranger(liar: Liar) -> SignedBytes:
    """A record of an author that nobody let in, who hangs it on the liar's grant."""
    key = SigningKey(liar.cluster.draw(liar.label()))
    opset = liar.machine.spaces.opset(liar.cluster.space)
    grant = best_grant(opset, liar.machine.author.public)
    auth = grant[0] if grant else liar.cluster.space
    record = next_record(liar, key.public, _harmless(liar), auth)
    return signed_bytes(sign_record(record, key))


def _above_rank(liar: Liar) -> SignedBytes:
    """Its own record, which gives itself more than it has."""
    key = liar.machine.author
    own = Grant(
        key.public,
        int(Rank.MAINTAINER),
        WEIGHT_CAP_DEFAULT,
        RECORDS_MAX_DEFAULT,
        BYTES_MAX_DEFAULT,
    )
    return signed_bytes(sign_record(next_record(liar, key.public, own), key))


def _other_bytes(liar: Liar) -> SignedBytes:
    """Its own record in another spelling, under a true signature of these bytes."""
    key = liar.machine.author
    data = next_record(liar, key.public, _harmless(liar)).data
    assert data.startswith(ARRAY_OF_NINE)
    spelt = LONGER + data.removeprefix(ARRAY_OF_NINE)
    record = digest(Domain.RECORD, spelt)
    return SignedBytes(spelt, key.sign(Purpose.RECORD, record))


def _elsewhere(liar: Liar) -> SignedBytes:
    """A true record, of a space that is not this one."""
    genesis = found_space(
        liar.machine.author,
        name="elsewhere",
        mode="members",
        base=liar.cluster.base.content,
        nonce=liar.cluster.draw(liar.label())[:16],
    )
    return signed_bytes(genesis)


FORGERIES: Final[Mapping[str, Callable[[Liar], SignedBytes | None]]] = {
    "broken": _broken,
    "another's": _anothers,
    "stranger": _stranger,
    "above rank": _above_rank,
    "other bytes": _other_bytes,
    "elsewhere": _elsewhere,
    "backdated": backdated,
}
"""What is forged, by name; all but the last are refused, and cost the stream."""
