"""Models for `benchmarks.ingest`: a base and a fine-tune, sharded as downloads are.

Weights are random normal numbers in bfloat16, the fine-tune's a little off; no two tensors
are equal, so that none is stored twice.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.formats.header import lay_out

SHARD_BYTES: Final = 2 << 30
WIDTH: Final = 4096
POOL_ITEMS: Final = 1 << 25

Half = NDArray[np.uint16]


def shapes(size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield tensors as a language model has them, about `size` bytes in all."""
    rows = max(1, size // 2 // WIDTH // 10)
    yield "model.embed_tokens.weight", (rows, WIDTH)
    left, layer = size - rows * WIDTH * 2, 0
    while left > 0:
        for name, high in (
            ("q", 1),
            ("k", 1),
            ("v", 1),
            ("o", 1),
            ("up", 2),
            ("down", 2),
        ):
            height = min(high * WIDTH, max(1, left // (2 * WIDTH)))
            yield f"model.layers.{layer}.{name}_proj.weight", (height, WIDTH)
            left -= height * WIDTH * 2
        yield f"model.layers.{layer}.norm.weight", (WIDTH,)
        layer += 1


def write_models(folder: Path, size: int) -> tuple[Path, Path]:
    """Write a base and a fine-tune of `size` bytes each; return their folders."""
    rng = np.random.default_rng(42)
    pool = (rng.standard_normal(POOL_ITEMS, np.float32) / 32).astype(np.float32)
    base, tune = folder / "base", folder / "tune"
    for target, shift in ((base, 0.0), (tune, 0.01)):
        target.mkdir()
        shards: list[list[tuple[str, tuple[int, ...], int]]] = [[]]
        filled = 0
        for number, (name, shape) in enumerate(shapes(size)):
            if filled > SHARD_BYTES:
                shards.append([])
                filled = 0
            shards[-1].append((name, shape, number))
            filled += 2 * int(np.prod(shape))
        placed: dict[str, str] = {}
        for index, shard in enumerate(shards, start=1):
            file = f"model-{index:05}-of-{len(shards):05}.safetensors"
            placed |= dict.fromkeys((name for name, _, _ in shard), file)
            _write(target / file, shard, pool, shift)
        text = json.dumps({"metadata": {}, "weight_map": placed})
        (target / "model.safetensors.index.json").write_text(text)
    return base, tune


def _write(
    path: Path,
    shard: list[tuple[str, tuple[int, ...], int]],
    pool: NDArray[np.float32],
    shift: float,
) -> None:
    layout = lay_out((name, "BF16", shape) for name, shape, _ in shard)
    with path.open("wb") as file:
        file.write(layout.header)
        for name, shape, number in shard:
            file.seek(layout.offsets[name])
            for part in _values(int(np.prod(shape)), number, pool, shift):
                file.write(part.data)


def _values(
    items: int, number: int, pool: NDArray[np.float32], shift: float
) -> Iterator[Half]:
    """Yield the items of one tensor: the pool, at another place and scale for each."""
    scale = np.float32(1 + number / 1000)
    for start in range(0, items, POOL_ITEMS // 4):
        count = min(POOL_ITEMS // 4, items - start)
        at = (number * 7919 + start) % (POOL_ITEMS - count + 1)
        values = pool[at : at + count] * scale
        if shift:
            other = (at * 3 + 17) % (POOL_ITEMS - count + 1)
            values += pool[other : other + count] * np.float32(shift)
        yield (values.view(np.uint32) >> 16).astype(np.uint16)
