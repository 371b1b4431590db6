"""Our ways: descents over tries, with every message encoded as it travels.

Owns driving them to their end. Does not own them (`crdtmerge.sync`). The tries are there:
a node keeps them up to date record by record.
"""

from collections.abc import Callable
from typing import Final

from crdtmerge.sync.compare import ClueDescent, compare, first_prefixes
from crdtmerge.sync.messages import (
    SALT_BYTES,
    CompareReply,
    CompareRequest,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.reconcile import WholeDescent, answer
from crdtmerge.trie import Trie
from nodes.convert import decode, encode

from .counting import Cost, together
from .pairs import Pair

SPACE: Final = bytes(32)
Way = Callable[[Trie, Trie], tuple[Cost, set[bytes]]]


def by_clues(pair: Pair) -> Cost:
    """Compare by clues, each side what it lacks."""
    return _each(pair, _by_clues)


def whole(pair: Pair) -> Cost:
    """Descend through whole hashes, as the version before does."""
    return _each(pair, _whole)


def _each(pair: Pair, way: Way) -> Cost:
    cost, found = way(pair.ours, pair.theirs)
    if found != pair.we_lack:
        raise SystemExit(f"found {len(found)} of {len(pair.we_lack)}")
    if not pair.they_lack:
        return cost
    other, found = way(pair.theirs, pair.ours)
    if found != pair.they_lack:
        raise SystemExit(f"found {len(found)} of {len(pair.they_lack)}")
    return together(cost, other)


def _by_clues(ours: Trie, theirs: Trie) -> tuple[Cost, set[bytes]]:
    first = first_prefixes(len(ours), abs(len(theirs) - len(ours)))
    descent, cost, number = ClueDescent(first, salt=bytes(SALT_BYTES)), Cost(), 0
    while True:
        with cost.working():
            question = descent.question(SPACE, ours)
            if question is None:
                return cost, set(descent.lacking)
            number += 1
            asked = encode(question)
        cost.sizes.append(len(asked))
        with cost.working():
            received = decode(asked)
            assert isinstance(received, CompareRequest)
            covered, found = compare(theirs, received.salt, received.sections)
            reply = encode(CompareReply(SPACE, tuple(found), covered, number))
        cost.sizes.append(len(reply))
        with cost.working():
            taken = decode(reply)
            assert isinstance(taken, CompareReply)
            descent.take(ours, taken)


def _whole(ours: Trie, theirs: Trie) -> tuple[Cost, set[bytes]]:
    descent, cost, number = WholeDescent(), Cost(), 0
    while True:
        with cost.working():
            question = descent.question(SPACE, ours)
            if question is None:
                return cost, set(descent.lacking)
            number += 1
            asked = encode(question)
        cost.sizes.append(len(asked))
        with cost.working():
            received = decode(asked)
            assert isinstance(received, TrieRequest)
            nodes = tuple(answer(theirs, received.prefixes))
            reply = encode(TrieReply(SPACE, nodes, number))
        cost.sizes.append(len(reply))
        with cost.working():
            taken = decode(reply)
            assert isinstance(taken, TrieReply)
            descent.take(ours, taken)
