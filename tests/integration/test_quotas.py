"""Real nodes over gRPC: a member floods, and the others hardly feel it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from crdtmerge.bodies import NodeAddress, SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.replica import best_grant
from crdtmerge.sync.messages import (
    PROTOCOL_VERSION,
    Hello,
    Message,
    Rumour,
    SignedBytes,
    TrieReply,
    TrieRequest,
)
from nodes.client import ReplicaClient
from nodes.effects import QuotasChanged
from nodes.home import Home
from nodes.links import SendMessage
from nodes.quotas import Quotas
from nodes.runtime import Runtime
from nodes.spaces import Spaces
from nodes.tls import make_leaf
from tests.integration.living import (
    AFTER,
    BEFORE,
    admit,
    blob_of,
    found,
    homes,
    living,
    offer,
    replica,
    run,
    tensors,
    until,
)

SOON_S = 3.0
"""Within this another member's record must arrive: far below the time of the flood."""


async def hold_to(node: Runtime, quotas: Quotas) -> None:
    """Let a running node have quotas that a test meets in seconds."""
    await node.submit(lambda: [QuotasChanged(quotas)])


def says(home: Home, space: SpaceId, count: int) -> list[SignedRecord]:
    """Return records of an author without any use, chained as honest ones are."""
    opset = Spaces(home.records, home.blobs).opset(space)
    grant = best_grant(opset, home.author.public)
    assert grant is not None
    own = [r for r in opset.records.values() if r.author == home.author.public]
    last = max(own, key=lambda r: r.author_seq)
    made: list[SignedRecord] = []
    for _ in range(count):
        record = make_record(
            space=space,
            author=home.author.public,
            author_seq=last.author_seq + 1,
            prev=last.id,
            auth=grant[0],
            body=NodeAddress(home.node.public, ()),
        )
        made.append(sign_record(record, home.author))
        last = record
    return made


class Flooder:
    """A member whose node asks without end, and pushes what its author signs."""

    def __init__(self, home: Home, space: SpaceId) -> None:
        self.home, self.space = home, space
        self.answers = 0
        self.sent = asyncio.Event()

    async def run(
        self, host: Runtime, questions: int, pushed: list[SignedRecord]
    ) -> None:
        """Send all at once, then read what comes."""
        leaf = make_leaf(self.home.node.unlock(), BEFORE, AFTER)

        async def talk(incoming: AsyncIterator[Message], send: SendMessage) -> None:
            reading = asyncio.ensure_future(self._read(incoming))
            await send(Hello(PROTOCOL_VERSION, "flood"))
            for number in range(1, questions + 1):
                await send(TrieRequest(self.space, ((),), number))
            raw = tuple(SignedBytes(s.record.data, s.signature) for s in pushed)
            await send(Rumour(self.space, raw))
            self.sent.set()
            await reading

        async with ReplicaClient(host.addresses[0], host.me, leaf) as client:
            await client.open_stream(talk)

    async def _read(self, incoming: AsyncIterator[Message]) -> None:
        async for message in incoming:
            self.answers += isinstance(message, TrieReply)


def test_another_member_s_news_comes_amid_a_flood(tmp_path: Path) -> None:
    """Questions without end wait in the flooder's own buffers, and are answered in time."""
    quotas = Quotas(peer_questions=20, burst_s=1)

    async def test(owner: Home, member: Home, bad: Home, space: SpaceId) -> None:
        async with living(owner) as host:
            await hold_to(host, quotas)
            flooder = Flooder(bad, space)
            (pushed,) = says(bad, space, 1)
            flood = asyncio.ensure_future(flooder.run(host, 100, [pushed]))
            await asyncio.wait_for(flooder.sent.wait(), SOON_S)
            began = host.loop.time()
            async with living(member, knows=host) as guest:
                news = replica(member, space).announce(member.node.public, ("a.b:1",))
                guest.spaces.publish(space, [news])
                await until(
                    lambda: news.record.id in host.spaces.opset(space), "the news"
                )
                took = host.loop.time() - began
                assert took < SOON_S
                # Bounded by burst and rate: the rest of it has not even been read.
                assert flooder.answers <= 20 + 20 * (took + 0.5)
                assert pushed.record.id not in host.spaces.opset(space)
                await until(
                    lambda: pushed.record.id in host.spaces.opset(space),
                    "what the flooder said",
                )
            assert flooder.answers == 100
            assert host.node.accounts.pauses > 10
            assert not host.node.dropped
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)

    with homes(tmp_path, "owner", "member", "bad") as (owner, member, bad):
        space = found(owner)
        admit(owner, space, member, bad)
        run(test(owner, member, bad, space))


def test_a_flood_of_records_is_taken_at_its_rate_and_wholly(tmp_path: Path) -> None:
    """The first of what one author says come at once, the rest by repair as time passes."""
    quotas = Quotas(author_rate=40, burst_s=1)

    async def test(owner: Home, member: Home, bad: Home, space: SpaceId) -> None:
        bad.records.append(space, many := says(bad, space, 160))
        ids = {signed.record.id for signed in many}

        def came(node: Runtime) -> int:
            return len(ids & node.spaces.opset(space).records.keys())

        async with living(owner) as host:
            await hold_to(host, quotas)
            async with living(bad, knows=host), living(member, knows=host) as guest:
                await until(lambda: came(host) > 0, "the first of the flood")
                news = replica(member, space).announce(member.node.public, ("a.b:1",))
                guest.spaces.publish(space, [news])
                await until(
                    lambda: news.record.id in host.spaces.opset(space), "the news"
                )
                assert came(host) < len(ids)
                held = await asyncio.to_thread(host.waiting, space)
                assert [one.author for one in held] == [bad.author.public]
                await until(lambda: came(host) == len(ids), "all of the flood")
                assert not host.node.dropped
                assert host.waiting(space) == []

    with homes(tmp_path, "owner", "member", "bad") as (owner, member, bad):
        space = found(owner)
        admit(owner, space, member, bad)
        run(test(owner, member, bad, space))


def test_the_records_made_here_are_what_a_chain_needs(tmp_path: Path) -> None:
    """The helper of these tests makes what any node admits."""
    with homes(tmp_path, "owner", "bad") as (owner, bad):
        space = found(owner)
        admit(owner, space, bad)
        made = says(bad, space, 3)
        spaces = Spaces(bad.records, bad.blobs)
        assert len(spaces.commit(space, made)) == 3
        assert digest(Domain.RECORD, made[0].record.data) == made[0].record.id


def test_what_is_beyond_an_author_s_bytes_comes_when_it_is_named(
    tmp_path: Path,
) -> None:
    """A node fetches what fits; `fetch ID` brings another, and a larger quota the rest."""
    models = [bytes([n]) * 4000 for n in range(1, 5)]

    async def test(owner: Home, guest: Home, space: SpaceId) -> None:
        for data in models:
            owner.blobs.put(data)
            owner.records.append(space, [offer(owner, space, tensors(data))])
        async with living(owner) as host:
            guest.local.set_value("quotas", b"author_bytes=9000")
            async with living(guest, knows=host) as node:

                def lacking() -> int:
                    return len(guest.blobs.missing(map(blob_of, models)))

                call = node.operations.call
                await until(lambda: lacking() == 2, "what fits")
                await asyncio.sleep(1.5)
                assert lacking() == 2
                counted = node.metrics()
                samples = {m["name"]: m["samples"] for m in counted["metrics"]}  # type: ignore[attr-defined]
                (sample,) = samples["crdtmerge_beyond_quota_contributions"]
                assert sample["value"] == 2
                (content, _) = sorted(c.hex() for _, c in node.spaces.beyond())
                asked = {"ids": [content], "patience": 8}
                await asyncio.to_thread(call, "fetch", asked, lambda _: None)
                assert lacking() == 1
                asked = {"set": {"author-bytes": "0"}}
                await asyncio.to_thread(call, "node_quotas", asked, lambda _: None)
                await until(lambda: lacking() == 0, "the rest")

    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        run(test(owner, guest, space))
