"""A node that meets nobody but liars: it is kept waiting, and never fooled.

Its liars are members, and all of its peers. They answer, show roots that they made up,
hold back what is new, and send other bytes. Once one honest peer can be reached, all is
as if they had never been.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, chunk_digests
from crdtmerge.errors import NotFoundError
from crdtmerge.identity import SigningKey
from crdtmerge.sync.messages import (
    FeedReply,
    FeedRequest,
    Heartbeat,
    Message,
    RecordsReply,
    RecordsRequest,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.runs import clipped
from crdtmerge.sync.transfer import Wanted, announce
from nodes.home import create_home
from nodes.server import ReplicaServer
from nodes.spaces import Spaces
from nodes.tls import make_leaf
from tests.attacks.fortress import KEEPER, Fortress, add_of, model
from tests.attacks.guard import within_memory
from tests.attacks.siege import HELLO, Say, node_of
from tests.integration.living import AFTER, BEFORE, living, run, until
from tests.properties.cast import CARL, CLEO, MAINTAINERS, READER

LIARS: Final = (CARL, READER, *MAINTAINERS)
DATA: Final = bytes(range(256)) * (CHUNK_BYTES // 256) + b"the rest"
LAST_S: Final = 1.5
"""For how long the liars have the node to themselves."""


@dataclass
class Liar:
    """A member's node that says whatever keeps the fortress from the truth."""

    space: SpaceId
    author: SigningKey
    asked: list[str] = field(default_factory=list)

    def members(self) -> frozenset[bytes]:
        """Return who may call: the fortress."""
        return frozenset({node_of(KEEPER).public})

    async def stream(
        self, _: bytes, incoming: AsyncIterator[Message], say: Say
    ) -> None:
        """Show a root that was made up, and nothing that leads to it."""
        await say(HELLO)
        beat = Heartbeat(self.space, self.author.public, 10**6, b"l" * 16, 0)
        await say(beat)
        async for message in incoming:
            self.asked.append(type(message).__name__)
            match message:
                case FeedRequest(number=number):
                    reply: Message = FeedReply(
                        self.space, b"l" * 16, 0, False, (), number
                    )
                case TrieRequest(number=number, prefixes=prefixes):
                    nodes = tuple(TrieLeaf(prefix, ()) for prefix in prefixes)
                    reply = TrieReply(self.space, nodes, number)
                case RecordsRequest(number=number, ids=ids):
                    reply = RecordsReply(self.space, (), ids, number)
                case _:
                    continue
            await say(reply)

    async def fetch(
        self, _: bytes, __: bytes, blob: bytes, wanted: Wanted
    ) -> AsyncIterator[bytes]:
        """Send the true size and list of a blob, and other bytes."""
        self.asked.append("Fetch")
        if blob != model(DATA).tensors[0].blob:
            raise NotFoundError("no such blob here")
        digests = chunk_digests(DATA)
        for part in announce(len(DATA), digests, want_chunk_list=wanted.chunk_list):
            yield part
        for chosen in clipped(wanted.runs, len(digests)):
            for index in range(chosen.first, chosen.end):
                part = DATA[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
                yield bytes(len(part))


@contextlib.asynccontextmanager
async def surrounded(fortress: Fortress) -> AsyncIterator[list[Liar]]:
    """Let liars listen, and the fortress know their addresses and no others."""
    liars, servers = [], []
    for author in LIARS:
        liar = Liar(fortress.space, author)
        server = ReplicaServer(liar, make_leaf(node_of(author), BEFORE, AFTER))
        server.set_members(liar.members())
        port = await server.start("127.0.0.1", 0)
        address = (f"127.0.0.1:{port}",)
        fortress.home.local.add_peer(fortress.space, node_of(author).public, address)
        liars.append(liar)
        servers.append(server)
    try:
        yield liars
    finally:
        for server in servers:
            await server.stop(0.0)


def test_eclipse(fortress: Fortress) -> None:
    """Bytes and records stay true among liars alone, and arrive with the truth."""
    wanted = model(DATA)
    fortress.home.blobs.put(wanted.encode())
    fortress.say(CLEO, add_of(wanted))
    fortress.keep()
    honest = create_home(
        fortress.attackers / "honest",
        author_seed=CLEO.seed,
        node_seed=node_of(CLEO).seed,
        generation=b"g" * 16,
    )
    news = fortress.pen.write(CLEO, add_of(model(b"news")))
    everything = list(fortress.pen.known.values())
    Spaces(honest.records, honest.blobs).commit(fortress.space, everything)
    for part in (DATA, b"news", model(b"news").encode()):
        honest.blobs.put(part)
    blob, space = wanted.tensors[0].blob, fortress.space

    async def scenario() -> None:
        async with surrounded(fortress) as liars, living(fortress.home) as node:
            with within_memory():
                await until(lambda: len(node.connected()) == len(liars), "all liars")
                root = node.spaces.opset(fortress.space).root
                before = fortress.state
                await asyncio.sleep(LAST_S)
                assert all(liar.asked for liar in liars)
                assert any("Fetch" in liar.asked for liar in liars)
                after = fortress.state
                assert node.spaces.opset(fortress.space).root == root
                assert after.roots == before.roots
                assert not fortress.home.blobs.has(blob)
                kept = {p: f for p, f in after.files.items() if "/partial/" not in p}
                assert kept == {p: f for p, f in before.files.items() if p in kept}
            # One honest peer: it dials, for nobody told the fortress where it is.
            async with living(honest, node):
                await until(lambda: fortress.home.blobs.has(blob), "the true bytes")
                await until(
                    lambda: news.record.id in fortress.spaces().opset(space), "news"
                )
            assert node.failure is None

    try:
        run(scenario())
        assert bytes(fortress.home.blobs.read(blob, len(DATA))) == DATA
    finally:
        honest.close()
