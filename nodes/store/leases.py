"""Leases: what somebody uses right now, so that collection leaves it alone.

Owns who holds what, in the one process that may collect: it has the home's lock. Does not
own what nothing needs (`nodes.upkeep`), nor readers in other processes (`readers`).

Take the lease first, then look whether the blob is there: one that goes meanwhile is then
seen to be missing, and one that is seen stays.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from crdtmerge.digest import BlobId


@dataclass(frozen=True, slots=True)
class Closed:
    """What is held, by name, and why everything is, if it is."""

    held: frozenset[BlobId]
    reasons: tuple[str, ...]


class Lease:
    """What one user of blobs holds; it may come to hold more."""

    def __init__(self, leases: "Leases") -> None:
        """Hold nothing yet."""
        self._leases = leases
        self._held: list[BlobId] = []

    def add(self, blobs: Iterable[BlobId]) -> None:
        """Hold these too, until the end of the block."""
        for blob in blobs:
            self._leases.take(blob)
            self._held.append(blob)

    def end(self) -> None:
        """Let go of all."""
        while self._held:
            self._leases.drop(self._held.pop())


class Leases:
    """The leases of one process; safe for several threads."""

    def __init__(self) -> None:
        """Start with none."""
        # SUBTLE: held while a blob is removed, so that none is leased and then goes. That
        # takes its time, and who lets go of a blob, as the event loop does, need not wait.
        self._beginning = threading.RLock()
        self._lock = threading.Lock()
        self._held: Counter[BlobId] = Counter()
        self._reasons: Counter[str] = Counter()

    @contextmanager
    def hold(self, blobs: Iterable[BlobId] = ()) -> Iterator[Lease]:
        """Keep `blobs` from being collected while the block runs."""
        lease = Lease(self)
        try:
            lease.add(blobs)
            yield lease
        finally:
            lease.end()

    @contextmanager
    def hold_all(self, reason: str) -> Iterator[None]:
        """Keep everything, whatever comes too: for work whose blobs get their ids late.

        `reason` says in a few words who it is.
        """
        with self._beginning, self._lock:
            self._reasons[reason] += 1
        try:
            yield
        finally:
            with self._lock:
                self._reasons[reason] -= 1
                self._reasons += Counter()  # drops the zeros

    def take(self, blob: BlobId) -> None:
        """Count one more user of `blob`."""
        with self._beginning, self._lock:
            self._held[blob] += 1

    def drop(self, blob: BlobId) -> None:
        """Count one user less."""
        with self._lock:
            self._held[blob] -= 1
            if not self._held[blob]:
                del self._held[blob]

    def held(self) -> frozenset[BlobId]:
        """Return the blobs that somebody holds by name."""
        with self._lock:
            return frozenset(self._held)

    def reasons(self) -> list[str]:
        """Return why everything is held, if it is, sorted."""
        with self._lock:
            return sorted(self._reasons)

    @contextmanager
    def closed(self) -> Iterator["Closed"]:
        """Lend what is held; while the block runs nobody can begin to hold anything."""
        with self._beginning:
            yield Closed(self.held(), tuple(self.reasons()))
