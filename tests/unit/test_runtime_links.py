"""Streams of one node: which of two stays, what may wait, and what is heard when."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from crdtmerge.errors import (
    MalformedMessageError,
    OverloadedError,
    RefusedError,
    UnreachableError,
)
from crdtmerge.identity import SigningKey
from crdtmerge.sync.messages import (
    SPEAKS_GOODBYE,
    FeedReply,
    FeedRequest,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    RecordsRequest,
    SignedBytes,
)
from nodes import links
from nodes.channels import Channels
from nodes.client import ReplicaClient, _target
from nodes.effects import (
    Dial,
    DialEnded,
    Input,
    MessageReceived,
    PeerClosed,
    PeerOpened,
)
from nodes.links import (
    AHEAD_BYTES,
    QUESTIONS_BYTES_MAX,
    Link,
    Links,
)
from nodes.quotas import OUTGOING_BYTES_MAX, OUTGOING_MAX, weight
from nodes.tls import Leaf, make_leaf
from nodes.turns import OWN, Turn

LOW, ME, HIGH = b"a" * 32, b"b" * 32, b"c" * 32
HELLO = Hello(1, "t")
BEAT = Heartbeat(bytes(32), bytes(32), 0, bytes(16), 0)


def leaf() -> Leaf:
    years = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC))
    return make_leaf(SigningKey(ME), *years)


class Loop:
    """Links whose inputs are written down, and handled at once."""

    def __init__(self) -> None:
        self.inputs: list[Input] = []
        self.links = Links(ME, leaf(), self.submit)
        self.sent: list[Message] = []
        self.running: list[asyncio.Task[None]] = []

    def submit(
        self,
        turn: Turn,
        flow: bytes = OWN,  # noqa: ARG002  as the port has it
    ) -> asyncio.Future[None]:
        """Write down what the node would hear."""
        self.inputs.extend(turn())
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def send(self, message: Message) -> None:
        """Write down what the peer would hear."""
        self.sent.append(message)

    async def open(
        self, peer: bytes, dialler: bytes, *messages: Message | Exception
    ) -> Link:
        """Open a stream on which these come, and then silence."""
        link = Link(peer, dialler)
        work = self.links.serve(link, coming(messages), self.send)
        self.running.append(asyncio.ensure_future(work))
        await settle()
        return link

    async def end(self) -> None:
        """End all that runs."""
        self.links.close_all()
        await asyncio.gather(*self.running)


async def coming(messages: Sequence[Message | Exception]) -> AsyncIterator[Message]:
    for message in messages:
        if isinstance(message, Exception):
            raise message
        yield message
    await asyncio.Event().wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def run(test: Callable[[Loop], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        loop = Loop()
        async with asyncio.timeout(10):
            await test(loop)
            await loop.end()

    asyncio.run(bounded())


@pytest.mark.parametrize(("peer", "stays"), [(LOW, LOW), (HIGH, ME)])
@pytest.mark.parametrize("ours_first", [True, False])
def test_of_two_dials_at_once_the_lower_key_s_stays(
    peer: bytes, stays: bytes, *, ours_first: bool
) -> None:
    """Both sides decide alike, whichever stream they saw first."""

    async def test(loop: Loop) -> None:
        order = (ME, peer) if ours_first else (peer, ME)
        links = [await loop.open(peer, dialler) for dialler in order]
        assert loop.links._open[peer].dialler == stays
        loop.links.send(peer, HELLO)
        await settle()
        assert loop.sent == [HELLO]
        opened = sum(isinstance(item, PeerOpened) for item in loop.inputs)
        closed = sum(isinstance(item, PeerClosed) for item in loop.inputs)
        assert opened - closed == 1
        assert loop.running[order.index(stays)].done() is False
        assert links[order.index(stays)].closed.is_set() is False

    run(test)


def test_a_peer_that_dials_again_replaces_its_stream() -> None:
    """It lost the first; the node hears of an end before it hears of the new one."""

    async def test(loop: Loop) -> None:
        first = await loop.open(LOW, LOW)
        second = await loop.open(LOW, LOW)
        assert first.closed.is_set()
        assert loop.links._open[LOW] is second
        assert loop.inputs == [PeerOpened(LOW), PeerClosed(LOW), PeerOpened(LOW)]
        await asyncio.wait_for(loop.running[0], 1)
        assert loop.links.peers() == [LOW]

    run(test)


def test_what_came_on_a_replaced_stream_is_not_heard() -> None:
    """A late message would be an answer that the new session never asked for."""

    async def test(loop: Loop) -> None:
        first = await loop.open(LOW, LOW)
        await loop.open(LOW, LOW)

        assert loop.links._said(first, MessageReceived(LOW, BEAT)) == []
        assert loop.links._ended(first) == []

    run(test)


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (MalformedMessageError("a frame"), "MalformedMessageError"),
        (UnreachableError("gone"), ""),
        (RefusedError("no member any more"), ""),
    ],
)
def test_the_node_hears_why_a_stream_ended(error: Exception, broken: str) -> None:
    """What is no message counts against its sender; to be lost or refused does not."""

    async def test(loop: Loop) -> None:
        await loop.open(LOW, LOW, HELLO, error)
        await asyncio.wait_for(loop.running[0], 1)
        assert loop.inputs[-1] == PeerClosed(LOW, broken)

    run(test)


def test_a_bug_of_ours_ends_a_stream_loudly() -> None:
    """It is no matter between peers, and is not swallowed with the stream."""

    async def test(loop: Loop) -> None:
        await loop.open(LOW, LOW, KeyError("ours"))
        with pytest.raises(KeyError):
            await loop.running.pop()

    run(test)


def test_who_asks_faster_than_it_reads_is_cut_off() -> None:
    """What waits for one peer is bounded in bytes, whatever the messages are."""
    big = FeedReply(bytes(32), bytes(16), 1, True, (SignedBytes(bytes(1 << 20), b""),))

    async def test(loop: Loop) -> None:
        link = await loop.open(LOW, LOW)
        for _ in range(OUTGOING_BYTES_MAX // weight(big) + 1):
            loop.links.send(LOW, big)
        assert link.closed.is_set()
        assert link.outgoing.size <= OUTGOING_BYTES_MAX
        small = await loop.open(HIGH, HIGH)
        for _ in range(OUTGOING_MAX + 1):
            loop.links.send(HIGH, BEAT)
        assert small.closed.is_set()

    run(test)


def test_what_was_sent_waits_no_more() -> None:
    """A long life of a stream is not held against it."""

    async def test(loop: Loop) -> None:
        link = await loop.open(LOW, LOW)
        for _ in range(3 * OUTGOING_MAX):
            loop.links.send(LOW, BEAT)
            await asyncio.sleep(0)
        await settle()
        assert link.outgoing.size == 0
        assert not link.closed.is_set()

    run(test)


def test_a_dial_without_answer_leaves_no_channel() -> None:
    """Every address is tried, and the node is told once."""

    async def test(loop: Loop) -> None:
        await loop.links.dial(Dial(LOW, ("127.0.0.1:1", "127.0.0.1:2")))
        assert len(loop.inputs) == 1
        assert loop.links.channels._clients == {}

    run(test)


# --- channels --------------------------------------------------------------------------


def test_a_peer_that_moved_is_found_at_its_next_address() -> None:
    """A channel that brought no answer is dropped; the next goes elsewhere."""

    async def test(loop: Loop) -> None:
        channels = loop.links.channels
        addresses = ("127.0.0.1:1", "127.0.0.1:2")
        first = channels.to(LOW, addresses)
        assert channels.to(LOW, addresses) is first
        await channels.failed(LOW, first)
        second = channels.to(LOW, addresses)
        assert second._who != first._who
        with pytest.raises(UnreachableError):
            channels.to(HIGH, ())
        await channels.close()

    run(test)


def test_a_fetch_does_not_close_the_channel_of_a_stream() -> None:
    """The stream knows best whether its peer is there."""

    async def test(loop: Loop) -> None:
        channels = Channels(leaf())
        client = ReplicaClient("127.0.0.1:1", LOW, leaf())
        await channels.dialled(LOW, client)
        await channels.failed(LOW, client)
        assert channels.to(LOW, ()) is client
        channels.stream_ended(LOW, client)
        await channels.failed(LOW, client)
        with pytest.raises(UnreachableError):
            channels.to(LOW, ())

    run(test)


def test_channels_end_with_membership() -> None:
    """Who left keeps no channel open here."""

    async def test(loop: Loop) -> None:
        channels = Channels(leaf())
        for peer in (LOW, HIGH):
            channels.to(peer, ("127.0.0.1:1",))
        await channels.keep_only({HIGH})
        assert list(channels._clients) == [HIGH]
        await channels.close()
        assert cast(dict[bytes, object], channels._clients) == {}

    run(test)


@pytest.mark.parametrize(
    "address", ["unix:/run/other.sock:1", "dns://203.0.113.1/x:1", "ipv4:10.0.0.1:1"]
)
def test_an_announced_address_is_a_host_and_a_port(address: str) -> None:
    """Other names could make us talk to sockets of this machine: gRPC knows many."""
    assert _target(address).startswith("dns:///")

    async def test(loop: Loop) -> None:
        client = ReplicaClient(address, LOW, leaf())
        with pytest.raises(UnreachableError):
            await client.open_stream(never)
        await client.close()

    async def never(incoming: object, send: object) -> None:
        raise AssertionError("nobody can be there")

    run(test)


def test_a_peer_that_owes_is_not_read_from_and_others_are() -> None:
    """What it sends waits with it, in order; the other's message is heard at once."""

    async def test(loop: Loop) -> None:
        plain = loop.submit

        def submit(turn: Turn, flow: bytes = OWN) -> asyncio.Future[None]:
            """Pause who has sent a message, as the node does before the turn is over."""
            before = len(loop.inputs)
            done = plain(turn)
            if MessageReceived(LOW, HELLO) in loop.inputs[before:]:
                loop.links.pause(LOW, 0.2)
            return done

        loop.links._submit = submit
        await loop.open(LOW, LOW, HELLO, BEAT)
        await loop.open(HIGH, HIGH, HELLO, BEAT)
        heard = [i for i in loop.inputs if isinstance(i, MessageReceived)]
        assert MessageReceived(LOW, BEAT) not in heard
        assert MessageReceived(HIGH, BEAT) in heard
        await asyncio.sleep(0.25)
        assert loop.inputs[-1] == MessageReceived(LOW, BEAT)

    run(test)


def test_a_stream_that_ends_while_it_pauses_ends_at_once() -> None:
    """Nobody waits for the debts of who is gone, or when the node stops."""

    async def test(loop: Loop) -> None:
        later = asyncio.get_running_loop().time() + 60
        link = Link(LOW, LOW, resumes=later)
        loop.running.append(
            asyncio.ensure_future(loop.links.serve(link, coming([HELLO]), loop.send))
        )
        await settle()
        assert loop.inputs == [PeerOpened(LOW)]
        link.closed.set()
        await asyncio.wait_for(loop.running[0], 1)

    run(test)


# --- many spaces on one stream ----------------------------------------------------------

LARGE, SMALL = b"L" * 32, b"S" * 32


def reply(space: bytes, size: int) -> FeedReply:
    """Return a message of about so many bytes."""
    return FeedReply(space, bytes(16), 1, True, (SignedBytes(bytes(size), b""),))


def ask(space: bytes) -> FeedRequest:
    """Return a question about a space."""
    return FeedRequest(space, bytes(16), 0, 1)


def test_news_of_a_small_space_passes_the_repair_of_a_large_one() -> None:
    """It waits for one message, of those that wait for the same peer."""

    async def test(loop: Loop) -> None:
        await loop.open(LOW, LOW)
        for _ in range(20):
            loop.links.send(LOW, reply(LARGE, 1 << 20))
        loop.links.send(LOW, Heartbeat(SMALL, bytes(32), 0, bytes(16), 0))
        await settle()
        spaces = [getattr(message, "space", b"") for message in loop.sent]
        assert spaces.index(SMALL) <= 1

    run(test)


class Answering(Loop):
    """Links of a node that answers each question with a large message."""

    def submit(self, turn: Turn, flow: bytes = OWN) -> asyncio.Future[None]:
        """Answer, as the node does before the turn is over."""
        before = len(self.inputs)
        done = super().submit(turn, flow)
        for item in self.inputs[before:]:
            if isinstance(item, MessageReceived) and isinstance(
                item.message, FeedRequest
            ):
                self.links.send(item.peer, reply(item.message.space, 1 << 20))
        return done


def test_who_asks_about_many_spaces_at_once_is_answered_about_all() -> None:
    """Questions wait for room, so that answers never fill the memory; the rest is read."""
    spaces = [bytes([n]) * 32 for n in range(100)]

    async def test() -> None:
        loop = Answering()
        reads, most = asyncio.Event(), 0

        async def send(message: Message) -> None:
            await reads.wait()
            loop.sent.append(message)

        loop.send = send  # type: ignore[method-assign]
        link = await loop.open(LOW, LOW, HELLO, *map(ask, spaces), BEAT)
        await settle()
        assert MessageReceived(LOW, BEAT) in loop.inputs, "it was not read"
        most = link.outgoing.size
        reads.set()
        for _ in range(100):
            await settle()
            most = max(most, link.outgoing.size)
        assert not link.closed.is_set()
        assert [getattr(m, "space", b"") for m in loop.sent] == spaces
        assert most <= AHEAD_BYTES + (2 << 20)
        await loop.end()

    asyncio.run(asyncio.wait_for(test(), 10))


def test_who_asks_without_end_and_reads_nothing_is_cut_off() -> None:
    """What waits of one peer is bounded too."""
    question = RecordsRequest(LARGE, (bytes(32),) * 8192, 1)

    async def test(loop: Loop) -> None:
        never = asyncio.Event()

        async def send(message: Message) -> None:
            await never.wait()
            loop.sent.append(message)

        loop.send = send  # type: ignore[method-assign]
        link = await loop.open(LOW, LOW)
        for _ in range(4):
            loop.links.send(LOW, reply(LARGE, 1 << 20))
        for _ in range(QUESTIONS_BYTES_MAX // weight(question) + 1):
            assert not link.closed.is_set()
            assert loop.links._waits(link, question)
            loop.links._hold(link, question)
        assert link.closed.is_set()

    run(test)


def test_what_waits_for_all_peers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one for whom most waits is cut off; the others are not."""
    monkeypatch.setattr(links, "WAITING_BYTES_MAX", 8 << 20)

    async def test(loop: Loop) -> None:
        opened = [await loop.open(bytes([n]) * 32, bytes([n]) * 32) for n in range(8)]
        for _ in range(2):
            loop.links.send(opened[3].peer, reply(LARGE, 1 << 20))
        for link in opened:
            loop.links.send(link.peer, reply(LARGE, 900_000))
        assert [n for n, link in enumerate(opened) if link.closed.is_set()] == [3]

    run(test)


def test_one_stream_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a stream keeps it, and may open another in its place."""
    monkeypatch.setattr(links, "STREAMS_MAX", 1)

    async def test(loop: Loop) -> None:
        await loop.open(LOW, LOW)
        await loop.open(HIGH, HIGH)
        with pytest.raises(OverloadedError):
            await loop.running.pop()
        await loop.open(LOW, LOW)
        assert loop.links.peers() == [LOW]

    run(test)


def test_a_node_full_of_callers_still_gets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who fills us from outside, with nodes of its own, does not keep us from others."""
    monkeypatch.setattr(links, "STREAMS_MAX", 1)

    async def test(loop: Loop) -> None:
        await loop.open(LOW, LOW)
        await loop.open(HIGH, ME)
        assert loop.links.peers() == sorted([LOW, HIGH])

    run(test)


# --- leaving ----------------------------------------------------------------------------


def test_a_goodbye_goes_behind_what_waits_and_ends_the_stream() -> None:
    """Who speaks it hears it, last; who does not is only hung up on."""

    async def test(loop: Loop) -> None:
        await loop.open(LOW, LOW, replace(HELLO, features=SPEAKS_GOODBYE))
        for _ in range(3):
            loop.links.send(LOW, reply(LARGE, 1 << 20))
        await loop.links.part(5)
        assert [type(message) for message in loop.sent] == [*[FeedReply] * 3, Goodbye]
        await asyncio.wait_for(loop.running[0], 1)

    run(test)

    async def older(loop: Loop) -> None:
        await loop.open(LOW, LOW, HELLO)
        loop.links.send(LOW, BEAT)
        await loop.links.part(5)
        assert loop.sent == [BEAT]
        await asyncio.wait_for(loop.running[0], 1)

    run(older)


def test_who_has_not_said_hello_yet_is_waited_for_before_the_goodbye() -> None:
    """Else it would take the end for a failure, and dial at once."""

    async def test(loop: Loop) -> None:
        link = await loop.open(LOW, LOW)
        parting = asyncio.ensure_future(loop.links.part(5))
        await settle()
        assert not link.closed.is_set()
        link.features = SPEAKS_GOODBYE
        link.greeted.set()
        await asyncio.wait_for(parting, 1)
        assert loop.sent == [Goodbye()]

    run(test)


def test_who_dialled_reads_on_until_the_peer_has_read_its_goodbye() -> None:
    """To end reading cancels a call, and with it what its receiver did not read yet."""

    async def test(loop: Loop) -> None:
        read = asyncio.Event()

        async def incoming() -> AsyncIterator[Message]:
            yield replace(HELLO, features=SPEAKS_GOODBYE)
            await read.wait()

        link = Link(LOW, dialler=ME)
        stream = asyncio.ensure_future(loop.links.serve(link, incoming(), loop.send))
        await settle()
        parting = asyncio.ensure_future(loop.links.part(5))
        await settle()
        assert loop.sent == [Goodbye()]
        assert not stream.done()
        read.set()
        await asyncio.wait_for(stream, 1)
        await settle()
        assert not parting.done()  # the call is not over with it: its end is under way
        link.over.set()
        await asyncio.wait_for(parting, 1)

    run(test)


def test_a_goodbye_passes_what_nobody_reads() -> None:
    """A peer that takes nothing more keeps nobody from leaving."""

    async def test(loop: Loop) -> None:
        slow = asyncio.Semaphore(1)

        async def send(message: Message) -> None:
            await slow.acquire()
            loop.sent.append(message)

        loop.send = send  # type: ignore[method-assign]
        await loop.open(LOW, LOW, replace(HELLO, features=SPEAKS_GOODBYE))
        for _ in range(3):
            loop.links.send(LOW, reply(LARGE, 1 << 20))
        parting = asyncio.ensure_future(loop.links.part(0.4))
        await asyncio.sleep(0.3)
        slow.release()
        slow.release()
        await parting
        assert Goodbye() in loop.sent

    run(test)


def test_what_follows_a_goodbye_is_not_heard() -> None:
    """The node hears that the peer left, and that it broke nothing."""

    async def test(loop: Loop) -> None:
        await loop.open(LOW, LOW, HELLO, Goodbye(), BEAT)
        await asyncio.wait_for(loop.running[0], 1)
        assert loop.inputs[-1] == PeerClosed(LOW, left=True)
        assert MessageReceived(LOW, BEAT) not in loop.inputs

    run(test)


def test_who_leaves_takes_up_no_stream() -> None:
    """A dial under way, or a peer's, ends as it would once the port is closed."""

    async def test(loop: Loop) -> None:
        await loop.links.part(1)
        await loop.open(LOW, LOW, HELLO)
        with pytest.raises(UnreachableError):
            await loop.running.pop()
        await loop.links.dial(Dial(LOW, ("127.0.0.1:1",)))
        assert loop.inputs == [DialEnded(LOW)]

    run(test)
