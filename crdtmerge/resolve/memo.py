"""What earlier resolves found out: the port of a memo, and what it says.

Owns which results are remembered, and as what. Does not own where (an SQLite file of a
home, say), nor taking them up (`reuse`).

Results go by the key of their task, the digest of all that can change a bit of them. Of an
output tensor no copy is kept, but where its bytes lie in a finished folder; they are looked
at before they are used. What maps measure is small, and kept itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crdtmerge.digest import BlobId
from crdtmerge.formats.header import FileState

Measures = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of an output tensor lie, in which state of the file."""

    path: Path
    offset: int
    size: int
    state: FileState

    def is_there(self) -> bool:
        """Tell whether the file is as it was, as far as the system says."""
        try:
            return FileState.of(self.path.stat()) == self.state
        except (OSError, ValueError):
            return False


@dataclass(frozen=True, slots=True)
class Known:
    """A known output: its digest, and a place where its bytes were."""

    digest: BlobId
    place: Place


class Memo(Protocol):
    """Remembers results by task key; safe to call from threads, and never an error.

    What it cannot read it does not know, and what it cannot keep it forgets.
    """

    def outputs(self, keys: Iterable[bytes]) -> Mapping[bytes, Sequence[Known]]:
        """Return the places of known outputs, the latest first."""

    def measures(self, keys: Iterable[bytes]) -> Mapping[bytes, Measures]:
        """Return what maps came to."""

    def keep(
        self, outputs: Mapping[bytes, Known], measures: Mapping[bytes, Measures]
    ) -> None:
        """Remember results, all of them or none."""
