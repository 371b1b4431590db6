"""Ed25519 keys: who signed what, for which purpose.

Owns signing and verification; in crdtmerge the sole importer of cryptography. Does not own
where keys are kept, nor what a key may do (`policy`).
"""

from enum import StrEnum
from typing import Final, NewType, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from crdtmerge.errors import BadSignatureError

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_FIELD: Final = 2**255 - 19
_ORDER_8: Final = bytes.fromhex(
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
)
_Y_8: Final = int.from_bytes(_ORDER_8, "little")
_SMALL_ORDER: Final = frozenset((0, 1, _FIELD - 1, _Y_8, _FIELD - _Y_8))
"""The y coordinates of the eight points of small order."""

AuthorId = NewType("AuthorId", bytes)
"""The public key that signs records."""


class Purpose(StrEnum):
    """What a signature is for; signed along, so it cannot be replayed elsewhere."""

    RECORD = "crdtmerge v1 record"
    JOIN_AUTHOR = "crdtmerge v1 join as author"
    JOIN_NODE = "crdtmerge v1 join as node"
    ATTESTATION = "crdtmerge v1 attestation"
    PROBE = "crdtmerge v1 whether a key can sign"
    SUCCESSOR = "crdtmerge v1 consent of a successor"


class Signer(Protocol):
    """Whoever signs as one key: the key itself, or what unlocks it when it must."""

    @property
    def public(self) -> AuthorId:
        """The key that the signatures are checked with; no secret."""
        ...

    def sign(self, purpose: Purpose, message: bytes) -> bytes:
        """Return the 64-byte signature over `purpose` and `message`."""
        ...


class SigningKey:
    """A private Ed25519 key."""

    def __init__(self, seed: bytes) -> None:
        """Take the 32 secret bytes; the caller's entropy, never ours."""
        self.seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = AuthorId(self._key.public_key().public_bytes_raw())

    def sign(self, purpose: Purpose, message: bytes) -> bytes:
        """Return the 64-byte signature over `purpose` and `message`."""
        return self._key.sign(tagged(purpose, message))


def verify(public: bytes, purpose: Purpose, message: bytes, signature: bytes) -> None:
    """Check that the key `public` signed `message` for `purpose`.

    Raises:
        BadSignatureError: it did not, or the key is none.
    """
    _check(public, purpose, message, signature)


def _check(public: bytes, purpose: Purpose, message: bytes, signature: bytes) -> None:
    """Do so: a function of these values alone, which a simulator may remember."""
    if is_weak(public):
        raise BadSignatureError(
            f"{public.hex()[:12]} is a key that anybody can sign for"
        )
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(signature, tagged(purpose, message))
    except (InvalidSignature, ValueError) as e:
        text = f"not signed by {public.hex()[:12]} as {purpose.value!r}"
        raise BadSignatureError(text) from e


def is_weak(public: bytes) -> bool:
    """Tell whether a key is of small order, or spelt in another way than the one.

    SUBTLE: libraries differ on these keys. For a point of small order some accept one
    signature for every message; were it left to them, replicas would differ.
    """
    y = int.from_bytes(public, "little") & (2**255 - 1)
    return y >= _FIELD or y in _SMALL_ORDER


def tagged(purpose: Purpose, message: bytes) -> bytes:
    """Return the bytes that are signed; the zero byte ends the purpose."""
    return purpose.encode() + b"\0" + message
