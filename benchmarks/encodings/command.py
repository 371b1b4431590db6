"""`python -m benchmarks encodings`: options, the run, and the table.

Owns the command line and the form of the result. Exit status 0.
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.encodings.bases import Base, find_base, pairs
from benchmarks.encodings.measuring import measure
from benchmarks.encodings.training import CASES, PRETRAINING_RATE, train

STEPS: Final = 200
REPEATS: Final = 3
WAYS: Final = ("PLANES", "XOR", "DIFFERENCE", "GROUPED", "chosen", "chosen, small")


def main(argv: Sequence[str]) -> int:
    """Train, measure, print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks encodings")
    add = parser.add_argument
    add("--json", action="store_true", help="the whole result instead of the table")
    add("--base", type=Path, metavar="DIR", help="a model of transformers to tune")
    add("--steps", type=int, default=STEPS, help=f"of training, default {STEPS}")
    add("--repeats", type=int, default=REPEATS, help="of each measurement")
    add("--only", action="append", metavar="TEXT", help="cases whose name has it")
    options = parser.parse_args(argv)
    base = find_base(options.base)
    document = run(base, options.steps, options.repeats, options.only)
    if options.json:
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        sys.stdout.write(render(document))
    return 0


def run(
    base: Base, steps: int, repeats: int, only: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the result of every case that is asked for."""
    text = pairs()
    if not base.pretrained:
        _tell(f"training a base of our own, {5 * steps} steps")
        train(base.model, base, text, rate=PRETRAINING_RATE, steps=5 * steps, seed=0)
    found = []
    for case in CASES:
        if only and not any(word in case.name for word in only):
            continue
        _tell(f"training: {case.name}, {steps} steps")
        tuned = case.make(case, base, text, steps)
        _tell(f"measuring: {case.name}")
        measured = measure(tuned, repeats)
        found.append({"case": case.name, "rate": case.rate, **measured})
    return {
        "format": 1,
        "base": base.name,
        "steps": steps,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": version("torch"),
        "threads": torch.get_num_threads(),
        "cases": found,
    }


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def render(document: dict[str, Any]) -> str:
    """Return the tables as the documents have them."""
    base, steps = document["base"], document["steps"]
    lines = [
        f"Bytes saved of fine-tunes of {base}, {steps} steps each:",
        "",
        f"| fine-tune | raw MB | zstd | dedup | {' | '.join(WAYS)} |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for case in document["cases"]:
        raw, ways = case["raw_bytes"], case["ways"]
        cells = [f"{raw / 1e6:.1f}"]
        cells += [_share(1 - case[key] / raw) for key in ("zstd_bytes", "dedup_bytes")]
        cells += [_share(ways[name]["saved"]) if name in ways else "-" for name in WAYS]
        lines.append(f"| {case['case']} | {' | '.join(cells)} |")
    lines += [
        "",
        "Speed on one core, raw GB/s encoded / decoded, and what is saved without the",
        "tables of embeddings, most rows of which no step of training touched:",
        "",
        "| fine-tune | chosen | chosen, small | saved of other layers |",
        "|---|--:|--:|--:|",
    ]
    for case in document["cases"]:
        ways = case["ways"]
        cells = [_speeds(ways[name]) for name in ("chosen", "chosen, small")]
        layers = case["layers_raw_bytes"]
        saved = _share(1 - case["layers_bytes"] / layers) if layers else "-"
        lines.append(f"| {case['case']} | {' | '.join(cells)} | {saved} |")
    return "\n".join(lines) + "\n"


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


def _speeds(way: dict[str, float]) -> str:
    return f"{way['encode_gb_per_s']:.2f} / {way['decode_gb_per_s']:.2f}"
