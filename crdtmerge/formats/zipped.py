"""The records of a PyTorch file: a zip archive in which nothing is compressed.

Owns where each record lies, and whether that can be true. Does not own what the records
mean (`pickled`).

Form: all names begin with one folder's; `data.pkl` says what the tensors are, `data/KEY`
are their bytes, as they are in memory. What the zip's directory says is not believed: a
record counts where its own header stands, inside the file and apart from all others.
"""

import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.header import AGAIN, FileState

MAGIC: Final = b"PK\x03\x04"
PICKLE: Final = "data.pkl"
PICKLE_BYTES_MAX: Final = 64 << 20
DATA: Final = "data/"
RECORDS_MAX: Final = 1 << 20
NAME_CHARACTERS_MAX: Final = 1024
"""Longest name of a record: torch's are those of its folder and a number."""

_LOCAL_BYTES: Final = 30
_LOCAL_LENGTHS: Final = slice(26, 30)
_ENCRYPTED: Final = 1
_DAMAGES: Final = (
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
    RuntimeError,
    OverflowError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What the zip library raises at a file that is damaged, or meant to look so."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where the bytes of one record lie in the file."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Records:
    """A PyTorch file: its pickle, its records by key, its state when it was read."""

    path: Path
    pickle: bytes
    data: Mapping[str, Record]
    state: FileState


def read_records(path: Path) -> Records:
    """Return the records of a PyTorch file; of its bytes only the pickle is read.

    Raises:
        BadInputError: it is damaged or truncated, compressed or encrypted, of other byte
            order, or a program (TorchScript) rather than tensors.
    """
    try:
        with path.open("rb") as file:
            state = FileState.of(os.fstat(file.fileno()))
            with zipfile.ZipFile(file) as archive:
                infos = _named(path, archive)
                pickle = _read_small(path, archive, infos)
                data = {
                    name.removeprefix(DATA): _place(file, info)
                    for name, info in infos.items()
                    if name.startswith(DATA)
                }
                _check_apart(path, data.values(), archive.start_dir)
    except OSError as e:
        raise BadInputError(f"cannot read {path.name}: {e.strerror or e}") from e
    except _DAMAGES as e:
        reason = " ".join(str(e).split())
        message = f"{path.name} is damaged or truncated: {reason}"
        raise BadInputError(message, hint=AGAIN) from e
    return Records(path, pickle, data, state)


def _named(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by their names without the folder, each name once.

    None is compressed, the pickle neither: a small file would unpack to a large one.
    """
    infos = archive.infolist()
    if len(infos) > RECORDS_MAX:
        raise BadInputError(f"{path.name} has more than {RECORDS_MAX} records")
    folders = {info.filename.partition("/")[0] for info in infos}
    named = {info.filename.partition("/")[2]: info for info in infos}
    if len(folders) != 1 or PICKLE not in named or len(named) < len(infos):
        message = f"{path.name} is a zip file, but not one that `torch.save` wrote"
        raise BadInputError(message, hint="give the model's own files, unpacked")
    if max(map(len, named)) > NAME_CHARACTERS_MAX:
        raise BadInputError(
            f"{path.name} has a record with an endless name", hint=AGAIN
        )
    if "constants.pkl" in named:
        message = f"{path.name} is a TorchScript program, which cannot be merged"
        hint = "save the model that it was made from with `save_pretrained`"
        raise BadInputError(message, hint=hint)
    if any(
        info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED
        for info in infos
    ):
        message = f"{path.name} is a compressed or encrypted zip file"
        hint = "load it where it was made, and save the model with `save_pretrained`"
        raise BadInputError(message, hint=hint)
    return named


def _read_small(
    path: Path, archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo]
) -> bytes:
    """Return the pickle, once byte order and size are known to be fit."""
    order = infos.get("byteorder")
    if order is not None and (order.file_size != 6 or archive.read(order) != b"little"):
        message = f"{path.name} holds bytes in big-endian order"
        raise BadInputError(message, hint="save the model with `save_pretrained`")
    pickle = infos[PICKLE]
    if max(pickle.file_size, pickle.compress_size) > PICKLE_BYTES_MAX:
        message = (
            f"{path.name} has a pickle above the limit of {PICKLE_BYTES_MAX} bytes"
        )
        raise BadInputError(message, hint="it should hold the tensors alone")
    return archive.read(pickle)


def _place(file: IO[bytes], info: zipfile.ZipInfo) -> Record:
    """Return where a record's bytes lie, as they are."""
    return Record(data_offset(file, info), info.file_size)


def data_offset(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Return where the bytes of an entry begin, by the header that stands before them.

    Raises:
        BadZipFile: there is no such header.
    """
    file.seek(info.header_offset)
    head = file.read(_LOCAL_BYTES)
    if len(head) < _LOCAL_BYTES or not head.startswith(MAGIC):
        message = f"the record {info.filename!r} is not where the directory says"
        raise zipfile.BadZipFile(message)
    name, extra = struct.unpack("<HH", head[_LOCAL_LENGTHS])
    return info.header_offset + _LOCAL_BYTES + int(name) + int(extra)


def _check_apart(path: Path, records: Iterable[Record], end: int) -> None:
    """Refuse records that overlap, or that reach beyond where the directory begins."""
    placed = sorted((r.offset, r.end) for r in records if r.size)
    if any(one[1] > two[0] for one, two in pairwise(placed)) or (
        placed and placed[-1][1] > end
    ):
        message = f"{path.name} is damaged: its records overlap or reach beyond its end"
        raise BadInputError(message, hint=AGAIN)
