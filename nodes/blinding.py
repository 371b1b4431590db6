"""What a node says of itself on a local network: a sign that only members can read.

Owns the sign. Does not own how it travels (`local_network`). A stranger sees that some node
listens at an address, and a random number; who knows the id of a space finds in it which of
its members that is. Space ids are known to members and to holders of tickets alone.
"""

import hmac
import random
from collections.abc import Iterable, Mapping
from typing import Final

from crdtmerge.bodies import SpaceId

NONCE_BYTES: Final = 16
MARK_BYTES: Final = 8
MARKS: Final = 8
"""Marks of one sign, for as many spaces; what is not used is random, so nobody counts."""
SIGN_BYTES: Final = NONCE_BYTES + MARKS * MARK_BYTES


def sign_of(node: bytes, spaces: Iterable[SpaceId], rng: random.Random) -> bytes:
    """Return a fresh sign of `node`; with many spaces, for some drawn by chance.

    `rng` must be one that strangers cannot predict.
    """
    nonce = rng.randbytes(NONCE_BYTES)
    ordered = sorted(spaces)
    drawn = rng.sample(ordered, min(MARKS, len(ordered)))
    marks = [_mark(space, nonce, node) for space in drawn]
    marks += [rng.randbytes(MARK_BYTES) for _ in range(MARKS - len(marks))]
    rng.shuffle(marks)
    return nonce + b"".join(marks)


def whose(sign: bytes, members: Mapping[SpaceId, Iterable[bytes]]) -> bytes | None:
    """Return the member node that a sign is of; None if it is of nobody we know.

    What is found was not proved: only the key that answers at the address proves it.
    """
    if len(sign) != SIGN_BYTES:
        return None
    nonce, rest = sign[:NONCE_BYTES], sign[NONCE_BYTES:]
    marks = {rest[i : i + MARK_BYTES] for i in range(0, len(rest), MARK_BYTES)}
    for space in sorted(members):
        for node in sorted(members[space]):
            if _mark(space, nonce, node) in marks:
                return node
    return None


def _mark(space: SpaceId, nonce: bytes, node: bytes) -> bytes:
    message = b"crdtmerge mdns 1\0" + nonce + node
    return hmac.digest(space, message, "sha256")[:MARK_BYTES]
