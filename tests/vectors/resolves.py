"""One small merge per strategy and dtype, whose bytes are golden.

The inputs come from BLAKE3's output stream, so no library's random generator is part of
the vector. `python -m tests.vectors.resolves` prints the vectors as JSON.
"""

import json
import sys
from collections.abc import Iterator

import numpy as np
from blake3 import blake3

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.numerics import downcast
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.plan import Contribution, make_plan
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.strategies import STRATEGIES, make_recipe

DTYPES = ("F64", "F32", "BF16", "F16")
SHAPES = {"a.weight": (37, 61), "b.bias": (5,), "c.scalar": ()}
WEIGHTS = (DECIMAL_UNIT, DECIMAL_UNIT // 3, 5 * DECIMAL_UNIT // 2)


class Blobs(dict[BlobId, bytes]):
    """Blobs in memory; a tensor source, and a sink that keeps nothing."""

    def put(self, data: bytes) -> BlobId:
        """Keep `data` under its id."""
        blob = blob_id_of(data)
        self[blob] = data
        return blob

    def read(self, blob: BlobId, size: int) -> bytes:
        """Return a blob."""
        assert len(self[blob]) == size
        return self[blob]

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Take an output tensor; its digest is what counts here."""


def values(
    label: str, count: int, scale: float
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return `count` numbers of at most `scale`, about a fifth of them zero."""
    stream = blake3(label.encode()).digest(length=4 * count)
    words = np.frombuffer(stream, "<u4").astype(np.float64)
    centred = (words - 2.0**31) * 2.0**-31 * scale
    return np.where(words % 5 == 0, 0.0, centred)


def merge(name: str, dtype: str) -> str:
    """Return the model digest (hex) of one merge of three contributions."""
    blobs = Blobs()

    def manifest(kind: str, base: bytes, label: str, scale: float) -> Manifest:
        entries = []
        for tensor, shape in sorted(SHAPES.items()):
            count = int(np.prod(shape, dtype=np.int64))
            data = values(f"base/{tensor}", count, 0.5)
            data = data + values(f"{label}/{tensor}", count, scale)
            blob = blobs.put(downcast(data, dtype))
            entries.append(TensorEntry(tensor, dtype, shape, blob))
        entries.append(TensorEntry("d.step", "I64", (1,), blobs.put(bytes(8))))
        return Manifest(kind, base, tuple(entries))

    base = manifest("base", b"", "base", 0.0)
    tuned = [manifest("full", base.content_id, f"tuned {i}", 0.02) for i in range(3)]
    given = [
        Contribution(m.content_id, w, m, ())
        for m, w in zip(tuned, WEIGHTS, strict=True)
    ]
    plan = make_plan(make_recipe(name, {}), base, given)
    digests = execute(plan, blobs, blobs)
    outputs = [
        TensorEntry(tensor, kind, shape, digests[tensor])
        for tensor, kind, shape in plan.outputs
    ]
    return model_digest(outputs).hex()


def vectors() -> Iterator[tuple[str, str]]:
    """Yield (name, model digest) of every vector."""
    for name in sorted(STRATEGIES):
        for dtype in DTYPES:
            yield f"{name} {dtype}", merge(name, dtype)


def main() -> None:
    """Print the vectors."""
    json.dump(dict(vectors()), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
