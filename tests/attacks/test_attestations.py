"""What nodes say that they computed: nobody says it for another, and it moves no record."""

from dataclasses import replace
from typing import Any, Final

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import (
    BadSignatureError,
    CrdtMergeError,
    MalformedAttestationError,
)
from crdtmerge.identity import Purpose
from crdtmerge.sync.attestations import Attestation
from crdtmerge.sync.messages import FEATURES, Attestations, SignedBytes
from tests.attacks.fortress import KEEPER, Fortress
from tests.attacks.siege import HELLO, Siege, node_of
from tests.properties.cast import CARL, CLEO, STRANGER

SPEAKING: Final = replace(HELLO, features=FEATURES, heard=True)


def attested(fortress: Fortress, author: Any = CLEO, **changed: Any) -> Attestation:
    """Return what the node of an author might attest."""
    said = Attestation(
        fortress.space, node_of(author).public, 1, b"m" * 32, b"o" * 32, 1, "linux"
    )
    return replace(said, **changed)


def lies(fortress: Fortress) -> dict[str, tuple[SignedBytes, Any]]:
    """Return attestations that are none, and by which error each is refused."""
    true = attested(fortress)
    data, node = true.encode(), node_of(CLEO)
    forged = node_of(CARL).sign(Purpose.ATTESTATION, data)
    return {
        "forged": (SignedBytes(data, forged), BadSignatureError),
        "unsigned": (SignedBytes(data, bytes(64)), BadSignatureError),
        "of another purpose": (
            SignedBytes(data, node.sign(Purpose.RECORD, data)),
            BadSignatureError,
        ),
        "by the author's key": (
            SignedBytes(data, CLEO.sign(Purpose.ATTESTATION, data)),
            BadSignatureError,
        ),
        "of a stranger": (
            attested(fortress, STRANGER).sign(node_of(STRANGER)),
            None,
        ),
        "of another space": (
            attested(fortress, space=SpaceId(bytes(32))).sign(node),
            MalformedAttestationError,
        ),
        "of no attestation": (
            SignedBytes(b"\x90", node.sign(Purpose.ATTESTATION, b"\x90")),
            MalformedAttestationError,
        ),
        "that moves the cursor": (
            attested(fortress, platform="\x1b[2J").sign(node),
            MalformedAttestationError,
        ),
    }


NAMES: Final = (
    "forged",
    "unsigned",
    "of another purpose",
    "by the author's key",
    "of a stranger",
    "of another space",
    "of no attestation",
    "that moves the cursor",
)


@pytest.mark.parametrize("name", NAMES)
def test_forged_attestation(fortress: Fortress, name: str) -> None:
    """It is not believed, not kept and not passed on; the set is not concerned."""
    lie, error = lies(fortress)[name]
    expected: type[CrdtMergeError] | None = error

    async def attack(siege: Siege) -> None:
        await siege.says(CARL, SPEAKING, Attestations(fortress.space, (lie,)))
        assert siege.node.node.attesting.known(fortress.space).latest == {}

    fortress.withstands(expected, attack)


def test_replayed_attestation(fortress: Fortress) -> None:
    """An older word of a node does not replace its newer one, whoever brings it."""
    node = node_of(CLEO)
    old = attested(fortress).sign(node)
    new = attested(fortress, counter=2, model=b"n" * 32).sign(node)

    async def attack(siege: Siege) -> None:
        await siege.says(CLEO, SPEAKING, Attestations(fortress.space, (new,)))
        await siege.says(CARL, SPEAKING, Attestations(fortress.space, (old,) * 9))
        (heard,) = siege.node.node.attesting.known(fortress.space).latest.values()
        assert heard.attestation.model == b"n" * 32

    fortress.withstands(None, attack)


def test_attestation_in_our_own_name(fortress: Fortress) -> None:
    """Nobody tells a node what it computed itself."""
    said = attested(fortress, KEEPER)
    lie = SignedBytes(
        said.encode(), node_of(CARL).sign(Purpose.ATTESTATION, said.encode())
    )

    async def attack(siege: Siege) -> None:
        await siege.says(CARL, SPEAKING, Attestations(fortress.space, (lie,)))

    fortress.withstands(BadSignatureError, attack)
