"""Two nodes find each other by mDNS, on the loopback interface; strangers learn nothing."""

import asyncio
import os
import random

import pytest

from crdtmerge.bodies import SpaceId
from nodes import local_network
from nodes.local_network import LocalNetwork
from tests.integration.living import until

SPACE = SpaceId(os.urandom(32))
"""One of this run alone: what runs beside it is heard too, and must not be taken for it."""
ANN, BEN, EVE = b"a" * 32, b"b" * 32, b"e" * 32
LOOPBACK = ["127.0.0.1"]

Heard = dict[bytes, tuple[str, ...]]


def network(node: bytes, space: SpaceId, heard: Heard) -> LocalNetwork:
    """Return a node's announcement, of a space that it takes to have three members."""
    return network_of(node, {space: [ANN, BEN, EVE]}, heard)


def network_of(
    node: bytes, members: dict[SpaceId, list[bytes]], heard: Heard
) -> LocalNetwork:
    """Return the announcement of a node that knows these spaces and members."""
    rng = random.Random(os.urandom(32))

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


@pytest.mark.slow
def test_who_takes_another_sign_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that joins a space says so soon, and is not lost by the next sign."""
    monkeypatch.setattr(local_network, "LOOK_S", 0.2)
    monkeypatch.setattr(local_network, "RENEW_S", 1.0)

    async def scenario() -> None:
        heard: Heard = {}
        knows: dict[SpaceId, list[bytes]] = {SPACE: [ANN]}
        takes_part: dict[SpaceId, list[bytes]] = {}
        ann = network_of(ANN, knows, heard)
        ben = network_of(BEN, takes_part, {})
        tasks = [
            asyncio.ensure_future(net.run(port, LOOPBACK))
            for net, port in ((ann, 7011), (ben, 7012))
        ]
        await until(lambda: len(ann._heard) >= 2, "both announcements")
        takes_part[SPACE] = [ANN, BEN]
        knows[SPACE] = [ANN, BEN]
        await until(lambda: heard.get(BEN) == ("127.0.0.1:7012",), "ben")
        first = {name for name, said in ann._heard.items() if said}
        await until(lambda: not first & ann._heard.keys(), "another sign")
        assert heard[BEN] == ("127.0.0.1:7012",)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scenario())
