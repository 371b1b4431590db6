"""The open streams of a running node, at most one stream a peer.

Owns dialling, which of two streams with one peer stays, how many there may be, what is read
of them when, and how they end in order. Does not own what is said: that is `Node`'s; nor
what waits to be sent (`outgoing`), nor channels (`channels`).

A question is answered once there is room for its answer (`AHEAD_BYTES`): until then it
waits, and all else is read. So a peer may ask about many spaces at once, and what waits for
it stays small; and two peers that ask each other never both wait for the other to read.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from crdtmerge.errors import (
    CrdtMergeError,
    OverloadedError,
    RefusedError,
    RemoteError,
    UnreachableError,
)
from crdtmerge.sync.messages import (
    SPEAKS_GOODBYE,
    SPEAKS_LOANS,
    Goodbye,
    Hello,
    Message,
)
from crdtmerge.sync.transfer import Wanted

from .asking import Asking, answers, asks
from .channels import Channels
from .client import ReplicaClient
from .effects import Dial, DialEnded, Input, MessageReceived, PeerClosed, PeerOpened
from .fairness import FairQueue
from .lending import lend
from .outgoing import Outgoing, flow_of
from .quotas import (
    OUTGOING_BYTES_MAX,
    OUTGOING_MAX,
    WAITING_BYTES_MAX,
    price_of,
    weight,
)
from .tls import Leaf
from .turns import OWN, Turn

SendMessage = Callable[[Message], Awaitable[None]]

STREAMS_MAX: Final = 400
"""Streams at once that peers opened; one more is refused. Ours come on top: one member may
run as many nodes, and we must still get out to others."""
AHEAD_BYTES: Final = 2 << 20
"""While more than this waits for a peer, its next questions wait too."""
QUESTIONS_BYTES_MAX: Final = 16 << 20
"""Questions of one peer that may wait: one of the largest for each of 60 spaces."""

PING_TIMEOUT: Final = "ping timeout"
"""What gRPC says of a stream that it gave up because nobody answered."""

_log: Final = logging.getLogger(__name__)


Lends = Callable[[bytes, bytes, bytes, Wanted], AsyncIterator[bytes]]
"""Serves a peer what it asks for: of a space, of a blob."""


class Submit(Protocol):
    """Takes a turn of a flow; done once its inputs are handled and effects performed."""

    def __call__(self, turn: Turn, flow: bytes = OWN) -> Awaitable[None]:
        """Take the turn."""
        ...


@dataclass(slots=True, eq=False)
class Link:
    """One stream with a peer."""

    peer: bytes
    dialler: bytes
    address: str = ""
    """Where we found the peer, if we dialled."""
    outgoing: Outgoing = field(default_factory=Outgoing)
    asking: Asking = field(default_factory=Asking)
    questions: FairQueue[Message] = field(default_factory=FairQueue)
    questions_bytes: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while questions wait."""
    features: int = 0
    """What the peer named in its hello."""
    greeted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it said hello."""
    parting: bool = False
    """Whether we said goodbye: nothing goes out behind it."""
    left: bool = False
    """Whether the peer said goodbye."""
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once nothing of it goes on: if we dialled, the peer has ended it too."""
    broken: str = ""
    """The name of the error by which the peer broke a rule, if it did."""
    resumes: float = 0.0
    """When its next message may be read, in seconds of the loop's clock."""

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes wait here, of either side."""
        return self.outgoing.size + self.questions_bytes


class Links:
    """The streams that are open now, by peer."""

    def __init__(self, me: bytes, leaf: Leaf, submit: Submit) -> None:
        """Start with none; `submit` gives the node its inputs, in order."""
        self._me = me
        self.leaf = leaf
        self._submit = submit
        self._open: dict[bytes, Link] = {}
        self.stopping = False
        """Whether nobody is dialled any more, and no stream taken up."""
        self.lends: Lends | None = None
        """Serves what a peer asks on a call that we lent it; without, nothing is lent."""
        self.channels = Channels(leaf)
        self.opened: Counter[str] = Counter()
        """Streams since the start, by who dialled."""
        self.ended: Counter[str] = Counter()
        """How streams ended since the start."""
        self.dials: Counter[str] = Counter()
        """Dials of single addresses since the start, by what came of them."""
        self.messages: Counter[str] = Counter()
        """Messages since the start: `in` and `out`."""

    def peers(self) -> list[bytes]:
        """Return the peers with an open stream; any thread may ask."""
        return sorted(self._open)

    def found_at(self, peer: bytes) -> str:
        """Return the address that we dialled `peer` at; empty if it dialled us."""
        link = self._open.get(peer)
        return link.address if link is not None else ""

    def by_dialler(self) -> Counter[str]:
        """Return how many streams are open now, by who dialled; any thread may ask."""
        links = list(self._open.values())
        return Counter("us" if link.dialler == self._me else "peer" for link in links)

    def waiting(self) -> tuple[int, int, int]:
        """Return what waits for all peers: messages, bytes, and most bytes of one."""
        links = list(self._open.values())
        sizes = [link.waiting_bytes for link in links]
        count = sum(len(link.outgoing) + len(link.questions) for link in links)
        return count, sum(sizes), max(sizes, default=0)

    def unasked(self) -> int:
        """Return how many questions wait until others are answered; any thread may ask."""
        return sum(len(link.asking) for link in list(self._open.values()))

    # --- what the node decides ----------------------------------------------------------

    def send(self, peer: bytes, message: Message) -> None:
        """Put a message on its way; who does not take what it is sent is cut off."""
        link = self._open.get(peer)
        if link is None or link.parting:
            return
        full = len(link.outgoing) >= OUTGOING_MAX
        if full or link.outgoing.size + weight(message) > OUTGOING_BYTES_MAX:
            self._cut(link)
        else:
            going = [message]
            if asks(message):
                going = link.asking.ask(message, asyncio.get_running_loop().time())
            self._put(link, going)

    def _put(self, link: Link, messages: Iterable[Message]) -> None:
        for message in messages:
            link.outgoing.put(message)
        self._keep_bounded()

    def _keep_bounded(self) -> None:
        """Cut off who keeps most waiting, if all peers together keep too much."""
        open_ = [link for link in self._open.values() if not link.closed.is_set()]
        if sum(link.waiting_bytes for link in open_) > WAITING_BYTES_MAX:
            self._cut(max(open_, key=lambda link: link.waiting_bytes))

    def _cut(self, link: Link) -> None:
        if not link.closed.is_set():
            self.ended["too much waits"] += 1
            link.closed.set()

    def pause(self, peer: bytes, seconds: float) -> None:
        """Let `seconds` pass before the next message of `peer` is read.

        What it sends meanwhile waits with it: the buffers between us are bounded.
        """
        if peer in self._open:
            self._open[peer].resumes = asyncio.get_running_loop().time() + seconds
            _log.debug("peer %s owes %.1f s: not read from", peer.hex()[:12], seconds)

    def close(self, peer: bytes) -> None:
        """End the stream with `peer`."""
        if peer in self._open:
            self._open[peer].closed.set()

    # --- the end ------------------------------------------------------------------------

    async def part(self, seconds: float) -> None:
        """End every stream in order: what waits goes out, and a goodbye behind it.

        Who does not read that within `seconds` is hung up on. From now on nobody is dialled
        and no stream is taken up.
        """
        self.stopping = True
        links = list(self._open.values())
        if links:
            partings = [
                asyncio.ensure_future(self._part(link, seconds / 2)) for link in links
            ]
            _, late = await asyncio.wait(partings, timeout=seconds)
            for parting in late:
                parting.cancel()
        self.close_all()

    async def _part(self, link: Link, patience: float) -> None:
        """Send what waits, and after `patience` only the goodbye.

        Who has just come is waited for: its hello says whether it speaks goodbye.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await link.greeted.wait()
                await link.outgoing.below(1)
        link.parting = True
        if not link.features & SPEAKS_GOODBYE:
            link.closed.set()
            return
        link.outgoing.put(Goodbye())  # it is about no space, and so passes the rest
        self.ended["said goodbye"] += 1
        await link.over.wait()

    def close_all(self) -> None:
        """End every stream."""
        self.stopping = True
        for link in self._open.values():
            link.closed.set()

    # --- dialling -----------------------------------------------------------------------

    async def dial(self, dial: Dial) -> None:
        """Open a stream at the first address that answers, and serve it to its end."""
        failed: list[str] = []
        for address in dial.addresses:
            if self.stopping:
                break
            client = ReplicaClient(address, dial.peer, self.leaf)
            let_in = False
            try:
                let_in = await self._talk(client, dial.peer, address)
            finally:
                if not let_in:
                    await client.close()
            if let_in:
                break
            failed.append(address)
        self._submit(lambda: [DialEnded(dial.peer, tuple(failed))], dial.peer)

    async def _talk(self, client: ReplicaClient, peer: bytes, address: str) -> bool:
        """Serve a stream that we open; tell whether the peer let us in."""
        let_in = False
        link = Link(peer, self._me, address)

        async def handler(incoming: AsyncIterator[Message], send: SendMessage) -> None:
            nonlocal let_in
            let_in = True
            await self.channels.dialled(peer, client)
            lending = asyncio.ensure_future(self._lend(link, client))
            try:
                await self.serve(link, incoming, send)
            finally:
                lending.cancel()
                await asyncio.gather(lending, return_exceptions=True)

        outcome = "let in"
        try:
            await client.open_stream(handler)
        except CrdtMergeError as e:
            outcome = type(e).__name__
            if let_in and PING_TIMEOUT in str(e):
                self.ended["pings timed out"] += 1
            _log.debug("the stream with %s: %s", peer.hex()[:12], e)
        finally:
            link.over.set()
            self.dials["let in" if let_in else outcome] += 1
            self.channels.stream_ended(peer, client)
        return let_in

    async def _lend(self, link: Link, client: ReplicaClient) -> None:
        """Lend calls to a peer that we dialled, if it takes them: it may not reach us."""
        await link.greeted.wait()
        if self.lends is not None and link.features & SPEAKS_LOANS:
            await lend(client, partial(self.lends, link.peer))

    # --- one stream ---------------------------------------------------------------------

    async def serve(
        self, link: Link, incoming: AsyncIterator[Message], send: SendMessage
    ) -> None:
        """Run one stream until either side ends it.

        Raises:
            OverloadedError: there are as many streams as there may be.
            UnreachableError: the node stops.
        """
        self._admit(link)
        tasks: set[asyncio.Task[None]] = set()
        try:
            await self._submit(lambda: self._opened(link), link.peer)
            if self._open.get(link.peer) is link:
                works = (
                    self._read(link, incoming),
                    self._answer(link),
                    self._write(link, send),
                    _until(link.closed),
                )
                tasks |= {asyncio.ensure_future(work) for work in works}
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            if link.dialler != self._me:
                link.over.set()
            # Not awaited: the node may have stopped listening.
            self._submit(lambda: self._ended(link), link.peer)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, CrdtMergeError):
                raise end  # a bug of ours

    def _admit(self, link: Link) -> None:
        if self.stopping:
            raise UnreachableError("the node stops")
        theirs = sum(known.dialler != self._me for known in self._open.values())
        ours = link.dialler == self._me or link.peer in self._open
        if theirs >= STREAMS_MAX and not ours:
            self.ended["no room"] += 1
            raise OverloadedError("no room for one more peer; try others, or later")

    def _opened(self, link: Link) -> list[Input]:
        """Take up a stream, unless another with this peer stays.

        Two peers that dial each other at once keep the stream of the lower key; both
        sides decide alike. The same dialler twice means that it lost the first.

        SUBTLE: decided in the order of the node's inputs, so that what a session says
        never goes out on the stream of the session before or after.
        """
        peer, old = link.peer, self._open.get(link.peer)
        inputs: list[Input] = []
        if old is not None:
            if old.dialler == min(self._me, peer) != link.dialler:
                return []
            old.closed.set()
            inputs.append(PeerClosed(peer, old.broken))
        self._open[peer] = link
        self.opened["us" if link.dialler == self._me else "peer"] += 1
        return [*inputs, PeerOpened(peer, link.address)]

    def _ended(self, link: Link) -> list[Input]:
        if self._open.get(link.peer) is not link:
            return []
        del self._open[link.peer]
        if not link.parting:
            self.ended[_how_it_ended(link)] += 1
        return [PeerClosed(link.peer, link.broken, link.left)]

    async def _read(self, link: Link, incoming: AsyncIterator[Message]) -> None:
        """Hand over messages one by one: none is read before the last was handled.

        Nor before it is paid for: the node says when a peer is to be left alone. A question
        for whose answer there is no room waits, and what follows it is read.
        """
        try:
            await _over(link)
            async for message in incoming:
                self.messages["in"] += 1
                if isinstance(message, Goodbye):
                    link.left = True
                    return
                if isinstance(message, Hello):
                    link.features = message.features
                    link.greeted.set()
                if answers(message):
                    now = asyncio.get_running_loop().time()
                    self._put(link, link.asking.answered(message, now))
                if self._waits(link, message):
                    self._hold(link, message)
                else:
                    await self._hear(link, message)
        except (UnreachableError, RefusedError):
            raise  # it is gone, or wants us no more: both may change
        except RemoteError as e:
            link.broken = type(e).__name__
            raise

    def _waits(self, link: Link, message: Message) -> bool:
        busy = link.outgoing.size >= AHEAD_BYTES or len(link.questions) > 0
        return busy and price_of(message).questions > 0

    def _hold(self, link: Link, question: Message) -> None:
        link.questions.put(flow_of(question), question)
        link.questions_bytes += weight(question)
        link.asked.set()
        if link.questions_bytes > QUESTIONS_BYTES_MAX:
            self._cut(link)
        self._keep_bounded()

    async def _answer(self, link: Link) -> None:
        """Hand over the questions that wait, a space in turn, as room comes."""
        while True:
            await link.asked.wait()
            await link.outgoing.below(AHEAD_BYTES)
            flow, question = link.questions.take()
            link.questions_bytes -= weight(question)
            if not link.questions:
                link.asked.clear()
            await self._hear(link, question)
            link.questions.charge(flow, 1)

    async def _hear(self, link: Link, message: Message) -> None:
        received = MessageReceived(link.peer, message)
        await self._submit(partial(self._said, link, received), link.peer)
        await _over(link)

    def _said(self, link: Link, received: MessageReceived) -> Sequence[Input]:
        return [received] if self._open.get(link.peer) is link else []

    async def _write(self, link: Link, send: SendMessage) -> None:
        while not isinstance(message := await link.outgoing.take(), Goodbye):
            await send(message)
            self.messages["out"] += 1
        await send(message)
        self.messages["out"] += 1
        if link.dialler != self._me:
            link.closed.set()
            return
        # SUBTLE: what was sent is not read yet. To end reading would cancel our call, and
        # that takes along what its receiver did not read: it ends the stream, not we.
        await link.over.wait()


def _how_it_ended(link: Link) -> str:
    if link.left:
        return "heard goodbye"
    if link.broken:
        return "broke a rule"
    return "closed here" if link.closed.is_set() else "lost"


async def _over(link: Link) -> None:
    """Wait until the pause of a stream is over; the loop's other work goes on."""
    wait = link.resumes - asyncio.get_running_loop().time()
    if wait > 0:
        await asyncio.sleep(wait)


async def _until(event: asyncio.Event) -> None:
    await event.wait()
