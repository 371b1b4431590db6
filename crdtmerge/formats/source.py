"""The tensors of model folders by blob id: read where they lie, and never copied.

Owns finding and mapping them. Does not own naming (`ingest`), nor what is computed. The
bytes were hashed once, when they were named; they are not hashed again when they are
used. Instead the files are looked at before and after: one that was written to meanwhile
is refused.
"""

from collections.abc import Iterable
from pathlib import Path

from crdtmerge.digest import BlobId
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

    def watch(self, tensors: Iterable[StoredTensor]) -> None:
        """Remember the state of a model's files, before they are hashed."""
        for path in {tensor.path for tensor in tensors}:
            self._states.setdefault(path, _state(path))

    def add(self, model: Model) -> None:
        """Take in a model or adapter by the names that its tensors were given."""
        for source, entry in zip(model.sources, model.manifest.tensors, strict=True):
            self._places.setdefault(entry.blob, source)

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
            return open_tensor(source)
        raise ContentMissingError(f"no model holds blob {blob.hex()[:12]}")

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
    try:
        found = path.stat()
    except OSError as e:
        raise BadInputError(f"cannot read {path}: {e.strerror}") from e
    return FileState.of(found)
