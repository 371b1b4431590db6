"""What the first so many records of a log mean, found from what fewer of them mean.

Owns which part of a meaning is found when, and from what. Does not own the rules: that the
outcome is that of `elements.evaluate` on the same records is a law, and tested as one.

A message of plain records costs what it brings: who stands how stays the very same value
(`rights`), and contributions are made again where it says something of them (`showing`).
Where somebody stands otherwise, that is found from the records which decide it, and the
records of whom it touches are gone through again.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from crdtmerge.bodies import Evaluation, NodeAddress, RecipeChange, RecordId
from crdtmerge.log import Log
from crdtmerge.policy.dead import NOTHING_LISTED, Listing
from crdtmerge.policy.elements import Nodes, nodes_of, recipe_heads, view_of
from crdtmerge.policy.pending import pending_of
from crdtmerge.policy.rights import Rights
from crdtmerge.policy.scoring import Evaluated, evaluations_of
from crdtmerge.policy.showing import Showing
from crdtmerge.policy.view import Pending, Shown, View
from crdtmerge.record import Record

_TOLD: Final = frozenset({RecipeChange.KIND, NodeAddress.KIND})
_SCORING: Final = frozenset({Evaluation.KIND})


class Effective(AbstractSet[RecordId]):
    """The records of a log that take effect; gone through, it reads all of them."""

    __slots__ = ("_rights",)

    def __init__(self, rights: Rights) -> None:
        self._rights = rights

    @classmethod
    def _from_iterable(cls, it) -> AbstractSet[RecordId]:  # type: ignore[no-untyped-def,override]  # noqa: ANN001
        return frozenset(it)

    def get(self, key: RecordId) -> Record | None:
        """Return the record with this id, if it takes effect."""
        signed = self._rights.log.get(key)
        return signed.record if signed and self._rights.lets(signed.record) else None

    def __contains__(self, key: object) -> bool:
        """Tell whether the record with this id takes effect."""
        return self.get(key) is not None  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[RecordId]:
        """Yield the ids in the order of arrival."""
        rights = self._rights
        records = (signed.record for signed in rights.log.since(0))
        return (record.id for record in records if rights.lets(record))

    def __len__(self) -> int:
        """Count them, which reads all records."""
        return sum(1 for _ in self)


@dataclass(frozen=True, slots=True)
class _Told:
    """The recipes that serve, and the nodes."""

    heads: tuple[Record, ...]
    nodes: Nodes


@dataclass(frozen=True)
class Meaning:
    """What the records of a log mean; a value. What was asked before changes no answer."""

    rights: Rights
    _known: Showing
    """What some first records show, from when that was last asked for."""
    _told: _Told

    @classmethod
    def of(cls, log: Log, listing: Listing = NOTHING_LISTED) -> "Meaning":
        """Return what `log` means, found from nothing; none of its records is dead.

        Raises:
            WrongSpaceError: there is not exactly one genesis.
        """
        rights = Rights.of(log, listing)
        return cls(rights, Showing(rights), _tell(rights))

    def advanced(self, log: Log, listing: Listing = NOTHING_LISTED) -> "Meaning":
        """Return what `log` means, which holds the records of this value first.

        Their order may be another one.
        """
        before = self.rights
        rights = before.advanced(log, listing)
        kinds = {signed.record.kind for signed in log.since(len(before.log))}
        same = rights.standing is before.standing
        known = self.showing if "showing" in vars(self) else self._known
        told = same and kinds.isdisjoint(_TOLD)
        after = Meaning(rights, known, self._told if told else _tell(rights))
        if same and kinds.isdisjoint(_SCORING) and "evaluations" in vars(self):
            vars(after)["evaluations"] = self.evaluations
        return after

    @cached_property
    def showing(self) -> Showing:
        """What all of the records show."""
        return self._known.advanced(self.rights)

    @property
    def shown(self) -> Shown:
        """What the effective records show."""
        return self.showing.shown

    def shown_by(self, most: int) -> tuple[Shown, bool]:
        """Return what is known to be shown, once at most `most` more records were read.

        And whether that is all. Asked again and again it comes to that, for values that
        are advanced from this one too: nobody need read a million records at once.
        """
        if "showing" in vars(self):
            return self.shown, True
        known = self._known.advanced(self.rights, most)
        # SUBTLE: no answer depends on it. Of two threads one may read some records again.
        object.__setattr__(self, "_known", known)
        if known.count < len(self.rights.log):
            return known.shown, False
        return self.shown, True

    @cached_property
    def pending(self) -> tuple[Pending, ...]:
        """The acts of owners that too few of them signed, by id."""
        return pending_of(self.rights.standing, Effective(self.rights).get)

    @cached_property
    def evaluations(self) -> tuple[Evaluated, ...]:
        """The evaluations that count, by record id.

        Only merges by a strategy that reads them ask for them: found anew after any came.
        """
        rights = self.rights
        said = (signed.record for signed in rights.log.of_kinds(_SCORING))
        return evaluations_of(rights.standing.chains, filter(rights.lets, said))

    @cached_property
    def view(self) -> View:
        """What the records mean, in the words that the rest of the program reads."""
        return view_of(
            self.rights.standing,
            effective=Effective(self.rights),
            heads=self._told.heads,
            nodes=self._told.nodes,
            source=self,
        )


def _tell(rights: Rights) -> _Told:
    records = (signed.record for signed in rights.log.of_kinds(_TOLD))
    effective = [record for record in records if rights.lets(record)]
    return _Told(recipe_heads(effective), nodes_of(rights.standing, effective))
