"""Who may do what: the second and third of the three steps.

Owns *admissible* (decided from a record and the grants it hangs on, monotone) and
*visible* (a pure function of the whole set: adds minus removes, revocations, bans, faults).
Does not own the set itself (`orset`), nor the bytes of contributions: visibility does not
depend on them, else replicas would differ.

Authority is a tree from genesis: owner > maintainer > contributor > reader. A grant gives
a rank below its grantor's; one's rank is the highest of one's effective grants; revoking
and banning an author works only on a strictly lower rank, and is evaluated from the top
rank down, so nobody can act on whoever judged them. Arrival order is in none of this.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from crdtmerge.bodies import (
    WEIGHT_UNITS_MAX,
    Add,
    Ban,
    Genesis,
    Grant,
    Lift,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
    Unknown,
)
from crdtmerge.codec import DECIMAL_UNIT, format_decimal
from crdtmerge.digest import (
    BLOB_BYTES_MAX,
    BlobId,
    ContentId,
    Domain,
    digest_value,
)
from crdtmerge.errors import MissingAuthorityError, NotAdmissibleError, WrongSpaceError
from crdtmerge.faults import Fault
from crdtmerge.identity import AuthorId
from crdtmerge.recipe import Recipe
from crdtmerge.record import Record
from crdtmerge.rules import Who
from crdtmerge.trie import Trie

WEIGHT_CAP_DEFAULT: Final = DECIMAL_UNIT
RECORDS_MAX_DEFAULT: Final = 1_000_000
BYTES_MAX_DEFAULT: Final = BLOB_BYTES_MAX
NODES_PER_AUTHOR_MAX: Final = 16
"""Transport keys of one author that count: handshakes and dials cost something each."""


class Rank(IntEnum):
    """What an author may do; the numbers stand in grants."""

    READER = 0
    CONTRIBUTOR = 1
    MAINTAINER = 2
    OWNER = 3


@dataclass(frozen=True, slots=True)
class Authority:
    """What the grant named by a record gives its author: a rank, with limits."""

    rank: Rank
    weight_cap: int
    records_max: int
    bytes_max: int

    @property
    def measure(self) -> tuple[int, int, int, int]:
        """What grants are compared by: the rank, then weight, bytes and records."""
        return self.rank, self.weight_cap, self.bytes_max, self.records_max

    def covers(self, grant: Grant) -> bool:
        """Tell whether `grant` gives no more than this: a cap could be shed otherwise.

        Its holder would grant a second key of its own what its first key may not do.
        """
        return (
            grant.rank < self.rank
            and grant.weight_cap <= self.weight_cap
            and grant.records_max <= self.records_max
            and grant.bytes_max <= self.bytes_max
        )


OWNER: Final = Authority(Rank.OWNER, WEIGHT_UNITS_MAX, 2**63, BLOB_BYTES_MAX)
OPEN: Final = Authority(
    Rank.CONTRIBUTOR, WEIGHT_CAP_DEFAULT, RECORDS_MAX_DEFAULT, BYTES_MAX_DEFAULT
)

NEEDED: Final[Mapping[type, Rank]] = {
    Add: Rank.CONTRIBUTOR,
    Remove: Rank.CONTRIBUTOR,
    RecipeChange: Rank.MAINTAINER,
    Grant: Rank.MAINTAINER,
    Revoke: Rank.MAINTAINER,
    Ban: Rank.MAINTAINER,
    Lift: Rank.MAINTAINER,
    NodeAddress: Rank.READER,
    Fault: Rank.READER,
    Unknown: Rank.READER,
}
"""The rank that each kind needs; what it may act on is decided in `evaluate`."""

Lookup = Callable[[RecordId], Record | None]


def given_by(grant: Record, author: AuthorId) -> Authority | None:
    """Return what naming `grant` gives `author`; None if it gives nothing."""
    match grant.body:
        case Genesis(owners=owners) if author in owners:
            return OWNER
        case Genesis(mode="open"):
            return OPEN
        case Grant() as body if body.author == author:
            rank = Rank(body.rank)
            return Authority(rank, body.weight_cap, body.records_max, body.bytes_max)
        case _:
            return None


def authority_of(record: Record, lookup: Lookup) -> Authority:
    """Return what the grant that `record` names gives its author.

    Raises:
        MissingAuthorityError: the grant has not been received.
        NotAdmissibleError: it is no grant to this author in this space.
    """
    grant = lookup(RecordId(record.auth))
    if grant is None:
        raise MissingAuthorityError(record.id, record.auth)
    authority = given_by(grant, record.author)
    if authority is None or grant.space_id != record.space_id:
        reason = "what it names as its grant gives its author nothing"
        raise NotAdmissibleError(record.id, reason)
    return authority


def check_admissible(record: Record, lookup: Lookup) -> None:
    """Check that the author had the right to make `record`: the second step.

    Decided by the record and its chain of grants alone, so every replica agrees; later
    revocations change what is visible, never what is admissible.

    Raises:
        MissingAuthorityError: a grant of the chain has not been received.
        NotAdmissibleError: the author had no right.
    """
    if isinstance(record.body, Genesis):
        if record.author not in record.body.owners:
            raise NotAdmissibleError(record.id, "its author is none of the owners")
        return
    authority = authority_of(record, lookup)
    if authority.rank < NEEDED[type(record.body)]:
        rank = authority.rank.name.lower()
        raise NotAdmissibleError(record.id, f"a {rank} cannot make a {record.kind}")
    if record.author_seq > authority.records_max:
        raise NotAdmissibleError(record.id, "its author_seq is above the grant's limit")
    match record.body:
        case Grant() as grant if grant.rank >= authority.rank:
            raise NotAdmissibleError(record.id, "a grant must give a lower rank")
        case Grant() as grant if not authority.covers(grant):
            raise NotAdmissibleError(
                record.id, "a grant gives more than its author has"
            )
        case Add() as add:
            if add.content_bytes + add.manifest_bytes > authority.bytes_max:
                raise NotAdmissibleError(
                    record.id, "it declares more bytes than granted"
                )
        case _:
            pass


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
    unknown_critical: tuple[str, ...]

    @property
    def base(self) -> ContentId:
        """The content id of the base."""
        assert isinstance(self.genesis.body, Genesis)
        return self.genesis.body.base

    def merge_id(self, recipe: Recipe) -> bytes:
        """Return what names the model that `recipe` makes of the visible set."""
        visible = (item.who for item in self.visible)
        return recipe.merge_id(self.base, self.visible_root, visible)


def evaluate(records: Mapping[RecordId, Record]) -> View:
    """Return what the admissible `records` of one space mean: the third step."""
    return _Evaluation(records).view()


@dataclass(slots=True)
class _Evaluation:
    """The working state of one evaluation, from the top rank down."""

    records: Mapping[RecordId, Record]
    ranks: dict[AuthorId, Rank] = field(default_factory=dict)
    accepted: dict[AuthorId, frozenset[RecordId] | None] = field(default_factory=dict)
    effective: dict[RecordId, Record] = field(default_factory=dict)
    of_author: dict[AuthorId, list[Record]] = field(default_factory=dict)

    def view(self) -> View:
        for record in sorted(self.records.values(), key=lambda r: r.id):
            self.of_author.setdefault(record.author, []).append(record)
        genesis = self._genesis()
        for rank in sorted(Rank, reverse=True):
            self._judge(rank, genesis)
        return self._summarise(genesis)

    def _genesis(self) -> Record:
        found = [r for r in self.records.values() if isinstance(r.body, Genesis)]
        if len(found) != 1:
            raise WrongSpaceError(f"a space has one genesis, not {len(found)}")
        return found[0]

    def _judge(self, rank: Rank, genesis: Record) -> None:
        """Find who holds `rank`, what of theirs is accepted, and what takes effect.

        SUBTLE: acceptance of the whole rank is decided before any of its records takes
        effect; only higher ranks, judged earlier, can have acted on it.
        """
        holders = sorted(self._holders(rank, genesis) - self.ranks.keys())
        judgements = self._judgements(rank)
        for author in holders:
            self.accepted[author] = self._accepted(author, judgements.get(author, ()))
        for author in holders:
            self.ranks[author] = rank
        self._settle()

    def _settle(self) -> None:
        """Let records take effect until nothing changes: grants hang on grants.

        SUBTLE: settled rank by rank. An author may name a grant by an author of the same
        rank; were that one admitted later than the next rank is judged, its bans and
        revocations would come too late.
        """
        before = -1
        while before != len(self.effective):  # grants chain at most once a rank
            before = len(self.effective)
            for author in self.ranks:
                self._admit(author)

    def _holders(self, rank: Rank, genesis: Record) -> set[AuthorId]:
        assert isinstance(genesis.body, Genesis)
        if rank is Rank.OWNER:
            return set(genesis.body.owners)
        holders = {
            r.body.author
            for r in self.effective.values()
            if isinstance(r.body, Grant) and r.body.rank == rank
        }
        if rank is OPEN.rank and genesis.body.mode == "open":
            holders |= {r.author for r in self.records.values() if r.auth == genesis.id}
        return holders

    def _judgements(self, rank: Rank) -> Mapping[AuthorId, Sequence[Ban | Revoke]]:
        """Return what stands against each author, by authors above `rank`."""
        judgements: dict[AuthorId, list[Ban | Revoke]] = {}
        for record in self._standing():
            match record.body:
                case Ban(subject="author", target=target) as body:
                    author = AuthorId(target)
                case Revoke(author=author) as body:
                    pass
                case _:
                    continue
            if self.ranks[record.author] > rank:
                judgements.setdefault(author, []).append(body)
        return judgements

    def _accepted(
        self, author: AuthorId, judgements: Iterable[Ban | Revoke]
    ) -> frozenset[RecordId] | None:
        """Return which records of `author` may take effect; None means all."""
        accepted: frozenset[RecordId] | None = None
        for body in judgements:
            if isinstance(body, Ban):
                return frozenset()
            closure = self._closure(author, body.accepted)
            accepted = closure if accepted is None else accepted & closure
        return accepted

    def _standing(self) -> Iterable[Record]:
        """Yield the effective bans and revocations that nobody of their rank lifted."""
        lifted = {
            r.body.target: self.ranks[r.author]
            for r in sorted(self.effective.values(), key=lambda r: self.ranks[r.author])
            if isinstance(r.body, Lift)
        }
        for record in self.effective.values():
            if isinstance(record.body, Ban | Revoke):
                lifter = lifted.get(record.id)
                if lifter is None or lifter < self.ranks[record.author]:
                    yield record

    def _closure(
        self, author: AuthorId, heads: Iterable[RecordId]
    ) -> frozenset[RecordId]:
        """Return `heads` and all that precedes them, among the author's own records."""
        closure: set[RecordId] = set()
        queue = list(heads)
        while queue:
            record = self.records.get(queue.pop())
            if record and record.author == author and record.id not in closure:
                closure.add(record.id)
                queue.append(RecordId(record.prev))
        return frozenset(closure)

    def _admit(self, author: AuthorId) -> None:
        """Let the accepted records of `author` take effect whose grant has effect."""
        accepted = self.accepted[author]
        for record in self.of_author.get(author, ()):
            if accepted is not None and record.id not in accepted:
                continue
            grant_holds = RecordId(record.auth) in self.effective
            if isinstance(record.body, Genesis) or grant_holds:
                self.effective[record.id] = record

    def _summarise(self, genesis: Record) -> View:
        standing = list(self._standing())
        judged = {author for author in self.ranks if self.accepted[author] is not None}
        faults = self._faults()
        visible = self._visible(standing, faults)
        heads = self._recipe_heads()
        recipe = self.effective[heads[0]].body if heads else None
        nodes = self._nodes(judged)
        unknown = {
            r.kind
            for r in self.effective.values()
            if isinstance(r.body, Unknown) and r.critical
        }
        return View(
            genesis=genesis,
            ranks=self.ranks,
            rightless=frozenset(judged),
            effective=frozenset(self.effective),
            visible=visible,
            visible_root=Trie.build(v.leaf for v in visible).root,
            recipe=recipe.recipe if isinstance(recipe, RecipeChange) else None,
            recipe_heads=heads,
            nodes={
                node: tuple(
                    dict.fromkeys(a for body in claims.values() for a in body.addresses)
                )
                for node, claims in nodes.items()
            },
            node_authors={node: tuple(claims) for node, claims in nodes.items()},
            bans={r.id: r.body for r in standing if isinstance(r.body, Ban)},
            revocations={r.id: r.body for r in standing if isinstance(r.body, Revoke)},
            faults=faults,
            unknown_critical=tuple(sorted(unknown)),
        )

    def _faults(self) -> dict[ContentId, RecordId]:
        """Return which contents are shown to be unusable, by the lowest record id.

        SUBTLE: every admitted fault counts, whatever became of its author's rights: it is
        a proof, and who shows it does not make it less true.
        """
        bodies = ((r.id, r.body) for r in self.records.values())
        faults = sorted((b.content, key) for key, b in bodies if isinstance(b, Fault))
        return dict(reversed(faults))

    def _visible(
        self, standing: Iterable[Record], faults: Container[ContentId]
    ) -> tuple[Visible, ...]:
        banned = {
            r.body.target
            for r in standing
            if isinstance(r.body, Ban) and r.body.subject == "content"
        }
        live: dict[ContentId, list[Record]] = {}
        removed = self._removed()
        for record in sorted(self.effective.values(), key=lambda r: r.id):
            if isinstance(record.body, Add) and record.id not in removed:
                live.setdefault(record.body.content, []).append(record)
        return tuple(
            self._element(content, adds)
            for content, adds in sorted(live.items())
            if content not in banned and content not in faults
        )

    def _removed(self) -> set[RecordId]:
        removed: set[RecordId] = set()
        for record in self.effective.values():
            if not isinstance(record.body, Remove):
                continue
            for target in record.body.adds:
                add = self.effective.get(target)
                if add is not None and self._may_remove(record, add):
                    removed.add(target)
        return removed

    def _may_remove(self, remove: Record, add: Record) -> bool:
        own = remove.author == add.author
        return own or self.ranks[remove.author] > self.ranks[add.author]

    def _element(self, content: ContentId, adds: list[Record]) -> Visible:
        bodies = [r.body for r in adds if isinstance(r.body, Add)]
        caps = [authority_of(r, self.effective.get).weight_cap for r in adds]
        weights = [min(b.weight, cap) for b, cap in zip(bodies, caps, strict=True)]
        manifests = dict.fromkeys((b.manifest, b.manifest_bytes) for b in bodies)
        return Visible(
            content=content,
            weight=max(weights),
            evidence=next((b.evidence for b in bodies if b.evidence), b""),
            adds=tuple(r.id for r in adds),
            authors=tuple(sorted({r.author for r in adds})),
            manifests=tuple(manifests),
            notes=tuple(dict.fromkeys(b.note for b in bodies if b.note)),
            tags=tuple(sorted({tag for body in bodies for tag in body.tags})),
        )

    def _recipe_heads(self) -> tuple[RecordId, ...]:
        """Return the recipes that no other replaces; several are concurrent."""
        changes = {
            r.id: r.body
            for r in self.effective.values()
            if isinstance(r.body, RecipeChange)
        }
        replaced = {old for body in changes.values() for old in body.replaces}
        return tuple(sorted(changes.keys() - replaced))

    def _nodes(
        self, rightless: set[AuthorId]
    ) -> dict[bytes, dict[AuthorId, NodeAddress]]:
        """Return who claims which transport key, by the last word of each author.

        Several may claim one key, so that nobody can talk another's node away. Of one
        author the keys named last count, up to a bound: each may connect to every node.
        """
        last: dict[AuthorId, dict[bytes, NodeAddress]] = {}
        by_age = sorted(self.effective.values(), key=lambda r: (r.author_seq, r.id))
        for record in by_age:
            if isinstance(record.body, NodeAddress) and record.author not in rightless:
                own = last.setdefault(record.author, {})
                own.pop(record.body.node, None)  # said again, it is the newest
                own[record.body.node] = record.body
        nodes: dict[bytes, dict[AuthorId, NodeAddress]] = {}
        for author, own in last.items():
            for node, body in list(own.items())[-NODES_PER_AUTHOR_MAX:]:
                nodes.setdefault(node, {})[author] = body
        return {
            node: dict(sorted(claims.items())) for node, claims in sorted(nodes.items())
        }
