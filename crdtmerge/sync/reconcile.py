"""Trie repair: find which digests a peer holds and we lack, level by level.

Owns the descent of one side, and the answers of the other. Does not own messages' bytes,
nor when to repair (`session`). Two tries of one shape rule line up, so equal hashes end a
branch, and a difference costs one path.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import MalformedMessageError
from crdtmerge.sync.messages import MESSAGE_BYTES_MAX, PREFIXES_MAX, TrieInner, TrieLeaf
from crdtmerge.trie import (
    DEPTH_MAX,
    LEAF_MAX,
    RADIX,
    Inner,
    Leaf,
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
_NODE_OVERHEAD_BYTES: Final = 2 * DEPTH_MAX + 16
_REPLY_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 4096


def answer(trie: Trie, prefixes: tuple[Prefix, ...]) -> Iterator[TrieLeaf | TrieInner]:
    """Yield the nodes at `prefixes` of our trie, as many as fit one message.

    Raises:
        MalformedMessageError: they are too many, or one is no path of a trie.
    """
    if not 0 < len(prefixes) <= PREFIXES_MAX:
        raise MalformedMessageError(f"{len(prefixes)} trie nodes asked for at once")
    size = 0
    for prefix in prefixes:
        _check_path(prefix)
        node = trie.at(prefix)
        reply: TrieLeaf | TrieInner
        if isinstance(node, Inner):
            reply = TrieInner(prefix, tuple(child.hash for child in node.children))
            size += RADIX * (DIGEST_BYTES + 2)
        else:
            reply = TrieLeaf(prefix, tuple(trie.below(prefix)))
            size += len(reply.items) * (DIGEST_BYTES + 2)
        size += _NODE_OVERHEAD_BYTES
        if size > _REPLY_BYTES_MAX:
            return
        yield reply


def _check_path(prefix: Prefix) -> None:
    if len(prefix) > DEPTH_MAX or not all(0 <= step < RADIX for step in prefix):
        raise MalformedMessageError("a prefix that is no path of a trie")


@dataclass(slots=True)
class Descent:
    """One repair: which prefixes are still to be asked for, and what we lack.

    `taken` counts the peer's nodes since `progressed` was called last.
    """

    trie: Trie
    frontier: list[Prefix] = field(default_factory=lambda: [()])
    asked: tuple[Prefix, ...] = ()
    lacking: dict[bytes, None] = field(default_factory=dict)
    taken: int = 0

    def ask(self) -> tuple[Prefix, ...]:
        """Return the next prefixes to ask for; none when the descent is over."""
        self.asked = tuple(self.frontier[:PREFIXES_MAX])
        del self.frontier[: len(self.asked)]
        return self.asked

    def progressed(self) -> None:
        """Note that the peer's nodes led to a record: it may show as many again."""
        self.taken = 0

    def take(self, nodes: tuple[TrieLeaf | TrieInner, ...]) -> None:
        """Compare the peer's nodes with ours; a cut reply is asked for again.

        Raises:
            MalformedMessageError: they are not what was asked for.
        """
        got = tuple(node.prefix for node in nodes)
        if not nodes or got != self.asked[: len(got)]:
            raise MalformedMessageError("trie nodes that were not asked for")
        self.taken += len(nodes)
        # Where nothing is lacking the peer's nodes lie on ours, at most two an id of ours.
        if self.taken > REPAIR_NODES_SPARE + 2 * len(self.trie):
            raise MalformedMessageError("trie nodes without end, and no record")
        rest = self.asked[len(got) :]
        self.asked = ()
        found: list[Prefix] = []
        for node in nodes:
            if isinstance(node, TrieLeaf):
                self._take_leaf(node)
            else:
                found += self._differing(node)
        # SUBTLE: deepest first, or a frontier of a whole level would have to be kept.
        self.frontier = [*found, *rest, *self.frontier]

    def _take_leaf(self, node: TrieLeaf) -> None:
        if len(node.items) > LEAF_MAX:
            raise MalformedMessageError(f"a trie leaf of over {LEAF_MAX} digests")
        if not all(_lies_below(item, node.prefix) for item in node.items):
            raise MalformedMessageError("a digest that does not lie below its leaf")
        self.lacking |= dict.fromkeys(i for i in node.items if i not in self.trie)

    def _differing(self, node: TrieInner) -> list[Prefix]:
        """Return the children that the peer has and that are not as ours."""
        if len(node.prefix) >= REPAIR_DEPTH_MAX:
            raise MalformedMessageError("a trie deeper than ids can make it")
        if len(node.hashes) != RADIX:
            raise MalformedMessageError(f"a trie node of {len(node.hashes)} children")
        empty = Leaf(len(node.prefix) + 1, ()).hash
        known = self._known(node.prefix, empty)
        return [
            (*node.prefix, step)
            for step, theirs in enumerate(node.hashes)
            if theirs not in {empty, known[step]}
        ]

    def _known(self, prefix: Prefix, empty: bytes) -> list[bytes]:
        """Return what the children at `prefix` hash to if the peer's items are ours."""
        ours = self.trie.at(prefix)
        if isinstance(ours, Inner):
            return [child.hash for child in ours.children]
        depth = len(prefix)
        below: list[list[bytes]] = [[] for _ in range(RADIX)]
        for item in self.trie.below(prefix):
            below[nibble(item, depth)].append(item)
        return [Leaf(depth + 1, tuple(i)).hash if i else empty for i in below]


def _lies_below(item: bytes, prefix: Prefix) -> bool:
    return len(item) == DIGEST_BYTES and all(
        nibble(item, depth) == step for depth, step in enumerate(prefix)
    )
