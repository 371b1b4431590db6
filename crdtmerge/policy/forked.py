"""Forks that the records of a set show, and which of them were lifted.

Owns who is shown to have used a number twice. Does not own the proof (`crdtmerge.forks`),
nor what becomes of the author's records (`standing`).

Every admitted fork counts, whatever became of the rights of who shows it: it is a proof.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from crdtmerge.bodies import Lift, RecordId
from crdtmerge.forks import Fork
from crdtmerge.identity import AuthorId
from crdtmerge.policy.ranks import Rank
from crdtmerge.policy.view import ShownFork
from crdtmerge.record import Record


def forks_of(records: Mapping[RecordId, Record]) -> tuple[ShownFork, ...]:
    """Return the forks that `records` show, by author and number."""
    shown: dict[tuple[AuthorId, int], RecordId] = {}
    for key in sorted(k for k, r in records.items() if isinstance(r.body, Fork)):
        body = records[key].body
        assert isinstance(body, Fork)
        shown.setdefault(body.place, key)
    return tuple(
        ShownFork(author, number, key)
        for (author, number), key in sorted(shown.items())
    )


def lifted_by(
    forks: Iterable[ShownFork],
    records: Mapping[RecordId, Record],
    effective: Mapping[RecordId, Record],
    ranks: Mapping[AuthorId, Rank],
) -> tuple[ShownFork, ...]:
    """Return `forks`, those marked that an author of higher rank has lifted.

    SUBTLE: a lift names a record, and lifts what that shows: author and number. The same
    proof can be published again by anybody, in as many records as one likes.
    """
    above: dict[tuple[AuthorId, int], int] = {}
    for record in effective.values():
        target = (
            records.get(record.body.target) if isinstance(record.body, Lift) else None
        )
        if target and isinstance(target.body, Fork):
            place = target.body.place
            above[place] = max(above.get(place, -1), ranks[record.author])
    return tuple(
        replace(
            fork,
            lifted=above.get(fork.place, -1) > ranks.get(fork.author, -1),
        )
        for fork in forks
    )
