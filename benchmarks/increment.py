"""`python -m benchmarks increment`: one contribution more, with kept sums and without.

Owns the models, the commands and their figures. Does not own what they do. All are whole
commands in processes of their own, on a home whose contributions lie in the user's files;
processor time is that of the process, user and system.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from crdtmerge.formats.header import lay_out

SIDE: Final = 2048
"""Each tensor is a square of BF16 this wide: 8 MiB."""
TENSOR_MIB: Final = 2 * SIDE * SIDE >> 20
POOL: Final = np.random.default_rng(0).standard_normal(2 * SIDE * SIDE, np.float32)
"""Normal numbers, of which each tensor takes a stretch that no other has."""


def main(argv: Sequence[str]) -> int:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks increment")
    parser.add_argument("--mib", type=int, default=128, help="size of one model")
    parser.add_argument("--contributions", type=int, default=64)
    parser.add_argument("--strategy", default="linear")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="increment-") as folder:
        found = _measure(Path(folder), asked)
    if asked.json:
        print(json.dumps(found, indent=1))
        return 0
    for name in ("first", "one more", "fresh"):
        line = found[name]
        print(
            f"{name:9} {line['read_bytes'] / 2**20:9.1f} MiB read,"
            f" {line['sums']['written_bytes'] / 2**20:7.1f} of sums written,"
            f" {line['tasks']:4} tasks, {line['cpu_s']:6.2f} s processor,"
            f" {line['wall_s']:6.2f} s"
        )
    print(f"bytes read, of fresh: {found['share']:.4f}; equal: {found['equal']}")
    return 0


def _measure(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    tensors = max(1, asked.mib // TENSOR_MIB)
    home, base = folder / "home", _model(folder / "base", 0, tensors)
    _command(home, "init", "--no-passphrase")
    _command(
        home, "space", "create", "bench", "--base", str(base), "--strategy",
        asked.strategy,
    )  # fmt: skip
    tunes = [
        _model(folder / f"tune{n}", n, tensors)
        for n in range(1, asked.contributions + 2)
    ]
    for tune in tunes[:-1]:
        _command(home, "contribute", str(tune), "--reference", "--no-inspect")
    found: dict[str, Any] = {"first": _resolve(home, folder / "first")}
    _command(home, "contribute", str(tunes[-1]), "--reference", "--no-inspect")
    found["one more"] = _resolve(home, folder / "more")
    (home / "memo.sqlite").unlink()
    found["fresh"] = _resolve(home, folder / "fresh", "--sums", "never")
    more, fresh = found["one more"], found["fresh"]
    found["share"] = more["read_bytes"] / fresh["read_bytes"]
    found["cpu_ratio"] = more["cpu_s"] / fresh["cpu_s"]
    found["wall_ratio"] = more["wall_s"] / fresh["wall_s"]
    found["equal"] = more["model_digest"] == fresh["model_digest"]
    return found


def _resolve(home: Path, out: Path, *more: str) -> dict[str, Any]:
    """Resolve; return what the command says, and what it took."""
    answer, cpu, wall = _command(home, "resolve", "--out", str(out), *more)
    shutil.rmtree(out)
    keys = ("read_bytes", "read", "computed", "tasks", "sums", "model_digest")
    return {**{key: answer[key] for key in keys}, "cpu_s": cpu, "wall_s": wall}


def _command(home: Path, *words: str) -> tuple[Any, float, float]:
    """Run one command; return its answer, processor seconds and wall seconds."""
    arguments = [sys.executable, "-m", "nodes.cli", *words, "--home", str(home)]
    arguments += ["--json"]
    said = home.with_suffix(".json")
    begun = time.perf_counter()
    actions = [
        (
            os.POSIX_SPAWN_OPEN,
            1,
            str(said),
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
            0o600,
        )
    ]
    child = os.posix_spawn(
        sys.executable, arguments, dict(os.environ), file_actions=actions
    )
    _, status, used = os.wait4(child, 0)
    wall = time.perf_counter() - begun
    if status:
        raise SystemExit(f"{' '.join(words)} failed")
    return json.loads(said.read_text()), used.ru_utime + used.ru_stime, wall


def _model(folder: Path, seed: int, tensors: int) -> Path:
    """Write a model of BF16 squares; fine-tunes differ from the base by a small noise."""
    entries = {}
    count = SIDE * SIDE
    for number in range(tensors):
        items = POOL[number : number + count] / 32
        if seed:
            start = (seed * tensors + number) * 997 % count
            items += POOL[start : start + count] / 1024
        bits = items.reshape(SIDE, SIDE).view(np.uint32)
        entries[f"layers.{number}.weight"] = ((bits + 0x8000) >> 16).astype("<u2")
    laid = lay_out((name, "BF16", (SIDE, SIDE)) for name in entries)
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(laid.header)
        for name in sorted(laid.offsets, key=laid.offsets.__getitem__):
            file.write(entries[name].data)
    return folder
