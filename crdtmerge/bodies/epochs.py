"""The kind that lets a space shrink: `epoch`, a list of records that are dead.

Owns its form: runs of an author's consecutive records. Does not own which records die of
it (`policy.dead`), nor which are worth listing (`crdtmerge.epochs`).

A run names the records of one author that follow each other under one grant: the number
of the first, what that one followed, and the ids. So each id comes with all that is asked
of a record that nobody holds any more, at some 32 bytes: whose it was, its number, and
what it followed and hung on.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import ClassVar, Final, NamedTuple

from crdtmerge.bodies.forms import RecordId, not_a, require
from crdtmerge.codec import Value
from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.identity import KEY_BYTES, AuthorId

NUMBER_MAX: Final = 2**63
"""Below it lie all numbers of records."""


class Link(NamedTuple):
    """Where a record stood: its author and number, what it followed and hung on."""

    author: AuthorId
    number: int
    prev: bytes
    auth: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Records of `author` under the grant `auth`, numbered from `first` on.

    `prev` is what the first of them followed; `ids` are theirs, one after another.
    """

    author: AuthorId
    auth: RecordId
    first: int
    prev: bytes
    ids: bytes

    def __len__(self) -> int:
        """Return how many records are listed."""
        return len(self.ids) // DIGEST_BYTES

    @property
    def last(self) -> RecordId:
        """The id of the last of them."""
        return RecordId(self.ids[-DIGEST_BYTES:])

    def __iter__(self) -> Iterator[RecordId]:
        """Yield the ids, by number."""
        for at in range(0, len(self.ids), DIGEST_BYTES):
            yield RecordId(self.ids[at : at + DIGEST_BYTES])

    def link(self, place: int) -> Link:
        """Return where the record stood that is the one at `place` of the run."""
        at = place * DIGEST_BYTES
        before = self.ids[at - DIGEST_BYTES : at] if place else self.prev
        return Link(self.author, self.first + place, before, self.auth)

    @property
    def order(self) -> tuple[bytes, bytes, int, bytes]:
        """What runs are sorted by."""
        return self.author, self.auth, self.first, self.ids[:DIGEST_BYTES]


@dataclass(frozen=True, slots=True)
class Epoch:
    """Lists records that have no effect any more, and may be dropped by everybody.

    The runs are sorted, as long as they can be, and no id stands in two of them.
    """

    KIND: ClassVar[str] = "epoch"
    runs: tuple[Run, ...]

    def __len__(self) -> int:
        """Return how many records are listed."""
        return sum(map(len, self.runs))

    def to_value(self) -> Value:
        """Return the body's plain value: the runs by author and grant."""
        groups = groupby(self.runs, key=lambda run: (run.author, run.auth))
        return [
            [author, auth, [[run.first, run.prev, run.ids] for run in runs]]
            for (author, auth), runs in groups
        ]

    @classmethod
    def from_value(cls, value: Value) -> "Epoch":
        """Return the body that `value` is."""
        match value:
            case [_, *_] as groups:
                runs = tuple(run for group in groups for run in _runs(group))
            case _:
                raise not_a("epoch [author, grant, runs]")
        ordered = all(a.order < b.order for a, b in pairwise(runs))
        require(ordered, "runs are not sorted and unique")
        places = {run.order[:2] for run in runs}
        require(len(places) == len(groups), "runs of one grant stand apart")
        ends = {(*run.order[:2], run.first + len(run), run.last) for run in runs}
        whole = all((*run.order[:2], run.first, run.prev) not in ends for run in runs)
        require(whole, "a run goes on in another one")
        listed = {record for run in runs for record in run}
        require(len(listed) == sum(map(len, runs)), "a record is listed twice")
        return cls(runs)


def _runs(group: Value) -> Iterator[Run]:
    """Yield the runs under one grant."""
    match group:
        case [bytes(author), bytes(auth), [_, *_] as runs]:
            require(len(author) == KEY_BYTES, "no author key")
            require(len(auth) == DIGEST_BYTES, "no grant")
            for run in runs:
                yield _run(AuthorId(author), RecordId(auth), run)
        case _:
            raise not_a("group [author, grant, runs]")


def _run(author: AuthorId, auth: RecordId, value: Value) -> Run:
    match value:
        case [int(first), bytes(prev), bytes(ids)]:
            count, odd = divmod(len(ids), DIGEST_BYTES)
            require(count > 0 and not odd, "not 32-byte ids")
            in_bounds = first >= 0 and first + count <= NUMBER_MAX
            require(in_bounds, "numbers are out of bounds")
            due = DIGEST_BYTES if first else 0
            require(len(prev) == due, "prev misses or is in excess")
            return Run(author, auth, first, prev, ids)
        case _:
            raise not_a("run [number, prev, ids]")


def runs_of(links: Iterable[tuple[RecordId, Link]]) -> tuple[Run, ...]:
    """Return records, each with where it stood, as sorted runs, as long as can be."""
    ordered = sorted(links, key=lambda pair: (_group(pair[1]), pair[1].number, pair[0]))
    runs: list[Run] = []
    for _, found in groupby(ordered, key=lambda pair: _group(pair[1])):
        runs += _joined(list(found))
    return tuple(sorted(runs, key=lambda run: run.order))


def _group(link: Link) -> tuple[bytes, bytes]:
    return link.author, link.auth


def _joined(links: Sequence[tuple[RecordId, Link]]) -> Iterator[Run]:
    """Yield the runs of one author under one grant; of branches, each for itself."""
    open_runs: dict[tuple[int, bytes], tuple[Link, list[RecordId]]] = {}
    done: list[tuple[Link, list[RecordId]]] = []
    for record, link in links:
        first, ids = open_runs.pop((link.number, link.prev), (link, []))
        if not ids:
            done.append((first, ids))
        ids.append(record)
        open_runs[link.number + 1, record] = first, ids
    for first, ids in done:
        yield Run(
            first.author, RecordId(first.auth), first.number, first.prev, b"".join(ids)
        )
