"""A leaf proves exactly one node, to those who know no more than its 32 public bytes."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from crdtmerge.errors import NotMemberError
from crdtmerge.identity import SigningKey
from nodes.tls import PEER_NAME, make_leaf, peer_of, root_for

BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
AFTER = datetime(2040, 1, 1, tzinfo=UTC)
ALICE = SigningKey(b"a" * 32)
BOB = SigningKey(b"b" * 32)
BOTH = frozenset({ALICE.public, BOB.public})


def forged(issuer: str, seed: bytes) -> bytes:
    """Return a leaf that names `issuer` and is signed by the key of `seed`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(7)
        .not_valid_before(BEFORE)
        .not_valid_after(AFTER)
        .sign(Ed25519PrivateKey.from_private_bytes(seed), None)
        .public_bytes(Encoding.PEM)
    )


def test_a_leaf_names_the_member_that_signed_it() -> None:
    """Each member is told apart by its leaf."""
    for node in (ALICE, BOB):
        leaf = make_leaf(node, BEFORE, AFTER)
        assert leaf.node == node.public
        assert peer_of(leaf.chain_pem, BOTH) == node.public


def test_a_leaf_hangs_on_the_root_that_others_build() -> None:
    """Issuer, signature and validity of a leaf fit the root made from the key alone."""
    leaf = x509.load_pem_x509_certificate(make_leaf(ALICE, BEFORE, AFTER).chain_pem)
    root = x509.load_pem_x509_certificate(root_for(ALICE.public))
    leaf.verify_directly_issued_by(root)
    assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (BEFORE, AFTER)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == [PEER_NAME]
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=None)


def test_every_start_makes_another_subject() -> None:
    """Two leaves of one node differ in key and subject; one key gives one subject."""
    one, two = (make_leaf(ALICE, BEFORE, AFTER) for _ in range(2))
    key = load_pem_private_key(one.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    again = make_leaf(ALICE, BEFORE, AFTER, key)
    subjects = [
        x509.load_pem_x509_certificate(leaf.chain_pem).subject
        for leaf in (one, two, again)
    ]
    assert subjects[0] != subjects[1]
    assert subjects[0] == subjects[2]


def test_a_root_depends_on_the_key_alone() -> None:
    """Two verifiers build the same root; any 32 bytes that a record names give one."""
    root_for.cache_clear()
    first = root_for(ALICE.public)
    root_for.cache_clear()
    assert root_for(ALICE.public) == first
    assert b"CERTIFICATE" in root_for(b"\xff" * 32)


def test_a_stranger_is_no_member() -> None:
    """A good leaf of a node that is not, or not any more, a member is refused."""
    leaf = make_leaf(ALICE, BEFORE, AFTER)
    with pytest.raises(NotMemberError, match="not a member"):
        peer_of(leaf.chain_pem, {BOB.public})


def test_a_leaf_that_another_signed_in_a_members_name_is_refused() -> None:
    """A rogue intermediate named like a member signs leaves in vain."""
    with pytest.raises(NotMemberError, match="did not sign"):
        peer_of(forged(ALICE.public.hex(), BOB.seed), BOTH)
    assert peer_of(forged(ALICE.public.hex(), ALICE.seed), BOTH) == ALICE.public


@pytest.mark.parametrize(
    "issuer",
    ["somebody", ALICE.public.hex().upper(), ALICE.public.hex()[:62], "a b" * 20],
)
def test_an_issuer_that_is_no_node_is_refused(issuer: str) -> None:
    """The issuer has one spelling: 64 lower-case hexadecimal digits."""
    with pytest.raises(NotMemberError, match="no node"):
        peer_of(forged(issuer, ALICE.seed), BOTH)


@pytest.mark.parametrize("pem", [b"", b"no certificate", b"x" * (1 << 20)])
def test_a_certificate_that_cannot_be_read_is_refused(pem: bytes) -> None:
    """Whatever the other side shows, it is our error that is raised."""
    with pytest.raises(NotMemberError):
        peer_of(pem, BOTH)


def test_a_leaf_does_not_print_its_private_key() -> None:
    """A log line with a leaf in it gives nothing away."""
    leaf = make_leaf(ALICE, BEFORE, AFTER)
    assert "PRIVATE" not in repr(leaf)
