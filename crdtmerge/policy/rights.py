"""Who stands how in the first so many records of a log, found by the few that decide it.

Owns which records those are, and when they have to be asked again. Does not own the rules
(`standing`), nor what the effective records show (`showing`).

Most records give and take no rights: adds, recipes, node records, faults, kinds that this
version does not know, and removes where one owner's signature is enough. Who stands how
is found by the others, and by

* all records of *watched* authors: those who were revoked, or forked where that has
  effect, or who named two successors; and whoever a naming connects with one of these.
  Of them it matters what follows what, and what a revocation accepts;
* who hangs a record on the genesis, in an open space.

A plain record of anybody else has no part in that, and whether it takes effect follows
from who stands how.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from crdtmerge.bodies import (
    Add,
    Approve,
    Ban,
    Epoch,
    Evaluation,
    Genesis,
    Grant,
    Lift,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
    Successor,
    Unknown,
)
from crdtmerge.errors import WrongSpaceError
from crdtmerge.faults import Fault
from crdtmerge.forks import Fork
from crdtmerge.identity import AuthorId
from crdtmerge.log import Log
from crdtmerge.policy.dead import Listing
from crdtmerge.policy.standing import Standing, stand
from crdtmerge.record import Record

PLAIN: Final = (Add, RecipeChange, NodeAddress, Fault, Evaluation, Unknown)
"""The kinds that give and take no rights anywhere."""
DECIDING_KINDS: Final = frozenset(
    body.KIND
    for body in (Genesis, Grant, Revoke, Ban, Lift, Successor, Approve, Fork, Epoch)
)
"""The kinds that may; where several owners must sign, removes do too."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Who stands how in the records of `log`; a value."""

    log: Log
    listing: Listing
    standing: Standing
    """The very same value as before, if nobody stands otherwise."""
    watched: frozenset[AuthorId]

    @classmethod
    def of(cls, log: Log, listing: Listing) -> "Rights":
        """Return who stands how in `log`, found from nothing.

        Raises:
            WrongSpaceError: there is not exactly one genesis.
        """
        rules = _rules(log)
        kinds = DECIDING_KINDS | ({Remove.KIND} if rules.threshold > 1 else set())
        asked = (signed.record for signed in log.of_kinds(kinds))
        deciding = {r.id: r for r in asked if not _is_plain(r, rules)}
        direct = _direct(log, deciding) if rules.mode == "open" else ()
        return _stand(log, listing, deciding, frozenset(direct))

    def advanced(self, log: Log, listing: Listing) -> "Rights":
        """Return who stands how in `log`, which holds the records of this value first."""
        rules, direct = self.standing.book.rules, set[AuthorId]()
        deciding: dict[RecordId, Record] = {}
        for signed in log.since(len(self.log)):
            record = signed.record
            if not _is_plain(record, rules) or record.author in self.watched:
                deciding[record.id] = record
            if rules.mode == "open" and record.auth == self.standing.book.genesis.id:
                direct.add(record.author)
        book = self.standing.book
        if not deciding and direct <= book.direct:
            return replace(self, log=log, listing=listing)
        known = {**book.records, **deciding}
        return _stand(log, listing, known, book.direct | direct, self.watched)

    def lets(self, record: Record) -> bool:
        """Tell whether a record of the log takes effect."""
        if _is_plain(record, self.standing.book.rules):
            return self.standing.lets(record)
        return record.id in self.standing.effective


def _is_plain(record: Record, rules: Genesis) -> bool:
    """Tell whether a record gives and takes no rights.

    SUBTLE: where several owners must sign, the signatures under a remove are counted.
    """
    body = record.body
    return isinstance(body, PLAIN) or (
        isinstance(body, Remove) and rules.threshold == 1
    )


def _rules(log: Log) -> Genesis:
    found = [signed.record.body for signed in log.of_kinds(frozenset({Genesis.KIND}))]
    rules = [body for body in found if isinstance(body, Genesis)]
    if len(rules) != 1:
        raise WrongSpaceError(f"a space has one genesis, not {len(rules)}")
    return rules[0]


def _stand(
    log: Log,
    listing: Listing,
    deciding: Mapping[RecordId, Record],
    direct: frozenset[AuthorId],
    known: frozenset[AuthorId] = frozenset(),
) -> Rights:
    """Ask the `deciding` records, which hold all of the `known` watched authors."""
    rules = next(r.body for r in deciding.values() if isinstance(r.body, Genesis))
    watched = _watched(deciding.values(), quarantine=rules.quarantine)
    theirs = {
        signed.record.id: signed.record
        for author in sorted(watched - known)
        for signed in log.of_author(author)
    }
    standing = stand({**deciding, **theirs}, listing, direct)
    return Rights(log, listing, standing, watched)


def _watched(deciding: Iterable[Record], *, quarantine: bool) -> frozenset[AuthorId]:
    """Return the authors of whom all records matter."""
    linked: dict[AuthorId, set[AuthorId]] = {}
    named: Counter[AuthorId] = Counter()
    queue: list[AuthorId] = []
    for record in deciding:
        match record.body:
            case Successor(of=of, key=key):
                linked.setdefault(record.author, set()).update((of, key))
                linked.setdefault(of, set()).add(record.author)
                linked.setdefault(key, set()).add(record.author)
                named[of] += of == record.author
            case Revoke(author=author):
                queue.append(author)
            case Fork() as fork if quarantine:
                queue.append(fork.author)
            case _:
                pass
    queue += [author for author, times in named.items() if times > 1]
    watched: set[AuthorId] = set()
    while queue:
        author = queue.pop()
        if author not in watched:
            watched.add(author)
            queue.extend(linked.get(author, ()))
    return frozenset(watched)


def _direct(log: Log, deciding: Mapping[RecordId, Record]) -> Iterator[AuthorId]:
    """Yield who hangs a record on the genesis of an open space.

    Whoever nobody granted anything, and nobody named, can have hung on nothing else.
    """
    given: set[AuthorId] = set()
    for record in deciding.values():
        match record.body:
            case Grant(author=author) | Successor(key=author):
                given.add(author)
            case _:
                pass
    for author in log.authors():
        if author not in given or any(
            s.record.auth == s.record.space_id for s in log.of_author(author)
        ):
            yield author
