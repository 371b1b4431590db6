"""Comparison of two tries by clues: each message goes one level down, and none is large.

Owns clues, the descent of who asks, and the answer, which is a function of a trie and the
question alone. Does not own messages' bytes, nor when to compare (`repairing`).

The asker shows clues of its own children, so the answer can pass over what is equal and
show one level more. Where an asker has few ids it lists them, and the answer names those
that it lacks. A clue is 4 bytes of a keyed digest. Nobody can make ids whose clues
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
    CLUE_BYTES,
    LISTED_MAX,
    SECTIONS_MAX,
    Clues,
    CompareReply,
    CompareRequest,
    Ids,
    Section,
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
"""Ids of a child that are shown whole at once: 128 bytes, against 64 of its clues and then
a question more."""
LIST_MEAN: Final = 40
"""Ids below a prefix, on average, at the depth where an asker lists: hardly any prefix then
has more than `LISTED_MAX`."""
FIRST_DEPTH_MAX: Final = 3
EMPTY: Final = bytes(CLUE_BYTES)
"""What stands for a child without ids."""
_SECTION_BYTES: Final = 8
"""What encoding adds to a section, beside its prefix."""


class ClueMaker:
    """Makes the clues of one comparison."""

    __slots__ = ("_key",)

    def __init__(self, salt: bytes) -> None:
        """Take the salt of the comparison."""
        self._key = digest(Domain.CLUES, salt)

    def of(self, items: Iterable[bytes]) -> tuple[bytes, ...]:
        """Return the clues of hashes or ids, in their order."""
        return tuple(keyed_digests(self._key, items, CLUE_BYTES))

    def under(self, node: Node) -> tuple[bytes, ...]:
        """Return the clues of the children of a node, `EMPTY` for those without ids."""
        return self.of_children(hashes_under(node))

    def of_children(self, hashes: Sequence[bytes | None]) -> tuple[bytes, ...]:
        """Return the clues of the children with these hashes."""
        clues = iter(self.of([known for known in hashes if known is not None]))
        return tuple([EMPTY if known is None else next(clues) for known in hashes])


def first_prefixes(count: int, gap: int) -> list[Prefix]:
    """Return where to begin, with `count` ids here and `gap` more or fewer at the peer.

    The asker shows every second level. It begins at a depth from which it comes to where it
    can list, so that no answer is needed to go down one level more; and two levels deeper
    for each time that the gap alone makes most sections there differ.
    """
    listing = 0
    while count > LIST_MEAN * RADIX**listing:
        listing += 1
    first = listing % 2
    for depth in range(first, min(listing, FIRST_DEPTH_MAX) + 1, 2):
        if gap >= 2 * RADIX**depth:
            first = depth
    return list(product(range(RADIX), repeat=first))


@dataclass(slots=True)
class ClueDescent(Descent[CompareRequest, CompareReply]):
    """Shows what we have, level by level, and takes what the peer has beside.

    `width` bounds what is asked at once: after an answer that was cut it is what that one
    covered, so that little is asked twice.
    """

    salt: bytes = field(kw_only=True)
    width: int = SECTIONS_MAX
    _listed: frozenset[Prefix] = frozenset()
    """Of the prefixes asked, those whose ids we listed."""

    def question(self, space: bytes, trie: Trie) -> CompareRequest | None:
        """Return what we have at the next prefixes."""
        maker, size = ClueMaker(self.salt), 0
        sections: list[Section] = []
        for prefix in self.frontier[: self.width]:
            section = _ours(trie, maker, prefix)
            size += _size(section, CLUE_BYTES)
            if size > REPLY_BYTES_MAX:
                break
            sections.append(section)
        self.asked = tuple(section.prefix for section in sections)
        self._listed = frozenset(s.prefix for s in sections if isinstance(s, Ids))
        del self.frontier[: len(self.asked)]
        return CompareRequest(space, self.salt, tuple(sections)) if sections else None

    def _shown(self, reply: CompareReply) -> tuple[int, list[Shown]]:
        covered = reply.covered
        if not 0 < covered <= len(self.asked):
            raise MalformedMessageError("an answer to other sections than were asked")
        # The answer is in the order of the question, each place of it once.
        places = (
            place for prefix in self.asked[:covered] for place in self._at(prefix)
        )
        for section in reply.sections:
            if not any(place == section.prefix for place in places):
                raise MalformedMessageError("a section that was not asked for here")
            if isinstance(section, Ids) and len(section.ids) > LISTED_MAX:
                raise MalformedMessageError(f"a section of over {LISTED_MAX} ids")
        full = covered == len(self.asked)
        self.width = min(2 * self.width, SECTIONS_MAX) if full else covered
        return covered, [
            (section.prefix, section.ids, True)
            if isinstance(section, Ids)
            else (section.prefix, section.clues, False)
            for section in reply.sections
        ]

    def _at(self, prefix: Prefix) -> list[Prefix]:
        """Return where an answer to the section at `prefix` may be."""
        if prefix in self._listed:
            return [prefix]
        return [(*prefix, step) for step in range(RADIX)]

    def _marks(self, hashes: Sequence[bytes | None], _depth: int) -> list[bytes]:
        return list(ClueMaker(self.salt).of_children(hashes))

    def _empty(self, _depth: int) -> bytes:
        return EMPTY


def compare(
    trie: Trie, salt: bytes, asked: Sequence[Section]
) -> tuple[int, list[Section]]:
    """Return how many sections are answered, and what we have beside: one message's fill.

    Raises:
        MalformedMessageError: they are too many, or one is no path of a trie.
    """
    if not 0 < len(asked) <= SECTIONS_MAX:
        raise MalformedMessageError(f"{len(asked)} sections to compare at once")
    maker, size = ClueMaker(salt), 0
    found: list[Section] = []
    for covered, section in enumerate(asked):
        _check(section)
        fresh = list(_beside(trie, maker, section))
        size += sum(_size(item, DIGEST_BYTES) for item in fresh)
        full = size > REPLY_BYTES_MAX or len(found) + len(fresh) > SECTIONS_MAX
        if full and covered:
            return covered, found
        found += fresh
    return len(asked), found


def _check(section: Section) -> None:
    check_path(section.prefix)
    if isinstance(section, Clues) and len(section.clues) != RADIX:
        raise MalformedMessageError(f"a section of {len(section.clues)} clues")


def _ours(trie: Trie, maker: ClueMaker, prefix: Prefix) -> Section:
    """Return what we show of `prefix`: our ids if they are few, or our children."""
    node = node_at(trie, prefix)
    if node.count > LISTED_MAX:
        return Clues(prefix, maker.under(node))
    return Ids(prefix, maker.of(Trie(node)))


def _beside(trie: Trie, maker: ClueMaker, section: Section) -> Iterator[Section]:
    """Yield what we have at a section of the asker and it does not."""
    prefix = section.prefix
    node = node_at(trie, prefix)
    if isinstance(section, Clues):
        yield from _differing(node, maker, section)
    elif node.count > LISTED_MAX:
        yield Clues(prefix, maker.under(node))
    else:
        ids, known = list(Trie(node)), set(section.ids)
        pairs = zip(ids, maker.of(ids), strict=True)
        missing = tuple([key for key, clue in pairs if clue not in known])
        if missing:
            yield Ids(prefix, missing)


def _differing(node: Node, maker: ClueMaker, shown: Clues) -> Iterator[Section]:
    """Yield those of our children that are not as the asker's."""
    ours = zip(under(node), maker.under(node), shown.clues, strict=True)
    for step, (child, clue, theirs) in enumerate(ours):
        if clue not in {EMPTY, theirs}:
            below = (*shown.prefix, step)
            if isinstance(child, Leaf) and child.count <= SHOWN_MAX:
                yield Ids(below, child.items)
            else:
                yield Clues(below, maker.under(child))


def _size(section: Section, id_bytes: int) -> int:
    body = (
        len(section.ids) * id_bytes if isinstance(section, Ids) else RADIX * CLUE_BYTES
    )
    return _SECTION_BYTES + len(section.prefix) + body
