"""Faults: what shows, from its bytes alone, that a contribution can never be used.

Owns the body of a `fault` record, how it is checked and how it is made. Does not own the
proofs under it (`proofs`), who may say it and what follows (`policy`), nor who looks for
faults (`nodes`).

A fault leads from a content id down to the bytes that cannot be: the entry of a tensor
stands in what the content id covers; the digest of a chunk, in what the entry's blob id
covers; and in that chunk, at the place of one item, NaN or an infinity. Or the size, in
what the blob id covers, is not that of the entry's dtype and shape. Nobody needs a blob to
check it, so who has none and who has all decide alike (docs/adr/0025).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

import numpy as np

from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import (
    BLOB_BYTES_MAX,
    CHUNK_BYTES,
    DIGEST_BYTES,
    ContentId,
    Domain,
    chunk_count,
)
from crdtmerge.errors import (
    EncodingError,
    MalformedManifestError,
    MalformedRecordError,
)
from crdtmerge.manifest import (
    ITEM_BYTES,
    MANIFEST_BYTES_MAX,
    Manifest,
    TensorEntry,
    tensor_from_value,
)
from crdtmerge.proofs import Proof, Span, proof_from_value, prove, read_spans, verify

ENTRY_BYTES_MAX: Final = 2168
"""A name of 512 characters of four bytes, and eight sizes of nine: most of one entry."""
SIZE_BYTES: Final = 8
"""What a blob id covers begins with the size; the chunk digests follow."""
LIST_BYTES_MAX: Final = SIZE_BYTES + DIGEST_BYTES * chunk_count(BLOB_BYTES_MAX)

CHECKED_MAX: Final = 64
"""Faults that are remembered to be true: a check takes 10 ms, a signature 0.14 ms."""

NOT_FINITE: Final = {
    "F64": 0x7FF0_0000_0000_0000,
    "F32": 0x7F80_0000,
    "BF16": 0x7F80,
    "F16": 0x7C00,
    "F8_E4M3": 0x7F,
    "F8_E5M2": 0x7C,
}
"""The bits that are all set in NaN and infinities, and in no number, by dtype. E4M3 has no
infinity, and of its largest exponent only all ones are NaN."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Shows that the tensor whose entry stands at `entry_at` can never be merged.

    `entry` proves the entry in what `content` covers. If `item` is a number, `chunks`
    proves the digest of the chunk in which that item lies, and `data` its bytes; else
    `chunks` proves the size, and there is no `data`.
    """

    KIND: ClassVar[str] = "fault"
    content: ContentId
    entry_at: Span
    entry: Proof
    item: int | None
    chunks: Proof
    data: Proof | None

    def to_value(self) -> Value:
        """Return the body's plain value."""
        shown: list[Value] = [self.chunks.to_value()]
        if self.item is not None and self.data is not None:
            shown = [self.item, *shown, self.data.to_value()]
        return [self.content, *self.entry_at, self.entry.to_value(), shown]

    @classmethod
    def from_value(cls, value: Value) -> "Fault":
        """Return the body that `value` is; whether it is true is for `check_fault`."""
        match value:
            case [bytes(content), int(offset), int(size), entry, [*shown]] if (
                len(content) == DIGEST_BYTES
            ):
                at, proof = (offset, size), proof_from_value(entry, MANIFEST_BYTES_MAX)
            case _:
                raise MalformedRecordError(
                    "not a fault [content, entry, what is shown]"
                )
        match shown:
            case [chunks]:
                size_proof = proof_from_value(chunks, LIST_BYTES_MAX)
                return cls(ContentId(content), at, proof, None, size_proof, None)
            case [int(item), chunks, data]:
                list_proof = proof_from_value(chunks, LIST_BYTES_MAX)
                data_proof = proof_from_value(data, CHUNK_BYTES)
                return cls(ContentId(content), at, proof, item, list_proof, data_proof)
            case _:
                raise MalformedRecordError("a fault shows neither a size nor an item")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a fault shows: the tensor's entry, what is wrong, and with which chunk."""

    tensor: TensorEntry
    reason: str
    chunk: bytes = b""

    @property
    def sentence(self) -> str:
        """What people are told."""
        return f"tensor {self.tensor.name!r}: {self.reason}"


def find(fault: Fault) -> Finding:
    """Return what `fault` says, read from its bytes; no digest is compared.

    Raises:
        MalformedRecordError: what it shows is no fault, whether it is true or not.
    """
    tensor = _tensor(read_spans(fault.entry, [fault.entry_at])[0])
    (shown,) = read_spans(fault.chunks, [_place(fault, tensor)])
    if fault.data is None or fault.item is None:
        size = int.from_bytes(shown, "little")
        if size == tensor.size:
            raise MalformedRecordError("a fault shows a size that is as declared")
        reason = f"its blob has {size} bytes, not the {tensor.size} of its shape"
        return Finding(tensor, reason)
    (item,) = read_spans(fault.data, [_in_chunk(fault, tensor)])
    if first_not_finite(tensor.dtype, item) is None:
        raise MalformedRecordError("a fault shows an item that is a number")
    return Finding(tensor, f"item {fault.item} is NaN or infinity", shown)


@lru_cache(maxsize=CHECKED_MAX)
def check_fault(fault: Fault) -> None:
    """Check from the bytes of `fault` alone that it is true.

    The last ones found to be true are remembered: several nodes may find one and the same.

    Raises:
        MalformedRecordError: it is not.
    """
    shown = find(fault)
    verify(Domain.CONTENT, fault.content, fault.entry, [fault.entry_at])
    blob, spans = shown.tensor.blob, [_place(fault, shown.tensor)]
    verify(Domain.BLOB, blob, fault.chunks, spans)
    if fault.data is not None:
        verify(Domain.CHUNK, shown.chunk, fault.data, [_in_chunk(fault, shown.tensor)])


def _tensor(data: bytes) -> TensorEntry:
    """Return the entry whose encoding is `data`.

    SUBTLE: any place of what the content id covers may be shown. That an entry is not
    misread there rests on two facts: names are valid UTF-8, in which the two bytes before
    a blob id (c4 20) cannot stand; and a dtype's text is followed by the header of a
    shape at once, which is no UTF-8 either. So a misread entry has the dtype, shape and
    blob of a true one: docs/adr/0025 has the proof.
    """
    try:
        return tensor_from_value(decode(data, ENTRY_BYTES_MAX))
    except (EncodingError, MalformedManifestError) as e:
        raise MalformedRecordError(f"a fault shows no tensor: {e}") from e


def _place(fault: Fault, tensor: TensorEntry) -> Span:
    """Return what is shown of what the blob id covers: the size, or a chunk's digest."""
    if fault.item is None:
        return 0, SIZE_BYTES
    if tensor.dtype not in NOT_FINITE:
        raise MalformedRecordError("a fault shows an item of no floating-point tensor")
    if not 0 <= fault.item < tensor.items:
        raise MalformedRecordError("a fault shows an item that the tensor has not")
    chunk = fault.item * ITEM_BYTES[tensor.dtype] // CHUNK_BYTES
    return SIZE_BYTES + chunk * DIGEST_BYTES, DIGEST_BYTES


def _in_chunk(fault: Fault, tensor: TensorEntry) -> Span:
    """Return where the item lies in its chunk; none straddles two, nor two leaves."""
    assert fault.item is not None
    width = ITEM_BYTES[tensor.dtype]
    return fault.item * width % CHUNK_BYTES, width


# --- making -------------------------------------------------------------------------------


def first_not_finite(dtype: str, data: bytes | memoryview) -> int | None:
    """Return the number of the first item of `data` that is NaN or infinity, if any is.

    Items are little-endian; other dtypes than floats have none. What is left after the
    last whole item is passed over.
    """
    ones = NOT_FINITE.get(dtype)
    if ones is None or len(data) < ITEM_BYTES[dtype]:
        return None
    kind = np.dtype(f"<u{ITEM_BYTES[dtype]}")
    bits = np.frombuffer(data, kind, len(data) // kind.itemsize)
    mask = kind.type(ones)
    found = (bits & mask) == mask
    return int(found.argmax()) if found.any() else None


def prove_item(
    manifest: Manifest,
    tensor: TensorEntry,
    item: int,
    chunks: Sequence[bytes],
    chunk: bytes | memoryview,
) -> Fault:
    """Return the fault that `item` of `tensor` is NaN or infinity.

    `chunks` are the chunk digests of its blob, `chunk` the bytes of that chunk in which
    the item lies.

    Raises:
        MalformedRecordError: that is not so.
    """
    at, entry = _prove_entry(manifest, tensor)
    claim = Fault(manifest.content_id, at, entry, item, entry, entry)
    listed = prove(Domain.BLOB, _listed(tensor.size, chunks), [_place(claim, tensor)])
    data = prove(Domain.CHUNK, chunk, [_in_chunk(claim, tensor)])
    fault = Fault(claim.content, at, entry, item, listed[1], data[1])
    check_fault(fault)
    return fault


def prove_size(
    manifest: Manifest, tensor: TensorEntry, size: int, chunks: Sequence[bytes]
) -> Fault:
    """Return the fault that the blob of `tensor` has `size` bytes, not as declared.

    Raises:
        MalformedRecordError: that is not so.
    """
    at, entry = _prove_entry(manifest, tensor)
    listed = prove(Domain.BLOB, _listed(size, chunks), [(0, SIZE_BYTES)])
    fault = Fault(manifest.content_id, at, entry, None, listed[1], None)
    check_fault(fault)
    return fault


def _prove_entry(manifest: Manifest, tensor: TensorEntry) -> tuple[Span, Proof]:
    covered = manifest.content_bytes
    index = manifest.tensors.index(tensor)
    # The entries stand at the end, one after the other.
    rest = sum(len(encode(e.to_value())) for e in manifest.tensors[index:])
    at = len(covered) - rest, len(encode(tensor.to_value()))
    return at, prove(Domain.CONTENT, covered, [at])[1]


def _listed(size: int, chunks: Sequence[bytes]) -> bytes:
    return size.to_bytes(SIZE_BYTES, "little") + b"".join(chunks)
