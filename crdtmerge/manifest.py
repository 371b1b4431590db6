"""Manifests: what a contribution or a base consists of, and what it is called.

Owns the manifest form v1 and the content id. Does not own how a contribution fits its
base (`changes`), tensor bytes, nor whether they are finite (that is `numerics`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import (
    BLOB_BYTES_MAX,
    DIGEST_BYTES,
    BlobId,
    ContentId,
    Domain,
    blob_id_of,
    digest,
    digest_value,
)
from crdtmerge.errors import BadInputError, EncodingError, MalformedManifestError

VERSION: Final = 1
MANIFEST_BYTES_MAX: Final = 64 << 20
NAME_CHARACTERS_MAX: Final = 512
DIMENSIONS_MAX: Final = 8
NOTES_CHARACTERS_MAX: Final = 4096

KINDS: Final = ("base", "full", "delta", "lora")

ITEM_BYTES: Final = {
    "F64": 8,
    "F32": 4,
    "BF16": 2,
    "F16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes an item by dtype, under the names of the safetensors format."""

_UNSAFE: Final = frozenset('/\\:<>|?*"')
_PORTS: Final = tuple(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))
_DEVICES: Final = frozenset(("CON", "PRN", "AUX", "NUL", *_PORTS))
"""Names that open a device on Windows, whatever follows their first dot."""

FLOAT_DTYPES: Final = frozenset({"F64", "F32", "BF16", "F16", "F8_E4M3", "F8_E5M2"})


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One named tensor: dtype, shape, and the blob of its little-endian row-major bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    blob: BlobId

    @property
    def items(self) -> int:
        """Number of items."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.items * ITEM_BYTES[self.dtype]

    def to_value(self) -> Value:
        """Return the plain value that the content id covers."""
        return [self.name, self.dtype, list(self.shape), self.blob]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file beside the tensors (a model card, a configuration)."""

    name: str
    size: int
    blob: BlobId


@dataclass(frozen=True, slots=True)
class EvidenceEntry:
    """One tensor or scalar of evidence, of a kind such as `fisher`."""

    kind: str
    tensor: TensorEntry


@dataclass(frozen=True, slots=True)
class Manifest:
    """Sorted named tensors with kind and base; plus files, evidence and notes.

    `base` is the content id of the base, empty for a manifest of kind `base`.
    """

    kind: str
    base: bytes
    tensors: tuple[TensorEntry, ...]
    files: tuple[FileEntry, ...] = ()
    evidence: tuple[EvidenceEntry, ...] = ()
    notes: str = ""

    @property
    def content_id(self) -> ContentId:
        """Digest of (kind, base, tensor list) alone: notes do not make a second model."""
        return ContentId(digest(Domain.CONTENT, self.content_bytes))

    @property
    def content_bytes(self) -> bytes:
        """What the content id covers; the entries of the tensors stand at its end."""
        tensors = [entry.to_value() for entry in self.tensors]
        return encode([self.kind, self.base, tensors])

    @property
    def evidence_digest(self) -> bytes:
        """Digest of the evidence list; empty if there is none."""
        if not self.evidence:
            return b""
        value = [[entry.kind, entry.tensor.to_value()] for entry in self.evidence]
        return digest_value(Domain.EVIDENCE, value)

    @property
    def size(self) -> int:
        """Bytes that it declares: tensors, files and evidence."""
        tensors = sum(entry.size for entry in self.tensors)
        files = sum(entry.size for entry in self.files)
        return tensors + files + sum(entry.tensor.size for entry in self.evidence)

    def named_blobs(self) -> Iterator[tuple[BlobId, int]]:
        """Yield every blob that it names with its size in bytes, as often as it does."""
        yield from ((entry.blob, entry.size) for entry in self.tensors)
        yield from ((entry.blob, entry.size) for entry in self.files)
        yield from ((e.tensor.blob, e.tensor.size) for e in self.evidence)

    def blobs(self) -> dict[BlobId, int]:
        """Return every blob that it names, with its size in bytes."""
        return dict(self.named_blobs())

    def encode(self) -> bytes:
        """Return the canonical bytes; the inverse of `decode_manifest`."""
        return encode(
            [
                VERSION,
                self.kind,
                self.base,
                [entry.to_value() for entry in self.tensors],
                [[entry.name, entry.size, entry.blob] for entry in self.files],
                [[entry.kind, entry.tensor.to_value()] for entry in self.evidence],
                self.notes,
            ]
        )

    @property
    def blob(self) -> BlobId:
        """The blob that the manifest itself is carried as."""
        return blob_id_of(self.encode())


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest whose canonical bytes are `data`.

    Raises:
        MalformedManifestError: the bytes are not those of a manifest of version 1.
    """
    try:
        value = decode(data, MANIFEST_BYTES_MAX)
    except EncodingError as e:
        raise MalformedManifestError(str(e)) from e
    match value:
        case [int(version), *_] if version != VERSION:
            message = f"version {version} is not {VERSION}"
        case [
            int(),
            str(kind),
            bytes(base),
            list(tensors),
            list(files),
            list(proof),
            str(notes),
        ]:
            manifest = Manifest(
                kind,
                base,
                tuple(tensor_from_value(item) for item in tensors),
                tuple(_file(item) for item in files),
                tuple(_evidence(item) for item in proof),
                notes,
            )
            _check_form(manifest)
            return manifest
        case _:
            message = (
                "not an array of version, kind, base, tensors, files, evidence, notes"
            )
    raise MalformedManifestError(message)


def tensor_from_value(value: object) -> TensorEntry:
    """Return the entry that `value` is; the inverse of `TensorEntry.to_value`.

    Raises:
        MalformedManifestError: it is none.
    """
    match value:
        case [str(name), str(dtype), [*shape], bytes(blob)] if _is_shape(shape):
            entry = TensorEntry(
                name, dtype, tuple(int(str(n)) for n in shape), BlobId(blob)
            )
        case _:
            message = "a tensor is not [name, dtype, shape, blob]"
            raise MalformedManifestError(message)
    if dtype not in ITEM_BYTES:
        message = f"tensor {name!r} has the unknown dtype {dtype!r}"
        raise MalformedManifestError(message)
    if not 1 <= len(name) <= NAME_CHARACTERS_MAX:
        message = (
            f"a tensor name has {len(name)} characters, not 1 to {NAME_CHARACTERS_MAX}"
        )
        raise MalformedManifestError(message)
    if len(blob) != DIGEST_BYTES or entry.size > BLOB_BYTES_MAX:
        message = f"tensor {name!r} has a blob id or a size out of bounds"
        raise MalformedManifestError(message)
    return entry


def _is_shape(shape: Sequence[object]) -> bool:
    return len(shape) <= DIMENSIONS_MAX and all(
        isinstance(n, int) and 0 <= n <= BLOB_BYTES_MAX for n in shape
    )


def _file(value: object) -> FileEntry:
    match value:
        case [str(name), int(size), bytes(blob)] if len(blob) == DIGEST_BYTES:
            if is_file_name(name) and 0 <= size <= BLOB_BYTES_MAX:
                return FileEntry(name, size, BlobId(blob))
    message = "a file is not [name, size, blob] with a plain name"
    raise MalformedManifestError(message)


def is_file_name(name: str) -> bool:
    """Tell whether `name` is one plain path component, safe to write on any system."""
    device = name.partition(".")[0].rstrip(" ").upper() in _DEVICES
    plain = name.isprintable() and not _UNSAFE & set(name) and not device
    # Windows drops final dots and spaces: "a." would overwrite "a". "." and ".." fall too.
    return plain and 0 < len(name.encode()) <= 255 and name[-1] not in ". "


def _evidence(value: object) -> EvidenceEntry:
    match value:
        case [str(kind), [*tensor]] if 0 < len(kind) <= 32:
            return EvidenceEntry(kind, tensor_from_value(tensor))
    message = "a piece of evidence is not [kind, tensor]"
    raise MalformedManifestError(message)


def check_form(manifest: Manifest) -> None:
    """Refuse a manifest that peers could not read, before it is signed.

    Raises:
        BadInputError: it is too large, has no tensor, or a name is too long.
    """
    try:
        decode_manifest(manifest.encode())
    except (EncodingError, MalformedManifestError) as e:
        raise BadInputError(f"the model has no manifest that can be signed: {e}") from e


def _check_form(manifest: Manifest) -> None:
    """Refuse what one manifest's bytes show to be wrong."""
    if manifest.kind not in KINDS:
        message = f"unknown kind {manifest.kind!r}"
        raise MalformedManifestError(message)
    if len(manifest.base) != (0 if manifest.kind == "base" else DIGEST_BYTES):
        message = "the base is not a content id (or not empty in a base)"
        raise MalformedManifestError(message)
    sizes = manifest.blobs()
    keys = (
        [entry.name for entry in manifest.tensors],
        [entry.name for entry in manifest.files],
        [(entry.kind, entry.tensor.name) for entry in manifest.evidence],
    )
    for names in keys:
        if any(a >= b for a, b in pairwise(names)):  # type: ignore[operator]
            message = "names are not sorted and unique"
            raise MalformedManifestError(message)
    if not manifest.tensors:
        message = "it has no tensor"
        raise MalformedManifestError(message)
    if any(sizes[blob] != size for blob, size in manifest.named_blobs()):
        message = "one blob is declared with two sizes"
        raise MalformedManifestError(message)
    if len(manifest.notes) > NOTES_CHARACTERS_MAX:
        message = f"notes are longer than {NOTES_CHARACTERS_MAX} characters"
        raise MalformedManifestError(message)
