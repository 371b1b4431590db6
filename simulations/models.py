"""Models small enough to merge on every node of a cluster: a base, and fine-tunes of it.

Owns their bytes, drawn from a generator. Does not own who contributes them (`cluster`), nor
their merge (`merging`): nothing here does arithmetic on weights.
"""

import math
import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from crdtmerge.digest import BlobId, ContentId
from crdtmerge.manifest import ITEM_BYTES, Manifest, TensorEntry
from nodes.store.memory import MemoryBlobs
from simulations.disks.storage import Blobs

ITEMS: Final = 48
DTYPES: Final = {
    "embed.index": "I64",
    "embed.weight": "BF16",
    "layer.bias": "F32",
    "layer.weight": "F32",
}
"""Tensors by name: two widths of floats, and integers, which are the base's own."""
SHAPES: Final = {"layer.weight": (6, 8)}
"""What is not a plain row of items: this one an adapter can change."""
RANK: Final = 2
KINDS: Final = {"full": 3, "delta": 1, "lora": 1}
"""Kinds of contribution, and how often they are drawn."""
UNCHANGED: Final = 0.25
"""Share of the float tensors that a fine-tune leaves as they are in the base."""


@dataclass(frozen=True, slots=True)
class Model:
    """A manifest, and the bytes of what it names."""

    manifest: Manifest
    blobs: Mapping[BlobId, bytes]

    @property
    def content(self) -> ContentId:
        """The content id."""
        return self.manifest.content_id

    def store(self, blobs: Blobs) -> None:
        """Put all its bytes into `blobs`."""
        blobs.add(self.manifest.encode())
        for data in self.blobs.values():
            blobs.add(data)


def make_base(rng: random.Random) -> Model:
    """Draw a base."""
    tensors = {name: _draw(dtype, rng) for name, dtype in DTYPES.items()}
    return _model("base", b"", tensors)


def fine_tune(base: Model, rng: random.Random) -> Model:
    """Draw a fine-tune of `base`: some tensors are the base's, at least one is not.

    It is a whole model, the differences of some tensors, or an adapter.
    """
    (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
    if kind == "lora":
        return _adapter(base, rng)
    theirs = {e.name: base.blobs[e.blob] for e in base.manifest.tensors}
    floats = [name for name, dtype in DTYPES.items() if dtype != "I64"]
    changed = [name for name in floats if rng.random() >= UNCHANGED] or floats[:1]
    drawn = {name: _draw(DTYPES[name], rng) for name in changed}
    return _model(kind, base.content, theirs | drawn if kind == "full" else drawn)


def _adapter(base: Model, rng: random.Random) -> Model:
    """Draw a pair of factors for the one matrix."""
    target = "layer.weight"
    rows, columns = SHAPES[target]
    parts = {
        f"{target}.lora_A": ("F32", (RANK, columns), _draw("F32", rng)),
        f"{target}.lora_B": ("F32", (rows, RANK), _draw("F32", rng)),
        f"{target}.lora_scale": ("F64", (), struct.pack("<d", rng.uniform(0, 2))),
    }
    store, entries = MemoryBlobs(), []
    for name, (dtype, shape, data) in sorted(parts.items()):
        size = math.prod(shape) * ITEM_BYTES[dtype]
        entries.append(TensorEntry(name, dtype, shape, store.add(data[:size])))
    blobs = {e.blob: store.read(e.blob, e.size) for e in entries}
    return Model(Manifest("lora", base.content, tuple(entries)), blobs)


def _draw(dtype: str, rng: random.Random) -> bytes:
    if dtype == "I64":
        return struct.pack(f"<{ITEMS}q", *range(ITEMS))
    data = struct.pack(f"<{ITEMS}f", *(rng.uniform(-1, 1) for _ in range(ITEMS)))
    if dtype == "F32":
        return data
    # The upper half of a float32 is a bfloat16.
    return b"".join(data[start + 2 : start + 4] for start in range(0, len(data), 4))


def _model(kind: str, base: bytes, tensors: Mapping[str, bytes]) -> Model:
    store = MemoryBlobs()
    blobs = {store.add(data): data for data in tensors.values()}
    entries = tuple(
        TensorEntry(
            name, DTYPES[name], SHAPES.get(name, (ITEMS,)), store.add(tensors[name])
        )
        for name in sorted(tensors)
    )
    return Model(Manifest(kind, ContentId(base), entries), blobs)
