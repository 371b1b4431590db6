"""The op-set: a grow-only set of signed records, whose join is set union.

Owns join, the record root and the cached view. Does not own who may say what (`policy`),
nor where records are kept (`nodes.store`). Immutable: every change gives a new value, so a
refused batch leaves nothing behind.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from crdtmerge.bodies import Genesis, RecordId, SpaceId
from crdtmerge.errors import MissingAuthorityError, WrongSpaceError
from crdtmerge.policy import View, check_admissible, evaluate
from crdtmerge.record import Record, SignedRecord
from crdtmerge.trie import Trie


@dataclass(frozen=True)
class OpSet:
    """The admissible records of one space."""

    space: SpaceId
    signed: Mapping[RecordId, SignedRecord] = field(default_factory=dict)
    trie: Trie = field(default_factory=Trie)

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
        return {key: signed.record for key, signed in self.signed.items()}

    @cached_property
    def view(self) -> View:
        """What the set means; computed once a value."""
        return evaluate(self.records)

    def insert(self, batch: Iterable[SignedRecord]) -> "OpSet":
        """Return the set with `batch` joined in; all of it is checked before any counts.

        The batch may come in any order and hold records that are already there. Its
        members are well-formed (`record.well_formed` made them).

        Raises:
            WrongSpaceError: a record belongs to another space.
            MissingAuthorityError: a record hangs on a grant in neither set nor batch.
            NotAdmissibleError: an author had no right.
        """
        fresh = {s.record.id: s for s in batch if s.record.id not in self.signed}
        if not fresh:
            return self

        def lookup(key: RecordId) -> Record | None:
            found = fresh.get(key) or self.signed.get(key)
            return found.record if found else None

        foreign = {s.record.space_id for s in fresh.values()} - {self.space}
        if foreign:
            other = min(foreign).hex()[:12]
            raise WrongSpaceError(f"a record of space {other} in another space")
        for signed in fresh.values():
            check_admissible(signed.record, lookup)
        trie = self.trie.insert(sorted(fresh))
        return OpSet(self.space, {**self.signed, **fresh}, trie)

    def join(self, other: "OpSet") -> "OpSet":
        """Return the union: commutative, associative, idempotent."""
        return self.insert(other.signed.values())

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
