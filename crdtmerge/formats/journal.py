"""What is finished of an output under way, noted so that another run can go on.

Owns the form of the journal. Does not own where it lies, nor the folder that it speaks of
(`output`), nor whether what it says is true: nothing was forced to disk, so whoever goes on
looks at the bytes.

One line a tensor, after the tensor was written; the first line says of which layout. A last
line that a crash has torn is none.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.digest import DIGEST_BYTES, BlobId
from crdtmerge.formats.writer import machine_error

TITLE: Final = "crdtmerge output 1"
JOURNAL_BYTES_MAX: Final = 1 << 28
"""More is not read: 100,000 tensors with long names take less."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A finished tensor: the key of the task that made it, and its digest."""

    task: bytes
    digest: BlobId


class Journal:
    """An open journal; safe for threads. What was `noted` before it was opened is kept."""

    def __init__(self, path: Path, stamp: bytes) -> None:
        """Go on with the journal at `path` if it is of this layout, else begin one.

        Raises:
            MachineError: the disk refuses.
        """
        self._path = path
        found, size = _read(path, stamp)
        self.noted: Mapping[str, Noted] = found
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            # SUBTLE: a torn line goes, or the next one would be glued to it.
            os.ftruncate(self._file, size)
            if not size:
                self._append(f"{TITLE} {stamp.hex()}")
        except OSError as e:
            raise machine_error("write", path, e) from e

    def note(self, tensor: str, task: bytes, digest: BlobId) -> None:
        """Note a tensor whose bytes were all written.

        Raises:
            MachineError: the disk refuses.
        """
        try:
            self._append(f"{task.hex()} {digest.hex()} {json.dumps(tensor)}")
        except OSError as e:
            raise machine_error("write", self._path, e) from e

    def close(self) -> None:
        """Let go of the file.

        SUBTLE: after a second Ctrl-C a thread may still come to note something. It is
        refused then, for the number of the file may be another one's by now.
        """
        file, self._file = self._file, -1
        with contextlib.suppress(OSError):
            os.close(file)

    def _append(self, line: str) -> None:
        """Write one line; a part of one, on a full disk, is a torn one to the next run."""
        data = f"{line}\n".encode()
        while data:
            data = data[os.write(self._file, data) :]


def noted_in(path: Path, stamp: bytes) -> Mapping[str, Noted]:
    """Return what a journal of this layout notes; nothing of it is touched."""
    return _read(path, stamp)[0]


def is_of(path: Path, stamp: bytes | None) -> bool:
    """Tell whether a journal notes a finished tensor of this layout; None is any."""
    return bool(_read(path, stamp)[0])


def _read(path: Path, stamp: bytes | None) -> tuple[dict[str, Noted], int]:
    """Return what a journal notes, and how long its whole lines are; 0 if it is no use."""
    try:
        with path.open("rb") as file:
            data = file.read(JOURNAL_BYTES_MAX)
    except OSError:
        return {}, 0
    whole = data[: data.rfind(b"\n") + 1]
    lines = whole.splitlines()
    title, _, of = (lines[0] if lines else b"").decode(errors="replace").rpartition(" ")
    if title != TITLE or (stamp is not None and of != stamp.hex()):
        return {}, 0
    return dict(_parsed(lines[1:])), len(whole)


def _parsed(lines: list[bytes]) -> Iterator[tuple[str, Noted]]:
    """Yield what lines say; one that says nothing is passed over."""
    for line in lines:
        with contextlib.suppress(ValueError):
            task, digest, name = line.decode().split(" ", 2)
            tensor, found = json.loads(name), BlobId(bytes.fromhex(digest))
            if isinstance(tensor, str) and len(found) == DIGEST_BYTES:
                yield tensor, Noted(bytes.fromhex(task), found)
