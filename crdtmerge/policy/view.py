"""What a set of records means: the result of the third step.

Owns the words that the rest of the program reads it in: `View`, `Visible`, `Pending` and
`ShownFork`.
Does not own how it is found (`standing`, `elements`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from crdtmerge.bodies import Ban, Genesis, RecordId, Revoke
from crdtmerge.codec import format_decimal
from crdtmerge.digest import BlobId, ContentId, Domain, digest_value
from crdtmerge.identity import AuthorId
from crdtmerge.policy.ranks import Rank
from crdtmerge.recipe import Recipe
from crdtmerge.record import Record
from crdtmerge.rules import Who


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
class View:
    """What a set of records means: a pure function of the set."""

    genesis: Record
    ranks: Mapping[AuthorId, Rank]
    rightless: frozenset[AuthorId]
    effective: frozenset[RecordId]
    visible: tuple[Visible, ...]
    visible_root: bytes
    recipe: Recipe | None
    recipe_heads: tuple[RecordId, ...]
    nodes: Mapping[bytes, tuple[str, ...]]
    node_authors: Mapping[bytes, tuple[AuthorId, ...]]
    bans: Mapping[RecordId, Ban]
    revocations: Mapping[RecordId, Revoke]
    faults: Mapping[ContentId, RecordId]  # by content, a record that shows it
    forks: tuple[ShownFork, ...]  # by author and number
    quarantined: Mapping[AuthorId, int]  # from which number on nothing of it counts
    unknown_critical: tuple[str, ...]
    chains: Mapping[AuthorId, tuple[AuthorId, ...]]  # by each key those of its identity
    lines: Mapping[AuthorId, tuple[AuthorId, ...]]  # also before, at a higher rank
    contested: Mapping[AuthorId, tuple[RecordId, ...]]  # who follows? these disagree
    endings: Mapping[RecordId, Revoke]  # of keys, by those that follow them
    pending: tuple[Pending, ...]
    acts: Mapping[RecordId, int]  # with which rank, where it is not the author's

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
        return recipe.merge_id(self.base, self.visible_root, visible)
