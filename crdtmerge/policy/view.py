"""What a set of records means: the result of the third step.

Owns the words that the rest of the program reads it in: `View`, `Shown`, `Visible`,
`Pending` and `ShownFork`. Does not own how it is found (`standing`, `elements`,
`meaning`).

What takes a walk over all adds is found when it is first asked for: who takes part, and by
what recipe, is known without it.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Protocol

from crdtmerge.bodies import Ban, Genesis, RecordId, Revoke
from crdtmerge.codec import format_decimal
from crdtmerge.digest import BlobId, ContentId, Domain, digest_value
from crdtmerge.identity import AuthorId
from crdtmerge.policy.changes import Changes
from crdtmerge.policy.ranks import Rank
from crdtmerge.policy.scoring import Evaluated, read_by
from crdtmerge.recipe import Recipe
from crdtmerge.record import Record
from crdtmerge.rules import Who
from crdtmerge.trie import Trie


def manifest_sizes(visible: Iterable["Visible"]) -> dict[BlobId, int]:
    """Return what contributions name as manifests, with the most bytes each may have.

    That is the largest size of all that adds give: whoever names the manifest of another
    as smaller than it is hides it from nobody.
    """
    sizes: dict[BlobId, int] = {}
    for contribution in visible:
        for blob, size in contribution.manifests:
            sizes[blob] = max(size, sizes.get(blob, 0))
    return sizes


@dataclass(frozen=True, slots=True)
class Visible:
    """One visible contribution: a content id, and what its live adds say of it.

    `weight` is in units of 1e-9: the largest among the live adds, each capped by its
    author's grant. `manifests` are (blob, size) pairs, that of the lowest add id first;
    `evidence` is the digest of the lowest live add id that carries any, else empty;
    `tags` are those of any live add.
    """

    content: ContentId
    weight: int
    evidence: bytes
    adds: tuple[RecordId, ...]
    authors: tuple[AuthorId, ...]
    manifests: tuple[tuple[BlobId, int], ...]
    notes: tuple[str, ...]
    tags: tuple[str, ...] = ()

    @property
    def who(self) -> Who:
        """The contribution as the rules of a recipe see it."""
        return Who(self.content, self.authors, self.tags)

    @property
    def leaf(self) -> bytes:
        """What the visible root covers of it."""
        weight = format_decimal(self.weight)
        return digest_value(Domain.VISIBLE, [self.content, weight, self.evidence])


@dataclass(frozen=True, slots=True)
class ShownFork:
    """That an author signed two records of one number; `record` is what shows it.

    Of several records that do, it is the one of the lowest id. `lifted` means that an
    author of higher rank lets the author's later records count all the same.
    """

    author: AuthorId
    author_seq: int
    record: RecordId
    lifted: bool = False

    @property
    def place(self) -> tuple[AuthorId, int]:
        """The author, and the number that it used twice."""
        return self.author, self.author_seq


@dataclass(frozen=True, slots=True)
class Pending:
    """An act of owners that waits: who signed it, and how many must.

    `signers` are identities, by the first key of each.
    """

    record: RecordId
    signers: tuple[AuthorId, ...]
    needed: int


@dataclass(frozen=True, slots=True)
class Shown:
    """What the effective records show: contributions, faults, and unknown kinds."""

    elements: Mapping[ContentId, Visible]
    trie: Trie
    """Over the leaves of the elements."""
    faults: Mapping[ContentId, RecordId]
    """By content, a record that shows it."""
    unknown_critical: tuple[str, ...]
    changes: Changes = field(default_factory=Changes, compare=False)
    """Which contents were shown otherwise before."""


class Source(Protocol):
    """Finds what a view is asked for, once."""

    @property
    def shown(self) -> Shown:
        """What the effective records show."""

    @property
    def pending(self) -> tuple[Pending, ...]:
        """The acts of owners that too few of them signed, by id."""

    @property
    def evaluations(self) -> tuple[Evaluated, ...]:
        """The evaluations that count, by record id."""


@dataclass(frozen=True, slots=True)
class Found:
    """A source that was asked before."""

    shown: Shown
    pending: tuple[Pending, ...]
    evaluations: tuple[Evaluated, ...] = ()


@dataclass(frozen=True, eq=False)
class View:
    """What a set of records means: a pure function of the set."""

    genesis: Record
    ranks: Mapping[AuthorId, Rank]
    rightless: frozenset[AuthorId]
    effective: AbstractSet[RecordId]
    """Asked for one id it costs one look-up; gone through, it reads all records."""
    recipe: Recipe | None
    recipe_heads: tuple[RecordId, ...]
    nodes: Mapping[bytes, tuple[str, ...]]
    node_authors: Mapping[bytes, tuple[AuthorId, ...]]
    bans: Mapping[RecordId, Ban]
    revocations: Mapping[RecordId, Revoke]
    forks: tuple[ShownFork, ...]  # by author and number
    quarantined: Mapping[AuthorId, int]  # from which number on nothing of it counts
    chains: Mapping[AuthorId, tuple[AuthorId, ...]]  # by each key those of its identity
    lines: Mapping[AuthorId, tuple[AuthorId, ...]]  # also before, at a higher rank
    contested: Mapping[AuthorId, tuple[RecordId, ...]]  # who follows? these disagree
    endings: Mapping[RecordId, Revoke]  # of keys, by those that follow them
    acts: Mapping[RecordId, int]  # with which rank, where it is not the author's
    source: Source = field(repr=False)

    def __eq__(self, other: object) -> bool:
        """Tell whether both mean the same, field by field; it asks for all there is."""
        return isinstance(other, View) and self._told() == other._told()

    __hash__ = None  # type: ignore[assignment]

    def _told(self) -> list[object]:
        plain = [getattr(self, f.name) for f in fields(self) if f.name != "source"]
        shown = [self.visible, self.visible_root, dict(self.faults)]
        found = [self.unknown_critical, self.pending, self.evaluations]
        return [*plain, *shown, *found]

    @property
    def shown(self) -> Shown:
        """What the effective records show."""
        return self.source.shown

    @cached_property
    def visible(self) -> tuple[Visible, ...]:
        """The visible contributions, by content id."""
        elements = self.shown.elements
        return tuple(elements[content] for content in sorted(elements))

    @property
    def visible_root(self) -> bytes:
        """The trie root over the leaves of the visible contributions."""
        return self.shown.trie.root

    @property
    def faults(self) -> Mapping[ContentId, RecordId]:
        """By content that is shown to be unusable, the lowest record that shows it."""
        return self.shown.faults

    @property
    def unknown_critical(self) -> tuple[str, ...]:
        """The kinds of effective critical records that this version does not know."""
        return self.shown.unknown_critical

    @property
    def pending(self) -> tuple[Pending, ...]:
        """The acts of owners that wait for others of them."""
        return self.source.pending

    @property
    def evaluations(self) -> tuple[Evaluated, ...]:
        """The evaluations that count, by record id: of each author the last words."""
        return self.source.evaluations

    def without(self, gone: Iterable[ContentId]) -> "View":
        """Return what the set would mean without some contributions."""
        left = {v.content: v for v in self.visible}
        for content in gone:
            left.pop(content, None)
        trie = Trie.build(v.leaf for v in left.values())
        shown = replace(self.shown, elements=left, trie=trie, changes=Changes())
        return replace(self, source=Found(shown, self.pending, self.evaluations))

    def acting(self, record: Record) -> int:
        """Return with which rank an effective record is acted: the author's, or less.

        One above `Rank.OWNER` means that a council did it.
        """
        acted = self.acts.get(record.id)
        return self.ranks.get(record.author, Rank.READER) if acted is None else acted

    def follows(self, later: AuthorId, earlier: AuthorId) -> bool:
        """Tell whether the key `later` came after `earlier`, of the same identity."""
        chain = self.identity(later)
        return earlier in chain and chain.index(earlier) < chain.index(later)

    def identity(self, author: AuthorId) -> tuple[AuthorId, ...]:
        """Return the keys of who `author` is, one after another; it alone if unknown."""
        return self.chains.get(author, (author,))

    def judged_with(self, author: AuthorId) -> tuple[AuthorId, ...]:
        """Return the keys that a judgement of `author` falls on, sorted.

        Its identity; and whom that named before it was given a higher rank.
        """
        own = set(self.identity(author))
        heirs = {key for key, line in self.lines.items() if not own.isdisjoint(line)}
        return tuple(sorted(own | heirs))

    @property
    def rules(self) -> Genesis:
        """What the genesis says."""
        assert isinstance(self.genesis.body, Genesis)
        return self.genesis.body

    @property
    def base(self) -> ContentId:
        """The content id of the base."""
        return self.rules.base

    def has_rights(self, author: AuthorId) -> bool:
        """Tell whether `author` has a rank, and nobody ended its rights."""
        return author in self.ranks and author not in self.rightless

    def merge_id(self, recipe: Recipe) -> bytes:
        """Return what names the model that `recipe` makes of the visible set."""
        visible = (item.who for item in self.visible)
        read = (one.record for one in self.read_by(recipe))
        return recipe.merge_id(self.base, self.visible_root, visible, read)

    def read_by(self, recipe: Recipe) -> tuple[Evaluated, ...]:
        """Return the evaluations that the strategy of `recipe` reads, by record id."""
        return read_by(recipe, self.evaluations, self.shown.elements)
