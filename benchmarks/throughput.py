"""Resolve throughput of each strategy, as a share of this machine's memory copy.

    python benchmarks/throughput.py [--mib 64] [--contributions 3] [--json OUT]

Inputs are held in memory, so the figure is that of the arithmetic and of digests, not of
the disk. Copy and resolve alternate in one run, because machines are noisy: quote ratios.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.plan import make_plan
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import STRATEGIES, make_recipe

ROUNDS = 3
TENSORS = 4


class Memory:
    """A tensor source that holds its blobs, and a sink that keeps nothing."""

    def __init__(self) -> None:
        self.blobs: dict[BlobId, bytes] = {}

    def put(self, data: bytes) -> BlobId:
        """Keep `data`."""
        blob = blob_id_of(data)
        self.blobs[blob] = data
        return blob

    def read(self, blob: BlobId, size: int) -> bytes:
        """Return the bytes of a blob."""
        assert len(self.blobs[blob]) == size
        return self.blobs[blob]

    def write(self, name: str, data: bytes | memoryview, offset: int = 0) -> None:
        """Take an output tensor."""


def encode(
    values: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", dtype: str
) -> bytes:
    """Return float32 values as little-endian bytes of `dtype` (bf16 by truncation)."""
    if dtype == "F32":
        return values.tobytes()
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def make_models(
    memory: Memory, dtype: str, items: int, count: int
) -> tuple[Manifest, list[Contribution]]:
    """Return a base and `count` fine-tunes of it, of `TENSORS` tensors each."""
    rng = np.random.default_rng(7)
    base_values = [rng.standard_normal(items, np.float32) / 16 for _ in range(TENSORS)]

    def manifest(kind: str, base: bytes, shift: float) -> Manifest:
        entries = []
        for i, values in enumerate(base_values):
            tuned = values + shift * rng.standard_normal(items, np.float32) / 256
            blob = memory.put(encode(tuned.astype(np.float32), dtype))
            entries.append(TensorEntry(f"layer.{i}", dtype, (items,), blob))
        return Manifest(kind, base, tuple(entries))

    base = manifest("base", b"", 0.0)
    tuned = [manifest("full", base.content_id, 1.0) for _ in range(count)]
    return base, [Contribution(m.content_id, 10**9, m, ()) for m in tuned]


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(
    name: str, dtype: str, mib: int, count: int, threads: int
) -> dict[str, object]:
    """Return the throughput of one strategy, and its share of a memory copy."""
    memory = Memory()
    width = 4 if dtype == "F32" else 2
    base, tuned = make_models(memory, dtype, (mib << 20) // TENSORS // width, count)
    plan = make_plan(make_recipe(name, {}), base, tuned)
    source = np.zeros(mib << 20, np.uint8)
    target = np.empty_like(source)
    rates, shares = [], []
    for _ in range(ROUNDS):
        copy = 2 * (mib << 20) / seconds(lambda: np.copyto(target, source))
        took = seconds(lambda: execute(plan, memory, memory, threads=threads))
        rates.append(count * (mib << 20) / took / 1e9)
        shares.append(rates[-1] * 1e9 / copy)
    return {
        "strategy": name,
        "dtype": dtype,
        "contributions": count,
        "threads": threads,
        "input_gb_s": round(statistics.median(rates), 3),
        "share_of_copy": round(statistics.median(shares), 4),
    }


def main() -> None:
    """Measure and print a table; write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64, help="MiB of one model")
    parser.add_argument("--contributions", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [
        measure(name, dtype, options.mib, options.contributions, threads)
        for name in STRATEGIES
        for dtype in ("BF16", "F32")
        for threads in (1, 2)
    ]
    print(f"{'strategy':12} {'dtype':5} threads  GB/s of input  share of memory copy")
    for row in rows:
        print(
            f"{row['strategy']:12} {row['dtype']:5} {row['threads']:7}"
            f"  {row['input_gb_s']:13}  {row['share_of_copy']:.1%}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
