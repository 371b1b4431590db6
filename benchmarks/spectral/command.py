"""`python -m benchmarks spectral`: merges by singular values, beside plain torch.

    python -m benchmarks spectral [--layers N] [--rounds N] [--json OUT]

The work: a base and three fine-tunes of a Llama in BF16, 501 million parameters (1.0 GB)
with all 16 layers, merged by `crdtmerge merge` and by a plain program on torch
(`plain`): SVDs by LAPACK in float32, as FusionBench has these methods. Both run from start
to exit with two threads, in turn, page cache warm; quote ratios within a run. `svd_s` is
what plain torch spends in LAPACK alone.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.resolve.models import ISSUE, NAMES, make_models
from benchmarks.resolve.running import Ran, run
from benchmarks.spectral import plain

GOAL: Final = 3
"""How many times the plain program's time is allowed."""
MEMORY: Final = "8GiB"


def main(argv: Sequence[str]) -> int:
    """Print a table; write JSON if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks spectral",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--layers", type=int, default=ISSUE.layers)
    parser.add_argument("--words", type=int, default=ISSUE.words)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--only", nargs="+", choices=plain.METHODS, default=list(plain.METHODS)
    )
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(argv)
    sizes = replace(ISSUE, layers=asked.layers, words=asked.words)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        place = make_models(Path(scratch), sizes)
        print(f"{2 * sizes.parameters / 1e9:.2f} GB a model, {sizes.layers} layers")
        for method in asked.only:
            row = _method(place, method, asked.rounds)
            rows.append(row)
            print(
                f"{method:8} ours {row['ours_s']:8.1f} s, {row['ours_mb']:6.0f} MB;"
                f" plain torch {row['plain_s']:8.1f} s, of it SVD {row['svd_s']:8.1f} s,"
                f" {row['plain_mb']:6.0f} MB; {row['times']:.2f}x (goal {GOAL}x)",
                flush=True,
            )
    if asked.json:
        found = {"parameters": sizes.parameters, "layers": sizes.layers, "rows": rows}
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def _method(place: Path, method: str, rounds: int) -> dict[str, float | str]:
    """Measure one method in turn; the ratio is that of the medians."""
    config = place / f"{method}.yml"
    models = ", ".join(f"{{model: {name}}}" for name in NAMES[1:])
    config.write_text(
        f"merge_method: {method}\nbase_model: base\nmodels: [{models}]\ndtype: bfloat16\n"
    )
    ours, theirs, spent = [], [], []
    for _ in range(rounds):
        merge = ["-m", "nodes.cli", "merge", config.name, "ours", "--memory", MEMORY]
        ours.append(_run(place, [sys.executable, *merge, "--threads", "2"]))
        program = [sys.executable, plain.__file__, method, *NAMES, "theirs"]
        theirs.append(_run(place, program))
        spent.append(float((place / "command.log").read_text().split()[-1]))
    took, other = (statistics.median(r.wall_s for r in runs) for runs in (ours, theirs))
    return {
        "method": method,
        "ours_s": took,
        "ours_cpu_s": statistics.median(r.cpu_s for r in ours),
        "ours_mb": max(r.anonymous for r in ours) / 1e6,
        "plain_s": other,
        "plain_cpu_s": statistics.median(r.cpu_s for r in theirs),
        "plain_mb": max(r.anonymous for r in theirs) / 1e6,
        "svd_s": statistics.median(spent),
        "times": took / other,
    }


def _run(place: Path, command: list[str]) -> Ran:
    """Run a command that writes `ours` or `theirs`, which is removed afterwards."""
    try:
        return run(command, place)
    finally:
        for name in ("ours", "theirs"):
            shutil.rmtree(place / name, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
