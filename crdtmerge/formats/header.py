"""The header of a safetensors file: what it says, and whether it can be true.

Owns parsing, validation and writing of headers. Does not own tensor bytes, nor folders
of several files (`folder`).

Form: 8 bytes of length (little-endian), that many bytes of JSON, then the data, to which
the offsets in the JSON are relative. The format's own library judges every file; the JSON
is read here as well, because the library hands out arrays and we need byte ranges, of
dtypes (bfloat16) that numpy does not have.
"""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from safetensors import SafetensorError, safe_open

from crdtmerge.digest import BLOB_BYTES_MAX
from crdtmerge.errors import BadInputError
from crdtmerge.formats.json_text import parse_object
from crdtmerge.manifest import DIMENSIONS_MAX, ITEM_BYTES, NAME_CHARACTERS_MAX

LENGTH_BYTES: Final = 8
HEADER_BYTES_MAX: Final = 100_000_000
"""The limit of the format's own library."""
ALIGNMENT: Final = 8
METADATA: Final = "__metadata__"
AGAIN: Final = "download it again, or save the model again with `save_pretrained`"
"""What to do about a file that cannot be what it was meant to be."""


class FileState(NamedTuple):
    """What changes when a file is written to, or another takes its place."""

    size: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> "FileState":
        """Return the state that the system tells."""
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


UNSEEN: Final = FileState(-1, -1, -1)
"""The state of a file that was not looked at: like no other."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file: its description and where its bytes lie.

    `state` is that of the file when its header was read.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    size: int
    state: FileState = field(default=UNSEEN, compare=False)


def read_header(path: Path) -> tuple[StoredTensor, ...]:
    """Return the tensors of a safetensors file, in the order of the header.

    Raises:
        BadInputError: the file is truncated, lies about its content, or holds a dtype
            that we do not support; the message names the file and the tensor.
    """
    try:
        with path.open("rb") as file:
            state = FileState.of(os.fstat(file.fileno()))
            size = state.size
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            _check_length(path, length, size)
            text = file.read(length)
    except OSError as e:
        message = f"cannot read {path.name}: {e.strerror}"
        raise BadInputError(message) from e
    start = LENGTH_BYTES + length
    entries = parse_object(text, f"the header of {path.name}", AGAIN)
    tensors = tuple(
        _tensor(path, name, entry, start, state)
        for name, entry in entries.items()
        if name != METADATA
    )
    for tensor in tensors:
        _check_range(tensor, size)
    _ask_library(path)
    return tensors


def _check_length(path: Path, length: int, size: int) -> None:
    """Refuse a length before that many bytes are read."""
    if size < LENGTH_BYTES + 2:
        message = f"{path.name} is truncated: {size} bytes are no safetensors file"
        raise BadInputError(message, hint=AGAIN)
    if length > HEADER_BYTES_MAX:
        message = f"{path.name} has a header of {length} bytes, above the limit of"
        raise BadInputError(
            f"{message} {HEADER_BYTES_MAX}", hint="is it a safetensors file?"
        )
    if LENGTH_BYTES + length > size:
        message = f"{path.name} is truncated: its header alone has {length} bytes"
        raise BadInputError(message, hint=AGAIN)


def _tensor(
    path: Path, name: str, entry: object, start: int, state: FileState
) -> StoredTensor:
    """Return one tensor of the header, with its place in the file."""
    check_name(path, name)
    match entry:
        case {
            "dtype": str(dtype),
            "shape": [*shape],
            "data_offsets": [int(begin), int(end)],
        } if _are_sizes([*shape, begin, end]) and len(shape) <= DIMENSIONS_MAX:
            dimensions = tuple(int(str(n)) for n in shape)
        case _:
            message = f"{path.name} is damaged: tensor {name!r} is not described"
            message += " as dtype, shape and offsets within limits"
            raise BadInputError(message, hint=AGAIN)
    if dtype not in ITEM_BYTES:
        message = f"tensor {name!r} in {path.name} has the unknown dtype {dtype!r}"
        hint = f"supported are {', '.join(ITEM_BYTES)}"
        raise BadInputError(message, hint=hint)
    size = math.prod(dimensions) * ITEM_BYTES[dtype]
    if end - begin != size:
        message = (
            f"{path.name} lies: tensor {name!r} has {end - begin} bytes,"
            f" but {dtype} {list(dimensions)} has {size}"
        )
        raise BadInputError(message, hint=AGAIN)
    return StoredTensor(name, dtype, dimensions, path, start + begin, size, state)


def check_name(path: Path, name: str) -> None:
    """Refuse a name that no manifest may carry.

    Raises:
        BadInputError: it is not Unicode text, or not of 1 to 512 characters.
    """
    try:
        name.encode()
    except UnicodeEncodeError as e:
        message = f"{path.name} has a tensor name that is not Unicode text"
        raise BadInputError(message, hint=AGAIN) from e
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX:
        message = f"{path.name} has a tensor name of {len(name)} characters,"
        message += f" not 1 to {NAME_CHARACTERS_MAX}"
        raise BadInputError(message, hint="save the model under shorter names")


def _are_sizes(numbers: Sequence[object]) -> bool:
    """Tell whether all are integers of a sane size (JSON's true is an int to Python)."""
    return all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= BLOB_BYTES_MAX
        for n in numbers
    )


def _ask_library(path: Path) -> None:
    """Let the format's own library judge: gaps, overlaps, what follows the tensors."""
    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as e:
        message = f"{path.name} is not a valid safetensors file: {e}"
        raise BadInputError(" ".join(message.split()), hint=AGAIN) from e


def _check_range(tensor: StoredTensor, size: int) -> None:
    """Refuse a range beyond the end: a download that stopped is the usual fault."""
    if tensor.offset + tensor.size > size:
        message = f"{tensor.path.name} is truncated: tensor {tensor.name!r} ends at"
        message += f" {tensor.offset + tensor.size} of {size} bytes"
        raise BadInputError(message, hint=AGAIN)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies in a file to be written: the header and each tensor."""

    header: bytes
    offsets: dict[str, int]
    sizes: dict[str, int]
    size: int


def lay_out(entries: Iterable[tuple[str, str, tuple[int, ...]]]) -> Layout:
    """Return the one layout for these (name, dtype, shape), whatever their order.

    Wide dtypes come first, then names in order: so each tensor starts at a multiple of its
    item size, without which some readers refuse to map it.

    Raises:
        BadInputError: a name is given twice, or is the one that the format reserves.
    """
    ordered = sorted(entries, key=lambda entry: (-ITEM_BYTES[entry[1]], entry[0]))
    described: dict[str, object] = {METADATA: {"format": "pt"}}
    begins: dict[str, int] = {}
    sizes: dict[str, int] = {}
    end = 0
    for name, dtype, shape in ordered:
        if name in described:
            message = f"a model cannot be written with the tensor name {name!r} twice"
            raise BadInputError(message, hint=f"{METADATA} is reserved by the format")
        begins[name], sizes[name] = end, math.prod(shape) * ITEM_BYTES[dtype]
        end += sizes[name]
        described[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [begins[name], end],
        }
    text = json.dumps(
        described, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    header = len(text).to_bytes(LENGTH_BYTES, "little") + text
    offsets = {name: len(header) + begin for name, begin in begins.items()}
    return Layout(header, offsets, sizes, len(header) + end)
