"""Forks that the records of a set show, and which of them were lifted.

Owns who is shown to have used a number twice. Does not own the proof (`crdtmerge.forks`),
nor what becomes of the author's records (`standing`).

Every admitted fork counts, whatever became of the rights of who shows it: it is a proof.
"""

from collections.abc import Callable, Iterable, Mapping

from crdtmerge.bodies import Lift, RecordId
from crdtmerge.forks import Fork
from crdtmerge.identity import AuthorId
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


def lifts_of(
    records: Mapping[RecordId, Record],
    effective: Iterable[Record],
    acting: Callable[[Record], int],
) -> Mapping[tuple[AuthorId, int], int]:
    """Return by author and number with which rank a fork was lifted, the highest.

    SUBTLE: a lift names a record, and lifts what that shows: author and number. The same
    proof can be published again by anybody, in as many records as one likes.
    """
    above: dict[tuple[AuthorId, int], int] = {}
    for record in effective:
        target = (
            records.get(record.body.target) if isinstance(record.body, Lift) else None
        )
        if target and isinstance(target.body, Fork):
            place = target.body.place
            above[place] = max(above.get(place, -1), acting(record))
    return above


def numbers_of(
    forks: Iterable[ShownFork], lifts: Mapping[tuple[AuthorId, int], int], rank: int
) -> Mapping[AuthorId, int]:
    """Return the first number that each author used twice, if of `rank`.

    Those count that nobody above that rank has lifted.
    """
    numbers: dict[AuthorId, int] = {}
    for fork in forks:
        if lifts.get(fork.place, -1) <= rank:
            known = numbers.get(fork.author, fork.author_seq)
            numbers[fork.author] = min(known, fork.author_seq)
    return numbers
