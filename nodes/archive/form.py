"""The form of a space as one file: which entries a tar has, in one order and one spelling.

Owns names, the header, limits, and the 512 bytes before an entry. Does not own reading
(`reading`) nor writing (`writing`).

1. `crdtmerge.json`: the header, small JSON that says what follows;
2. `records/000000`, ...: canonical lists of [data, signature], chains first;
3. `blobs/ID`: raw bytes, each blob once, manifests first; the id is the name.

Nothing is compressed, so nothing expands. Every entry is a plain file with no owner, time
or path: only the one spelling that `entry_head` writes is read, so there are no links, no
extended headers and no second meanings. Equal spaces make equal files.
"""

import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from crdtmerge.bodies import SpaceId
from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import BLOB_BYTES_MAX, DIGEST_BYTES, BlobId
from crdtmerge.errors import EncodingError, MalformedArchiveError
from crdtmerge.manifest import MANIFEST_BYTES_MAX, is_file_name
from crdtmerge.sync.messages import SignedBytes

FORMAT: Final = "crdtmerge space"
VERSION: Final = 1
HEADER_NAME: Final = "crdtmerge.json"
RECORDS_FOLDER: Final = "records/"
BLOBS_FOLDER: Final = "blobs/"
BLOCK_BYTES: Final = tarfile.BLOCKSIZE
END: Final = bytes(2 * BLOCK_BYTES)
"""What a tar ends with."""

HEADER_BYTES_MAX: Final = 1 << 20
RECORDS_BYTES_MAX: Final = 1 << 20
"""Largest entry of records; more entries hold more."""
FILES_MAX: Final = 256
"""Files that may lie beside the weights of a base."""
FILE_BYTES_MAX: Final = 64 << 20
BLOBS_MAX: Final = 1 << 20
"""Blobs in one file: their places are kept in memory while it is read."""
COUNT_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class BaseFile:
    """A file beside the weights of a base, such as its configuration."""

    name: str
    size: int
    blob: BlobId


@dataclass(frozen=True, slots=True)
class BaseEntry:
    """The base in the file: its manifest, and what lies beside its weights."""

    manifest: BlobId
    manifest_bytes: int
    files: tuple[BaseFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """What the file says of itself; none of it is believed before it was counted."""

    space: SpaceId
    records: int
    record_root: bytes
    blobs: int
    blob_bytes: int
    base: BaseEntry | None = None

    def encode(self) -> bytes:
        """Return the one spelling; the inverse of `decode_header`."""
        facts: dict[str, object] = {
            "format": FORMAT,
            "version": VERSION,
            "space": self.space.hex(),
            "records": self.records,
            "record_root": self.record_root.hex(),
            "blobs": self.blobs,
            "blob_bytes": self.blob_bytes,
        }
        if self.base is not None:
            facts["base"] = {
                "manifest": self.base.manifest.hex(),
                "manifest_bytes": self.base.manifest_bytes,
                "files": [
                    {"name": file.name, "size": file.size, "blob": file.blob.hex()}
                    for file in self.base.files
                ],
            }
        return json.dumps(facts, indent=1, sort_keys=True).encode() + b"\n"


def decode_header(data: bytes) -> Header:
    """Return the header whose bytes are `data`.

    Raises:
        MalformedArchiveError: it is none, or of a version that we do not know.
    """
    try:
        facts = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise MalformedArchiveError("its header is no JSON") from e
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        _refuse("its header is not that of a space")
    if facts.get("version") != VERSION:
        raise MalformedArchiveError(
            f"it has version {facts.get('version')!r:.20}, this program reads {VERSION}",
            hint="upgrade crdtmerge",
        )
    base = facts.get("base")
    header = Header(
        SpaceId(_digest(facts, "space")),
        _number(facts, "records", COUNT_MAX),
        _digest(facts, "record_root"),
        _number(facts, "blobs", COUNT_MAX),
        _number(facts, "blob_bytes", COUNT_MAX),
        None if base is None else _base(base),
    )
    if header.encode() != data:
        _refuse("its header is not written as headers are")
    return header


def _base(facts: object) -> BaseEntry:
    if not isinstance(facts, dict) or not isinstance(facts.get("files"), list):
        _refuse("its header does not say what the base is")
    if len(facts["files"]) > FILES_MAX:
        _refuse(f"more than {FILES_MAX} files beside the base")
    files = tuple(_file(item) for item in facts["files"])
    names = [file.name for file in files]
    if names != sorted(set(names)):
        _refuse("the files of its base are not sorted and unique")
    size = _number(facts, "manifest_bytes", MANIFEST_BYTES_MAX)
    return BaseEntry(BlobId(_digest(facts, "manifest")), size, files)


def _file(facts: object) -> BaseFile:
    if not isinstance(facts, dict) or not isinstance(facts.get("name"), str):
        _refuse("a file of its base has no name")
    if not is_file_name(facts["name"]):
        _refuse("a file of its base has a name that is no plain file name")
    size = _number(facts, "size", FILE_BYTES_MAX)
    return BaseFile(facts["name"], size, BlobId(_digest(facts, "blob")))


def _digest(facts: Mapping[str, object], key: str) -> bytes:
    text = facts.get(key)
    if isinstance(text, str) and len(text) == 2 * DIGEST_BYTES:
        try:
            return bytes.fromhex(text)
        except ValueError as e:
            raise MalformedArchiveError(f"its header has no {key}") from e
    raise MalformedArchiveError(f"its header has no {key}")


def _number(facts: Mapping[str, object], key: str, most: int) -> int:
    value = facts.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    raise MalformedArchiveError(f"its header has no {key}")


def _refuse(reason: str) -> NoReturn:
    raise MalformedArchiveError(reason)


# --- entries ---------------------------------------------------------------------------


def blob_name(blob: BlobId) -> str:
    """Return the name of a blob's entry."""
    return f"{BLOBS_FOLDER}{blob.hex()}"


def records_name(number: int) -> str:
    """Return the name of an entry of records."""
    return f"{RECORDS_FOLDER}{number:06d}"


def entry_head(name: str, size: int) -> bytes:
    """Return what stands before the bytes of an entry: one block, the same for all."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


def read_entry_head(block: bytes) -> tuple[str, int]:
    """Return the name and size that a block gives.

    Raises:
        MalformedArchiveError: `entry_head` does not write such a block.
    """
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.TarError, UnicodeError) as e:
        raise MalformedArchiveError("an entry of it has no header") from e
    if not 0 <= info.size <= BLOB_BYTES_MAX:
        _refuse("an entry of it has an impossible size")
    # One spelling alone: what other readers of tar would read otherwise is not read at all.
    try:
        same = entry_head(info.name, info.size) == block
    except (ValueError, UnicodeError):
        same = False
    if not same:
        _refuse("an entry of it is no plain file")
    return info.name, info.size


def padding(size: int) -> int:
    """Return how many zeros follow `size` bytes, up to the next block."""
    return -size % BLOCK_BYTES


def encode_records(records: list[SignedBytes]) -> bytes:
    """Return an entry of records; the inverse of `decode_records`."""
    value: list[Value] = [[record.data, record.signature] for record in records]
    return encode(value)


def decode_records(data: bytes) -> list[SignedBytes]:
    """Return the records of an entry, as bytes: none of them was looked at.

    Raises:
        MalformedArchiveError: it is no list of pairs.
    """
    try:
        value = decode(data, RECORDS_BYTES_MAX)
    except EncodingError as e:
        raise MalformedArchiveError(f"its records: {e}") from e
    found: list[SignedBytes] = []
    for item in value if isinstance(value, list) else [None]:
        match item:
            case [bytes(data), bytes(signature)]:
                found.append(SignedBytes(data, signature))
            case _:
                _refuse("its records are no pairs of data and signature")
    return found
