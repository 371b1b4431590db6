"""One node with many peers, and many spaces with one: connections, news, and who waits."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from benchmarks.cluster import crowd
from benchmarks.cluster.making import Made, adds, make
from crdtmerge.bodies import SpaceId
from nodes import links
from nodes.home import Home, open_home
from nodes.runtime import Runtime
from tests.integration.living import (
    admit,
    found,
    homes,
    living,
    offer,
    run,
    tensors,
    until,
)

PEERS = 10
SPACES = 50


@pytest.fixture(name="made")
def fixture_made(tmp_path: Path) -> Made:
    """Homes of a space with that many members."""
    return make(tmp_path, PEERS)


@pytest.fixture(name="opened")
def fixture_opened(made: Made) -> Iterator[tuple[Home, list[Home]]]:
    """The same homes, open."""
    with ExitStack() as stack:
        found_ = [
            stack.enter_context(closing(open_home(path, write=True, purpose="node")))
            for path in (made.owner, *made.members)
        ]
        yield found_[0], found_[1:]


def test_one_node_holds_many_peers_and_news_reach_all(
    made: Made, opened: tuple[Home, list[Home]]
) -> None:
    """Whole nodes over mutual TLS; `python -m benchmarks connections` has 200 of them."""
    owner, members = opened

    async def meet() -> None:
        async with living(owner) as hub:
            for home in members:
                home.local.add_peer(made.space, made.hub, hub.addresses)
            async with crowd._running(members) as nodes:
                await until(lambda: len(hub.connected()) == PEERS, "all peers")
                assert hub.links.by_dialler() == {"peer": PEERS}
                assert hub.sync_server.handshaking.handshakes == PEERS
                before = len(hub.spaces.opset(made.space))
                await asyncio.to_thread(crowd.Crowd(made.space, nodes)._publish)

                def heard() -> bool:
                    return all(
                        len(node.spaces.opset(made.space)) > before for node in nodes
                    )

                await until(heard, "the news, everywhere")

    run(meet())


def test_a_full_node_refuses_and_keeps_what_it_has(
    made: Made, opened: tuple[Home, list[Home]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds no room comes again ever more seldom, and breaks no rule."""
    monkeypatch.setattr(links, "STREAMS_MAX", 3)
    owner, members = opened

    async def meet() -> None:
        async with living(owner) as hub:
            for home in members[:6]:
                home.local.add_peer(made.space, made.hub, hub.addresses)
            async with crowd._running(members[:6]) as nodes:
                await until(lambda: len(hub.connected()) == 3, "a full node")
                await until(lambda: hub.links.ended["no room"] >= 6, "refusals")
                assert len(hub.connected()) == 3
                left = [node for node in nodes if not node.connected()]
                failures = [node.node._backoff._failures[made.hub] for node in left]
                assert all(failures)
                assert not any(node.node._backoff._banished_until for node in nodes)

    run(meet())


def test_many_spaces_share_one_connection(tmp_path: Path) -> None:
    """One handshake and one stream, and news travel in every space."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        spaces = [found(owner, f"space {n}") for n in range(SPACES)]
        for space in spaces:
            admit(owner, space, guest)
            owner.records.append(space, adds(owner, space, 2))

        async def meet() -> None:
            async with living(owner) as host, living(guest, host) as joiner:

                def same(space: SpaceId) -> bool:
                    ours, theirs = (n.spaces.opset(space) for n in (host, joiner))
                    return ours.root == theirs.root

                await until(lambda: all(map(same, spaces)), "equal roots")
                handshakes = [
                    node.sync_server.handshaking.handshakes for node in (host, joiner)
                ]
                assert handshakes == [1, 0]
                for node in (host, joiner):
                    assert node.links.opened.total() == 1

        run(meet())


async def _seconds_of_news(
    host: Runtime, joiner: Runtime, space: SpaceId, number: int
) -> float:
    """Publish in a space at one node, and return when the other has it."""
    manifest = tensors(b"news %d" % number)
    host.home.blobs.put(b"news %d" % number)
    record = offer(host.home, space, manifest)
    began = time.monotonic()
    await asyncio.to_thread(host.spaces.publish, space, [record])
    await until(lambda: record.record.id in joiner.spaces.opset(space), "the news")
    return time.monotonic() - began


@pytest.mark.slow
def test_news_of_a_small_space_pass_the_repair_of_large_ones(tmp_path: Path) -> None:
    """Counted in messages, not in seconds: of what came between, little is of others."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        small = found(owner, "small")
        large = [found(owner, f"large {n}") for n in range(10)]
        for space in (small, *large):
            admit(owner, space, guest)
        for space in large:
            owner.records.append(space, adds(owner, space, 3000))

        async def meet() -> None:
            async with living(owner) as host, living(guest, host) as joiner:
                await until(lambda: bool(joiner.connected()), "a stream")

                def here() -> int:
                    return sum(len(joiner.spaces.opset(space)) for space in large)

                await until(lambda: here() > 3000, "a beginning")
                for number in range(3):
                    before = here()
                    await _seconds_of_news(host, joiner, small, number)
                    assert before < 29_000, "the repair was over"
                    assert (
                        here() - before < 9000
                    )  # three messages of some 2,500 records

        run(meet())
