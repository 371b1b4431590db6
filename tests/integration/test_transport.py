"""Real gRPC on loopback: who gets in, who does not, and what arrives."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from crdtmerge.digest import CHUNK_BYTES, chunk_count, chunk_digests
from crdtmerge.errors import (
    NotFoundError,
    RefusedError,
    UnreachableError,
)
from crdtmerge.identity import SigningKey
from crdtmerge.sync.messages import FeedRequest, Hello, Message
from crdtmerge.sync.runs import Run
from crdtmerge.sync.transfer import Wanted
from nodes.tls import PEER_NAME, root_for
from tests.integration.peers import (
    AFTER,
    ALICE,
    BEFORE,
    BLOB,
    BOB,
    GENERATION,
    SERVER,
    SPACE,
    Echo,
    Send,
    fetched,
    greet,
    members,
    refused_raw,
    run,
    serving,
)

SigningAuthority = Ed25519PrivateKey | ec.EllipticCurvePrivateKey

# --- who gets in ------------------------------------------------------------------------


def test_members_talk() -> None:
    """A member's messages arrive, the answers come back, and both sides end in order."""

    async def scenario() -> None:
        message = FeedRequest(SPACE, GENERATION, 7)
        async with serving(Echo(members(ALICE))) as served:
            async with served.client(ALICE) as alice:
                assert await greet(alice, message) == message
            assert served.handler.streams == [ALICE.public]
            assert served.handler.ended == ["in order"]

    run(scenario())


def test_a_stranger_is_refused() -> None:
    """Who is no member gets no stream and no bytes, and learns no more than that."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE), b"secret")) as served:
            async with served.client(BOB) as bob:
                with pytest.raises(UnreachableError, match="no answer"):
                    await greet(bob)
                with pytest.raises(UnreachableError):
                    await fetched(bob)
            assert served.handler.streams == []

    run(scenario())


def test_nobody_gets_in_where_there_are_no_members() -> None:
    """An empty membership does not mean that no certificate is asked for."""

    async def scenario() -> None:
        async with serving(Echo(frozenset())) as served:
            for key in (ALICE, SERVER):
                async with served.client(key) as peer:
                    with pytest.raises((UnreachableError, RefusedError)):
                        await greet(peer)
            anonymous = grpc.ssl_channel_credentials(root_for(SERVER.public))
            await refused_raw(served.address, anonymous)
            assert served.handler.streams == []

    run(scenario())


def test_a_removed_member_is_refused_on_its_open_channel() -> None:
    """The handshake lies in the past: the next call is checked all the same."""

    async def scenario() -> None:
        async with (
            serving(Echo(members(ALICE, BOB), b"data")) as served,
            served.client(ALICE) as alice,
            served.client(BOB) as bob,
        ):
            await greet(alice)
            served.change(BOB)
            with pytest.raises(RefusedError, match="not a member"):
                await greet(alice)
            with pytest.raises(RefusedError, match="not a member"):
                await fetched(alice)
            await greet(bob)

    run(scenario())


@pytest.mark.parametrize("rest", [(BOB,), ()])
def test_a_removed_member_fails_the_next_handshake(
    rest: tuple[SigningKey, ...],
) -> None:
    """A new channel of a removed member does not come about, even if it was the last."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE, BOB))) as served:
            async with served.client(ALICE) as alice:
                await greet(alice)
            served.change(*rest)
            async with served.client(ALICE) as alice:
                with pytest.raises(UnreachableError):
                    await greet(alice)

    run(scenario())


def test_a_removed_member_loses_its_open_stream() -> None:
    """A stream that never ends by itself ends when its peer is removed."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE, BOB))) as served:

            async def talk(incoming: AsyncIterator[Message], send: Send) -> None:
                await send(Hello(1, "test"))
                await anext(incoming)
                served.change(BOB)
                await anext(incoming)

            async with served.client(ALICE) as alice:
                with pytest.raises(RefusedError, match="no member any more"):
                    await alice.open_stream(talk)
            assert served.handler.ended == ["CancelledError"]

    run(scenario())


def test_a_member_added_at_run_time_gets_in() -> None:
    """Membership grows without a restart; also keys that fit no curve do no harm."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE))) as served:
            async with served.client(BOB) as bob:
                with pytest.raises(UnreachableError):
                    await greet(bob)
            served.change(ALICE, BOB)
            served.server.set_members(
                served.handler.allowed | {b"\xff" * 32, bytes(32)}
            )
            for key in (ALICE, BOB):
                async with served.client(key) as peer:
                    await greet(peer)
            assert served.handler.streams == [ALICE.public, BOB.public]

    run(scenario())


def test_a_server_with_another_key_is_refused() -> None:
    """A client talks to the pinned key alone, though its own key is welcome there."""

    async def scenario() -> None:
        async with serving(Echo(members(ALICE)), BOB) as served:
            async with served.client(ALICE, SERVER.public) as alice:
                with pytest.raises(UnreachableError):
                    await greet(alice)
            assert served.handler.streams == []

    run(scenario())


def rogue_chain(
    issuer_name: str, intermediate: SigningAuthority
) -> grpc.ChannelCredentials:
    """Return Bob's attempt to appear as Alice.

    Bob, a member, signs an authority named `issuer_name`, which signs a leaf.
    """

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def certificate(
        subject: str, issuer: str, public: Any, number: int, *, ca: bool
    ) -> x509.CertificateBuilder:
        names = x509.SubjectAlternativeName([x509.DNSName(PEER_NAME)])
        constraints = x509.BasicConstraints(ca=ca, path_length=None)
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named(issuer))
            .public_key(public)
            .serial_number(number)
            .not_valid_before(BEFORE)
            .not_valid_after(AFTER)
            .add_extension(names, critical=False)
            .add_extension(constraints, critical=True)
        )

    key = ec.generate_private_key(ec.SECP256R1())
    authority = certificate(
        issuer_name, BOB.public.hex(), intermediate.public_key(), 2, ca=True
    ).sign(Ed25519PrivateKey.from_private_bytes(BOB.seed), None)
    algorithm = None if isinstance(intermediate, Ed25519PrivateKey) else hashes.SHA256()
    leaf = certificate("rogue", issuer_name, key.public_key(), 3, ca=False).sign(
        intermediate, algorithm
    )
    chain = leaf.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return grpc.ssl_channel_credentials(root_for(SERVER.public), pem, chain)


@pytest.mark.parametrize("kind", ["P-256", "Ed25519"])
@pytest.mark.parametrize("named", [ALICE.public.hex(), BOB.public.hex(), "authority"])
def test_an_authority_made_by_a_member_signs_in_vain(kind: str, named: str) -> None:
    """Only a leaf signed by a member's own key counts, whatever it vouches for.

    The handshake trusts Bob's root alone, or Alice's would stop the one named like her:
    it passes in every case but the one named like Bob, and the call's check refuses.
    """

    async def scenario() -> None:
        authority: SigningAuthority = (
            Ed25519PrivateKey.from_private_bytes(b"r" * 32)
            if kind == "Ed25519"
            else ec.generate_private_key(ec.SECP256R1())
        )
        async with serving(Echo(members(ALICE, BOB))) as served:
            served.server.set_members(members(BOB))
            code = await refused_raw(served.address, rogue_chain(named, authority))
            passed = named != BOB.public.hex()
            assert (code is grpc.StatusCode.PERMISSION_DENIED) == passed

    run(scenario())


# --- bytes ------------------------------------------------------------------------------


def test_a_fetch_delivers_the_exact_bytes() -> None:
    """Size, chunk list and chunks arrive as they were sent, also from the middle on."""
    data = np.random.default_rng(5).bytes(5 * CHUNK_BYTES + 4321)

    async def scenario() -> None:
        handler = Echo(members(ALICE), data)
        async with serving(handler) as served, served.client(ALICE) as alice:
            size, listed, *chunks = await fetched(alice)
            assert int.from_bytes(size, "little") == len(data)
            assert listed == b"".join(chunk_digests(data))
            assert b"".join(chunks) == data
            assert len(chunks) == chunk_count(len(data))
            assert b"".join((await fetched(alice, first=4))[2:]) == data[4 << 20 :]

    run(scenario())


def test_a_fetch_can_be_left_in_the_middle() -> None:
    """Who stops reading leaves nothing open on either side."""

    async def scenario() -> None:
        handler = Echo(members(ALICE), bytes(8 * CHUNK_BYTES))
        async with serving(handler) as served, served.client(ALICE) as alice:
            replies = alice.fetch(SPACE, BLOB, Wanted(False, (Run(0, 8),)))
            async with contextlib.aclosing(replies):
                await anext(replies)
            await greet(alice)

    run(scenario())


def test_a_blob_that_the_peer_lacks_is_not_found() -> None:
    """Not having a blob is told apart from refusing and from being away."""

    async def scenario() -> None:
        handler = Echo(members(ALICE))
        async with serving(handler) as served, served.client(ALICE) as alice:
            replies = alice.fetch(SPACE, SPACE, Wanted(False, ()))
            with pytest.raises(NotFoundError, match="no such blob"):
                await anext(replies)

    run(scenario())
