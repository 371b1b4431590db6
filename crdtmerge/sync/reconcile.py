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
from crdtmerge.trie import DEPTH_MAX, LEAF_MAX, RADIX, Inner, Leaf, Prefix, Trie

REPAIR_NODES_MAX: Final = 1 << 20
"""Most trie nodes taken in one repair: a peer that makes up more is cut off."""
_NODE_OVERHEAD_BYTES: Final = 2 * DEPTH_MAX + 16
_REPLY_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 4096


def answer(trie: Trie, prefixes: tuple[Prefix, ...]) -> Iterator[TrieLeaf | TrieInner]:
    """Yield the nodes at `prefixes` of our trie, as many as fit one message."""
    size = 0
    for prefix in prefixes:
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


@dataclass(slots=True)
class Descent:
    """One repair: which prefixes are still to be asked for, and what we lack."""

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

    def take(self, nodes: tuple[TrieLeaf | TrieInner, ...]) -> None:
        """Compare the peer's nodes with ours; a cut reply is asked for again.

        Raises:
            MalformedMessageError: they are not what was asked for.
        """
        got = tuple(node.prefix for node in nodes)
        if not nodes or got != self.asked[: len(got)]:
            raise MalformedMessageError("trie nodes that were not asked for")
        self.taken += len(nodes)
        if self.taken > REPAIR_NODES_MAX:
            raise MalformedMessageError(f"a repair of over {REPAIR_NODES_MAX} nodes")
        self.frontier = list(self.asked[len(got) :]) + self.frontier
        self.asked = ()
        for node in nodes:
            if isinstance(node, TrieLeaf):
                self._take_leaf(node)
            else:
                self._take_inner(node)

    def _take_leaf(self, node: TrieLeaf) -> None:
        if len(node.items) > LEAF_MAX:
            raise MalformedMessageError(f"a trie leaf of over {LEAF_MAX} digests")
        self.lacking |= dict.fromkeys(i for i in node.items if i not in self.trie)

    def _take_inner(self, node: TrieInner) -> None:
        depth = len(node.prefix)
        if depth >= DEPTH_MAX - 1:
            raise MalformedMessageError("a trie deeper than digests are long")
        ours = self.trie.at(node.prefix)
        empty = Leaf(depth + 1, ()).hash
        for step, theirs in enumerate(node.hashes):
            known = empty
            if isinstance(ours, Inner):
                known = ours.children[step].hash
            if theirs not in {known, empty}:
                self.frontier.append((*node.prefix, step))
