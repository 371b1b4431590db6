"""Compaction: which records of a set are worth listing as dead, and the lists themselves.

Owns the choice, how it is dealt out to records, and the proof that nothing changes by it.
Does not own what a list brings about (`policy.dead`), nor who signs it (`replica`).

There are no clocks in records, so age is not asked. Chosen is what is superseded by what
stays, for good: not only in this set, but in every larger one in which the same judgements
stand. So a remove stays as long as one record that it names may still come.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from typing import Final

from crdtmerge.bodies import (
    Add,
    Epoch,
    Link,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Run,
    runs_of,
)
from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import ConflictError
from crdtmerge.identity import AuthorId
from crdtmerge.orset import OpSet
from crdtmerge.policy import MORTAL, Rank, View, authority_of, link_of
from crdtmerge.record import RECORD_BYTES_MAX, Record

ROOM: Final = RECORD_BYTES_MAX - 512
"""Bytes of one list: the frame around a body takes less than the rest."""
RUN_BYTES: Final = 160
"""What a run takes beside its ids, at most, with author and grant."""
OF_RECORDS: Final = frozenset({"effective", "acts", "pending", "source"})
"""Fields of a view that tell of single records, and may lack those that are listed."""
SHOWN: Final = ("visible", "visible_root", "faults", "unknown_critical")
"""What a view is asked for beside its fields."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be listed of a set, by why it has no effect any more."""

    removed: frozenset[RecordId] = frozenset()
    """Adds that were removed, or whose content is shown to be faulty."""
    removes: frozenset[RecordId] = frozenset()
    """Removes of nothing but what is dead or listed here."""
    replaced: frozenset[RecordId] = frozenset()
    """Recipes that another one replaced."""
    renamed: frozenset[RecordId] = frozenset()
    """What nodes said of themselves, and said anew."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """How many records have no effect and stay all the same, by why."""

    @property
    def records(self) -> frozenset[RecordId]:
        """All of them."""
        return self.removed | self.removes | self.replaced | self.renamed


LAST: Final = "the last that its author said, or the last under genesis"
OWNERS: Final = "of an owner"
AWAITED: Final = "it names a record that is not here or stays"


def choose(opset: OpSet) -> Choice:
    """Return what may be listed of `opset`: without it the view is the same."""
    return _Choosing(opset).choice()


class _Choosing:
    """The working state of one choice."""

    def __init__(self, opset: OpSet) -> None:
        self.opset = opset
        self.view = opset.view
        self.mortal = mortal_among(opset)
        self.by_id = {record.id: record for record in self.mortal}
        self.last = _last_records(opset, {record.author for record in self.mortal})
        self.owners: dict[tuple[bytes, AuthorId], bool] = {}
        self.kept: dict[str, set[RecordId]] = {}

    def choice(self) -> Choice:
        """Return what may be listed, and what stays though it has no effect."""
        removed = self._may_go(self._removed())
        removes = self._may_go(self._idle_removes(removed))
        replaced = self._replaced()
        renamed = self._may_go(self._renamed())
        kept = {why: len(ids) for why, ids in sorted(self.kept.items())}
        return Choice(removed, removes, replaced, renamed, kept)

    def _may_go(self, idle: Iterable[Record]) -> frozenset[RecordId]:
        """Return which of these have to stay for no other reason."""
        going: set[RecordId] = set()
        for record in idle:
            if self._of_owner(record):
                self._keep(OWNERS, record)
            elif record.id in self.last:
                self._keep(LAST, record)
            else:
                going.add(record.id)
        return frozenset(going)

    def _keep(self, why: str, record: Record) -> None:
        self.kept.setdefault(why, set()).add(record.id)

    def _of_owner(self, record: Record) -> bool:
        """Tell whether a list cannot kill the record, for its author is an owner."""
        place = record.auth, record.author
        if place not in self.owners:
            owns = record.author in self.view.rules.owners
            rank = authority_of(record, self.opset.get).rank
            self.owners[place] = owns or rank is Rank.OWNER
        return self.owners[place]

    def _removed(self) -> Iterator[Record]:
        """Yield the adds that an effective remove took out, or that are faulty."""
        taken: set[RecordId] = set()
        for record in self.mortal:
            if isinstance(record.body, Remove) and record.id in self.view.effective:
                taken |= {a for a in record.body.adds if self._takes(record, a)}
        for record in self.mortal:
            if isinstance(record.body, Add) and (
                record.id in taken or record.body.content in self.view.faults
            ):
                yield record

    def _takes(self, remove: Record, add: RecordId) -> bool:
        """Tell whether an effective remove has the right to take out `add`."""
        target, view = self.by_id.get(add), self.view
        if target is None or add not in view.effective:
            return False
        own = remove.author == target.author
        own = own or view.follows(remove.author, target.author)
        return own or view.acting(remove) > view.ranks[target.author]

    def _idle_removes(self, gone: Collection[RecordId]) -> Iterator[Record]:
        """Yield the removes that name nothing which lives, or may still come.

        SUBTLE: a remove may arrive before the add that it names. Were it dropped because
        nothing is left of what it names here, that add would be visible once it comes.
        """
        for record in self.mortal:
            if not isinstance(record.body, Remove):
                continue
            named = [add for add in record.body.adds if add not in gone]
            if all(self._is_gone(add) for add in named):
                yield record
            elif not any(add in self.opset for add in named):
                self._keep(AWAITED, record)

    def _is_gone(self, record: RecordId) -> bool:
        return record in self.opset.listing and record not in self.opset

    def _replaced(self) -> frozenset[RecordId]:
        """Return the recipes that another replaced, and that hold back no other."""
        recipes = {
            record.id: record.body.replaces
            for record in self.mortal
            if isinstance(record.body, RecipeChange)
            and record.id in self.view.effective
        }
        idle = (self.by_id[key] for key in recipes.keys() - {*self.view.recipe_heads})
        going = set(self._may_go(sorted(idle, key=lambda record: record.id)))
        while True:
            staying = recipes.keys() - going
            named = {old for key in staying for old in recipes[key]}
            held = {
                key
                for key in going
                if not all(
                    old in going or old in named or self._is_gone(old)
                    for old in recipes[key]
                )
            }
            if not held:
                return frozenset(going)
            for key in held:
                self._keep(AWAITED, self.by_id[key])
            going -= held

    def _renamed(self) -> Iterator[Record]:
        """Yield what authors said of nodes of theirs, and said anew with effect."""
        last: dict[tuple[AuthorId, bytes], tuple[int, RecordId]] = {}
        said = [r for r in self.mortal if isinstance(r.body, NodeAddress)]
        said = [record for record in said if record.id in self.view.effective]
        for record in said:
            place, age = _node_of(record), (record.author_seq, record.id)
            last[place] = max(age, last.get(place, age))
        for record in said:
            if last[_node_of(record)][1] != record.id:
                yield record


def _node_of(record: Record) -> tuple[AuthorId, bytes]:
    assert isinstance(record.body, NodeAddress)
    return record.author, record.body.node


def _last_records(opset: OpSet, authors: Iterable[AuthorId]) -> set[RecordId]:
    """Return the records that none of the same author follows, and what rights come of."""
    last: set[RecordId] = set()
    for author in authors:
        own = [signed.record for signed in opset.signed.of_author(author)]
        followed = {record.prev for record in own}
        followed |= {link.prev for _, link in opset.listing.of_author(author)}
        tips = {record.id for record in own} - followed
        # Of one of which all that follows is dead, this one still says how far it went.
        newest = max(own, key=_number)
        last |= tips | {newest.id}
        # In an open space the right to contribute comes of having used it.
        direct = [record for record in own if record.auth == opset.space]
        last |= {max(direct, key=_number).id} if direct else set()
    return last


def _number(record: Record) -> tuple[int, RecordId]:
    return record.author_seq, record.id


def epochs_of(opset: OpSet, records: AbstractSet[RecordId]) -> list[Epoch]:
    """Return these records of the set as lists, each of which fits into one record."""
    found = mortal_among(opset)
    return list(dealt(runs_of((r.id, link_of(r)) for r in found if r.id in records)))


def mortal_among(opset: OpSet) -> list[Record]:
    """Return the records of the set of the kinds that can die, in one pass over it."""
    kinds = frozenset(body.KIND for body in MORTAL)
    return [signed.record for signed in opset.signed.of_kinds(kinds)]


def dealt(runs: Iterable[Run]) -> Iterator[Epoch]:
    """Yield lists of these sorted runs, in parts that fit; a long run is parted."""
    part: list[Run] = []
    room = ROOM
    for run in runs:
        rest: Run | None = run
        while rest is not None:
            fitting = (room - RUN_BYTES) // DIGEST_BYTES
            if fitting < 1:
                yield Epoch(tuple(part))
                part, room = [], ROOM
                continue
            first, rest = _parted(rest, fitting)
            part.append(first)
            room -= RUN_BYTES + len(first.ids)
    if part:
        yield Epoch(tuple(part))


def _parted(run: Run, most: int) -> tuple[Run, Run | None]:
    """Return up to `most` records of a run, and the run of the rest."""
    if len(run) <= most:
        return run, None
    at = most * DIGEST_BYTES
    first = Run(run.author, run.auth, run.first, run.prev, run.ids[:at])
    number = run.first + most
    return first, Run(run.author, run.auth, number, first.last, run.ids[at:])


def check_unchanged(opset: OpSet, lists: Sequence[Epoch]) -> None:
    """Check that the set means the same without what is listed.

    Raises:
        ConflictError: it does not: nothing of this may be signed.
    """
    if fields := changed(opset.view, opset.as_if(lists).view):
        raise ConflictError(
            f"without these records the space would change: {', '.join(fields)}",
            hint="nothing was signed; that is a bug: please report it",
        )


def changed(before: View, after: View) -> list[str]:
    """Return the fields that differ, but for what they say of single dead records."""
    named = [found.name for found in fields(View) if found.name not in OF_RECORDS]
    return [
        name
        for name in (*SHOWN, *named)
        if getattr(before, name) != getattr(after, name)
    ]


def links_of(epoch: Epoch) -> Iterator[tuple[RecordId, Link]]:
    """Yield what a list holds: each id, and where its record stood."""
    for run in epoch.runs:
        for place, record in enumerate(run):
            yield record, run.link(place)
