"""Which blobs commands wait for, so that these are fetched before others.

Owns who waits for what. Does not own what is fetched (`choices`).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock

from crdtmerge.digest import BlobId


class Needs:
    """What is waited for now; safe for several threads."""

    def __init__(self, changed: Callable[[frozenset[BlobId]], None]) -> None:
        """Tell `changed` what all wait for together, whenever that changes."""
        self._changed = changed
        self._lock = Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, frozenset[BlobId]] = {}

    @contextmanager
    def waiting(self) -> Iterator[Callable[[Iterable[BlobId]], None]]:
        """Lend what says which blobs one command waits for; at the end, for none."""
        number = next(self._numbers)

        def need(blobs: Iterable[BlobId]) -> None:
            self._set(number, frozenset(blobs))

        try:
            yield need
        finally:
            need(())

    def _set(self, number: int, blobs: frozenset[BlobId]) -> None:
        with self._lock:
            before = self._all()
            self._waiting[number] = blobs
            if not blobs:
                del self._waiting[number]
            after = self._all()
            if after != before:
                self._changed(after)

    def _all(self) -> frozenset[BlobId]:
        return frozenset().union(*self._waiting.values())
