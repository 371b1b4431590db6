"""Unpacking the base of a space into a new model folder, from the file that holds it.

Owns that the folder has the bytes of the manifest, and appears whole or not at all. Does
not own whether that manifest is the base of the space (`operations.importing`).
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crdtmerge.digest import BlobId, blob_id, chunk_digest
from crdtmerge.errors import ConflictError
from crdtmerge.formats.folder import MODEL_FILE, RESOLUTION_FILE, WEIGHT_SUFFIXES
from crdtmerge.formats.header import lay_out
from crdtmerge.formats.output import OutputFolder
from crdtmerge.manifest import Manifest

from ..store.disk import SYSTEM_DISK, File, explained
from ..store.ranges import Done, read_source
from .form import BaseFile
from .reading import Archive, Entry


def is_new(folder: Path) -> bool:
    """Tell whether a model can be unpacked to `folder`: nothing is there, or no file."""
    return not os.path.lexists(folder) or (
        folder.is_dir() and not any(folder.iterdir())
    )


def goes_with_a_model(file: BaseFile) -> bool:
    """Tell whether a file may lie beside weights: it is not hidden, and holds none."""
    name = file.name
    hidden = name.startswith(".") or name == RESOLUTION_FILE
    return not hidden and not name.lower().endswith(WEIGHT_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Unpacking:
    """The base `manifest` in a file, whose `files` lie beside its weights."""

    archive: Archive
    entries: Mapping[BlobId, Entry]
    manifest: Manifest
    files: tuple[BaseFile, ...]
    done: Done
    """Told how many bytes were just written."""

    def run(self, folder: Path) -> None:
        """Write the model to a new `folder`, durably.

        Raises:
            ConflictError: something is there.
            MalformedArchiveError: bytes are not those that were named; no folder is there.
            MachineError: the disk refused; no folder is there.
        """
        if not is_new(folder):
            raise ConflictError(f"{folder} is not empty", hint="name a new folder")
        with OutputFolder(folder, fsync=True) as hidden:
            self._write_weights(hidden / MODEL_FILE)
            for file in self.files:
                path = hidden / file.name
                with explained(f"writing {path}"), SYSTEM_DISK.create(path) as out:
                    self._copy(file.blob, out, 0)

    def discard(self, folder: Path) -> None:
        """Remove the folder that `run` made; what else lies there by now stays."""
        for name in (MODEL_FILE, *(file.name for file in self.files)):
            with suppress(OSError):
                (folder / name).unlink()
        with suppress(OSError):
            folder.rmdir()

    def _write_weights(self, path: Path) -> None:
        tensors = self.manifest.tensors
        layout = lay_out((e.name, e.dtype, e.shape) for e in tensors)
        with explained(f"writing {path}"), SYSTEM_DISK.create(path) as out:
            out.truncate(layout.size)
            out.write_at(0, layout.header)
            for tensor in tensors:
                self._copy(tensor.blob, out, layout.offsets[tensor.name])

    def _copy(self, blob: BlobId, out: File, offset: int) -> None:
        """Copy a blob to its place, chunk by chunk; in the end it was the right one."""
        entry, chunks = self.entries[blob], list[bytes]()
        place = (self.archive.path, entry.offset, entry.size)
        for piece in read_source(SYSTEM_DISK, *place, self.done):
            chunks.append(chunk_digest(piece))
            out.write_at(offset, piece)
            offset += len(piece)
        if blob_id(entry.size, chunks) != blob:
            name = f"blob {blob.hex()[:12]}"
            raise self.archive.refused(f"{name} has other bytes")
