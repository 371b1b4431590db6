"""Models in several files: the index that says which tensor is in which.

Owns the index, and that files and index agree. Does not own the files (`model_file`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.json_text import parse_object
from crdtmerge.formats.model_file import read_tensors
from crdtmerge.manifest import is_file_name

INDEX_BYTES_MAX: Final = 64 << 20
SHARDS_MAX: Final = 4096
AGAIN: Final = "download the index and its shards again, all of one revision"


def read_shards(folder: Path, index: Path) -> tuple[StoredTensor, ...]:
    """Return the tensors of the shards, which must be exactly those of the index.

    Raises:
        BadInputError: a shard is missing or damaged, or is not what the index says.
    """
    placed = _read_index(index)
    names = sorted(set(placed.values()))
    if lost := [name for name in names if not (folder / name).is_file()]:
        message = (
            f"{index.name} names {len(lost)} file(s) that are not there: {lost[0]}"
        )
        raise BadInputError(message, hint="download the missing shards")
    tensors = collect(folder / name for name in names)
    found = {tensor.name: tensor.path.name for tensor in tensors}
    for name, shard in sorted(placed.items()):
        if found.get(name) != shard:
            message = f"{index.name} places tensor {name!r} in {shard}, which lacks it"
            raise BadInputError(message, hint=AGAIN)
    if excess := sorted(found.keys() - placed.keys()):
        message = (
            f"{found[excess[0]]} holds tensor {excess[0]!r}, not listed in {index.name}"
        )
        raise BadInputError(message, hint=AGAIN)
    return tensors


def _read_index(index: Path) -> dict[str, str]:
    """Return the file name of each tensor, from a shard index."""
    try:
        if index.stat().st_size > INDEX_BYTES_MAX:
            message = f"{index.name} is above the limit of {INDEX_BYTES_MAX} bytes"
            raise BadInputError(message, hint="is it the index of a model?")
        text = index.read_bytes()
    except OSError as e:
        message = f"cannot read {index.name}: {e.strerror}"
        raise BadInputError(message) from e
    match parse_object(text, index.name, AGAIN):
        case {"weight_map": dict(placed)} if placed and all(
            isinstance(shard, str) and is_file_name(shard) for shard in placed.values()
        ):
            if len(set(placed.values())) <= SHARDS_MAX:
                return placed
            message = f"{index.name} names more than {SHARDS_MAX} shards"
        case _:
            message = f"{index.name} has no weight_map from tensors to plain file names"
    raise BadInputError(message, hint="shards lie beside their index, in one folder")


def collect(paths: Iterable[Path]) -> tuple[StoredTensor, ...]:
    """Return the tensors of these files, sorted by name, each name once.

    Raises:
        BadInputError: a file is damaged, two hold one name, or there is no tensor.
    """
    tensors: dict[str, StoredTensor] = {}
    path = None
    for path in paths:
        for tensor in read_tensors(path):
            if tensor.name in tensors:
                first = tensors[tensor.name].path.name
                message = f"tensor {tensor.name!r} is in both {first} and {path.name}"
                raise BadInputError(message, hint=AGAIN)
            tensors[tensor.name] = tensor
    if not tensors:
        message = f"{path.name if path else 'the model'} holds no tensor"
        raise BadInputError(message, hint="give the file that holds the weights")
    return tuple(tensors[name] for name in sorted(tensors))
