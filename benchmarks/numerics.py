"""Speed of the kernels against memory copies, torch and the contract's own goals.

    python -m benchmarks numerics [--items 2^24] [--rounds 7] [--json OUT]

Each row alternates a kernel and what it is compared with in one run, because machines are
noisy: quote ratios of medians. Kernels get two threads, and so does what they meet.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from crdtmerge import numerics
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.reference.philox import draw_limit

THREADS = 2
Row = dict[str, object]


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternately(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Return the median time of each work, one after the other in every round."""
    times: list[list[float]] = [[] for _ in works]
    for round_ in range(rounds + 1):
        for work, taken in zip(works, times, strict=True):
            spent = seconds(work)
            if round_:  # the first warms up
                taken.append(spent)
    return [statistics.median(taken) for taken in times]


def stored(items: int, dtype: str, seed: int, scale: float) -> bytes:
    """Return normal values as stored items; bf16 by truncation."""
    drawn = np.random.default_rng(seed).standard_normal(items, np.float32)
    values = drawn * np.float32(scale)
    if dtype == "F32":
        return values.tobytes()
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def models(items: int, dtype: str, count: int) -> tuple[bytes, list[bytes]]:
    """Return a base, and fine-tunes of it that differ by a tenth of its scale."""
    drawn = np.random.default_rng(0).standard_normal(items, np.float32) / 16
    found = []
    for seed in range(count + 1):
        shift = np.random.default_rng(seed).standard_normal(items, np.float32) / 256
        tuned = (drawn + shift).astype(np.float32)
        bits = tuned.view(np.uint32) >> 16
        found.append(
            tuned.tobytes() if dtype == "F32" else bits.astype(np.uint16).tobytes()
        )
    return found[0], found[1:]


class Copy:
    """A memory copy by two threads, of as many bytes as a kernel reads and writes."""

    def __init__(self, traffic: int) -> None:
        """Lay out both sides."""
        self.source = np.zeros(traffic // 2, np.uint8)
        self.target = np.ones(traffic // 2, np.uint8)
        self.pool = ThreadPoolExecutor(THREADS)

    def __call__(self) -> None:
        """Copy once."""
        step = -(-self.source.size // THREADS)

        def part(start: int) -> None:
            cut = slice(start, start + step)
            np.copyto(self.target[cut], self.source[cut])

        list(self.pool.map(part, range(0, self.source.size, step)))


def grid_sums(items: int, rounds: int) -> list[Row]:
    """Measure the weighted sum of a base and K models, as a share of memory copy."""
    rows = []
    goals = (("BF16", 3, 0.6), ("BF16", 8, 0.45), ("F32", 3, 0.3))
    for dtype, count, goal in goals:
        base, tuned = models(items, dtype, count)
        terms = [
            numerics.Weighed(numerics.Items(data, dtype), DECIMAL_UNIT)
            for data in (base, *tuned)
        ]
        output = numerics.Output(dtype, range(items))
        grid = numerics.theta_grid(0, dtype)
        divisor = (count + 1) * DECIMAL_UNIT
        traffic = len(base) * (count + 2)
        took, copied = alternately(
            rounds,
            lambda t=terms, d=divisor, g=grid, o=output: numerics.weighted_sum(  # type: ignore[misc]
                t, d, g, o
            ),
            Copy(traffic),
        )
        rows.append(
            {
                "figure": f"grid sum, base and {count} {dtype}",
                "goal": f"{goal} of memory copy",
                "reached": round(copied / took, 3),
                "seconds": took,
                "traffic_gb_s": round(traffic / took / 1e9, 2),
                "copy_gb_s": round(traffic / copied / 1e9, 2),
            }
        )
    return rows


def _voters(
    items: int, dtype: str, count: int, keep: Callable[[numerics.Tau, int], Any]
) -> tuple[numerics.Items, list[numerics.Voter], int]:
    base, tuned = models(items, dtype, count)
    voters = []
    for place, data in enumerate(tuned):
        tau = numerics.Difference(data, base, dtype)
        kept = keep(tau, place)
        voters.append(numerics.Voter(tau, kept, DECIMAL_UNIT, DECIMAL_UNIT))
    return numerics.Items(base, dtype), voters, len(base) * count


def elections(items: int, rounds: int) -> list[Row]:
    """Measure TIES with its selection, and DARE with its draws, in bytes of input."""
    rows = []
    for dtype in ("BF16", "F32"):
        output = numerics.Output(dtype, range(items))
        grid = numerics.tau_grid(0, dtype)
        limit = draw_limit(DECIMAL_UNIT // 10)

        def trimmed(tau: numerics.Tau, _: int) -> numerics.Keep:
            return numerics.Keep(numerics.kth_largest(tau, -(-tau.count // 5))[0])

        def drawn(_: numerics.Tau, place: int, limit: int = limit) -> numerics.Keep:
            return numerics.Keep(key=bytes([place]) * 8, limit=limit)

        base, voters, size = _voters(items, dtype, 3, trimmed)

        def ties(
            voters: Any = voters, base: Any = base, g: Any = grid, o: Any = output
        ) -> None:
            again = [
                numerics.Voter(v.tau, trimmed(v.tau, 0), v.weight, v.coefficient)
                for v in voters
            ]
            numerics.consensus(base, again, g, o, scale=1.0, normalize=True)

        _, thinned, _ = _voters(items, dtype, 3, drawn)

        def dare(
            v: Any = thinned, base: Any = base, g: Any = grid, o: Any = output
        ) -> None:
            numerics.thinned_sum(base, v, DECIMAL_UNIT, g, o)

        for name, work, goal in (("TIES, density 0.2", ties, 3.0), ("DARE", dare, 9.0)):
            took, copied = alternately(rounds, work, Copy(size))
            rows.append(
                {
                    "figure": f"{name}, 3 {dtype}",
                    "goal": f"{goal} GB/s of input",
                    "reached": round(size / took / 1e9, 2),
                    "seconds": took,
                    "share_of_copy": round(copied / took, 3),
                }
            )
    return rows


def selections(items: int, rounds: int) -> list[Row]:
    """Measure the k-th magnitude, and the norm along the tree against torch's."""
    import torch

    torch.set_num_threads(THREADS)
    data = stored(items, "F32", 1, 0.01)
    vector = numerics.Items(data, "F32")
    tensor = torch.frombuffer(bytearray(data), dtype=torch.float32)
    partitioned = np.frombuffer(data, np.uint32) & np.uint32(0x7FFF_FFFF)
    took, other = alternately(
        rounds,
        lambda: numerics.kth_largest(vector, items // 5),
        lambda: np.partition(partitioned, items - items // 5),
    )
    rows: list[Row] = [
        {
            "figure": f"k-th magnitude of {items} F32",
            "goal": "20 ms at 2^24",
            "reached": round(took * 1000, 2),
            "seconds": took,
            "numpy_partition_s": other,
        }
    ]
    took, other = alternately(
        rounds,
        lambda: numerics.inner_products([vector], items, range(1), 0),
        lambda: torch.linalg.vector_norm(tensor),
    )
    rows.append(
        {
            "figure": f"norm along the tree of {items} F32",
            "goal": "1.3 x torch's norm",
            "reached": round(took / other, 2),
            "seconds": took,
            "torch_s": other,
        }
    )
    return rows


def starts() -> list[Row]:
    """Measure what the compiled kernels cost a fresh process, cold and warm."""
    import os
    import subprocess
    import tempfile

    program = (
        "import time; s = time.perf_counter();"
        "from crdtmerge.numerics import backends;"
        "m = time.perf_counter();"
        "[backends.why_not('cpu', k) for k in {kernels}];"
        "print(m - s, time.perf_counter() - m)"
    )
    one, every = ["weighted_sum"], sorted(backends_kernels())
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as cache:
        for word, kernels in (("cold", every), ("warm", every), ("warm", one)):
            text = program.format(kernels=kernels)
            done = subprocess.run(
                [sys.executable, "-c", text],
                env={**os.environ, "NUMBA_CACHE_DIR": cache},
                capture_output=True,
                text=True,
                check=True,
            )
            _, took = map(float, done.stdout.split())
            goal = "under 0.3 s" if word == "warm" else "stated"
            rows.append(
                {
                    "figure": f"{word} start of {len(kernels)} kernels, self-test included",
                    "goal": goal,
                    "reached": round(took, 3),
                    "seconds": took,
                }
            )
    return rows


def backends_kernels() -> list[str]:
    """Return the names of the kernels that the CPU backend has."""
    from crdtmerge.numerics import backends

    found: list[str] = backends.load("cpu").__all__
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table; write JSON if asked to."""
    parser = argparse.ArgumentParser(prog="benchmarks numerics", description=__doc__)
    parser.add_argument("--items", type=int, default=1 << 24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-matrices", action="store_true", help="leave them out")
    parser.add_argument(
        "--json", nargs="?", type=Path, const=Path("/dev/stdout"), metavar="OUT"
    )
    options = parser.parse_args(arguments)
    with numerics.forced("cpu", threads=THREADS):
        rows = grid_sums(options.items, options.rounds)
        rows += elections(options.items, options.rounds)
        rows += selections(options.items, options.rounds)
    rows += starts()
    if not options.no_matrices:
        from benchmarks import numerics_spectral

        rows += numerics_spectral.rows(options.rounds)
    for row in rows:
        goal = row.get("goal", "none set")
        error = f", error {row['error']:.1e}" if "error" in row else ""
        print(f"{row['figure']!s:55} {row['reached']!s:>8}{error}  goal: {goal}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
