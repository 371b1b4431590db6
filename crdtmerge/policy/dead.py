"""Which records are dead: what epochs list, and where the listed records stood.

Owns which epochs count and which records they can kill. Does not own what is worth listing
(`crdtmerge.epochs`), nor dropping (`orset`, `nodes`).

Decided by admission alone, so it only grows and no judgement is in it: whoever dropped a
record need never look for it again. So much power is kept small by what it cannot reach:

* only adds, removes, recipes and node records die. Nothing that others name as what gives
  them their right, no judgement and no proof does, whatever an owner signs;
* no record of an owner dies. Else who was judged could list its own, falsely, and have
  more accepted of them than its judges did;
* a record dies only if it is listed as what it is: by author, number, `prev` and `auth`.
  What is listed otherwise lives on wherever it is, and is believed before any list.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import (
    Add,
    Approve,
    Epoch,
    Genesis,
    Link,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Run,
)
from crdtmerge.identity import AuthorId
from crdtmerge.policy.admissible import Lookup, authority_of
from crdtmerge.policy.ranks import Rank
from crdtmerge.record import RECORD_BYTES_MAX, Record

MORTAL: Final = (Add, Remove, RecipeChange, NodeAddress)
"""The kinds of which a record can die."""
DECIDING: Final = frozenset({Epoch.KIND, Approve.KIND})
"""The kinds that decide what is dead."""
_PLACES: Final = RECORD_BYTES_MAX
"""More than one run has ids."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the epochs that count list; only `with_epochs` makes one with any."""

    epochs: frozenset[RecordId] = frozenset()
    runs: list[Run] = field(default_factory=list)
    _places: dict[RecordId, int] = field(default_factory=dict)
    """By id which run lists it, and where in it, as one number: there may be millions."""
    _others: dict[RecordId, tuple[int, ...]] = field(default_factory=dict)
    """Of ids that are listed several times, and not as the same, the other places."""
    _of_author: dict[AuthorId, tuple[int, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many ids are listed."""
        return len(self._places)

    def __contains__(self, record: RecordId) -> bool:
        """Tell whether the id is listed, be it truly or not."""
        return record in self._places

    def link(self, record: RecordId) -> Link | None:
        """Return where a listed record stood; None if lists disagree, for any may lie.

        SUBTLE: no rule may choose. A record that is gone was listed truly once; whoever
        lists it a second time, falsely, would know how to have the lie chosen.
        """
        links = list(self._links(record))
        return links[0] if len(links) == 1 else None

    def states(self, record: Record) -> bool:
        """Tell whether `record` is listed as what it is."""
        return link_of(record) in self._links(record.id)

    def of_author(self, author: AuthorId) -> Iterator[tuple[RecordId, Link]]:
        """Yield what is listed as of `author`, and where it stood, be it truly or not."""
        for number in self._of_author.get(author, ()):
            run = self.runs[number]
            for place, record in enumerate(run):
                yield record, run.link(place)

    def with_epochs(self, epochs: Mapping[RecordId, Epoch]) -> "Listing":
        """Return what is listed once these count too, in whatever order they come."""
        fresh = sorted(epochs.keys() - self.epochs)
        if not fresh:
            return self
        grown = Listing(
            self.epochs | frozenset(fresh),
            list(self.runs),
            dict(self._places),
            dict(self._others),
            dict(self._of_author),
        )
        for key in fresh:
            for run in epochs[key].runs:
                grown._add(run)
        return grown

    def added_to(self, older: "Listing") -> Iterator[RecordId]:
        """Yield the ids in the runs that `older`, from which this value grew, lacks."""
        for run in self.runs[len(older.runs) :]:
            yield from run

    def _add(self, run: Run) -> None:
        """List a run too; only while this value is being made."""
        number = len(self.runs)
        self.runs.append(run)
        known = self._of_author.get(run.author, ())
        self._of_author[run.author] = (*known, number)
        for place, record in enumerate(run):
            at = number * _PLACES + place
            if self._places.setdefault(record, at) != at and not any(
                link == run.link(place) for link in self._links(record)
            ):
                self._others[record] = (*self._others.get(record, ()), at)

    def _links(self, record: RecordId) -> Iterator[Link]:
        first = self._places.get(record)
        if first is not None:
            for at in (first, *self._others.get(record, ())):
                number, place = divmod(at, _PLACES)
                yield self.runs[number].link(place)


NOTHING_LISTED: Final = Listing()


def link_of(record: Record) -> Link:
    """Return where a record stands."""
    return Link(record.author, record.author_seq, record.prev, record.auth)


def listing_of(
    epochs: Iterable[Record], approvals: Iterable[Record], lookup: Lookup
) -> Listing:
    """Return what those of the admitted `epochs` list that count.

    Where the genesis wants several owners' signatures, those count that as many approved.
    """
    return NOTHING_LISTED.with_epochs(counting(epochs, approvals, lookup))


def counting(
    epochs: Iterable[Record], approvals: Iterable[Record], lookup: Lookup
) -> dict[RecordId, Epoch]:
    """Return the `epochs` that enough owners signed, whatever became of these since."""
    found = list(epochs)
    bodies = {r.id: r.body for r in found if isinstance(r.body, Epoch)}
    if not found:
        return {}
    threshold = _rules(found[0], lookup).threshold
    if threshold == 1:
        return bodies
    signed: dict[RecordId, list[Record]] = {record.id: [record] for record in found}
    for record in approvals:
        if isinstance(record.body, Approve) and record.body.target in signed:
            signed[record.body.target].append(record)
    return {
        key: body
        for key, body in bodies.items()
        if len(signers_of(signed[key], lookup)) >= threshold
    }


def signers_of(signed: Iterable[Record], lookup: Lookup) -> frozenset[AuthorId]:
    """Return the owners that made these records, each by the key that genesis names.

    SUBTLE: a key that owners named for another's is of whoever signed that naming: by
    admission alone one owner can name as many as it likes.
    """
    return frozenset(_founder(record, lookup) for record in signed)


def _founder(record: Record, lookup: Lookup) -> AuthorId:
    while not isinstance(record.body, Genesis):
        grant = lookup(RecordId(record.auth))
        assert grant is not None, "the record was admitted without its chain"
        if isinstance(grant.body, Genesis):
            break
        record = grant
    return record.author


def _rules(record: Record, lookup: Lookup) -> Genesis:
    genesis = lookup(RecordId(record.space_id))
    assert genesis is not None, "a record was admitted without the genesis"
    assert isinstance(genesis.body, Genesis)
    return genesis.body


def is_dead(record: Record, listing: Listing, lookup: Lookup) -> bool:
    """Tell whether `record` is dead by what is listed.

    `lookup` finds the grants that it hangs on; they never die.

    Raises:
        MissingAuthorityError: one of them is not here.
        NotAdmissibleError: its author had no right to make it.
    """
    if record.id not in listing or not isinstance(record.body, MORTAL):
        return False
    if not listing.states(record) or record.author in _rules(record, lookup).owners:
        return False
    return authority_of(record, lookup).rank < Rank.OWNER


def living(
    records: Mapping[RecordId, Record],
) -> tuple[Mapping[RecordId, Record], Listing]:
    """Return those of the admitted `records` that are not dead, and what is listed."""
    epochs = [r for r in records.values() if isinstance(r.body, Epoch)]
    if not epochs:
        return records, NOTHING_LISTED
    approvals = (r for r in records.values() if isinstance(r.body, Approve))
    listing = listing_of(epochs, approvals, records.get)
    live = {
        key: record
        for key, record in records.items()
        if not is_dead(record, listing, records.get)
    }
    return live, listing
