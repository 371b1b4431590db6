"""A real home with very many records: signed by several authors, kept by the real store.

Owns how such a home is made, fast and the same each time. Does not own what is measured.
"""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from crdtmerge.bodies import Add, Body, NodeAddress, RecordId, Remove, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId, ContentId, Domain, digest
from crdtmerge.identity import SigningKey
from crdtmerge.log import Log
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.replica import found_space
from nodes.home import create_home

AUTHORS: Final = 8
BATCH: Final = 10_000
REMOVED: Final = 20
"""One in so many records takes back the author's contribution before it."""
AUTHOR_SEED: Final = digest(Domain.SEED, b"scale author 0")
NODE_SEED: Final = digest(Domain.SEED, b"scale node")


def key_of(author: int) -> SigningKey:
    """Return the key of an author; the first is the home's."""
    return SigningKey(digest(Domain.SEED, b"scale author %d" % author))


class Writer:
    """Makes the records of one open space, in an order in which they may be kept."""

    def __init__(self) -> None:
        """Found the space."""
        self.genesis = found_space(
            key_of(0),
            name="scale",
            mode="open",
            base=ContentId(bytes(32)),
            nonce=bytes(16),
        )
        self.space = SpaceId(self.genesis.record.id)
        self._keys = [key_of(author) for author in range(AUTHORS)]
        first = (1, self.genesis.record.id)
        self._next = [first, *[(0, RecordId(b""))] * (AUTHORS - 1)]
        self._last_add = [RecordId(b"")] * AUTHORS
        self._number = 0

    @classmethod
    def resumed(cls, log: Log) -> "Writer":
        """Go on where a log of such records ends."""
        writer = cls()
        authors = {key.public: author for author, key in enumerate(writer._keys)}
        for signed in log.since(max(0, len(log) - 2 * AUTHORS * REMOVED)):
            record = signed.record
            writer._next[authors[record.author]] = record.author_seq + 1, record.id
        writer._number = len(log)
        return writer

    def records(self) -> Iterator[SignedRecord]:
        """Yield records without end, the genesis first."""
        yield self.genesis
        for author in range(AUTHORS):
            node = digest(Domain.SEED, b"node %d" % author)
            yield self._signed(
                author, NodeAddress(node, (f"127.0.0.1:{7000 + author}",))
            )
        yield from self.more()

    def more(self) -> Iterator[SignedRecord]:
        """Yield contributions without end, and some removes."""
        while True:
            author = self._number % AUTHORS
            made = self._signed(author, self._body(author))
            if isinstance(made.record.body, Add):
                self._last_add[author] = made.record.id
            yield made

    def _body(self, author: int) -> Body:
        self._number += 1
        if self._number % REMOVED == 0 and self._last_add[author]:
            return Remove((self._last_add[author],))
        content = digest(Domain.CONTENT, self._number.to_bytes(8, "little"))
        return Add(
            content=ContentId(content),
            content_bytes=1 << 30,
            manifest=BlobId(content[::-1]),
            manifest_bytes=1 << 16,
            weight=DECIMAL_UNIT,
            evidence=b"",
            note="",
        )

    def _signed(self, author: int, body: Body) -> SignedRecord:
        number, prev = self._next[author]
        key = self._keys[author]
        record = make_record(
            space=self.space,
            author=key.public,
            author_seq=number,
            prev=prev,
            auth=self.space,
            body=body,
        )
        self._next[author] = number + 1, record.id
        return sign_record(record, key)


def make_home(path: Path, count: int) -> float:
    """Make a home with `count` records of one space at `path`; return what appending took.

    In seconds, without the making of records. Every signature is real.
    """
    records, writer = Writer().records(), Writer()
    spent = 0.0
    with create_home(
        path, author_seed=AUTHOR_SEED, node_seed=NODE_SEED, generation=bytes(16)
    ) as home:
        for _ in range(0, count, BATCH):
            batch = list(islice(records, min(BATCH, count)))
            began = time.perf_counter()
            home.records.append(writer.space, batch)
            spent += time.perf_counter() - began
    return spent
