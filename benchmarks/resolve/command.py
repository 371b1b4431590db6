"""`python -m benchmarks resolve`: whole merges, beside mergekit in the same run.

    python -m benchmarks resolve [--mergekit ENVIRONMENT] [--json OUT] [--only NAME ...]

The work: a base and three fine-tunes of a Llama of 501 million parameters in BF16, weights
0.33, density 0.5, two threads, page cache warm. Commands run in turn from start to exit;
figures are medians, and ratios are taken within one run. Beside them stand the time of
reading all inputs and writing one output alone, and that of a merge of next to nothing.
ENVIRONMENT is a virtual environment with mergekit in it; without one ours runs alone.
`--large` merges a model of 10 GB instead, by ours alone, and looks at memory.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.resolve.models import ISSUE, LARGE, NAMES, SMALL, Sizes, make_models
from benchmarks.resolve.running import Ran, run

_THREE = ", ".join(f"{{model: {n}, parameters: {{weight: 0.33}}}}" for n in "abc")
_DTYPE = "dtype: bfloat16\nout_dtype: bfloat16\n"
METHODS = {
    "linear": f"models: [{_THREE}]",
    "slerp": "base_model: a\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.5}",
    "task_arithmetic": f"base_model: base\nmodels: [{_THREE}]",
    "model_stock": "base_model: base\nmodels: [{model: a}, {model: b}, {model: c}]",
    "dare_ties": f"base_model: base\nmodels: [{_THREE}]\nparameters: {{density: 0.5}}",
    "ties": f"base_model: base\nmodels: [{_THREE}]\nparameters: {{density: 0.5}}",
    "breadcrumbs": f"base_model: base\nmodels: [{_THREE}]\nparameters: {{density: 0.5}}",
    "della": f"base_model: base\nmodels: [{_THREE}]\nparameters: {{density: 0.5}}",
}
GOALS = {
    "linear": 4,
    "slerp": 4,
    "task_arithmetic": 4,
    "model_stock": 4,
    "dare_ties": 8,
    "ties": 20,
    "breadcrumbs": 20,
    "della": 20,
}
"""How many times faster than mergekit each is to be."""
OPTIONS = ("--quiet", "--no-cuda", "--no-copy-tokenizer", "--no-write-model-card")
BLOCK = 8 << 20


def main(argv: Sequence[str]) -> int:
    """Print a table; write JSON if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks resolve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mergekit", type=Path, help="a virtual environment with it")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="10 GB, ours alone")
    parser.add_argument(
        "--folder", type=Path, help="where models are kept for next time"
    )
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.folder or Path(scratch)).absolute()
        found = _large(folder) if asked.large else _beside(folder, asked)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _beside(folder: Path, asked: argparse.Namespace) -> dict[str, object]:
    """Measure each method, ours and mergekit's in turn."""
    place = make_models(folder, ISSUE)
    start = statistics.median(_start_up(folder) for _ in range(5))
    floor = statistics.median(_floor(place) for _ in range(asked.rounds))
    print(
        f"a merge of next to nothing {start:.2f} s; reading and writing {floor:.2f} s"
    )
    print(f"{'method':16} {'ours':>7} {'cpu':>7} {'MB':>6} {'mergekit':>9} {'MB':>6}"
          f" {'times':>6} {'goal':>5} {'floors':>6}")  # fmt: skip
    rows = []
    for method in asked.only:
        row = _method(place, method, asked.mergekit, asked.rounds)
        row |= {"floors": row["ours_s"] / floor}
        rows.append(row)
        theirs = row.get("mergekit_s")
        print(
            f"{method:16} {row['ours_s']:6.2f}s {row['ours_cpu_s']:6.2f}s"
            f" {row['ours_mb']:6.0f} "
            + (
                f"{theirs:8.1f}s {row['mergekit_mb']:6.0f} {row['times']:5.1f}x"
                if theirs
                else f"{'-':>9} {'-':>6} {'-':>6}"
            )
            + f" {GOALS[method]:4}x {row['floors']:5.1f}x",
            flush=True,
        )
    return {"start_s": start, "read_and_write_s": floor, "methods": rows}


def _method(
    place: Path, method: str, mergekit: Path | None, rounds: int
) -> dict[str, float]:
    """Return the medians of one method's rounds; the first of ours warms up kernels."""
    config = place / f"{method}.yml"
    config.write_text(f"merge_method: {method}\n{METHODS[method]}\n{_DTYPE}")
    _merge(place, config)
    ours, theirs = [], []
    for number in range(rounds):
        ours.append(_merge(place, config))
        # mergekit takes minutes for some: once is enough to see a ratio of 20.
        if mergekit is not None and number < max(1, rounds // 3):
            command = str(mergekit.absolute() / "bin" / "mergekit-yaml")
            theirs.append(_run(place, [command, config.name, "theirs", *OPTIONS]))
    found = {
        "ours_s": statistics.median(ran.wall_s for ran in ours),
        "ours_cpu_s": statistics.median(ran.cpu_s for ran in ours),
        "ours_mb": max(ran.anonymous for ran in ours) / 1e6,
        "goal": float(GOALS[method]),
    }
    if theirs:
        found["mergekit_s"] = statistics.median(ran.wall_s for ran in theirs)
        found["mergekit_mb"] = max(ran.anonymous for ran in theirs) / 1e6
        found["times"] = found["mergekit_s"] / found["ours_s"]
    return {"method": method} | found  # type: ignore[return-value]


def _merge(place: Path, config: Path, *more: str) -> Ran:
    command = [sys.executable, "-m", "nodes.cli", "merge", config.name, "ours", *more]
    return _run(place, command)


def _run(place: Path, command: list[str]) -> Ran:
    """Run a command that writes `ours` or `theirs`, which is removed afterwards."""
    try:
        return run(command, place)
    finally:
        for name in ("ours", "theirs"):
            shutil.rmtree(place / name, ignore_errors=True)


def _start_up(folder: Path) -> float:
    """Return the seconds of a merge of models of a few kilobytes."""
    place = make_models(folder, SMALL)
    config = place / "linear.yml"
    config.write_text(f"merge_method: linear\n{METHODS['linear']}\n{_DTYPE}")
    return _merge(place, config).wall_s


def _floor(place: Path) -> float:
    """Return the seconds of reading three models and writing a fourth, and no more."""
    out, block = place / "floor", bytearray(BLOCK)
    start = time.perf_counter()
    for name in NAMES[1:]:
        with (place / name / "model.safetensors").open("rb", buffering=0) as file:
            while file.readinto(block):
                pass
    left = (place / "a" / "model.safetensors").stat().st_size
    with out.open("wb", buffering=0) as file:
        while left > 0:
            left -= file.write(memoryview(block)[: min(BLOCK, left)])
    took = time.perf_counter() - start
    out.unlink()
    return took


def _large(folder: Path) -> dict[str, object]:
    """Merge two fine-tunes of 10 GB, and say how much memory that took."""
    sizes: Sizes = LARGE
    place = make_models(folder, sizes, ("a", "b"))
    config = place / "linear.yml"
    models = (
        "{model: a, parameters: {weight: 0.5}}, {model: b, parameters: {weight: 0.5}}"
    )
    config.write_text(f"merge_method: linear\nmodels: [{models}]\n{_DTYPE}")
    ran = _merge(place, config)
    gigabytes = 2 * sizes.parameters / 1e9
    print(
        f"2 x {gigabytes:.1f} GB: {ran.wall_s:.1f} s, {ran.cpu_s:.1f} s of processors,"
        f" {ran.anonymous / 1e6:.0f} MB of anonymous memory"
    )
    return {"gigabytes": gigabytes, "wall_s": ran.wall_s, "memory": ran.anonymous}
