"""Reading a space as one file: entry by entry, in the one order that it has.

Owns finding entries and refusing what is no such file. Does not own what may be in them,
nor whether it is true (`operations.importing`). Nothing that the file says of a size is
allocated before the file is seen to have that many bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from crdtmerge.digest import DIGEST_BYTES, BlobId
from crdtmerge.errors import BadInputError, MalformedArchiveError
from crdtmerge.sync.messages import SignedBytes

from .form import (
    BLOBS_FOLDER,
    BLOBS_MAX,
    BLOCK_BYTES,
    END,
    HEADER_BYTES_MAX,
    HEADER_NAME,
    RECORDS_BYTES_MAX,
    RECORDS_FOLDER,
    Header,
    blob_name,
    decode_header,
    decode_records,
    padding,
    read_entry_head,
    records_name,
)

_HINT: Final = (
    "it was damaged, cut, or made by something else: ask for it again, or export again"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the bytes of an entry lie."""

    name: str
    offset: int
    size: int


class Archive:
    """An open file; `header` was read, all else is read in order, once."""

    def __init__(self, path: Path) -> None:
        """Open the file and read its header.

        Raises:
            BadInputError: it cannot be read.
            MalformedArchiveError: it is not a space.
        """
        self.path = path
        try:
            self._file = path.open("rb")
            self.size = path.stat().st_size
        except OSError as e:
            raise BadInputError(f"cannot read {path}: {e.strerror}") from e
        self._place = 0
        self._ahead: Entry | None = None
        self._ended = False
        try:
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def records(self) -> Iterator[list[SignedBytes]]:
        """Yield the records, batch by batch.

        Raises:
            MalformedArchiveError: an entry is not of records, or too large.
        """
        number = 0
        while entry := self._next():
            if not entry.name.startswith(RECORDS_FOLDER):
                self._ahead = entry
                return
            if entry.name != records_name(number):
                raise self.refused("its records are not in order")
            number += 1
            data = self._small(entry, RECORDS_BYTES_MAX)
            try:
                yield decode_records(data)
            except MalformedArchiveError as e:
                raise self.refused(str(e)) from e

    def blobs(self) -> dict[BlobId, Entry]:
        """Return where the blobs lie, in order; their bytes are not read yet.

        Raises:
            MalformedArchiveError: an entry is none or comes twice, their numbers are not
                those of the header, or the file is cut or goes on.
        """
        found: dict[BlobId, Entry] = {}
        while entry := self._next():
            blob = self._blob_of(entry)
            if blob in found:
                raise self.refused(f"blob {blob.hex()[:12]} is in it twice")
            found[blob] = entry
            if len(found) > min(self.header.blobs, BLOBS_MAX):
                raise self.refused("it has more blobs than it says")
        if self._place != self.size:
            raise self.refused("it goes on after its end")
        total = sum(entry.size for entry in found.values())
        if (len(found), total) != (self.header.blobs, self.header.blob_bytes):
            raise self.refused("it has fewer blobs or bytes than it says")
        return found

    def read(self, entry: Entry, most: int) -> bytes:
        """Return the bytes of a blob that must be small.

        Raises:
            MalformedArchiveError: it is not, or the file was cut meanwhile.
        """
        return self._small(entry, most)

    def _blob_of(self, entry: Entry) -> BlobId:
        try:
            blob = BlobId(bytes.fromhex(entry.name.removeprefix(BLOBS_FOLDER)))
        except ValueError:
            blob = BlobId(b"")
        if len(blob) != DIGEST_BYTES or blob_name(blob) != entry.name:
            raise self.refused("an entry is neither of records nor a blob")
        return blob

    def refused(self, reason: str, hint: str = _HINT) -> MalformedArchiveError:
        """Return the error that says what is wrong with this file."""
        message = f"{self.path} cannot be imported: {reason}"
        return MalformedArchiveError(message, hint=hint)

    def _read_header(self) -> Header:
        entry = self._next()
        if entry is None or entry.name != HEADER_NAME:
            raise self.refused("it is not a space that was exported")
        data = self._small(entry, HEADER_BYTES_MAX)
        try:
            return decode_header(data)
        except MalformedArchiveError as e:
            raise self.refused(str(e), e.hint or _HINT) from e

    def _next(self) -> Entry | None:
        """Return the next entry, after which the place is; None at the end of all."""
        if self._ahead is not None:
            entry, self._ahead = self._ahead, None
            return entry
        if self._ended:
            return None
        block = self._read_at(self._place, BLOCK_BYTES)
        if not any(block):
            if self._read_at(self._place, len(END)) != END:
                raise self.refused("it has no end")
            self._place += len(END)
            self._ended = True
            return None
        try:
            name, size = read_entry_head(block)
        except MalformedArchiveError as e:
            raise self.refused(str(e)) from e
        entry = Entry(name, self._place + BLOCK_BYTES, size)
        end = entry.offset + size
        if end + padding(size) > self.size:
            raise self.refused("it was cut")
        if any(self._read_at(end, padding(size))):
            raise self.refused("there is something between its entries")
        self._place = end + padding(size)
        return entry

    def _small(self, entry: Entry, most: int) -> bytes:
        if entry.size > most:
            raise self.refused(f"{entry.name} has more than {most} bytes")
        return self._read_at(entry.offset, entry.size)

    def _read_at(self, offset: int, length: int) -> bytes:
        """Return bytes that must be there; the file has them, or was cut meanwhile."""
        try:
            self._file.seek(offset)
            data = self._file.read(length) if offset + length <= self.size else b""
        except OSError as e:
            raise BadInputError(f"cannot read {self.path}: {e.strerror}") from e
        if len(data) < length:
            raise self.refused("it was cut")
        return data
