"""Comparison of two tries by hints: each message goes one level down, and none is large.

Owns hints, the descent of who asks, and the answer, which is a function of a trie and the
question alone. Does not own messages' bytes, nor when to compare (`repairing`).

The asker shows hints of its own children, so the answer can pass over what is equal and
show one level more. Where an asker has few ids it lists them, and the answer names those
that it lacks. A hint is 4 bytes of a keyed digest. Nobody can make ids whose hints
collide, for the key is drawn for each comparison; should two do so by chance, the roots
still differ, and the next comparison has another key.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from crdtmerge.digest import DIGEST_BYTES, Domain, digest, keyed_digests
from crdtmerge.errors import MalformedMessageError
from crdtmerge.sync.messages import (
    BRANCHES_MAX,
    HINT_BYTES,
    LISTED_MAX,
    Branch,
    CompareReply,
    CompareRequest,
    Hints,
    Ids,
)
from crdtmerge.sync.reconcile import (
    REPLY_BYTES_MAX,
    Descent,
    Shown,
    check_path,
    hashes_under,
    node_at,
    under,
)
from crdtmerge.trie import RADIX, Leaf, Node, Prefix, Trie

SHOWN_MAX: Final = 4
"""Ids of a child that are shown whole at once: 128 bytes, against 64 of its hints and then
a question more."""
LIST_MEAN: Final = 40
"""Ids below a prefix, on average, at the depth where an asker lists: hardly any prefix then
has more than `LISTED_MAX`."""
FIRST_DEPTH_MAX: Final = 3
EMPTY: Final = bytes(HINT_BYTES)
"""What stands for a child without ids."""
_BRANCH_BYTES: Final = 8
"""What encoding adds to a branch, beside its prefix."""


class Hinting:
    """Makes the hints of one comparison."""

    __slots__ = ("_key",)

    def __init__(self, salt: bytes) -> None:
        """Take the salt of the comparison."""
        self._key = digest(Domain.HINTS, salt)

    def of(self, items: Iterable[bytes]) -> tuple[bytes, ...]:
        """Return the hints of hashes or ids, in their order."""
        return tuple(keyed_digests(self._key, items, HINT_BYTES))

    def under(self, node: Node) -> tuple[bytes, ...]:
        """Return the hints of the children of a node, `EMPTY` for those without ids."""
        return self.of_children(hashes_under(node))

    def of_children(self, hashes: Sequence[bytes | None]) -> tuple[bytes, ...]:
        """Return the hints of the children with these hashes."""
        hints = iter(self.of([known for known in hashes if known is not None]))
        return tuple([EMPTY if known is None else next(hints) for known in hashes])


def first_prefixes(count: int, gap: int) -> list[Prefix]:
    """Return where to begin, with `count` ids here and `gap` more or fewer at the peer.

    The asker shows every second level. It begins at a depth from which it comes to where it
    can list, so that no answer is needed to go down one level more; and two levels deeper
    for each time that the gap alone makes most branches there differ.
    """
    listing = 0
    while count > LIST_MEAN * RADIX**listing:
        listing += 1
    depth = listing % 2
    while depth + 2 <= min(listing, FIRST_DEPTH_MAX) and gap >= 2 * RADIX ** (
        depth + 2
    ):
        depth += 2
    return list(product(range(RADIX), repeat=depth))


@dataclass(slots=True)
class HintedDescent(Descent[CompareRequest, CompareReply]):
    """Shows what we have, level by level, and takes what the peer has beside.

    `width` bounds what is asked at once: after an answer that was cut it is what that one
    covered, so that little is asked twice.
    """

    salt: bytes = field(kw_only=True)
    width: int = BRANCHES_MAX
    _listed: frozenset[Prefix] = frozenset()
    """Of the prefixes asked, those whose ids we listed."""

    def question(self, space: bytes, trie: Trie) -> CompareRequest | None:
        """Return what we have at the next prefixes."""
        hinting, size = Hinting(self.salt), 0
        branches: list[Branch] = []
        for prefix in self.frontier[: self.width]:
            branch = _ours(trie, hinting, prefix)
            size += _size(branch, HINT_BYTES)
            if size > REPLY_BYTES_MAX:
                break
            branches.append(branch)
        self.asked = tuple(branch.prefix for branch in branches)
        self._listed = frozenset(b.prefix for b in branches if isinstance(b, Ids))
        del self.frontier[: len(self.asked)]
        return CompareRequest(space, self.salt, tuple(branches)) if branches else None

    def _shown(self, reply: CompareReply) -> tuple[int, list[Shown]]:
        covered = reply.covered
        if not 0 < covered <= len(self.asked):
            raise MalformedMessageError(
                "an answer to more branches than were asked for"
            )
        # The answer is in the order of the question, each place of it once.
        places = (
            place for prefix in self.asked[:covered] for place in self._at(prefix)
        )
        for branch in reply.branches:
            if not any(place == branch.prefix for place in places):
                raise MalformedMessageError(
                    "a branch that was not asked for, or not now"
                )
            if isinstance(branch, Ids) and len(branch.ids) > LISTED_MAX:
                raise MalformedMessageError(f"a branch of over {LISTED_MAX} ids")
        full = covered == len(self.asked)
        self.width = min(2 * self.width, BRANCHES_MAX) if full else covered
        return covered, [
            (branch.prefix, branch.ids, True)
            if isinstance(branch, Ids)
            else (branch.prefix, branch.hints, False)
            for branch in reply.branches
        ]

    def _at(self, prefix: Prefix) -> list[Prefix]:
        """Return where an answer to the branch at `prefix` may be."""
        if prefix in self._listed:
            return [prefix]
        return [(*prefix, step) for step in range(RADIX)]

    def _marks(self, hashes: Sequence[bytes | None], _depth: int) -> list[bytes]:
        return list(Hinting(self.salt).of_children(hashes))

    def _empty(self, _depth: int) -> bytes:
        return EMPTY


def compare(
    trie: Trie, salt: bytes, asked: Sequence[Branch]
) -> tuple[int, list[Branch]]:
    """Return how many branches are answered, and what we have beside: one message's fill.

    Raises:
        MalformedMessageError: they are too many, or one is no path of a trie.
    """
    if not 0 < len(asked) <= BRANCHES_MAX:
        raise MalformedMessageError(f"{len(asked)} branches to compare at once")
    hinting, size = Hinting(salt), 0
    found: list[Branch] = []
    for covered, branch in enumerate(asked):
        _check(branch)
        fresh = list(_beside(trie, hinting, branch))
        size += sum(_size(item, DIGEST_BYTES) for item in fresh)
        if covered and (
            size > REPLY_BYTES_MAX or len(found) + len(fresh) > BRANCHES_MAX
        ):
            return covered, found
        found += fresh
    return len(asked), found


def _check(branch: Branch) -> None:
    check_path(branch.prefix)
    if isinstance(branch, Hints) and len(branch.hints) != RADIX:
        raise MalformedMessageError(f"a branch of {len(branch.hints)} hints")


def _ours(trie: Trie, hinting: Hinting, prefix: Prefix) -> Branch:
    """Return what we show of `prefix`: our ids if they are few, or our children."""
    node = node_at(trie, prefix)
    if node.count > LISTED_MAX:
        return Hints(prefix, hinting.under(node))
    return Ids(prefix, hinting.of(Trie(node)))


def _beside(trie: Trie, hinting: Hinting, branch: Branch) -> Iterator[Branch]:
    """Yield what we have at a branch of the asker and it does not."""
    prefix = branch.prefix
    node = node_at(trie, prefix)
    if isinstance(branch, Hints):
        yield from _differing(node, hinting, branch)
    elif node.count > LISTED_MAX:
        yield Hints(prefix, hinting.under(node))
    else:
        ids, known = list(Trie(node)), set(branch.ids)
        pairs = zip(ids, hinting.of(ids), strict=True)
        missing = tuple([key for key, hint in pairs if hint not in known])
        if missing:
            yield Ids(prefix, missing)


def _differing(node: Node, hinting: Hinting, shown: Hints) -> Iterator[Branch]:
    """Yield those of our children that are not as the asker's."""
    ours = zip(under(node), hinting.under(node), shown.hints, strict=True)
    for step, (child, hint, theirs) in enumerate(ours):
        if hint not in {EMPTY, theirs}:
            below = (*shown.prefix, step)
            if isinstance(child, Leaf) and child.count <= SHOWN_MAX:
                yield Ids(below, child.items)
            else:
                yield Hints(below, hinting.under(child))


def _size(branch: Branch, id_bytes: int) -> int:
    body = len(branch.ids) * id_bytes if isinstance(branch, Ids) else RADIX * HINT_BYTES
    return _BRANCH_BYTES + len(branch.prefix) + body
