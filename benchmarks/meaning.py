"""What it costs to know what a set means: from nothing, and after a few more records.

    python -m benchmarks meaning [--count 100000] [--rounds 5] [--json]

A space of members: an owner, a maintainer and contributors, whose adds are removed nine
times in ten, as in a space that has lived for long. Records carry no signatures: those are
checked where records arrive. Each step is also found from nothing by `evaluate`, which
knows nothing of what was before; the two are compared. Medians of `--rounds`, in seconds
of one core: all is done by one thread, and the machine may be shared.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crdtmerge.bodies import Add, Body, Grant, RecordId, Remove, Revoke, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId, ContentId, Domain, digest
from crdtmerge.identity import AuthorId, SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import (
    BYTES_MAX_DEFAULT,
    RECORDS_MAX_DEFAULT,
    WEIGHT_CAP_DEFAULT,
    Rank,
    View,
    evaluate,
)
from crdtmerge.record import SignedRecord, make_record
from crdtmerge.replica import found_space

CONTRIBUTORS = 100
LIVE_OF_TEN = 1
MESSAGE = 3500
"""Records of about a message."""


def key_of(number: int) -> SigningKey:
    """Return the key of an author; 0 owns the space."""
    return SigningKey(digest(Domain.SEED, b"meaning %d" % number))


@dataclass
class Maker:
    """Makes the records of one space, each author's numbered without a gap."""

    genesis: SignedRecord
    last: dict[AuthorId, tuple[int, RecordId]] = field(default_factory=dict)
    grants: dict[AuthorId, RecordId] = field(default_factory=dict)
    adds: int = 0

    def say(self, author: AuthorId, body: Body) -> SignedRecord:
        """Return the next record of `author`, unsigned."""
        number, prev = self.last.get(author, (-1, b""))
        genesis = self.genesis.record
        record = make_record(
            space=genesis.id,
            author=author,
            author_seq=number + 1,
            prev=prev,
            auth=self.grants.get(author, genesis.id),
            body=body,
        )
        self.last[author] = number + 1, record.id
        return SignedRecord(record, bytes(64))

    def grant(self, author: AuthorId, rank: Rank) -> SignedRecord:
        """Let the owner grant a rank."""
        body = Grant(
            author, rank, WEIGHT_CAP_DEFAULT, RECORDS_MAX_DEFAULT, BYTES_MAX_DEFAULT
        )
        granted = self.say(self.genesis.record.author, body)
        self.grants[author] = granted.record.id
        return granted

    def add(self, author: AuthorId) -> SignedRecord:
        """Let an author offer what nobody did."""
        self.adds += 1
        content = digest(Domain.CONTENT, self.adds.to_bytes(8, "little"))
        body = Add(
            content=ContentId(content),
            content_bytes=1 << 30,
            manifest=BlobId(content[::-1]),
            manifest_bytes=1 << 16,
            weight=DECIMAL_UNIT,
            evidence=b"",
            note="",
        )
        return self.say(author, body)


def make_space(count: int) -> tuple[Maker, OpSet, list[AuthorId]]:
    """Return a space of about `count` records, and its contributors."""
    owner = key_of(0)
    genesis = found_space(
        owner, name="meant", mode="members", base=ContentId(bytes(32)), nonce=bytes(16)
    )
    maker = Maker(genesis, {owner.public: (0, genesis.record.id)})
    authors = [key_of(1 + n).public for n in range(CONTRIBUTORS)]
    records = [genesis, *(maker.grant(a, Rank.CONTRIBUTOR) for a in authors)]
    turn = 0
    while len(records) < count:
        author = authors[turn % CONTRIBUTORS]
        records.append(maker.add(author))
        if turn % 10 >= LIVE_OF_TEN:
            records.append(maker.say(author, Remove((records[-1].record.id,))))
        turn += 1
    opset = OpSet(SpaceId(genesis.record.id))
    return maker, opset.insert(records), authors


def alike(view: View, whole: View) -> bool:
    """Tell whether what grew is what is found from nothing."""
    shown = view.visible == whole.visible and view.visible_root == whole.visible_root
    return shown and view.nodes == whole.nodes and view.ranks == whole.ranks


def measure(count: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of each step, on a set of `count` records."""
    maker, opset, authors = make_space(count)
    spans: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        began = time.process_time()
        work()
        spans.setdefault(name, []).append(time.process_time() - began)

    timed("who stands how, from nothing", lambda: opset.view.nodes)
    timed("and then what is visible", lambda: opset.view.visible_root)
    whole: list[View] = []
    timed("all at once, by `evaluate`", lambda: whole.append(evaluate(opset.records)))
    assert alike(opset.view, whole.pop())
    for number in range(rounds):
        newcomer = key_of(10_000 + number).public
        steps = {
            "one add more": [maker.add(authors[number])],
            f"a message of {MESSAGE} adds": [
                maker.add(authors[n % CONTRIBUTORS]) for n in range(MESSAGE)
            ],
            "one grant": [maker.grant(newcomer, Rank.CONTRIBUTOR)],
            "one revocation": [
                maker.say(
                    maker.genesis.record.author,
                    Revoke(
                        authors[-1 - number], (maker.last[authors[-1 - number]][1],)
                    ),
                )
            ],
        }
        for name, batch in steps.items():
            opset = opset.insert(batch)
            timed(name, lambda grown=opset: grown.view.visible_root)  # type: ignore[misc]
    assert alike(opset.view, evaluate(opset.records))
    return {name: statistics.median(found) for name, found in spans.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks meaning", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    figures = measure(asked.count, asked.rounds)
    if asked.json:
        rows = [{"step": name, "seconds": spent} for name, spent in figures.items()]
        print(json.dumps({"count": asked.count, "rows": rows}))
        return
    for name, seconds in figures.items():
        print(f"{name:40} {seconds * 1000:10.2f} ms")
