"""Joining: a newcomer with a ticket becomes a member with a grant.

Owns both ends of the join stream. Does not own tickets (`ticket`), TLS (`tls`) nor the
server (`server`). The host proves itself by its pinned TLS key; the joiner proves that it
holds the ticket's secret and the two keys that it names, over a fresh nonce. The ticket
opens the door; the grant that the host signs gives the rights.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from blake3 import blake3

from crdtmerge.bodies import (
    Genesis,
    Grant,
    NodeAddress,
    RecordId,
    SpaceId,
    Successor,
)
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import (
    MalformedMessageError,
    NotAllowedError,
    RefusedError,
    RemoteError,
    RestoredError,
    UnreachableError,
    WrongSpaceError,
)
from crdtmerge.identity import AuthorId, Purpose, verify
from crdtmerge.orset import OpSet
from crdtmerge.policy import Rank
from crdtmerge.record import SignedRecord, decode_record, verified, well_formed
from crdtmerge.replica import Replica
from crdtmerge.sync.messages import SignedBytes

from .client import open_join
from .half_joined import forget, remember, signed_in_vain
from .home import Home
from .join_messages import (
    NONCE_BYTES,
    Announce,
    Answer,
    Challenge,
    Done,
    JoinHello,
    JoinMessage,
    Welcome,
)
from .spaces import Spaces
from .ticket import Ticket

F = TypeVar("F", bound=JoinMessage)
SendMessage = Callable[[JoinMessage], Awaitable[None]]

CONCERNING: Final = frozenset({Grant.KIND, Successor.KIND, NodeAddress.KIND})
"""The kinds of records that a joiner may need."""
RECORDS_MAX: Final = 256
"""Most records that either side sends while joining; the rest is for sync."""


@dataclass(frozen=True, slots=True)
class JoinResult:
    """What joining brought: the space, and how many records."""

    space: SpaceId
    records: int


def _transcript(
    space: bytes, host: bytes, nonce: bytes, author: bytes, node: bytes
) -> bytes:
    """Return what both proofs cover: all of fixed length, so nothing can shift."""
    return digest(Domain.INVITE, space + host + nonce + author + node)


def _code(secret: bytes, transcript: bytes) -> bytes:
    """Return the proof of holding `secret`: BLAKE3 keyed by its digest."""
    return blake3(transcript, key=digest(Domain.INVITE, secret)).digest()


# --- the host --------------------------------------------------------------------------


@dataclass(slots=True)
class Doorkeeper:
    """The host's end: lets in who holds an invite, and signs the grant."""

    home: Home
    spaces: Spaces
    entropy: Callable[[int], bytes]

    async def join(
        self, incoming: AsyncIterator[JoinMessage], send: SendMessage
    ) -> None:
        """Serve one joiner.

        Raises:
            RefusedError: the proof does not hold: none does for a space not here.
            MalformedMessageError: the joiner broke the protocol.
        """
        hello = await _next(incoming, JoinHello)
        space = SpaceId(hello.space)
        # SUBTLE: asked for a space that is not here, we go on all the same: a stranger
        # would else find out which spaces a node hosts.
        nonce = self.entropy(NONCE_BYTES)
        await send(Challenge(nonce))
        answer = await _next(incoming, Answer)
        self._check(space, nonce, answer)
        # In a thread: a commit waits for the disk.
        welcome = await asyncio.to_thread(self._welcome, space, AuthorId(answer.author))
        await send(Welcome(welcome))
        announced = await _next(incoming, Announce)
        if len(announced.records) > RECORDS_MAX:
            raise MalformedMessageError(f"over {RECORDS_MAX} records announced")
        await asyncio.to_thread(self._take, space, answer, announced)
        await send(Done())

    def _take(self, space: SpaceId, answer: Answer, announced: Announce) -> None:
        """Keep what the joiner says of its own node, durably."""
        read = [(decode_record(r.data), r.signature) for r in announced.records]
        for record, _ in read:  # before any signature of them is verified
            body = record.body
            if record.author != answer.author:
                raise MalformedMessageError("announced records of another author")
            if not isinstance(body, NodeAddress) or body.node != answer.node:
                raise MalformedMessageError("announced what is no record of its node")
        self.spaces.publish(space, [verified(*pair) for pair in read])

    def _check(self, space: SpaceId, nonce: bytes, answer: Answer) -> None:
        """Check the ticket's secret first, then the keys."""
        host = self.home.node.public
        transcript = _transcript(space, host, nonce, answer.author, answer.node)
        codes = [_code(s, transcript) for s in self.home.local.invites(space)]
        if not any(hmac.compare_digest(code, answer.mac) for code in codes):
            raise RefusedError("the ticket is not valid here, or was revoked")
        verify(answer.author, Purpose.JOIN_AUTHOR, transcript, answer.author_signature)
        verify(answer.node, Purpose.JOIN_NODE, transcript, answer.node_signature)

    def _welcome(self, space: SpaceId, author: AuthorId) -> tuple[SignedBytes, ...]:
        """Return what the joiner needs: genesis, its grants, its last word, and ours.

        SUBTLE: its last word too. Who joins once more with the keys of a lost home would
        else count its records from the start again, and sign two of one number: a fork.
        """
        with self.spaces.lock:
            view = self.spaces.view(space)
            if author in view.rightless:
                raise RefusedError("this author's rights in the space were revoked")
            if view.ranks.get(author, Rank.READER) < Rank.CONTRIBUTOR:
                signer = self.home.signer(space)
                replica = Replica(self.spaces.opset(space), signer)
                try:
                    granted = replica.grant(author, Rank.CONTRIBUTOR)
                except NotAllowedError as e:
                    reason = "this node may not grant rights in the space"
                    raise RefusedError(reason) from e
                except RestoredError as e:
                    reason = (
                        "this node was restored or copied, and signs nothing for now"
                    )
                    raise RefusedError(reason) from e
                self.spaces.publish(space, [granted])
            opset = self.spaces.opset(space)
        own = opset.signed.of_author(author)
        last = sorted(own, key=lambda r: (r.record.author_seq, r.record.id))[-1:]
        told = opset.signed.of_kinds(CONCERNING)
        concern = [r for r in told if self._concerns(r, author, opset)]
        return _with_chains(opset, [*last, *concern])

    def _concerns(self, signed: SignedRecord, author: AuthorId, opset: OpSet) -> bool:
        """Tell whether a joiner needs the record: grants to it, and our node record."""
        if signed.record.id not in opset.view.effective:
            return False
        match signed.record.body:
            case Grant(author=grantee) | Successor(key=grantee):
                return grantee == author
            case NodeAddress(node=node):
                return node == self.home.node.public
            case _:
                return False


def _with_chains(opset: OpSet, chosen: list[SignedRecord]) -> tuple[SignedBytes, ...]:
    genesis = opset.signed[RecordId(opset.space)]
    ordered = {genesis.record.id: genesis}
    for signed in chosen[:RECORDS_MAX]:
        for link in (*opset.chain(signed.record), signed):
            ordered[link.record.id] = link
    return tuple(SignedBytes(s.record.data, s.signature) for s in ordered.values())


# --- the joiner ------------------------------------------------------------------------


async def join(ticket: Ticket, home: Home, spaces: Spaces) -> JoinResult:
    """Enter the space of `ticket`; commit what the host sent and announce our node.

    Raises:
        UnreachableError: no address of the ticket answered.
        RefusedError: the host refused, and said why.
        RemoteError: what the host sent breaks a rule.
    """
    failures: list[str] = []
    for address in ticket.addresses:
        joiner = _Joiner(ticket, home, spaces)
        try:
            await open_join(address, ticket.node, joiner.talk)
        except UnreachableError as e:
            failures.append(f"{address}: {e}")
            continue
        except RefusedError as e:
            e.hint = "ask whoever gave it to you for a new one"
            raise
        return JoinResult(ticket.space, len(spaces.opset(ticket.space)))
    raise UnreachableError(
        f"the inviting node does not answer ({'; '.join(failures) or 'no address'})",
        hint="ask whoever gave you the ticket whether the node runs, and is reachable",
    )


@dataclass(slots=True)
class _Joiner:
    """The joiner's end."""

    ticket: Ticket
    home: Home
    spaces: Spaces

    async def talk(
        self, incoming: AsyncIterator[JoinMessage], send: SendMessage
    ) -> None:
        space = self.ticket.space
        await send(JoinHello(space))
        challenge = await _next(incoming, Challenge)
        await send(self._answer(challenge.nonce))
        welcome = await _next(incoming, Welcome)
        received = [well_formed(r.data, r.signature) for r in welcome.records]
        # SUBTLE: remembered before it is sent. A host may take it, hang up, and show it
        # beside what we sign for the next host.
        ours = await asyncio.to_thread(self._announcement, received)
        await send(Announce((SignedBytes(ours.record.data, ours.signature),)))
        await _next(incoming, Done)
        # Only now: a join that failed half way leaves no half of a space behind.
        await asyncio.to_thread(self._enter, [*received, ours])

    def _present(self) -> OpSet:
        """Return what is here of the space already: imported, or of joins that failed.

        SUBTLE: our own last record may be among that, and the host may not know it.
        """
        space = self.ticket.space
        here = space in self.spaces.all()
        opset = self.spaces.opset(space) if here else OpSet(space)
        return opset.insert(signed_in_vain(self.home.local, space))

    def _enter(self, records: list[SignedRecord]) -> None:
        """Keep the host's address, then the space: a crash in between loses neither."""
        space, host = self.ticket.space, self.ticket.node
        opset = self._present().insert(records)
        self.home.local.add_peer(space, host, opset.view.nodes.get(host, ()))
        self.spaces.publish(space, list(opset.signed.values()))
        forget(self.home.local, space)

    def _answer(self, nonce: bytes) -> Answer:
        author, node = self.home.author, self.home.node
        transcript = _transcript(
            self.ticket.space, self.ticket.node, nonce, author.public, node.public
        )
        return Answer(
            author=author.public,
            node=node.public,
            author_signature=author.sign(Purpose.JOIN_AUTHOR, transcript),
            node_signature=node.sign(Purpose.JOIN_NODE, transcript),
            mac=_code(self.ticket.secret, transcript),
        )

    def _announcement(self, received: list[SignedRecord]) -> SignedRecord:
        """Check that the host sent the ticket's space, and name our node in it.

        The grant that is named is among what the host sent, for it may know no other.
        """
        space, node = self.ticket.space, self.home.node.public
        sent = OpSet(space).insert(received)
        genesis = sent.get(RecordId(space))
        if genesis is None or not isinstance(genesis.body, Genesis):
            raise WrongSpaceError("the host did not send the genesis of the space")
        if genesis.body.base != self.ticket.base:
            raise WrongSpaceError("the space has another base than the ticket says")
        signer = self.home.signer(space)
        try:
            grant, _ = Replica(sent, signer).authority(Rank.READER)
        except NotAllowedError as e:
            raise RemoteError("the host let us in, but sent no grant for us") from e
        body, said = NodeAddress(node, ()), signed_in_vain(self.home.local, space)
        again = [s for s in said if (s.record.auth, s.record.body) == (grant, body)]
        if again:
            return again[-1]
        present = self._present().insert(received)
        ours = Replica(present, signer).announce(node, (), grant)
        chain = present.insert([ours]).chain(ours.record)
        remember(self.home.local, space, [*chain, ours])
        return ours


async def _next(incoming: AsyncIterator[JoinMessage], expected: type[F]) -> F:
    """Return the next frame, which must be of the kind `expected`."""
    try:
        frame = await anext(incoming)
    except StopAsyncIteration as e:
        message = f"the other side ended the stream before its {expected.__name__}"
        raise UnreachableError(message) from e
    if not isinstance(frame, expected):
        got = type(frame).__name__
        raise MalformedMessageError(f"got {got}, expected {expected.__name__}")
    return frame
