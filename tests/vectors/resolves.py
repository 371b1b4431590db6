"""One small merge per strategy and dtype, whose bytes are golden.

The inputs come from BLAKE3's output stream, so no library's random generator is part of
the vector. `python -m tests.vectors.resolves [DTYPE ...]` prints the vectors as JSON.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from blake3 import blake3

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.manifest import EvidenceEntry, Manifest, TensorEntry
from crdtmerge.numerics import Floats, downcast
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.plan import make_plan
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import STRATEGIES, make_recipe
from crdtmerge.strategies.steps import STEPS
from tests.evidence import stored
from tests.strategies import NEEDS, Need

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

    def write(self, name: str, data: bytes | memoryview, offset: int = 0) -> None:
        """Take an output tensor; its digest is what counts here."""


def values(
    label: str, count: int, scale: float
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return `count` numbers of at most `scale`, about a fifth of them zero."""
    stream = blake3(label.encode()).digest(length=4 * count)
    words = np.frombuffer(stream, "<u4").astype(np.float64)
    centred = (words - 2.0**31) * 2.0**-31 * scale
    return np.where(words % 5 == 0, 0.0, centred)


def vector(title: str) -> str:
    """Return the model digest (hex) of one merge of three contributions.

    `title` is the strategy, the dtype of the base, and parameters K=V; `pre=` and `post=`
    name steps; the word `delta` has contributions give task vectors, in F32.
    """
    name, dtype, *words = title.split()
    deltas = "delta" in words
    pairs = dict(word.split("=") for word in words if word != "delta")
    steps = {stage: pairs.pop(stage, "").split() for stage in ("pre", "post")}
    need = NEEDS.get(name, Need({}))
    blobs = Blobs()
    base = _manifest(blobs, dtype, "base", b"", "base")
    kind = "delta" if deltas else "full"
    tuned = [
        _manifest(blobs, dtype, kind, base.content_id, f"tuned {i}") for i in range(3)
    ]
    recipe = make_recipe(
        name, dict(need.parameters) | pairs, pre=steps["pre"], post=steps["post"]
    )
    tuned = [
        replace(manifest, evidence=_evidence(blobs, recipe, place))
        for place, manifest in enumerate(tuned)
    ]
    given = [
        Contribution(m.content_id, w, m, (), tuple(sorted(need.own(place).items())))
        for place, (m, w) in enumerate(zip(tuned, WEIGHTS, strict=True))
    ]
    plan = make_plan(recipe, base, given)
    digests = execute(plan, blobs, blobs)
    outputs = [
        TensorEntry(tensor, kind, shape, digests[tensor])
        for tensor, kind, shape in plan.outputs
    ]
    return model_digest(outputs).hex()


def _evidence(blobs: Blobs, recipe: Recipe, place: int) -> tuple[EvidenceEntry, ...]:
    """Keep evidence of all that the recipe reads; return its entries."""

    def draw(label: str, count: int) -> Floats:
        return values(f"evidence {label}", count, 0.5)

    return stored(recipe, SHAPES, place, draw, blobs.put)


def _manifest(blobs: Blobs, dtype: str, kind: str, base: bytes, label: str) -> Manifest:
    """Keep the tensors of a model of this kind; return its manifest."""
    entries = []
    for tensor, shape in sorted(SHAPES.items()):
        count = int(np.prod(shape, dtype=np.int64))
        change = values(f"{label}/{tensor}", count, 0.0 if kind == "base" else 0.02)
        if kind == "delta":
            entry = TensorEntry(
                tensor, "F32", shape, blobs.put(downcast(change, "F32"))
            )
        else:
            data = downcast(values(f"base/{tensor}", count, 0.5) + change, dtype)
            entry = TensorEntry(tensor, dtype, shape, blobs.put(data))
        entries.append(entry)
    if kind != "delta":
        entries.append(TensorEntry("d.step", "I64", (1,), blobs.put(bytes(8))))
    return Manifest(kind, base, tuple(entries))


def titles() -> Iterator[str]:
    """Yield the title of every vector."""
    for name in sorted(STRATEGIES):
        for dtype in DTYPES:
            yield f"{name} {dtype}"
        yield f"{name} BF16 delta"
    yield "nuslerp/1 F32 flatten=false"
    yield "nuslerp/1 F32 flatten=false row_wise=true"
    yield "dare_linear/1 F32 rescale=l1"
    yield "dare_ties/1 F32 rescale=l1"
    yield "geometric_median/1 BF16 scope=tensor"
    yield "model_stock/1 F32 filter_wise=true"
    for step in STEPS.values():
        yield f"linear/1 BF16 {step.stages[0]}={step.full_name}"


SLOW_DTYPES = ("F64", "F16")


def in_some_dtypes(known: Iterable[str]) -> list[object]:
    """Return titles for a backend that is not the usual one; some dtypes take test-all."""
    return [
        pytest.param(
            title,
            marks=pytest.mark.slow if title.split()[1] in SLOW_DTYPES else (),
        )
        for title in sorted(known)
    ]


def main() -> None:
    """Print the vectors, or those of the dtypes that are named."""
    dtypes = sys.argv[1:] or DTYPES
    made = {t: vector(t) for t in titles() if t.split()[1] in dtypes}
    json.dump(made, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
