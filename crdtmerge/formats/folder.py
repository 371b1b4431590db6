"""Model folders: which files make up a model, and access to its tensors' bytes.

Owns the layout of a Hugging Face folder (one file, or shards with an index) and which
other files go with a model. Does not own the form of one file (`model_file`), shards
(`index`), nor what the tensors must be like (`ingest`).
"""

import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.errors import BadInputError
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.index import collect, read_shards
from crdtmerge.formats.model_file import GGUF, PICKLED, SAFETENSORS, gguf_refused
from crdtmerge.manifest import is_file_name

MODEL_FILE: Final = "model.safetensors"
INDEX_SUFFIX: Final = ".safetensors.index.json"
RESOLUTION_FILE: Final = "resolution.json"
COMPANION_BYTES_MAX: Final = 64 << 20

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


_OF_TRAINING: Final = re.compile(
    r"(optimizer|scheduler|scaler|rng_state.*|training_args)\.(bin|pt|pth)"
)
"""What a trainer leaves beside the weights of a checkpoint."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model on disk: its tensors sorted by name, and the files that go with it.

    `files` are (name, path) of configuration, tokenizer and the like, sorted by name;
    `notes` say what of the tensors is not as it lies there.
    """

    path: Path
    tensors: tuple[StoredTensor, ...]
    files: tuple[tuple[str, Path], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)


def read_folder(path: Path) -> ModelFolder:
    """Return the model in a folder, or in one file of weights.

    Only headers are read. Like the common loaders, safetensors come before PyTorch files,
    and of each `model.safetensors` or `pytorch_model.bin`, then the shards of an index,
    then the only file of the kind.

    Raises:
        BadInputError: there is no model, or not exactly one, or a file of it is damaged.
    """
    if path.is_file():
        return ModelFolder(path, collect([path]))
    files = _listed(path)
    return ModelFolder(path, _weights(path, files), _companions(files))


def read_companions(path: Path) -> tuple[tuple[str, Path], ...]:
    """Return the files beside the weights of a folder; none beside a single file.

    Raises:
        BadInputError: the folder is gone, or cannot be listed.
    """
    return () if path.is_file() else _companions(_listed(path))


def _listed(path: Path) -> list[Path]:
    """Return the files of a folder, sorted, with links whose target is missing."""
    if not path.is_dir():
        message = f"there is no folder {path}"
        raise BadInputError(message, hint="give a folder with safetensors files")
    try:
        items = sorted(path.iterdir())
    except OSError as e:
        message = f"cannot list {path}: {e.strerror}"
        raise BadInputError(message) from e
    return [item for item in items if item.is_file() or _is_lost(item)]


def _is_lost(item: Path) -> bool:
    return item.is_symlink() and not item.exists()


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the weights of one form lie in a folder."""

    single: str
    index_suffix: str
    suffixes: tuple[str, ...]


_LAYOUTS: Final = (
    _Layout(MODEL_FILE, INDEX_SUFFIX, (SAFETENSORS,)),
    _Layout("pytorch_model.bin", ".bin.index.json", PICKLED),
)
"""The form that comes first is preferred where a folder has both."""


def _weights(folder: Path, files: list[Path]) -> tuple[StoredTensor, ...]:
    """Return the tensors of the one model among `files`."""
    for layout in _LAYOUTS:
        single = [file for file in files if file.name == layout.single]
        indices = [file for file in files if file.name.endswith(layout.index_suffix)]
        loose = [
            file
            for file in files
            if file.suffix in layout.suffixes and not _OF_TRAINING.fullmatch(file.name)
        ]
        if lost := [file for file in (*single, *indices, *loose) if _is_lost(file)]:
            message = f"{lost[0]} is a link to a file that is not there"
            raise BadInputError(message, hint="download the model again")
        if single:
            return collect(single)
        if len(indices) == 1:
            return read_shards(folder, indices[0])
        if len(loose) == 1 and not indices:
            return collect(loose)
        if loose or indices:
            kind = layout.suffixes[0].removeprefix(".")
            message = (
                f"{folder} has {len(loose)} {kind} files and {len(indices)} indices:"
                " which of them is the model?"
            )
            hint = f"shards need one index, model{layout.index_suffix}; or give a file"
            raise BadInputError(message, hint=hint)
    if gguf := [file for file in files if file.suffix.lower() == GGUF]:
        raise gguf_refused(gguf[0])
    message = f"{folder} has no safetensors file, and no PyTorch file"
    hint = f"save the model as {MODEL_FILE} (`save_pretrained` does so)"
    raise BadInputError(message, hint=hint)


def _companions(files: Iterable[Path]) -> tuple[tuple[str, Path], ...]:
    """Return the files that a merged model needs beside its weights."""
    return tuple(
        (file.name, file)
        for file in files
        if not _is_lost(file)
        and not file.name.startswith(".")
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
    message = f"{stored.path} changed while tensor {stored.name!r} was being read"
    return BadInputError(message, hint="do not write to a model that is in use")
