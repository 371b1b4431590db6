"""Blobs that go: forgotten, set aside to be had anew, or collected.

Owns the order: rows go before files, so that after a crash a file without a row counts as
missing. Does not own what may go (`nodes.upkeep`). Used under the home's lock.
"""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from crdtmerge.digest import BlobId

from .arrivals import Arrivals
from .disk import Disk, explained
from .holdings import Holding
from .places import Places
from .rows import BlobRows

BLOB_FORMS: Final = frozenset({"own", "referenced", "packed"})
"""Forms of what has a row: whole blobs."""


class Removal:
    """Takes things out of the store of one home."""

    def __init__(
        self,
        rows: BlobRows,
        disk: Disk,
        places: Places,
        *,
        lock: threading.RLock,
        arrivals: Arrivals,
    ) -> None:
        """Use the parts of a store; `lock` is held while rows and files go."""
        self._rows = rows
        self._disk = disk
        self._places = places
        self._lock = lock
        self._arrivals = arrivals

    def forget(self, blob: BlobId) -> None:
        """Drop a blob: its row, then its file unless that is not ours.

        Raises:
            MachineError: the disk refused.
        """
        with self._lock:
            self._rows.delete([blob])
            self._remove_files(blob)

    def set_aside(self, blob: BlobId) -> None:
        """Let a damaged blob count as missing; what is right of its file is found again.

        The next download of it takes that file up, chunk by chunk.

        Raises:
            MachineError: the disk refused.
        """
        with self._lock:
            self._rows.set_aside(blob)

    def drop(self, holdings: Iterable[Holding]) -> list[Holding]:
        """Remove things that nothing needs, all their rows at once; return what went.

        What a blob that stays is encoded against stays too, and so does a download that
        goes on.

        Raises:
            MachineError: the disk refused; what counts as there is whole.
        """
        asked = list(holdings)
        with self._lock:
            blobs = {h.blob for h in asked if h.form in BLOB_FORMS}
            kept = self._rows.drop(blobs)
            for blob in sorted(blobs - kept):
                self._remove_files(blob)
        return [h for h in asked if h.blob not in kept and self._is_gone(h)]

    def _is_gone(self, holding: Holding) -> bool:
        """Remove what is not a blob, and tell whether it went."""
        if holding.form in BLOB_FORMS:
            return True
        if holding.form != "leftover":
            return self._arrivals.discard(holding.blob)
        with self._lock:
            row = self._rows.form(holding.blob)
            if row != "own":
                self._remove(self._places.own(holding.blob))
            if row != "packed":
                self._remove(self._places.packed(holding.blob))
        return True

    def _remove_files(self, blob: BlobId) -> None:
        """Remove the files of a blob that has no row any more."""
        for path in (self._places.own(blob), self._places.packed(blob)):
            self._remove(path)

    def _remove(self, path: Path) -> None:
        with explained(f"removing {path}"):
            self._disk.remove(path)
