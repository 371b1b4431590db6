"""The op-set: signed records, whose join is their union without what that lists as dead.

Owns join, the record root, the cached view, and who used a number twice in it. Does not
own who may say what, nor what is dead (`policy`), nor where records are kept
(`nodes.store`). Immutable: every change gives a new value, so a refused batch leaves
nothing behind. Trie and view are computed when they are asked for.

What is dead only grows, so a dead record that comes again is as if it had not come: sets
that heard the same are equal, whatever each dropped, and when.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

from crdtmerge.bodies import Epoch, Genesis, RecordId, SpaceId
from crdtmerge.errors import MissingAuthorityError, WrongSpaceError
from crdtmerge.identity import AuthorId
from crdtmerge.log import Log, MemoryLog, Records
from crdtmerge.policy import (
    DECIDING,
    NOTHING_LISTED,
    Listing,
    Lookup,
    Meaning,
    View,
    check_admissible,
    counting,
    is_dead,
)
from crdtmerge.record import Record, SignedRecord
from crdtmerge.trie import Trie

Pair: TypeAlias = tuple[SignedRecord, SignedRecord]
"""Two records of one author and number, the lower id first."""
Forked: TypeAlias = Mapping[AuthorId, tuple[Pair, ...]]
"""By author that used numbers twice, two records of each such number, the lowest first."""


@dataclass(frozen=True)
class OpSet:
    """The admissible records of one space that are not dead.

    Only `insert` and `join` make one with any.
    """

    space: SpaceId
    signed: Log = field(default_factory=MemoryLog)
    listing: Listing = field(default=NOTHING_LISTED, compare=False, repr=False)
    """What the epochs among `signed` list."""
    _known: Trie = field(default_factory=Trie, compare=False, repr=False)
    """The trie of the first so many of `signed`, from when it was last asked for."""
    _meant: Meaning | None = field(default=None, compare=False, repr=False)
    """What the first so many meant, from when it was last asked for."""

    @classmethod
    def stored(cls, space: SpaceId, signed: Log, trie: Trie) -> "OpSet":
        """Return the set whose records a store keeps: each was admitted before it was kept.

        `trie` is over all of them. The dead, which a store may still keep, are left out.
        """
        found = cls(space, signed, _known=trie)
        return found._with({})

    def stored_as(self, signed: Log, trie: Trie) -> "OpSet":
        """Return this set as a store keeps it now; `signed` and `trie` are of the same."""
        meant = self._last_meaning()
        return replace(self, signed=signed, _known=trie, _meant=meant)

    def gone_since(self, before: "OpSet") -> frozenset[RecordId]:
        """Return the records of an earlier set that this one holds no more."""
        listed = self.listing.added_to(before.listing)
        return frozenset(r for r in listed if r in before and r not in self)

    @cached_property
    def trie(self) -> Trie:
        """The trie over all record ids."""
        known = self._known
        return known.insert(s.record.id for s in self.signed.since(len(known)))

    @property
    def root(self) -> bytes:
        """The record root: the trie root over all record ids."""
        return self.trie.root

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.signed)

    def __contains__(self, record: RecordId) -> bool:
        """Tell whether the set holds the record."""
        return record in self.signed

    def get(self, record: RecordId) -> Record | None:
        """Return the record with this id, if the set holds it."""
        found = self.signed.get(record)
        return found.record if found else None

    @cached_property
    def records(self) -> Mapping[RecordId, Record]:
        """The records by id."""
        return Records(self.signed)

    @cached_property
    def view(self) -> View:
        """What the set means; computed once a value."""
        return self.meaning.view

    @cached_property
    def meaning(self) -> Meaning:
        """What the set means, to be found from what it meant before."""
        if self._meant is None:
            return Meaning.of(self.signed, self.listing)
        return self._meant.advanced(self.signed, self.listing)

    @cached_property
    def forked(self) -> Forked:
        """Who used numbers twice in this set."""
        return forks_among(self.signed.since(0))

    def insert(self, batch: Iterable[SignedRecord]) -> "OpSet":
        """Return the set with `batch` joined in; all of it is checked before any counts.

        The batch may come in any order and hold records that are already there, or dead.
        Its members are well-formed (`record.well_formed` made them).

        Raises:
            WrongSpaceError: a record belongs to another space.
            MissingAuthorityError: a record hangs on a grant in neither set nor batch.
            NotAdmissibleError: an author had no right.
        """
        fresh = {s.record.id: s for s in batch if s.record.id not in self.signed}
        if not fresh:
            return self

        lookup = self._lookup_beside(fresh)
        foreign = {s.record.space_id for s in fresh.values()} - {self.space}
        if foreign:
            raise _foreign(min(foreign))
        for signed in fresh.values():
            check_admissible(signed.record, lookup)
        return self._with(fresh)

    def join(self, other: "OpSet") -> "OpSet":
        """Return the union: commutative, associative, idempotent.

        SUBTLE: what `other` admitted is not admitted again. A record and its chain decide
        alone whether it is admissible, and both are in `other`, hence in the union.

        Raises:
            WrongSpaceError: the other set is of another space.
        """
        if other.space != self.space:
            raise _foreign(other.space)
        ours = self.signed
        fresh = {key: s for key, s in other.signed.items() if key not in ours}
        return self._with(fresh) if fresh else self

    def _with(self, fresh: Mapping[RecordId, SignedRecord]) -> "OpSet":
        """Return the set with admitted records that it does not hold yet."""
        lookup = self._lookup_beside(fresh)
        listing = self._listing_with(fresh, lookup)
        if len(self.listing) or listing is not self.listing:
            fresh = {
                key: signed
                for key, signed in fresh.items()
                if not is_dead(signed.record, listing, lookup)
            }
            if not fresh and listing is self.listing:
                return self
        known = self.trie if "trie" in vars(self) else self._known
        meant, kept = self._last_meaning(), self.signed
        if gone := self._dying(listing):
            known = known.delete(key for key in gone if key in known)
            meant, kept = None, kept.without(gone)
        return OpSet(self.space, kept.extended(fresh), listing, known, meant)

    def _last_meaning(self) -> Meaning | None:
        return self.meaning if "meaning" in vars(self) else self._meant

    def as_if(self, lists: Iterable[Epoch]) -> "OpSet":
        """Return what the set is without what `lists` name, before anybody signed them."""
        named = {RecordId(n.to_bytes(2, "big")): body for n, body in enumerate(lists)}
        listing = self.listing.with_epochs(named)
        kept = self.signed.without(self._dying(listing))
        return OpSet(self.space, kept, listing)

    def _lookup_beside(self, fresh: Mapping[RecordId, SignedRecord]) -> Lookup:
        """Return how to find a record of the set, or one that may join it."""

        def lookup(key: RecordId) -> Record | None:
            found = fresh.get(key) or self.signed.get(key)
            return found.record if found else None

        return lookup

    def _listing_with(
        self, fresh: Mapping[RecordId, SignedRecord], lookup: Lookup
    ) -> Listing:
        """Return what is listed once `fresh` has joined."""
        deciding = [s.record for s in fresh.values() if s.record.kind in DECIDING]
        if fresh and not deciding:
            return self.listing
        deciding += [signed.record for signed in self.signed.of_kinds(DECIDING)]
        epochs = [
            record
            for record in deciding
            if isinstance(record.body, Epoch) and record.id not in self.listing.epochs
        ]
        return self.listing.with_epochs(counting(epochs, deciding, lookup))

    def _dying(self, listing: Listing) -> frozenset[RecordId]:
        """Return the records of this set that are dead once `listing` counts."""
        return frozenset(
            record
            for record in listing.added_to(self.listing)
            if record in self.signed
            and is_dead(self.signed[record].record, listing, self.get)
        )

    def is_dead(self, record: Record) -> bool:
        """Tell whether a record is dead; one that is not in the set may be.

        Raises:
            MissingAuthorityError: what it hangs on is not in the set.
            NotAdmissibleError: its author had no right to make it.
        """
        return is_dead(record, self.listing, self.get)

    def chain(self, record: Record) -> list[SignedRecord]:
        """Return the grants that `record` hangs on, genesis first, without itself.

        Raises:
            MissingAuthorityError: a grant of the chain is not in the set.
        """
        links: list[SignedRecord] = []
        while not isinstance(record.body, Genesis):
            found = self.signed.get(RecordId(record.auth))
            if found is None:
                raise MissingAuthorityError(record.id, record.auth)
            links.append(found)
            record = found.record
        return links[::-1]


def forks_among(signed: Iterable[SignedRecord]) -> Forked:
    """Return who used numbers twice in these records.

    Of more than two, those of the lowest ids: the order of `signed` is of no effect.
    """
    places: dict[tuple[AuthorId, int], SignedRecord] = {}
    forked: dict[tuple[AuthorId, int], dict[RecordId, SignedRecord]] = {}
    for one in signed:
        place = one.record.author, one.record.author_seq
        first = places.setdefault(place, one)
        if first.record.id != one.record.id:
            found = forked.setdefault(place, {first.record.id: first})
            found[one.record.id] = one
    pairs: dict[AuthorId, list[Pair]] = {}
    for (author, _), found in sorted(forked.items()):
        low, high, *_rest = sorted(found)
        pairs.setdefault(author, []).append((found[low], found[high]))
    return {author: tuple(found) for author, found in pairs.items()}


def forks_beside(opset: OpSet, batch: Iterable[SignedRecord]) -> Forked:
    """Return the forks that `batch`, which `opset` refuses, shows together with it.

    Its records are well-formed: their authors did sign them.
    """
    fresh = [
        s
        for s in batch
        if s.record.id not in opset and s.record.space_id == opset.space
    ]
    used = {(s.record.author, s.record.author_seq) for s in fresh}
    known = (
        s
        for author in sorted({author for author, _ in used})
        for s in opset.signed.of_author(author)
        if (author, s.record.author_seq) in used
    )
    return forks_among((*known, *fresh))


def _foreign(space: SpaceId) -> WrongSpaceError:
    return WrongSpaceError(f"a record of space {space.hex()[:12]} in another space")
