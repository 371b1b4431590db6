"""Certificates: from a node's key to its TLS leaf, and from a leaf back to its node.

Owns every X.509 structure; in nodes the sole importer of `cryptography.x509`. Does not own
who is a member, nor when a leaf is made: it reads no clock.

A node's identity is a raw Ed25519 key. gRPC takes neither an Ed25519 leaf nor a verifier of
our own, so a node signs a P-256 leaf with its key, and the verifier builds the root of that
leaf by itself from the 32 public bytes it trusts.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from crdtmerge.errors import NotMemberError
from crdtmerge.identity import KEY_BYTES, SigningKey

PEER_NAME: Final = "peer.node"
"""The host name in every leaf: addresses change, and prove nothing."""
LEAF_BYTES_MAX: Final = 16 << 10
ROOTS_CACHED: Final = 4096

_ROOT_NOT_BEFORE: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ROOT_NOT_AFTER: Final = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a node shows in a handshake: its leaf, and the private key of that leaf."""

    node: bytes
    chain_pem: bytes
    key_pem: bytes = field(repr=False)


def make_leaf(
    node: SigningKey,
    not_before: datetime,
    not_after: datetime,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Leaf:
    """Return a leaf of `node`, over `key` or a fresh one.

    Its subject is unique to its key: gRPC mixes up leaves that share a subject.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    spki = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    unique = sha256(spki).digest()[:16]
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    names = [x509.DNSName(PEER_NAME)]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(f"leaf {unique.hex()}"))
        .issuer_name(_name(node.public.hex()))
        .public_key(public)
        .serial_number(int.from_bytes(unique) | 1)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(Ed25519PrivateKey.from_private_bytes(node.seed), None)
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain_pem = certificate.public_bytes(serialization.Encoding.PEM)
    return Leaf(bytes(node.public), chain_pem, key_pem)


@lru_cache(maxsize=ROOTS_CACHED)
def root_for(node: bytes) -> bytes:
    """Return the root (PEM) that trusts exactly the leaves that `node` signed.

    The signature in it is a filler, made with the public bytes as a seed: nobody checks
    the signature of a trust anchor, and its owner's we cannot make.
    """
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(node.hex()))
        .issuer_name(_name(node.hex()))
        .public_key(Ed25519PublicKey.from_public_bytes(node))
        .serial_number(1)
        .not_valid_before(_ROOT_NOT_BEFORE)
        .not_valid_after(_ROOT_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(Ed25519PrivateKey.from_private_bytes(node), None)
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def peer_of(leaf_pem: bytes, members: Collection[bytes]) -> bytes:
    """Return the member whose leaf this is.

    The handshake does not suffice: it trusts whatever a member's key leads to, and what was
    a member when the channel was opened. Here the leaf must name a member as its issuer and
    bear that member's own signature.

    Raises:
        NotMemberError: it is nobody's, or not a member's.
    """
    certificate = _parse(leaf_pem)
    node = _issuer(certificate)
    if node not in members:
        raise NotMemberError(f"node {node.hex()[:12]} is not a member")
    try:
        # SUBTLE: with the member's key itself, whatever algorithm the certificate names.
        Ed25519PublicKey.from_public_bytes(node).verify(
            certificate.signature, certificate.tbs_certificate_bytes
        )
    except InvalidSignature as e:
        text = f"a certificate that node {node.hex()[:12]} did not sign itself"
        raise NotMemberError(text) from e
    return node


def _parse(leaf_pem: bytes) -> x509.Certificate:
    if not 0 < len(leaf_pem) <= LEAF_BYTES_MAX:
        raise NotMemberError(f"a certificate of {len(leaf_pem)} bytes")
    try:
        return x509.load_pem_x509_certificate(leaf_pem)
    except (ValueError, x509.InvalidVersion) as e:
        raise NotMemberError("a certificate that cannot be read") from e


def _issuer(certificate: x509.Certificate) -> bytes:
    """Return the node id that the issuer's name consists of."""
    try:
        (name,) = certificate.issuer
        node = bytes.fromhex(str(name.value))
    except ValueError as e:
        raise NotMemberError("a certificate whose issuer is no node") from e
    if len(node) != KEY_BYTES or certificate.issuer != _name(node.hex()):
        raise NotMemberError("a certificate whose issuer is no node")
    return node


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
