"""The radix-16 hash trie over digests: one root for one set, whatever its history.

Owns the shape rule, node hashes, insert, delete, descent, and what a source of nodes that
are read when asked for has to give. Does not own what the digests name, where nodes are
kept (`crdtmerge.trie_rows` says as what), proofs about a root (`crdtmerge.membership`), nor
the protocol that compares two tries (`sync.reconcile`).

Shape: a node is a leaf if and only if its subtree holds at most `LEAF_MAX` digests, so the
shape depends only on the set: deleting collapses, and every history equals a fresh build.
Every node hashes its depth and count under a domain of its own, so no leaf can be replayed
as an inner node or at another depth. Nodes are immutable and shared between versions.

An inner node of at most `BUCKET_MAX` digests holds those alone: the nodes below it are made
when somebody asks, or a million digests would cost half a million objects. A node of a
source holds its count and hash, and reads the rest once; what is read is checked by them.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import is_, lt
from typing import Final, Protocol, final

from crdtmerge.digest import DIGEST_BYTES, Domain, digest

RADIX: Final = 16
LEAF_MAX: Final = 16
BUCKET_MAX: Final = 64
"""Most digests of an inner node that holds no nodes; of no effect on any hash."""
DEPTH_MAX: Final = 2 * DIGEST_BYTES
COUNT_BYTES: Final = 8
ENTRY_BYTES: Final = COUNT_BYTES + DIGEST_BYTES
"""What a row says of one child: its count, little-endian, and its hash."""

Prefix = tuple[int, ...]
"""The nibbles from the root to a node."""


class Source(Protocol):
    """Keeps the nodes of a trie; what it gives is checked against what is known."""

    def row(self, prefix: Prefix) -> bytes | None:
        """Return the `RADIX` entries of the inner node at `prefix`, if it is kept."""

    def items(self, prefix: Prefix) -> list[bytes]:
        """Return the digests below `prefix`, in the order in which they came."""

    def misfit(self) -> None:
        """Hear that what it gave is not what the hash above says: the disk changed it."""


def nibble(item: bytes, depth: int) -> int:
    """Return the 4 bits of `item` that choose the child at `depth`."""
    byte = item[depth // 2]
    return byte & 15 if depth % 2 else byte >> 4


class _Node(ABC):
    """A subtree: what leaves and inner nodes have in common."""

    __slots__ = ("_hash", "_origin", "count", "depth")

    depth: int
    count: int
    """Number of digests below."""
    _hash: bytes | None
    _origin: tuple[Source, Prefix] | None
    """Where to read what is below, until it was read."""

    @property
    def hash(self) -> bytes:
        """Hash over depth, count, and what is below; computed once."""
        known = self._hash
        if known is None:
            known = self._hash = self._hashed()
        return known

    @abstractmethod
    def _hashed(self) -> bytes:
        """Compute the hash."""

    def __eq__(self, other: object) -> bool:
        """Tell whether both are the same kind of node over the same digests."""
        return type(self) is type(other) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at depth {self.depth} over {self.count}>"


@final
class Leaf(_Node):
    """A subtree of at most `LEAF_MAX` digests, sorted."""

    __slots__ = ("_items",)

    def __init__(self, depth: int, items: tuple[bytes, ...]) -> None:
        self.depth = depth
        self.count = len(items)
        self._items: tuple[bytes, ...] | None = items
        self._hash = self._origin = None

    @property
    def items(self) -> tuple[bytes, ...]:
        """The digests; read now, if they were not yet."""
        known = self._items
        if known is None:
            known = self._items = tuple(_read_items(self))
        return known

    def _hashed(self) -> bytes:
        return _leaf_hash(self.depth, self.items)


@final
class Inner(_Node):
    """A subtree of more than `LEAF_MAX` digests: sixteen children."""

    __slots__ = ("_children", "_items")

    def __init__(
        self, depth: int, children: tuple["Node", ...], count: int | None = None
    ) -> None:
        """Join `children`; `count` is the sum of theirs, for who knows it."""
        self.depth = depth
        self.count = sum(c.count for c in children) if count is None else count
        self._children: tuple[Node, ...] | None = children
        self._items: tuple[bytes, ...] | None = None
        self._hash = self._origin = None

    @classmethod
    def _bucket(cls, depth: int, items: tuple[bytes, ...]) -> "Inner":
        """Return the node over a few sorted digests."""
        made = cls(depth, (), len(items))
        made._children, made._items = None, items
        return made

    @property
    def children(self) -> tuple["Node", ...]:
        """The nodes below, by the next nibble; read now, if they were not yet."""
        known = self._children
        if known is not None:
            return known
        items = self.bucket
        if items is not None:
            parts = _parts(items, self.depth)
            return tuple(_made(part, self.depth + 1) for part in parts)
        known = self._children = _read_children(self)
        return known

    @property
    def bucket(self) -> tuple[bytes, ...] | None:
        """The digests below, if they are few enough to be held as such."""
        if self.count > BUCKET_MAX:
            return None
        if self._items is None and self._children is None:
            self._items = tuple(_read_items(self))
        return self._items

    def _hashed(self) -> bytes:
        if self._items is not None:
            return _hash_over(self._items, self.depth)
        hashes = b"".join([c.hash for c in self.children])
        return inner_hash(self.depth, self.count, hashes)


Node = Leaf | Inner

_EMPTY: Final = tuple(Leaf(depth, ()) for depth in range(DEPTH_MAX + 1))
"""The leaves without a digest, by depth."""


def kept(depth: int, count: int, known: bytes, source: Source, at: Prefix) -> Node:
    """Return the node of this count and hash, whose inside `source` keeps."""
    if not count:
        return _EMPTY[depth]
    node: Node
    if count <= LEAF_MAX:
        node = Leaf(depth, ())
    else:
        node = Inner(depth, ())
        node._children = None  # noqa: SLF001
    node._items, node.count, node._hash = None, count, known  # noqa: SLF001
    node._origin = source, at  # noqa: SLF001
    return node


@dataclass(frozen=True, slots=True)
class Trie:
    """An immutable set of 32-byte digests with a Merkle root."""

    node: Node = _EMPTY[0]

    @classmethod
    def build(cls, items: Iterable[bytes]) -> "Trie":
        """Return the trie of `items` (any order, duplicates allowed)."""
        return cls(_made(_ordered(items), 0))

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
        while (items := _held(node)) is None:
            node = node.children[nibble(item, node.depth)]  # type: ignore[union-attr]
        return item in items

    def __iter__(self) -> Iterator[bytes]:
        """Yield the digests in sorted order."""
        return _items(self.node)

    def insert(self, items: Iterable[bytes]) -> "Trie":
        """Return the trie with `items` added; O(log n) new nodes an item at most."""
        ordered = _ordered(items)
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
            if (items := _held(node)) is not None:
                return [item for item in items if _starts(item, prefix)]
            node = node.children[step]  # type: ignore[union-attr]
        return list(_items(node))


def inner_hash(depth: int, count: int, hashes: bytes) -> bytes:
    """Return the hash of an inner node over those of its children, joined."""
    return digest(Domain.TRIE_NODE, _head(depth, count) + hashes)


def _leaf_hash(depth: int, items: Sequence[bytes]) -> bytes:
    return digest(Domain.TRIE_LEAF, _head(depth, len(items)) + b"".join(items))


def _head(depth: int, count: int) -> bytes:
    return (depth | count << 8).to_bytes(1 + COUNT_BYTES, "little")


def _starts(item: bytes, prefix: Prefix) -> bool:
    fits = len(prefix) <= 2 * len(item)  # a peer chose the prefix
    return fits and all(nibble(item, d) == step for d, step in enumerate(prefix))


def _held(node: Node) -> tuple[bytes, ...] | None:
    """Return the digests of a node that holds no nodes."""
    return node.items if isinstance(node, Leaf) else node.bucket


def _items(node: Node) -> Iterator[bytes]:
    if (items := _held(node)) is not None:
        yield from items
    else:
        for child in node.children:  # type: ignore[union-attr]
            yield from _items(child)


def _ordered(items: Iterable[bytes]) -> list[bytes]:
    """Return the digests sorted, each once."""
    ordered = sorted(items)
    # a set of a million would cost as much as the sort does
    if all(map(lt, ordered, ordered[1:])):
        return ordered
    return sorted(set(ordered))


def _made(items: Sequence[bytes], depth: int) -> Node:
    """Make the node of sorted unique digests that share their first `depth` nibbles."""
    if not items:
        return _EMPTY[depth]
    if len(items) <= LEAF_MAX:
        return Leaf(depth, tuple(items))
    if len(items) <= BUCKET_MAX:
        return Inner._bucket(depth, tuple(items))  # noqa: SLF001
    children = tuple([_made(part, depth + 1) for part in _parts(items, depth)])
    return Inner(depth, children, len(items))


def _hash_over(items: Sequence[bytes], depth: int) -> bytes:
    """Return the hash of `_made` of the same, without making its nodes."""
    if not items:
        return _EMPTY[depth].hash
    if len(items) <= LEAF_MAX:
        return _leaf_hash(depth, items)
    hashes = [_hash_over(part, depth + 1) for part in _parts(items, depth)]
    return inner_hash(depth, len(items), b"".join(hashes))


def _parts(items: Sequence[bytes], depth: int) -> list[Sequence[bytes]]:
    """Cut sorted digests that share their first `depth` nibbles into the sixteen."""
    if not items:
        return [items] * RADIX
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
    if (held := _held(node)) is not None:
        union = sorted({*held, *items})
        return node if len(union) == node.count else _made(union, node.depth)
    before: tuple[Node, ...] = node.children  # type: ignore[union-attr]
    if len(items) == 1:  # most often; cutting would cost more than the rest
        step = nibble(items[0], node.depth)
        child = _insert(before[step], items)
        return _replaced(node, step, child)  # type: ignore[arg-type]
    parts = zip(before, _parts(items, node.depth), strict=True)
    children = tuple([_insert(child, part) if part else child for child, part in parts])
    return node if all(map(is_, children, before)) else Inner(node.depth, children)


def _replaced(node: Inner, step: int, child: Node) -> Inner:
    """Return the node with another child at `step`; itself, if it is that one."""
    before = node.children
    if child is before[step]:
        return node
    count = node.count + child.count - before[step].count
    return Inner(node.depth, (*before[:step], child, *before[step + 1 :]), count)


def _delete(node: Node, item: bytes) -> Node:
    if (held := _held(node)) is not None:
        if item not in held:
            return node
        return _made([i for i in held if i != item], node.depth)
    step = nibble(item, node.depth)
    child = _delete(node.children[step], item)  # type: ignore[union-attr]
    left = _replaced(node, step, child)  # type: ignore[arg-type]
    if left.count <= BUCKET_MAX:
        # SUBTLE: collapse, or the root would depend on what was once here.
        return _made(list(_items(left)), node.depth)
    return left


# --- reading what a source keeps --------------------------------------------------------


def _read_children(node: Inner) -> tuple[Node, ...]:
    """Read the children of a node that was not read yet, or make them of its digests."""
    source, prefix = node._origin  # type: ignore[misc]  # noqa: SLF001
    row = source.row(prefix) or b""
    if len(row) == RADIX * ENTRY_BYTES:
        entries = [row[at : at + ENTRY_BYTES] for at in range(0, len(row), ENTRY_BYTES)]
        counts = [int.from_bytes(entry[:COUNT_BYTES], "little") for entry in entries]
        hashes = [entry[COUNT_BYTES:] for entry in entries]
        known = inner_hash(node.depth, sum(counts), b"".join(hashes))
        if sum(counts) == node.count and known == node.hash:
            below = zip(counts, hashes, range(RADIX), strict=True)
            depth = node.depth + 1
            return tuple([kept(depth, c, h, source, (*prefix, s)) for c, h, s in below])
    parts = _parts(_read_items(node), node.depth)
    return tuple([_made(part, node.depth + 1) for part in parts])


def _read_items(node: Node) -> list[bytes]:
    """Read the digests of a node that was not read yet, sorted.

    Others than it says are given as well, and the source hears of it: the root is wrong
    then, and only the source knows all that it should be over.

    SUBTLE: the source may have grown since, as it does under who reads beside a writer. The
    digests of then are the first so many, and have the hash of then.
    """
    source, prefix = node._origin  # type: ignore[misc]  # noqa: SLF001
    items = sorted(source.items(prefix)[: node.count])
    if _hash_over(items, node.depth) != node.hash:
        source.misfit()
    return items
