"""Two nodes find each other by mDNS, on the loopback interface; strangers learn nothing."""

import asyncio
import random

from crdtmerge.bodies import SpaceId
from nodes.local_network import LocalNetwork
from tests.integration.living import until

SPACE = SpaceId(b"s" * 32)
ANN, BEN, EVE = b"a" * 32, b"b" * 32, b"e" * 32
LOOPBACK = ["127.0.0.1"]

Heard = dict[bytes, tuple[str, ...]]


def network(node: bytes, space: SpaceId, heard: Heard) -> LocalNetwork:
    """Return a node's announcement, of a space that it takes to have three members."""
    members = {space: (ANN, BEN, EVE)}
    rng = random.Random(node)

    def found(peer: bytes, addresses: tuple[str, ...]) -> None:
        heard[peer] = addresses

    return LocalNetwork(node, lambda: members, found, rng)


def test_members_find_each_other_and_strangers_find_nobody() -> None:
    """By the space that both are in; who leaves is heard to be gone."""

    async def scenario() -> None:
        heard: dict[bytes, Heard] = {ANN: {}, BEN: {}, EVE: {}}
        ann = network(ANN, SPACE, heard[ANN])
        ben = network(BEN, SPACE, heard[BEN])
        eve = network(EVE, SpaceId(b"x" * 32), heard[EVE])
        tasks = [
            asyncio.ensure_future(net.run(port, LOOPBACK))
            for net, port in ((ann, 7001), (ben, 7002), (eve, 7003))
        ]
        await until(lambda: heard[ANN].get(BEN) == ("127.0.0.1:7002",), "ben")
        await until(lambda: heard[BEN].get(ANN) == ("127.0.0.1:7001",), "ann")
        assert len(eve._heard) >= 2  # she heard both, and cannot read either
        assert heard[EVE] == {}
        assert EVE not in heard[ANN]
        tasks[1].cancel()
        await until(lambda: heard[ANN].get(BEN) == (), "that ben is gone")
        for task in (tasks[0], tasks[2]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scenario())
