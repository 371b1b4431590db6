"""Sets that are made to be dear: what their meaning costs stays near linear.

What is counted is calls, which no machine's load changes. None of these records is signed:
they are looked at as if they had been admitted.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from crdtmerge.bodies import Approve, Body, RecordId, Revoke, Successor
from crdtmerge.digest import Domain, digest
from crdtmerge.identity import AuthorId, SigningKey
from crdtmerge.policy import Rank, evaluate
from crdtmerge.record import Record, make_record
from tests.properties.cast import (
    CLEO,
    CONTENTS,
    MAINTAINERS,
    OTTO,
    OWNERS,
    THREE,
    Pen,
    add_of,
    key,
)

FEW, TIMES = 200, 5
GROWTH_MAX = 1.25
"""What a record may cost of so many times more, against what it costs of a few."""

MIA, _ = MAINTAINERS
OLGA, OMAR = OWNERS
NEXT = key("next")


Records = dict[RecordId, Record]


def calls_of(records: Records) -> int:
    """Return how many functions are called while a set is evaluated."""
    called = 0

    def count(_frame: object, event: str, _about: object) -> None:
        nonlocal called
        called += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        evaluate(records)
    finally:
        sys.setprofile(None)
    return called


@dataclass
class Scribe:
    """Writes what nobody signs, on top of a space with its cast."""

    pen: Pen
    records: Records = field(default_factory=dict)

    @classmethod
    def start(
        cls, mode: str = "members", owners: tuple[SigningKey, ...] = OWNERS
    ) -> "Scribe":
        """Begin with a new space."""
        pen = Pen.start(mode, owners=owners)
        found = {key: signed.record for key, signed in pen.known.items()}
        return cls(pen, found)

    def write(
        self, author: AuthorId, body: Body, auth: Record, after: Record | None
    ) -> Record:
        """Write one record that follows `after`."""
        record = make_record(
            space=self.pen.genesis.record.id,
            author=author,
            author_seq=after.author_seq + 1 if after else 0,
            prev=after.id if after else b"",
            auth=auth.id,
            body=body,
        )
        self.records[record.id] = record
        return record

    def line(
        self, author: AuthorId, auth: Record, bodies: list[Body], after: Record | None
    ) -> list[Record]:
        """Write one record after another."""
        written: list[Record] = []
        for body in bodies:
            after = self.write(author, body, auth, after)
            written.append(after)
        return written


def name(of: AuthorId, to: AuthorId) -> Successor:
    """Return a naming; no consent is checked here."""
    return Successor(of, to, bytes(64))


def stranger(number: int) -> AuthorId:
    """Return bytes that look like a key."""
    return AuthorId(digest(Domain.SEED, b"stranger %d" % number))


def self_revoked(count: int) -> Records:
    """A contributor that leaves with every record."""
    scribe = Scribe.start()
    grant = scribe.pen.grants[CLEO.public]
    scribe.line(CLEO.public, grant, [Revoke(CLEO.public, ())] * count, None)
    return scribe.records


def adds(scribe: Scribe, count: int, after: Record | None) -> list[Record]:
    """Let Cleo add one thing again and again."""
    grant = scribe.pen.grants[CLEO.public]
    bodies: list[Body] = [
        add_of(CONTENTS[0], note=str(number)) for number in range(count)
    ]
    return scribe.line(CLEO.public, grant, bodies, after)


def revocations(said: list[Record]) -> list[Body]:
    """Return revocations of Cleo, of which no two accept the same."""
    return [Revoke(CLEO.public, (record.id,)) for record in said]


def revoked_again_and_again(count: int) -> Records:
    """A maintainer that revokes a contributor at every of its records."""
    scribe = Scribe.start()
    said = adds(scribe, count // 2, None)
    grant, last = scribe.pen.grants[MIA.public], scribe.pen.last[MIA.public]
    scribe.line(MIA.public, grant, revocations(said[::-1]), last)
    return scribe.records


def ended_again_and_again(count: int) -> Records:
    """A key that ends the one before it at every of its records."""
    scribe = Scribe.start()
    grant = scribe.pen.grants[CLEO.public]
    naming = scribe.write(CLEO.public, name(CLEO.public, NEXT.public), grant, None)
    said = adds(scribe, count // 2, naming)
    scribe.line(NEXT.public, naming, revocations(said[::-1]), None)
    return scribe.records


def named_by_everybody(count: int) -> Records:
    """Many keys that name one, which names another on as many branches."""
    scribe = Scribe.start("open")
    root, heir = scribe.pen.genesis.record, stranger(-1)
    namings = [
        scribe.write(stranger(number), name(stranger(number), heir), root, None)
        for number in range(count // 2)
    ]
    vain = scribe.write(stranger(0), name(stranger(0), heir), root, namings[0])
    for record in namings:  # each branch begins nowhere
        scribe.write(heir, name(heir, stranger(-2)), vain, record)
    return scribe.records


def council_again_and_again(count: int) -> Records:
    """Two owners that say of each key which one follows it, one after another."""
    scribe = Scribe.start("open", owners=THREE)
    root, last = scribe.pen.genesis.record, scribe.pen.last
    of, said = OTTO.public, last[OLGA.public]
    approved = last.get(OMAR.public)
    for number in range(count // 2):
        said = scribe.write(OLGA.public, name(of, stranger(number)), root, said)
        approved = scribe.write(OMAR.public, Approve(said.id), root, approved)
        of = stranger(number)
    return scribe.records


@pytest.mark.parametrize(
    "made",
    [
        self_revoked,
        revoked_again_and_again,
        ended_again_and_again,
        named_by_everybody,
        council_again_and_again,
    ],
)
def test_evaluation_of_costly_sets(made: Callable[[int], Records]) -> None:
    """A record costs what it costs, however many there are, whatever they say."""
    few, many = made(FEW), made(FEW * TIMES)
    growth = calls_of(many) / calls_of(few) * len(few) / len(many)
    assert growth <= GROWTH_MAX


def test_only_what_all_revocations_accept_stays() -> None:
    """However many there are: of a maintainer's, the one that accepts least decides."""
    scribe = Scribe.start()
    said = adds(scribe, 20, None)
    grant, last = scribe.pen.grants[MIA.public], scribe.pen.last[MIA.public]
    scribe.line(MIA.public, grant, revocations(said[7:]), last)
    view = evaluate(scribe.records)
    assert {r.id for r in said if r.id in view.effective} == {r.id for r in said[:8]}
    assert view.ranks[CLEO.public] is Rank.CONTRIBUTOR
