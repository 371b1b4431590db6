"""Frames that no honest node sends, and frames without end: their sender is cut off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import grpc
import pytest

from crdtmerge.bodies import Unknown
from crdtmerge.errors import MalformedMessageError
from crdtmerge.record import RECORD_BYTES_MAX
from crdtmerge.sync.messages import (
    IDS_MAX,
    MESSAGE_BYTES_MAX,
    PREFIXES_MAX,
    FeedReply,
    FeedRequest,
    Heartbeat,
    Hello,
    Message,
    PeerSaid,
    PeersReply,
    RecordsRequest,
    SignedBytes,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from nodes.client import _pinned_options, _target
from nodes.limits import FRAME_BYTES_MAX
from nodes.quotas import OUTGOING_BYTES_MAX
from nodes.tls import make_leaf, root_for
from nodes.wire import replica_pb2 as wire
from tests.attacks.fortress import Fortress
from tests.attacks.guard import PYTHON_BYTES_MAX
from tests.attacks.siege import HELLO, SYNC, Say, Siege, framed, node_of
from tests.integration.living import AFTER, BEFORE, until
from tests.properties.cast import CARL, CLEO

S: Final = bytes(32)
G: Final = bytes(16)
RECORD: Final = SignedBytes(bytes(RECORD_BYTES_MAX + 1), bytes(64))

MALFORMED: Final[dict[str, bytes | Message]] = {
    "no body": b"",
    "an unknown body": b"\xfa\x3f\x02ab",
    "bytes that are no frame": b"\xff" * 64,
    "a hello of an odd version": Hello(0, "x"),
    "a hello of a million letters": Hello(1, "x" * 1_000_000),
    "a hello that moves the cursor": Hello(1, "\x1b[2J"),
    "a space of 31 bytes": Heartbeat(S[:31], S, 1, G, 1),
    "a root of 1 MiB": Heartbeat(S, bytes(1 << 20), 1, G, 1),
    "a count above 63 bits": Heartbeat(S, S, 2**64 - 1, G, 1),
    "a sequence above 63 bits": FeedRequest(S, G, 2**64 - 1, 1),
    "a record above its limit": FeedReply(S, G, 1, False, (RECORD,), 1),
    "a path deeper than a trie": TrieRequest(S, ((1,) * 65,), 1),
    "a step that is none": TrieRequest(S, ((16,),), 1),
    "too many paths": TrieRequest(S, ((1,),) * (PREFIXES_MAX + 1), 1),
    "too many ids": RecordsRequest(S, (S,) * (IDS_MAX + 1), 1),
    "half an id": wire.Frame(
        records_request=wire.RecordsRequest(space=S, ids=bytes(33), number=1)
    ).SerializeToString(),
    "seventeen nodes at once": PeersReply((PeerSaid(S, ("h:1",), 0),) * 17),
    "a node key of 31 bytes": PeersReply((PeerSaid(S[:31], ("h:1",), 0),)),
    "five places of a node": PeersReply((PeerSaid(S, ("h:1",) * 5, 0),)),
    "a place that moves the cursor": PeersReply((PeerSaid(S, ("\x1b[2J:1",), 0),)),
    "a place without end": PeersReply((PeerSaid(S, ("h" * 300 + ":1",), 0),)),
    "a leaf above its limit": TrieReply(S, (TrieLeaf((), (S,) * 17),), 1),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_frame(fortress: Fortress, name: str) -> None:
    """Who sends what is no message is dropped for it, and nobody pays for its size."""
    lie = MALFORMED[name]
    data = lie if isinstance(lie, bytes) else framed(lie)
    if name == "bytes that are no frame":  # gRPC itself ends such a stream
        fortress.withstands(None, lambda siege: siege.sends(CARL, data))
    else:
        error = MalformedMessageError
        fortress.withstands(error, lambda siege: siege.sends(CARL, data))


@pytest.mark.parametrize("size", [FRAME_BYTES_MAX + 1, 8 << 20])
def test_oversized_frame(fortress: Fortress, size: int) -> None:
    """It is refused by its length, before it is read."""
    data = bytes(size)

    async def attack(siege: Siege) -> None:
        async with unbounded(siege) as channel:
            call: Any = channel.stream_stream(SYNC)()
            await call.initial_metadata()
            with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError):
                await call.write(data)
                while await call.read() is not grpc.aio.EOF:
                    pass
            assert await call.code() is not grpc.StatusCode.OK

    fortress.withstands(None, attack)


def unbounded(siege: Siege) -> grpc.aio.Channel:
    """Return the channel of a member that may send as much as it likes."""
    leaf = make_leaf(node_of(CARL), BEFORE, AFTER)
    root = root_for(siege.node.me)
    credentials = grpc.ssl_channel_credentials(root, leaf.key_pem, leaf.chain_pem)
    limit = "grpc.max_send_message_length"
    options = [option for option in _pinned_options() if option[0] != limit]
    place = _target(siege.node.addresses[0])
    return grpc.aio.secure_channel(place, credentials, [*options, (limit, -1)])


def answering(*replies: FeedReply) -> Any:
    """Return a talk that answers each question for the feed with the next of these."""

    def talk_of(siege: Siege) -> Any:
        async def talk(incoming: AsyncIterator[Message], say: Say) -> None:
            await say(HELLO)
            await say(Heartbeat(siege.space, S, 1, G, len(replies) + 7))
            number = 0
            async for message in incoming:
                if isinstance(message, FeedRequest):
                    reply = replies[min(number, len(replies) - 1)]
                    number += 1
                    await say(
                        FeedReply(
                            siege.space,
                            G,
                            reply.through,
                            reply.more,
                            reply.records,
                            message.number,
                        )
                    )

        return talk

    return talk_of


@pytest.mark.parametrize("through", [0, 5])
def test_endless_stream_of_a_feed(fortress: Fortress, through: int) -> None:
    """A feed that always has more and brings nothing ends with the first such reply."""
    reply = FeedReply(S, G, through, True, (), 1)

    async def attack(siege: Siege) -> None:
        await siege.talks(CARL, answering(reply)(siege))

    fortress.withstands(MalformedMessageError, attack)


def test_endless_stream_of_heartbeats(fortress: Fortress) -> None:
    """Thousands of roots that were made up cost a question, and no memory."""
    beats = [
        Heartbeat(fortress.space, n.to_bytes(32, "big"), 1, G, 1, echo=True)
        for n in range(3000)
    ]

    async def attack(siege: Siege) -> None:
        await siege.says(CARL, *beats)

    fortress.withstands(None, attack)


def test_endless_stream_of_questions(fortress: Fortress) -> None:
    """Who asks without reading the answers gets no more of them: its questions wait."""
    notes = [fortress.say(CLEO, Unknown("long", [n, bytes(60_000)])) for n in range(24)]
    fortress.keep()
    assert sum(len(n.record.data) for n in notes) > MESSAGE_BYTES_MAX
    generation = fortress.home.records.generation

    async def attack(siege: Siege) -> None:
        async with siege.raw(CARL) as call:
            await until(lambda: bool(siege.node.connected()), "its stream")
            with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, TimeoutError):
                async with asyncio.timeout(3):
                    await call.write(framed(HELLO))
                    for number in range(1, 400):
                        ask = FeedRequest(fortress.space, generation, 0, number)
                        await call.write(framed(ask))
                    await asyncio.sleep(3)  # nothing is read: who does may ask on

    assert OUTGOING_BYTES_MAX < 400 * MESSAGE_BYTES_MAX
    most = OUTGOING_BYTES_MAX + PYTHON_BYTES_MAX
    fortress.withstands(None, attack, python=most)


@pytest.mark.parametrize("number", [0, 7])
def test_answer_to_what_was_not_asked(fortress: Fortress, number: int) -> None:
    """A reply under a number that was never given is a lie."""
    reply = FeedReply(fortress.space, G, 1, False, (), number)

    async def attack(siege: Siege) -> None:
        await siege.says(CARL, reply)

    fortress.withstands(MalformedMessageError, attack)
