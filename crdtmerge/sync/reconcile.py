"""Trie repair: find which digests a peer holds and we lack, level by level.

Owns the descent of one side, whichever encoding a level has, and that of whole hashes,
which every peer speaks; `compare` owns the shorter one. Does not own messages' bytes, nor
when to repair (`repairing`). Two tries of one shape rule line up, so equal hashes end a
path, and a difference costs one path.

A descent keeps no trie: ours is handed in at each step, for it grows meanwhile.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import MalformedMessageError
from crdtmerge.sync.messages import (
    MESSAGE_BYTES_MAX,
    PREFIXES_MAX,
    CompareReply,
    CompareRequest,
    TrieInner,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from crdtmerge.trie import (
    DEPTH_MAX,
    LEAF_MAX,
    RADIX,
    Inner,
    Leaf,
    Node,
    Prefix,
    Trie,
    nibble,
)

REPAIR_NODES_SPARE: Final = 1 << 16
"""Trie nodes that a peer may show, beside what our own trie explains, before a record
comes of it: a peer that makes up more is cut off."""
REPAIR_DEPTH_MAX: Final = 24
"""Deepest inner node believed in: below it, 17 ids would share 96 bits, and nobody can
make such ids. With the order of `Descent` it bounds the frontier, whatever a peer says."""
FRONTIER_MAX: Final = 1 << 18
"""Most prefixes that wait to be asked for; others are left to the next repair."""
REPLY_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 4096
NODE_OVERHEAD_BYTES: Final = 2 * DEPTH_MAX + 16

Shown = tuple[Prefix, Sequence[bytes], bool]
"""What a peer shows at a prefix: ids if it is true, or the marks of sixteen children."""
_Asking = TypeVar("_Asking", TrieRequest, CompareRequest)
_Reply = TypeVar("_Reply", TrieReply, CompareReply)


@dataclass(slots=True)
class Descent(ABC, Generic[_Asking, _Reply]):
    """One repair: which prefixes are still to be asked for, and what we lack.

    `taken` counts the peer's nodes since `progressed` was called last. A mark stands for
    the hash of a node: one encoding shows it whole, the other shortened.
    """

    frontier: list[Prefix] = field(default_factory=lambda: [()])
    asked: tuple[Prefix, ...] = ()
    lacking: dict[bytes, None] = field(default_factory=dict)
    taken: int = 0

    @abstractmethod
    def question(self, space: bytes, trie: Trie) -> _Asking | None:
        """Return what to ask next; none when the descent is over."""

    @abstractmethod
    def _shown(self, reply: _Reply) -> tuple[int, list[Shown]]:
        """Return how many prefixes a reply covers, and what it shows.

        Raises:
            MalformedMessageError: it is no answer to what was asked.
        """

    @abstractmethod
    def _marks(self, hashes: Sequence[bytes | None], depth: int) -> list[bytes]:
        """Return the marks of children at `depth` with these hashes, none if empty."""

    @abstractmethod
    def _empty(self, depth: int) -> bytes:
        """Return the mark of a child at `depth` that holds nothing."""

    def progressed(self) -> None:
        """Note that the peer's nodes led to a record: it may show as many again."""
        self.taken = 0

    def take(self, trie: Trie, reply: _Reply) -> None:
        """Compare what the peer shows with ours; what is not covered is asked again.

        Raises:
            MalformedMessageError: it is not what was asked for.
        """
        covered, shown = self._shown(reply)
        self.taken += len(shown)
        # Where nothing is lacking the peer's nodes lie on ours, at most two an id of ours.
        if self.taken > REPAIR_NODES_SPARE + 2 * len(trie):
            raise MalformedMessageError("trie nodes without end, and no record")
        rest: tuple[Prefix, ...] = self.asked[covered:]
        self.asked = ()
        found: list[Prefix] = []
        for prefix, content, listed in shown:
            if listed:
                self._take_ids(trie, prefix, content)
            else:
                found += self._differing(trie, prefix, content)
        # SUBTLE: deepest first, or a frontier of a whole level would have to be kept.
        self.frontier = [*found, *rest, *self.frontier][:FRONTIER_MAX]

    def _take_ids(self, trie: Trie, prefix: Prefix, ids: Sequence[bytes]) -> None:
        if not all(_lies_below(item, prefix) for item in ids):
            raise MalformedMessageError("a digest that does not lie below its leaf")
        self.lacking |= dict.fromkeys(i for i in ids if i not in trie)

    def _differing(
        self, trie: Trie, prefix: Prefix, theirs: Sequence[bytes]
    ) -> list[Prefix]:
        """Return the children that the peer has and that are not as ours."""
        if len(prefix) >= REPAIR_DEPTH_MAX:
            raise MalformedMessageError("a trie deeper than ids can make it")
        if len(theirs) != RADIX:
            raise MalformedMessageError(f"a trie node of {len(theirs)} children")
        depth = len(prefix) + 1
        ours, empty = (
            self._marks(hashes_under(node_at(trie, prefix)), depth),
            self._empty(depth),
        )
        return [
            (*prefix, step)
            for step, mark in enumerate(theirs)
            if mark not in {empty, ours[step]}
        ]


class WholeDescent(Descent[TrieRequest, TrieReply]):
    """Asks for the peer's nodes with their whole hashes, as every version can answer."""

    __slots__ = ()

    def question(self, space: bytes, _trie: Trie) -> TrieRequest | None:
        """Return the question for the next nodes."""
        self.asked = tuple(self.frontier[:PREFIXES_MAX])
        del self.frontier[: len(self.asked)]
        return TrieRequest(space, self.asked) if self.asked else None

    def _shown(self, reply: TrieReply) -> tuple[int, list[Shown]]:
        got = tuple(node.prefix for node in reply.nodes)
        if not got or got != self.asked[: len(got)]:
            raise MalformedMessageError("trie nodes that were not asked for")
        shown: list[Shown] = []
        for node in reply.nodes:
            if isinstance(node, TrieInner):
                shown.append((node.prefix, node.hashes, False))
            elif len(node.items) > LEAF_MAX:
                raise MalformedMessageError(f"a trie leaf of over {LEAF_MAX} digests")
            else:
                shown.append((node.prefix, node.items, True))
        return len(got), shown

    def _marks(self, hashes: Sequence[bytes | None], depth: int) -> list[bytes]:
        empty = self._empty(depth)
        return [empty if known is None else known for known in hashes]

    def _empty(self, depth: int) -> bytes:
        return Leaf(depth, ()).hash


def answer(trie: Trie, prefixes: tuple[Prefix, ...]) -> Iterator[TrieLeaf | TrieInner]:
    """Yield the nodes at `prefixes` of our trie, as many as fit one message.

    Raises:
        MalformedMessageError: they are too many, or one is no path of a trie.
    """
    if not 0 < len(prefixes) <= PREFIXES_MAX:
        raise MalformedMessageError(f"{len(prefixes)} trie nodes asked for at once")
    size = 0
    for prefix in prefixes:
        check_path(prefix)
        node = trie.at(prefix)
        reply: TrieLeaf | TrieInner
        if isinstance(node, Inner):
            reply = TrieInner(prefix, tuple(child.hash for child in node.children))
            size += RADIX * (DIGEST_BYTES + 2)
        else:
            reply = TrieLeaf(prefix, tuple(trie.below(prefix)))
            size += len(reply.items) * (DIGEST_BYTES + 2)
        size += NODE_OVERHEAD_BYTES
        if size > REPLY_BYTES_MAX:
            return
        yield reply


def check_path(prefix: Prefix) -> None:
    """Check what a peer takes for a path of a trie.

    Raises:
        MalformedMessageError: it is too long, or has a step that is no nibble.
    """
    fits = len(prefix) <= DEPTH_MAX
    if not fits or (prefix and not 0 <= min(prefix) <= max(prefix) < RADIX):
        raise MalformedMessageError("a prefix that is no path of a trie")


def node_at(trie: Trie, prefix: Prefix) -> Node:
    """Return the node at `prefix`; a leaf of what lies there where ours lies above."""
    return trie.at(prefix) or Leaf(len(prefix), tuple(trie.below(prefix)))


def under(node: Node) -> Sequence[Node]:
    """Return the sixteen children of a node.

    Those of a leaf are what they would be if its ids were apart: those of a peer that has
    more ids there, but the same below a child.
    """
    if isinstance(node, Inner):
        return node.children
    below: list[list[bytes]] = [[] for _ in range(RADIX)]
    for item in node.items if node.depth < DEPTH_MAX else ():
        below[nibble(item, node.depth)].append(item)
    return [Leaf(node.depth + 1, tuple(part)) for part in below]


def hashes_under(node: Node) -> list[bytes | None]:
    """Return the hashes of the sixteen children of a node, None where one is empty."""
    return [child.hash if child.count else None for child in under(node)]


def _lies_below(item: bytes, prefix: Prefix) -> bool:
    return len(item) == DIGEST_BYTES and all(
        nibble(item, depth) == step for depth, step in enumerate(prefix)
    )
