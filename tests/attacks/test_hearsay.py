"""A member that lies about other nodes: nobody is let in, and few places are tried."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

from crdtmerge.sync.messages import (
    FEATURES,
    PEERS_MAX,
    Message,
    PeerSaid,
    PeersReply,
    PeersRequest,
)
from nodes.gossip import DIAL_ADDRESSES_MAX
from tests.attacks.fortress import Attack, Fortress
from tests.attacks.guard import within_memory
from tests.attacks.siege import HELLO, Say, Siege, node_of
from tests.integration.living import until
from tests.properties.cast import CARL, CLEO, STRANGER

MANY = 400


def bears_with(fortress: Fortress, attack: Attack) -> None:
    """Let an attack meet the node, which drops nobody for it and learns nothing."""

    async def scenario(siege: Siege) -> None:
        with within_memory():
            root, roots = siege.root, fortress.state.roots
            await attack(siege)
            await siege.settled()
        assert siege.errors == []
        assert (siege.root, fortress.state.roots) == (root, roots)

    fortress.runs(scenario)


def test_what_nobody_asked_for_is_dropped(fortress: Fortress) -> None:
    """Hundreds of nodes that are no members, and members that are elsewhere: no effect."""
    rng = random.Random(1)

    async def attack(siege: Siege) -> None:
        async def talk(_: AsyncIterator[Message], say: Say) -> None:
            await say(HELLO)
            for _n in range(MANY):
                nodes = (rng.randbytes(32) for _ in range(PEERS_MAX - 2))
                friends = (node_of(CLEO).public, node_of(STRANGER).public)
                said = (PeerSaid(n, ("127.0.0.1:9",), 0) for n in (*friends, *nodes))
                await say(PeersReply(tuple(said)))
            await asyncio.sleep(0.2)

        before = siege.node.members()
        await siege.talks(CARL, talk)
        assert siege.node.node.neighbours.hearsay.nodes() == []
        assert siege.node.members() == before
        assert siege.node.links.dials.total() == 0

    bears_with(fortress, attack)


def test_whoever_asks_without_end_is_answered_once(fortress: Fortress) -> None:
    """Hundreds of questions are one answer, and it names nobody whom we did not reach."""
    heard: list[Message] = []

    async def attack(siege: Siege) -> None:
        async def talk(incoming: AsyncIterator[Message], say: Say) -> None:
            await say(replace(HELLO, features=FEATURES))
            for _n in range(MANY):
                await say(PeersRequest())
            with suppress(TimeoutError):
                async with asyncio.timeout(1.5):
                    async for message in incoming:
                        heard.extend([message] * isinstance(message, PeersReply))

        await siege.talks(CARL, talk)

    bears_with(fortress, attack)
    assert heard == [PeersReply(())]


def test_one_who_is_asked_leads_us_to_few_places(fortress: Fortress) -> None:
    """Whatever an answer says of a member, one dial tries two of its places, and late."""

    async def attack(siege: Siege) -> None:
        neighbours = siege.node.node.neighbours
        members = siege.node.members()
        places = tuple(f"127.0.0.{n}:9" for n in range(1, 5))
        cleo, stranger = node_of(CLEO).public, node_of(STRANGER).public
        reply = PeersReply((PeerSaid(cleo, places, 0), PeerSaid(stranger, places, 0)))
        neighbours.hearsay.take(b"c" * 32, reply, 0.0, members.__contains__)
        assert neighbours.hearsay.nodes() == [cleo]
        await until(lambda: siege.node.links.dials.total() >= 2, "the places")
        await until(lambda: cleo not in neighbours.dialling, "the end of the dial")
        assert siege.node.links.dials.total() <= min(2, DIAL_ADDRESSES_MAX)
        assert neighbours.hearsay.nodes() == []  # once, and then forgotten
        assert siege.node.members() == members

    bears_with(fortress, attack)
