"""Doors: what strangers and members can do to the ports before anything is said."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from crdtmerge.errors import NotMemberError, RefusedError, UnreachableError
from crdtmerge.identity import SigningKey
from nodes.channel import METADATA_BYTES_MAX
from nodes.client import ReplicaClient, _pinned_options, _target, open_join
from nodes.convert import to_join_frame
from nodes.join_messages import Announce, Answer, JoinHello
from nodes.limits import JOINER_FRAME_BYTES_MAX
from nodes.tls import LEAF_BYTES_MAX, PEER_NAME, Leaf, peer_of, root_for
from tests.attacks.fortress import Fortress
from tests.attacks.siege import HELLO, SYNC, Siege, framed, node_of
from tests.integration.living import AFTER, BEFORE
from tests.properties.cast import CARL, CLEO, STRANGER

JOIN: Final = "/crdtmerge.v1.Join/Join"


def name_of(text: str) -> x509.Name:
    """Return a name of one part."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def leaf_with(
    signer: SigningKey, issuer: bytes, names: Sequence[str] = (PEER_NAME,)
) -> Leaf:
    """Return a leaf that `signer` signed in the name of `issuer`, with these names."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name_of("a leaf"))
        .issuer_name(name_of(issuer.hex()))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(BEFORE)
        .not_valid_after(AFTER)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]),
            critical=False,
        )
        .sign(Ed25519PrivateKey.from_private_bytes(signer.seed), None)
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Leaf(issuer, certificate.public_bytes(pem), private)


async def refused(siege: Siege, leaf: Leaf, error: type[Exception]) -> None:
    """Check that the node lets nobody in with this leaf."""
    async with ReplicaClient(siege.node.addresses[0], siege.node.me, leaf) as client:
        with pytest.raises(error) as found:
            await client.open_stream(siege.feeding(()))
        assert found.type is error


@pytest.mark.parametrize("count", [300, 2500])
def test_oversized_handshake(fortress: Fortress, count: int) -> None:
    """A member's own leaf that is too large does not come through the handshake.

    Would it come through, it would be refused by its length before it is read.
    """
    node = node_of(CARL)
    names = [PEER_NAME, *(f"n{n}.{'x' * 50}" for n in range(count))]
    large = leaf_with(node, node.public, names)
    assert len(large.chain_pem) > LEAF_BYTES_MAX
    fortress.withstands(None, lambda siege: refused(siege, large, UnreachableError))
    with fortress.refuses(NotMemberError, "a certificate of"):
        peer_of(large.chain_pem, {node.public})


def test_leaf_in_a_members_name(fortress: Fortress) -> None:
    """Who signs a leaf with its own key in another's name does not come in."""
    theirs = node_of(CLEO).public
    for signer in (node_of(STRANGER), node_of(CARL)):
        forged = leaf_with(signer, theirs)
        fortress.withstands(
            None,
            lambda siege: refused(siege, forged, UnreachableError),  # noqa: B023
        )


def test_author_key_is_no_node_key(fortress: Fortress) -> None:
    """Rights are an author's, doors a node's: its author key opens none."""
    leaf = leaf_with(CARL, CARL.public)
    fortress.withstands(None, lambda siege: refused(siege, leaf, UnreachableError))


def test_oversized_metadata(fortress: Fortress) -> None:
    """Headers above their limit end the call before anybody reads them."""
    values = [(f"x-{n}", "v" * 8000) for n in range(64)]
    assert sum(len(value) for _, value in values) > 16 * METADATA_BYTES_MAX

    async def attack(siege: Siege) -> None:
        async with siege.client(CARL) as client:
            call: Any = client._channel.stream_stream(SYNC)(metadata=values)
            with pytest.raises(grpc.aio.AioRpcError):
                await call.read()

    fortress.withstands(None, attack)


@pytest.mark.parametrize("door", ["sync", "join"])
def test_noise_at_the_door(fortress: Fortress, door: str) -> None:
    """Megabytes that are no handshake are not kept; members come in meanwhile."""
    noise = bytes(range(256)) * 4096

    async def attack(siege: Siege) -> None:
        node = siege.node
        (address,) = node.addresses if door == "sync" else node.join_addresses
        host, _, port = address.rpartition(":")
        for _ in range(8):
            reader, writer = await asyncio.open_connection(host, int(port))
            with contextlib.suppress(ConnectionError):
                writer.write(noise)
                await writer.drain()
                await reader.read()
            writer.close()
        await siege.says(CARL)

    fortress.withstands(None, attack)


# --- the join port -----------------------------------------------------------------------


async def joined(siege: Siege, data: bytes) -> str:
    """Send a frame to the join port, as a stranger; return what it is told."""
    limit = "grpc.max_send_message_length"
    options = [*(o for o in _pinned_options() if o[0] != limit), (limit, -1)]
    credentials = grpc.ssl_channel_credentials(root_for(siege.node.me))
    place = _target(siege.node.join_addresses[0])
    async with grpc.aio.secure_channel(place, credentials, options) as channel:
        call: Any = channel.stream_stream(JOIN)()
        with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError):
            await call.write(data)
            while await call.read() is not grpc.aio.EOF:
                pass
        code: grpc.StatusCode = await call.code()
        return code.name


def test_oversized_frame_of_a_joiner(fortress: Fortress) -> None:
    """A stranger's message has a quarter of the room, and is refused by its length."""
    data = bytes(JOINER_FRAME_BYTES_MAX + 1)

    async def attack(siege: Siege) -> None:
        assert await joined(siege, data) not in {"OK", "INTERNAL"}

    fortress.withstands(None, attack)


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        (to_join_frame(Announce(())).SerializeToString(), "INVALID_ARGUMENT"),
        (b"", "INVALID_ARGUMENT"),
        (framed(HELLO), "INVALID_ARGUMENT"),
    ],
)
def test_joiner_that_breaks_the_order(
    fortress: Fortress, frame: bytes, status: str
) -> None:
    """The door answers with a reason that tells nothing of what is inside."""

    async def attack(siege: Siege) -> None:
        assert await joined(siege, frame) == status

    fortress.withstands(None, attack)


def test_stranger_without_a_ticket(fortress: Fortress) -> None:
    """Knowing the space's id is not enough: nothing is granted, and nothing is signed."""
    fortress.home.local.add_invite(fortress.space, b"s" * 16)

    async def talk(incoming: Any, send: Any) -> None:
        await send(JoinHello(fortress.space))
        await anext(incoming)
        node = node_of(STRANGER)
        await send(
            Answer(STRANGER.public, node.public, bytes(64), bytes(64), bytes(32))
        )
        await anext(incoming)

    async def attack(siege: Siege) -> None:
        with pytest.raises(RefusedError, match="not valid here") as found:
            await open_join(siege.node.join_addresses[0], siege.node.me, talk)
        assert found.type is RefusedError

    fortress.withstands(None, attack)
