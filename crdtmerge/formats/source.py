"""The tensors of model folders by blob id: read where they lie, and never copied.

Owns finding and mapping them, and names that are given before the bytes were read. Does
not own naming (`ingest`), nor what is computed. The bytes are hashed once: when they are
named, or as they are first used. Instead of hashing them again, the files are looked at
before and after: one that was written to meanwhile is refused.

A name given before stands for a place in a file in a certain state, the time of its last
change of any kind included, so it means the same bytes in the next run too.
"""

import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from crdtmerge.codec import Value
from crdtmerge.digest import BlobId, Domain, blob_id_of, digest_value
from crdtmerge.errors import BadInputError, ContentMissingError
from crdtmerge.formats.folder import open_tensor
from crdtmerge.formats.header import FileState, StoredTensor
from crdtmerge.formats.ingest import Model, Source


class FolderSource:
    """A tensor source over the user's own files; safe to read from threads."""

    def __init__(self) -> None:
        """Begin without any model."""
        self._places: dict[BlobId, Source] = {}
        self._states: dict[Path, FileState] = {}
        self._unnamed: dict[BlobId, StoredTensor] = {}
        self._names: dict[BlobId, BlobId] = {}
        self._lock = threading.Lock()

    def watch(self, tensors: Iterable[StoredTensor]) -> None:
        """Remember the state of a model's files, before they are hashed."""
        for path in {tensor.path for tensor in tensors}:
            self._states.setdefault(path, _state(path))

    def add(self, model: Model) -> None:
        """Take in a model or adapter by the names that its tensors were given."""
        for source, entry in zip(model.sources, model.manifest.tensors, strict=True):
            self._places.setdefault(entry.blob, source)

    def stand_in(self, tensor: StoredTensor) -> BlobId:
        """Return a name for bytes that were not read yet, and have them found by it.

        Raises:
            BadInputError: the file cannot be read.
        """
        self.watch([tensor])
        # SUBTLE: tools set back the time of change that a state has, not this one; and a
        # run that goes on takes tensors that were made of bytes of this name.
        state = (*self._states[tensor.path], _touched(tensor.path))
        place: list[Value] = [str(tensor.path), *state, tensor.offset, tensor.size]
        name = BlobId(digest_value(Domain.STAND_IN, place))
        self._places[name] = self._unnamed[name] = tensor
        return name

    def names(self, threads: int = 1) -> Mapping[BlobId, BlobId]:
        """Return what all stand-ins stand for; what was not read yet is read now.

        Raises:
            BadInputError: a file is gone or shorter.
        """
        with self._lock:
            left = [name for name in self._unnamed if name not in self._names]
        with ThreadPoolExecutor(threads, "hashing") as pool:
            list(pool.map(lambda name: self.read(name, self._unnamed[name].size), left))
        return self._names

    def read(self, blob: BlobId, size: int) -> memoryview:
        """Return the bytes of a blob, mapped read-only.

        Raises:
            ContentMissingError: no model holds it.
            BadInputError: the file is gone or shorter.
        """
        source = self._places.get(blob)
        if isinstance(source, bytes) and len(source) == size:
            return memoryview(source)
        if isinstance(source, StoredTensor) and source.size == size:
            data = open_tensor(source)
            if blob in self._unnamed:
                self._name(blob, data)
            return data
        raise ContentMissingError(f"no model holds blob {blob.hex()[:12]}")

    def _name(self, stand_in: BlobId, data: memoryview) -> None:
        """Hash what a stand-in stands for, the first time that it is read."""
        with self._lock:
            known = stand_in in self._names
        if not known:
            name = blob_id_of(data)
            with self._lock:
                self._names[stand_in] = name

    def check_unchanged(self) -> None:
        """Refuse files that were written to since they were first looked at.

        Raises:
            BadInputError: names the first of them.
        """
        for path, state in sorted(self._states.items()):
            if _state(path) != state:
                message = f"{path} changed while it was being merged"
                raise BadInputError(
                    message, hint="do not write to a model that is in use"
                )


def _state(path: Path) -> FileState:
    """Return what changes when a file is written to."""
    return FileState.of(_looked_at(path))


def _touched(path: Path) -> int:
    """Return when a file or what is said of it changed, as no tool can set it."""
    return _looked_at(path).st_ctime_ns


def _looked_at(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as e:
        raise BadInputError(f"cannot read {path}: {e.strerror}") from e
