"""The weighted sum on a GPU, as a share of what the device copies.

    python -m benchmarks.numerics_cuda [--mib 256] [--contributions 3] [--device cuda]

Three figures alternate in one run: a copy on the device, the kernel as merges call it
(inputs in the host's memory, moved block by block), and the kernel with its inputs on the
device already. Traffic is that of a perfect kernel: each input read and the output
written once. Medians; quote ratios. Without a GPU it says so and measures nothing.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Final
from unittest import mock

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import BackendError

ROUNDS: Final = 5
MIB: Final = 1 << 20


def main() -> int:
    """Print the figures as JSON; 1 if there is no device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="MiB of each input")
    parser.add_argument("--contributions", type=int, default=3)
    parser.add_argument("--device", default="cuda", help="cpu: to try the script out")
    given = parser.parse_args()
    try:
        found = measured(given.device, given.mib * MIB, given.contributions)
    except BackendError as e:
        print(f"no device: {e} ({e.hint})", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=1))
    return 0


def measured(name: str, size: int, count: int) -> dict[str, Any]:
    """Return the figures of weighted sums of `count` BF16 tensors of `size` bytes.

    Raises:
        BackendError: there is no such device, or no torch.
    """
    from crdtmerge.numerics.cuda import device

    if name == "cuda":
        return _measured(size, count)
    with device.on_device(name):
        return _measured(size, count)


def _measured(size: int, count: int) -> dict[str, Any]:
    import torch

    from crdtmerge.numerics.cuda import device, reading, sums
    from crdtmerge.numerics.reference.dtypes import Data
    from crdtmerge.numerics.reference.grid import theta_grid
    from crdtmerge.numerics.vectors import Items, Output, Weighed

    where = device.current()
    models = [_bf16(size, seed) for seed in range(count)]
    terms = [Weighed(Items(data, "BF16"), DECIMAL_UNIT) for data in models]
    whole, grid = Output("BF16", range(size // 2)), theta_grid(0, "BF16")
    held = {id(m): device.moved(m, "BF16", range(size // 2)) for m in models}

    def resident(data: Data, _dtype: str, part: range) -> torch.Tensor:
        return held[id(data)][2 * part.start : 2 * part.stop]

    def merge() -> None:
        sums.weighted_sum(terms, count * DECIMAL_UNIT, grid, whole)

    def merge_resident() -> None:
        with mock.patch.object(reading, "moved", resident):
            merge()

    seconds = _alternating(
        {
            "copy": held[id(models[0])].clone,
            "from the host": merge,
            "on the device": merge_resident,
        }
    )
    rates = {
        what: (2 if what == "copy" else count + 1) * size / median / 1e9
        for what, median in seconds.items()
    }
    kind = torch.cuda.get_device_name(where) if where.type == "cuda" else "CPU"
    return {
        "device": kind,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "contributions": count,
        "MiB each": size // MIB,
        "GB/s": {what: round(rate, 2) for what, rate in rates.items()},
        "share of copy": {
            what: round(rate / rates["copy"], 3) for what, rate in rates.items()
        },
    }


def _alternating(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of each, run in turn, once before to warm up."""
    import torch

    seconds: dict[str, list[float]] = {what: [] for what in runs}
    for _ in range(ROUNDS + 1):
        for what, run in runs.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[what].append(time.perf_counter() - start)
    return {what: statistics.median(times[1:]) for what, times in seconds.items()}


def _bf16(size: int, seed: int) -> bytes:
    """Return items below 1 in magnitude."""
    import numpy as np

    words = np.random.default_rng(seed).integers(0, 1 << 16, size // 2, dtype=np.uint16)
    return ((words & 0x80FF) | (words % 61 << 8 & 0x3F00)).astype("<u2").tobytes()


if __name__ == "__main__":
    sys.exit(main())
