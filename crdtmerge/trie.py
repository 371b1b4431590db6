"""The radix-16 hash trie over digests: one root for one set, whatever its history.

Owns the shape rule, node hashes, insert, delete, descent. Does not own what the digests
name, nor the protocol that compares two tries (`sync.reconcile`).

Shape: a node is a leaf if and only if its subtree holds at most `LEAF_MAX` digests, so the
shape depends only on the set: deleting collapses, and every history equals a fresh build.
Every node hashes its depth and count under a domain of its own, so no leaf can be replayed
as an inner node or at another depth. Nodes are immutable and shared between versions.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from operator import is_
from typing import Final

from crdtmerge.digest import DIGEST_BYTES, Domain, digest

RADIX: Final = 16
LEAF_MAX: Final = 16
DEPTH_MAX: Final = 2 * DIGEST_BYTES

Prefix = tuple[int, ...]
"""The nibbles from the root to a node."""


def nibble(item: bytes, depth: int) -> int:
    """Return the 4 bits of `item` that choose the child at `depth`."""
    byte = item[depth // 2]
    return byte & 15 if depth % 2 else byte >> 4


@dataclass(frozen=True)
class Leaf:
    """A subtree of at most `LEAF_MAX` digests, sorted."""

    depth: int
    items: tuple[bytes, ...]

    @property
    def count(self) -> int:
        """Number of digests below."""
        return len(self.items)

    @cached_property
    def hash(self) -> bytes:
        """Hash over depth, count and digests."""
        head = bytes([self.depth]) + self.count.to_bytes(8, "little")
        return digest(Domain.TRIE_LEAF, head + b"".join(self.items))


@dataclass(frozen=True)
class Inner:
    """A subtree of more than `LEAF_MAX` digests: sixteen children."""

    depth: int
    children: tuple["Node", ...]
    count: int = field(init=False)

    def __post_init__(self) -> None:
        """Count once; nodes are immutable."""
        object.__setattr__(self, "count", sum(child.count for child in self.children))

    @cached_property
    def hash(self) -> bytes:
        """Hash over depth, count and the children's hashes."""
        head = bytes([self.depth]) + self.count.to_bytes(8, "little")
        hashes = b"".join(child.hash for child in self.children)
        return digest(Domain.TRIE_NODE, head + hashes)


Node = Leaf | Inner


@dataclass(frozen=True)
class Trie:
    """An immutable set of 32-byte digests with a Merkle root."""

    node: Node = Leaf(0, ())

    @classmethod
    def build(cls, items: Iterable[bytes]) -> "Trie":
        """Return the trie of `items` (any order, duplicates allowed)."""
        return cls(_build(sorted(set(items)), 0))

    @property
    def root(self) -> bytes:
        """The 32-byte Merkle root."""
        return self.node.hash

    def __len__(self) -> int:
        """Return the number of digests."""
        return self.node.count

    def __contains__(self, item: bytes) -> bool:
        """Tell whether `item` is in the set."""
        node = self.node
        while isinstance(node, Inner):
            node = node.children[nibble(item, node.depth)]
        return item in node.items

    def __iter__(self) -> Iterator[bytes]:
        """Yield the digests in sorted order."""
        return _items(self.node)

    def insert(self, items: Iterable[bytes]) -> "Trie":
        """Return the trie with `items` added; O(log n) new nodes an item at most."""
        ordered = sorted(set(items))
        return Trie(_insert(self.node, ordered)) if ordered else self

    def delete(self, items: Iterable[bytes]) -> "Trie":
        """Return the trie without `items`; absent ones are ignored."""
        node = self.node
        for item in items:
            node = _delete(node, item)
        return Trie(node)

    def at(self, prefix: Prefix) -> Node | None:
        """Return the node at `prefix`, or None if a leaf or nothing lies above it."""
        node = self.node
        for step in prefix:
            if isinstance(node, Leaf):
                return None
            node = node.children[step]
        return node

    def below(self, prefix: Prefix) -> list[bytes]:
        """Return the digests that start with the nibbles of `prefix`, sorted."""
        node = self.node
        for step in prefix:
            if isinstance(node, Leaf):
                break
            node = node.children[step]
        return [item for item in _items(node) if _starts(item, prefix)]


def _starts(item: bytes, prefix: Prefix) -> bool:
    fits = len(prefix) <= 2 * len(item)  # a peer chose the prefix
    return fits and all(nibble(item, d) == step for d, step in enumerate(prefix))


def _items(node: Node) -> Iterator[bytes]:
    if isinstance(node, Leaf):
        yield from node.items
    else:
        for child in node.children:
            yield from _items(child)


def _build(items: Sequence[bytes], depth: int) -> Node:
    """Build from sorted unique digests that share their first `depth` nibbles."""
    if len(items) <= LEAF_MAX:
        return Leaf(depth, tuple(items))
    return Inner(depth, tuple(_build(part, depth + 1) for part in _parts(items, depth)))


def _parts(items: Sequence[bytes], depth: int) -> list[Sequence[bytes]]:
    """Cut sorted digests that share their first `depth` nibbles into the sixteen."""
    head, cuts = items[0][: depth // 2], [0]
    if depth % 2:
        shared = items[0][depth // 2] & 0xF0
        starts = [shared | step for step in range(1, RADIX)]
    else:
        starts = [step << 4 for step in range(1, RADIX)]
    for start in starts:
        cuts.append(bisect_left(items, head + bytes((start,)), cuts[-1]))
    cuts.append(len(items))
    return [items[low:high] for low, high in pairwise(cuts)]


def _insert(node: Node, items: Sequence[bytes]) -> Node:
    """Return the node with sorted unique digests added, one at least.

    It is the node itself if it has them all, and children that gain nothing are shared.
    """
    if isinstance(node, Leaf):
        union = sorted({*node.items, *items})
        return node if len(union) == node.count else _build(union, node.depth)
    if len(items) == 1:  # most often; cutting would cost more than the rest
        step = nibble(items[0], node.depth)
        child = _insert(node.children[step], items)
        if child is node.children[step]:
            return node
        return Inner(
            node.depth, (*node.children[:step], child, *node.children[step + 1 :])
        )
    parts = zip(node.children, _parts(items, node.depth), strict=True)
    children = tuple(_insert(child, part) if part else child for child, part in parts)
    if all(map(is_, children, node.children)):
        return node
    return Inner(node.depth, children)


def _delete(node: Node, item: bytes) -> Node:
    if isinstance(node, Leaf):
        if item not in node.items:
            return node
        return Leaf(node.depth, tuple(i for i in node.items if i != item))
    step = nibble(item, node.depth)
    child = _delete(node.children[step], item)
    if child is node.children[step]:
        return node
    if node.count - 1 <= LEAF_MAX:
        # SUBTLE: collapse, or the root would depend on what was once here.
        return Leaf(node.depth, tuple(i for i in _items(node) if i != item))
    return Inner(node.depth, (*node.children[:step], child, *node.children[step + 1 :]))
