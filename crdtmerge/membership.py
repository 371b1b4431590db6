"""Proofs that an id is, or is not, in the set that a trie's root is the root of.

Owns what a proof holds and its check, which needs the root alone. Does not own tries
(`crdtmerge.trie`), nor whose root is worth believing.

A proof is the path from the root to the one leaf where the id has its place: of each node
above it the count and the hashes of the fifteen other children, empty ones left out, and
then the digests of the leaf. Whether the id is among these is the answer, and since a root
has one set under it, there is no proof of the other answer. At a million ids a proof takes
some 2.5 KB.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import EncodingError, MalformedProofError
from crdtmerge.trie import (
    DEPTH_MAX,
    LEAF_MAX,
    RADIX,
    Inner,
    Leaf,
    Trie,
    inner_hash,
    nibble,
)

MEMBERSHIP_BYTES_MAX: Final = 64 << 10
"""Above what the deepest path takes: 63 nodes of fifteen hashes, and a leaf."""
_COUNT_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Step:
    """A node above the leaf: how many ids it is over, and its children off the path."""

    count: int
    beside: tuple[bytes, ...]
    """Hashes of the other children, in order; empty bytes for one that holds nothing."""

    def to_value(self) -> Value:
        """Return the plain value."""
        there = sum(1 << place for place, known in enumerate(self.beside) if known)
        return [self.count, there, b"".join(self.beside)]


@dataclass(frozen=True, slots=True)
class Membership:
    """The path to the place of one id, from the root down, and the digests there."""

    steps: tuple[Step, ...]
    items: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Return the one encoding."""
        return encode([[step.to_value() for step in self.steps], b"".join(self.items)])


def prove_membership(trie: Trie, item: bytes) -> Membership:
    """Return the proof that `item` is in the set of `trie`, or that it is not."""
    node, steps = trie.node, []
    while isinstance(node, Inner):
        own, children = nibble(item, node.depth), node.children
        others = (*children[:own], *children[own + 1 :])
        steps.append(
            Step(node.count, tuple(c.hash if c.count else b"" for c in others))
        )
        node = children[own]
    return Membership(tuple(steps), node.items)


def check_membership(root: bytes, item: bytes, proof: Membership) -> bool:
    """Tell whether `item` is in the set with this `root`, as `proof` shows.

    Raises:
        MalformedProofError: it shows nothing of this root, or of this id.
    """
    depth = len(proof.steps)
    shared = [nibble(item, place) for place in range(depth)]
    for one in proof.items:
        if [nibble(one, place) for place in range(depth)] != shared:
            raise MalformedProofError("a digest of the proof lies in another place")
    known, below = Leaf(depth, proof.items).hash, len(proof.items)
    for place in reversed(range(depth)):
        step = proof.steps[place]
        if step.count < max(below, LEAF_MAX + 1):
            raise MalformedProofError("a node of the proof counts less than it holds")
        empty, own = Leaf(place + 1, ()).hash, shared[place]
        hashes = [beside or empty for beside in step.beside]
        hashes.insert(own, known)
        known, below = inner_hash(place, step.count, b"".join(hashes)), step.count
    if known != root:
        raise MalformedProofError("the proof does not lead to this root")
    return item in proof.items


def read_membership(data: bytes) -> Membership:
    """Return the proof that these bytes are; whether it is true is for the check.

    Raises:
        MalformedProofError: they are none.
    """
    try:
        value = decode(data, MEMBERSHIP_BYTES_MAX)
    except EncodingError as e:
        raise MalformedProofError(str(e)) from e
    match value:
        case [[*steps], bytes(joined)] if (
            len(steps) < DEPTH_MAX and len(joined) <= LEAF_MAX * DIGEST_BYTES
        ):
            items = _cut(joined)
        case _:
            raise MalformedProofError("not a proof of membership [steps, digests]")
    if any(one >= other for one, other in pairwise(items)):
        raise MalformedProofError("the digests of a proof are not in their order")
    return Membership(tuple(map(_step_of, steps)), items)


def _step_of(value: Value) -> Step:
    match value:
        case [int(count), int(there), bytes(joined)] if (
            0 <= count <= _COUNT_MAX
            and 0 <= there < 1 << (RADIX - 1)
            and len(joined) == there.bit_count() * DIGEST_BYTES
        ):
            hashes = iter(_cut(joined))
            places = (there >> place & 1 for place in range(RADIX - 1))
            return Step(count, tuple(next(hashes) if one else b"" for one in places))
        case _:
            raise MalformedProofError("a node of a proof is not [count, which, hashes]")


def _cut(joined: bytes) -> tuple[bytes, ...]:
    """Return the digests that were joined."""
    if len(joined) % DIGEST_BYTES:
        raise MalformedProofError("a proof ends within a digest")
    starts = range(0, len(joined), DIGEST_BYTES)
    return tuple(joined[start : start + DIGEST_BYTES] for start in starts)
