"""Lent calls as a door: who may lend, how many, and what comes of lies on them.

What a lender sends is verified as any reply to a fetch; what it sends unasked is not read.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.errors import (
    NotFoundError,
    OverloadedError,
    RefusedError,
    UnreachableError,
)
from crdtmerge.sync.runs import Run
from crdtmerge.sync.transfer import Wanted
from nodes.client import ReplicaClient
from nodes.lending import LENT_MAX, NO_BLOB, NO_ROOM, OTHER, Loans
from nodes.server import ReplicaServer
from nodes.wire import replica_pb2 as wire
from tests.integration.living import admit, found, homes, living, run, until
from tests.integration.peers import (
    ALICE,
    BLOB,
    BOB,
    HOST,
    SERVER,
    SPACE,
    Echo,
    leaf_of,
    members,
)
from tests.integration.test_one_way import contributed, hidden

WANTED = Wanted(True, (Run(0, 9),))


@contextlib.asynccontextmanager
async def taking(loans: Loans) -> AsyncIterator[str]:
    """Run a server that takes loans of ALICE; lend its address."""
    handler = Echo(members(ALICE))
    server = ReplicaServer(handler, leaf_of(SERVER), lent=loans.serve)
    server.set_members(handler.allowed)
    try:
        yield f"{HOST}:{await server.start(HOST, 0)}"
    finally:
        await server.stop(0.5)


async def silent(_: wire.FetchRequest) -> AsyncGenerator[wire.Lent, None]:
    """Answer nothing."""
    nothing: tuple[wire.Lent, ...] = ()
    for item in nothing:
        yield item


def test_no_stranger_lends() -> None:
    """The door of lent calls is that of all members' calls."""

    async def scenario() -> None:
        loans = Loans()
        async with taking(loans) as address:
            async with ReplicaClient(address, SERVER.public, leaf_of(BOB)) as stranger:
                with pytest.raises((UnreachableError, RefusedError)):
                    await stranger.lend(silent)
            assert not loans.by(BOB.public)

    run(scenario())


def test_nobody_lends_without_end() -> None:
    """One call too many is refused, and those before stay; nothing is left at the end."""

    async def scenario() -> None:
        loans = Loans()
        async with taking(loans) as address:
            async with ReplicaClient(address, SERVER.public, leaf_of(ALICE)) as alice:
                lent = [
                    asyncio.ensure_future(alice.lend(silent)) for _ in range(LENT_MAX)
                ]
                await until(
                    lambda: loans._open[ALICE.public] == LENT_MAX, "all that may be"
                )
                with pytest.raises(OverloadedError):
                    await alice.lend(silent)
                assert not any(call.done() for call in lent)
                for call in lent:
                    call.cancel()
                await asyncio.gather(*lent, return_exceptions=True)
            await until(lambda: not loans.by(ALICE.public), "the end of all")
            assert not loans._idle

    run(scenario())


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (NO_BLOB, NotFoundError),
        (NO_ROOM, OverloadedError),
        (OTHER, RefusedError),
        (77, RefusedError),
    ],
)
def test_a_reply_that_breaks_off_is_no_whole_one(
    reason: int, error: type[Exception]
) -> None:
    """Whatever the reason, also one of later versions; and after half of the bytes."""

    async def breaking(_: wire.FetchRequest) -> AsyncGenerator[wire.Lent, None]:
        yield wire.Lent(data=b"half")
        yield wire.Lent(data=b"unread", refused=reason)

    async def scenario() -> None:
        loans = Loans()
        async with (
            taking(loans) as address,
            ReplicaClient(address, SERVER.public, leaf_of(ALICE)) as alice,
        ):
            lending = asyncio.ensure_future(alice.lend(breaking))
            await until(lambda: loans.by(ALICE.public), "a loan")
            reply = loans.fetch(ALICE.public, SPACE, BLOB, WANTED)
            assert await anext(reply) == b"half"
            with pytest.raises(error):
                await anext(reply)
            await asyncio.gather(lending, return_exceptions=True)

    run(scenario())


def test_lies_on_a_lent_call_are_lies(tmp_path: Path) -> None:
    """Other bytes than were signed are not kept, and their sender is told apart."""
    data = bytes(range(256)) * (2 * CHUNK_BYTES // 256)
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        blob = contributed(guest, space, data)

        async def meet() -> None:
            async with living(owner) as host, hidden(guest, host) as liar:
                honest = liar.links.lends
                assert honest is not None

                async def lies(*asked: object) -> AsyncGenerator[bytes, None]:
                    async for message in honest(*asked):  # type: ignore[arg-type]
                        full = len(message) >= CHUNK_BYTES
                        yield bytes(len(message)) if full else message

                liar.links.lends = lies
                await until(lambda: host.fetching.failed["lied"] > 0, "a lie noticed")
                assert not owner.blobs.has(blob)
                assert host.fetching.loans.used > 0

        run(meet())
