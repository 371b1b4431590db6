"""A tensor source that counts what is read through it.

Owns the counts. Does not own reading (`reading`).
"""

import threading
from dataclasses import dataclass

from crdtmerge.digest import BlobId
from crdtmerge.numerics import Data
from crdtmerge.resolve.plan import Plan
from crdtmerge.resolve.reading import TensorSource


@dataclass(frozen=True, slots=True)
class Read:
    """Bytes of tensors that were read, or will be: of the base, of contributions."""

    base: int = 0
    contributions: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.base + self.contributions


class Counted:
    """A source over another, counting; a blob that is read twice counts twice."""

    def __init__(self, source: TensorSource, plan: Plan) -> None:
        """Read from `source`; models that `plan` merges without a base have none."""
        self._source = source
        frames = plan.frames.values()
        self._base = frozenset(f.entry.blob for f in frames if f.ground == "base")
        self._lock = threading.Lock()
        self._read = [0, 0]

    def read(self, blob: BlobId, size: int) -> Data:
        """Return the bytes of a blob."""
        data = self._source.read(blob, size)
        with self._lock:
            self._read[blob not in self._base] += size
        return data

    @property
    def bytes(self) -> Read:
        """What was read so far."""
        with self._lock:
            return Read(*self._read)
