"""Model folders: which files make up a model, and access to its tensors' bytes.

Owns the layout of a Hugging Face folder (one file, or shards with an index) and which
other files go with a model. Does not own the form of one file (`header`), nor what the
tensors must be like (`ingest`).
"""

import json
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.errors import BadInputError
from crdtmerge.formats.header import StoredTensor, read_header
from crdtmerge.manifest import is_file_name

MODEL_FILE: Final = "model.safetensors"
INDEX_SUFFIX: Final = ".safetensors.index.json"
RESOLUTION_FILE: Final = "resolution.json"
COMPANION_BYTES_MAX: Final = 64 << 20
INDEX_BYTES_MAX: Final = 64 << 20
SHARDS_MAX: Final = 4096

WEIGHT_SUFFIXES: Final = (
    ".safetensors",
    ".index.json",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".onnx",
    ".msgpack",
    ".gguf",
    ".tflite",
    ".npz",
    ".npy",
    ".pkl",
    ".pickle",
    ".joblib",
)
"""Weights of any format: stale beside a merged model, so never copied."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk: its tensors sorted by name, and the files that go with it.

    `files` are (name, path) of configuration, tokenizer and the like, sorted by name.
    """

    path: Path
    tensors: tuple[StoredTensor, ...]
    files: tuple[tuple[str, Path], ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)


def read_folder(path: Path) -> ModelFolder:
    """Return the model in a folder, or in one .safetensors file.

    Only headers are read. Like the common loaders, `model.safetensors` is preferred; else
    the shards of an index; else the only safetensors file.

    Raises:
        BadInputError: there is no model, or not exactly one, or a file of it is damaged.
    """
    if path.is_file():
        return ModelFolder(path, _collect([path]))
    if not path.is_dir():
        message = f"there is no folder {path}"
        raise BadInputError(message, hint="give a folder with safetensors files")
    try:
        files = sorted(item for item in path.iterdir() if item.is_file())
    except OSError as e:
        message = f"cannot list {path}: {e.strerror}"
        raise BadInputError(message) from e
    return ModelFolder(path, _weights(path, files), _companions(files))


def _weights(folder: Path, files: list[Path]) -> tuple[StoredTensor, ...]:
    """Return the tensors of the one model among `files`."""
    single = [file for file in files if file.name == MODEL_FILE]
    indices = [file for file in files if file.name.endswith(INDEX_SUFFIX)]
    loose = [file for file in files if file.suffix == ".safetensors"]
    if single:
        return _collect(single)
    if len(indices) == 1:
        return _sharded(folder, indices[0])
    if len(loose) == 1 and not indices:
        return _collect(loose)
    if not loose and not indices:
        message = f"{folder} has no safetensors file"
        hint = f"save the model as {MODEL_FILE} (`save_pretrained` does so)"
        raise BadInputError(message, hint=hint)
    message = (
        f"{folder} has {len(loose)} safetensors files and {len(indices)} indices:"
        " which of them is the model?"
    )
    raise BadInputError(message, hint="shards need one model.safetensors.index.json")


def _sharded(folder: Path, index: Path) -> tuple[StoredTensor, ...]:
    """Return the tensors of the shards, which must be exactly those of the index."""
    placed = _read_index(index)
    names = sorted(set(placed.values()))
    if lost := [name for name in names if not (folder / name).is_file()]:
        message = (
            f"{index.name} names {len(lost)} file(s) that are not there: {lost[0]}"
        )
        raise BadInputError(message, hint="download the missing shards")
    tensors = _collect(folder / name for name in names)
    found = {tensor.name: tensor.path.name for tensor in tensors}
    for name, shard in sorted(placed.items()):
        if found.get(name) != shard:
            message = f"{index.name} places tensor {name!r} in {shard}, which lacks it"
            raise BadInputError(message)
    if excess := sorted(found.keys() - placed.keys()):
        message = (
            f"{found[excess[0]]} holds tensor {excess[0]!r}, not listed in {index.name}"
        )
        raise BadInputError(message)
    return tensors


def _read_index(index: Path) -> dict[str, str]:
    """Return the file name of each tensor, from a shard index."""
    try:
        if index.stat().st_size > INDEX_BYTES_MAX:
            message = f"{index.name} is above the limit of {INDEX_BYTES_MAX} bytes"
            raise BadInputError(message)
        value = json.loads(index.read_bytes())
    except OSError as e:
        message = f"cannot read {index.name}: {e.strerror}"
        raise BadInputError(message) from e
    except (ValueError, RecursionError) as e:
        message = f"{index.name} is not JSON"
        raise BadInputError(message) from e
    match value:
        case {"weight_map": dict(placed)} if placed and all(
            isinstance(shard, str) and is_file_name(shard) for shard in placed.values()
        ):
            if len(set(placed.values())) <= SHARDS_MAX:
                return placed
            message = f"{index.name} names more than {SHARDS_MAX} shards"
        case _:
            message = f"{index.name} has no weight_map from tensors to plain file names"
    raise BadInputError(message)


def _collect(paths: Iterable[Path]) -> tuple[StoredTensor, ...]:
    """Return the tensors of these files, sorted by name, each name once."""
    tensors: dict[str, StoredTensor] = {}
    path = None
    for path in paths:
        for tensor in read_header(path):
            if tensor.name in tensors:
                first = tensors[tensor.name].path.name
                message = f"tensor {tensor.name!r} is in both {first} and {path.name}"
                raise BadInputError(message)
            tensors[tensor.name] = tensor
    if not tensors:
        message = f"{path.name if path else 'the model'} holds no tensor"
        raise BadInputError(message)
    return tuple(tensors[name] for name in sorted(tensors))


def _companions(files: Iterable[Path]) -> tuple[tuple[str, Path], ...]:
    """Return the files that a merged model needs beside its weights."""
    return tuple(
        (file.name, file)
        for file in files
        if not file.name.startswith(".")
        and not file.name.lower().endswith(WEIGHT_SUFFIXES)
        and file.name != RESOLUTION_FILE
        and is_file_name(file.name)
        and file.stat().st_size < COMPANION_BYTES_MAX
    )


def open_tensor(stored: StoredTensor) -> memoryview:
    """Return the bytes of a tensor, mapped read-only; pages come in as they are used.

    Raises:
        BadInputError: the file is gone, or shorter than when its header was read.
    """
    if stored.size == 0:
        return memoryview(b"")  # the system refuses to map nothing
    below = stored.offset % mmap.ALLOCATIONGRANULARITY
    try:
        with stored.path.open("rb") as file:
            mapped = mmap.mmap(
                file.fileno(),
                stored.size + below,
                offset=stored.offset - below,
                access=mmap.ACCESS_READ,
            )
    except (OSError, ValueError) as e:
        raise changed(stored) from e
    return memoryview(mapped)[below:]


def read_chunks(stored: StoredTensor) -> Iterator[bytes]:
    """Yield the bytes of a tensor, one chunk at a time.

    Raises:
        BadInputError: the file is gone, or shorter than when its header was read.
    """
    left = stored.size
    try:
        with stored.path.open("rb") as file:
            file.seek(stored.offset)
            while left > 0:
                chunk = file.read(min(CHUNK_BYTES, left))
                if len(chunk) < min(CHUNK_BYTES, left):
                    raise changed(stored)
                left -= len(chunk)
                yield chunk
    except OSError as e:
        raise changed(stored) from e


def changed(stored: StoredTensor) -> BadInputError:
    """Return the error for a file that was not left alone."""
    message = f"{stored.path.name} changed while tensor {stored.name!r} was being read"
    return BadInputError(message, hint="do not write to a model that is in use")
