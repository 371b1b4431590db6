"""Range-based reconciliation as negentropy's protocol version 1 describes it.

Owns a simulation of it, written from the description: sorted items, sixteen buckets, lists
below twice that, fingerprints of 16 bytes over sums modulo 2^256, ids of 32 bytes, no frame
limit. All timestamps are 0, which the protocol allows: our ids have no order in time that
peers share. Sums are looked up, as from a tree that a node would keep; making that is not
counted.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from crdtmerge.trie import Trie

from .counting import Cost
from .pairs import Pair

BUCKETS: Final = 16
LISTED: Final = 2 * BUCKETS
VERSION: Final = b"\x61"
SKIP, FINGERPRINT, LIST = range(3)
END: Final = b""
"""The bound above all ids; on the wire it is the infinite timestamp."""

Range = tuple[bytes, int, bytes | tuple[bytes, ...]]
"""Upper bound, mode, and what the mode brings."""


def reconcile(pair: Pair) -> Cost:
    """Let one side ask until it knows what both lack."""
    client, server, cost = Side(pair.ours), Side(pair.theirs), Cost()
    lacks: set[bytes] = set()
    alone: set[bytes] = set()
    with cost.working():
        message = written(client.split(0, len(client.ids), END))
    while len(message) > len(VERSION):
        cost.sizes.append(len(message))
        with cost.working():
            message = written(server.answers(read(message)))
        cost.sizes.append(len(message))
        with cost.working():
            message = written(client.answers(read(message), lacks, alone))
    if lacks != pair.we_lack or alone != pair.they_lack:
        raise SystemExit("negentropy did not find the difference")
    return cost


class Side:
    """One side: sorted ids, and the sums of all that come before each."""

    def __init__(self, trie: Trie) -> None:
        """Sort, and sum up."""
        self.ids = list(trie)
        self.sums = [0]
        for item in self.ids:
            self.sums.append(self.sums[-1] + int.from_bytes(item, "little"))

    def fingerprint(self, low: int, high: int) -> bytes:
        """Return the fingerprint of the items from `low` to `high`."""
        total = (self.sums[high] - self.sums[low]) % (1 << 256)
        data = total.to_bytes(32, "little") + varint(high - low)
        return hashlib.sha256(data).digest()[:16]

    def split(self, low: int, high: int, bound: bytes) -> Iterator[Range]:
        """Yield a range as its ids, or as fingerprints of sixteen parts."""
        count = high - low
        if count < LISTED:
            yield bound, LIST, tuple(self.ids[low:high])
            return
        each, more = divmod(count, BUCKETS)
        for bucket in range(BUCKETS):
            end = low + each + (bucket < more)
            upper = bound if end == high else self.between(end)
            yield upper, FINGERPRINT, self.fingerprint(low, end)
            low = end

    def between(self, place: int) -> bytes:
        """Return the shortest start of an item that is above the one before."""
        before, item = self.ids[place - 1], self.ids[place]
        shared = next(i for i in range(32) if before[i] != item[i])
        return item[: shared + 1]

    def answers(
        self,
        ranges: list[Range],
        lacks: set[bytes] | None = None,
        alone: set[bytes] | None = None,
    ) -> Iterator[Range]:
        """Yield the answer to each range; who asks notes what a list tells."""
        low = 0
        for bound, mode, content in ranges:
            high = bisect_left(self.ids, bound) if bound else len(self.ids)
            if mode == FINGERPRINT and content != self.fingerprint(low, high):
                yield from self.split(low, high, bound)
            elif mode == LIST and lacks is not None and alone is not None:
                ours, theirs = set(self.ids[low:high]), set(_listed(content))
                lacks |= theirs - ours
                alone |= ours - theirs
                yield bound, SKIP, b""
            elif mode == LIST:
                yield bound, LIST, tuple(self.ids[low:high])
            else:
                yield bound, SKIP, b""
            low = high


def _listed(content: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    assert isinstance(content, tuple)
    return content


def varint(number: int) -> bytes:
    """Return a number in base 128, the most significant digit first."""
    digits = [number & 127]
    while number := number >> 7:
        digits.append(number & 127 | 128)
    return bytes(reversed(digits))


def written(ranges: Iterator[Range]) -> bytes:
    """Return a message; ranges that are skipped join, and the last need not be said."""
    parts, skipped = [VERSION], False
    bound = END
    for upper, mode, content in ranges:
        if mode == SKIP:
            skipped, bound = True, upper
            continue
        if skipped:
            parts.append(_bound(bound) + varint(SKIP))
            skipped = False
        parts.append(_bound(upper) + varint(mode))
        if isinstance(content, tuple):
            parts += [varint(len(content)), *content]
        else:
            parts.append(content)
    return b"".join(parts)


def _bound(bound: bytes) -> bytes:
    # A timestamp of 0 after one of 0 is a difference of 0, and 1 on the wire.
    return varint(1) + varint(len(bound)) + bound if bound else varint(0) + varint(0)


def read(message: bytes) -> list[Range]:
    """Return the ranges of a message."""
    place, ranges = len(VERSION), []

    def number() -> int:
        nonlocal place
        value = 0
        while True:
            byte = message[place]
            place += 1
            value = value << 7 | byte & 127
            if not byte & 128:
                return value

    def take(count: int) -> bytes:
        nonlocal place
        place += count
        return message[place - count : place]

    while place < len(message):
        number()
        bound = take(number())
        mode = number()
        content: bytes | tuple[bytes, ...] = b""
        if mode == FINGERPRINT:
            content = take(16)
        elif mode == LIST:
            content = tuple(take(32) for _ in range(number()))
        ranges.append((bound, mode, content))
    return ranges
