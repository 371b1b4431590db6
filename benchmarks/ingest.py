"""`contribute` of a real folder against what the disk and the cores can do, in one run.

    python -m benchmarks ingest [--json] [--gib 5] [--folder DIR] [--before TREE]

Writes a base and a fine-tune (sharded safetensors, bfloat16), contributes the fine-tune to
a new home, and removes everything. In the same run: reading the files once from the disk,
writing and syncing the same bytes at once, a plain copy of them, hashing. `--before` names
a checkout of an older commit, which the same worker (`ingest_worker`) measures.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from benchmarks.ingest_models import write_models
from crdtmerge.digest import CHUNK_BYTES, Domain

BLOCK: Final = 8 << 20
SETTLE_S: Final = 5.0
HERE: Final = Path(__file__).parent


def main(argv: Sequence[str]) -> int:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ingest")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--gib", type=float, default=5.0, help="size of the model")
    parser.add_argument(
        "--folder", type=Path, help="where to write; needs 4 times that"
    )
    parser.add_argument("--before", type=Path, help="a checkout of an older commit")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="ingest-") as scratch:
        found = measure(Path(scratch), options)
    print(json.dumps(found, indent=1) if options.json else _table(found))
    return 0


def measure(scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    base, tune = write_models(scratch, int(options.gib * 2**30))
    files = sorted(tune.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    found: dict[str, Any] = {"bytes": size, "files": len(files), "rounds": []}
    trees = {"after": HERE.parent}
    if options.before:
        trees = {"before": options.before.resolve(), **trees}
    for _ in range(options.rounds):
        row: dict[str, Any] = {}
        drop_cache(files)
        row["read_cold_s"] = seconds(lambda: read_all(files))
        row["read_warm_s"] = seconds(lambda: read_all(files))
        row["hash_s"] = seconds(lambda: hash_all(files))
        settle()
        row["write_fsync_s"] = seconds(lambda: write_all(scratch / "plain", files))
        (scratch / "plain").unlink()
        settle()
        drop_cache(files)
        row["copy_fsync_s"] = seconds(lambda: copy_all(scratch / "plain", files))
        (scratch / "plain").unlink()
        for name, tree in trees.items():
            row[name] = contribute(tree, base, tune, "copy")
            row[f"{name}_reference"] = contribute(tree, base, tune, "reference")
        found["rounds"].append(row)
    found["summary"] = summary(found, list(trees))
    return found


def summary(found: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return medians, as rates and shares."""
    rounds, size = found["rounds"], found["bytes"]

    def middle(of: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(of(row) for row in rounds)

    write = middle(lambda row: row["write_fsync_s"])
    told: dict[str, Any] = {
        "read_cold_gb_s": round(size / 1e9 / middle(lambda r: r["read_cold_s"]), 3),
        "read_warm_gb_s": round(size / 1e9 / middle(lambda r: r["read_warm_s"]), 3),
        "hash_gb_s": round(size / 1e9 / middle(lambda r: r["hash_s"]), 3),
        "write_fsync_gb_s": round(size / 1e9 / write, 3),
        "copy_fsync_gb_s": round(size / 1e9 / middle(lambda r: r["copy_fsync_s"]), 3),
    }
    for name in names:
        for kind in (name, f"{name}_reference"):
            took = middle(lambda row, kind=kind: row[kind]["seconds"])  # type: ignore[misc]
            last = rounds[-1][kind]
            told[kind] = {
                "seconds": round(took, 2),
                "gb_s": round(size / 1e9 / took, 3),
                "read_per_byte": round(last["read"] / size, 3),
                "written_per_byte": round(last["written"] / size, 3),
                "peak_mib": round(last["peak"] / 2**20, 1),
                "processor_s": round(last["processor_s"], 2),
            }
        # Shares of one round each: what else the machine does changes from one to the next.
        for limit in ("write", "copy"):
            share = middle(
                lambda row, name=name, limit=limit: (  # type: ignore[misc]
                    row[f"{limit}_fsync_s"] / row[name]["seconds"]
                )
            )
            told[name][f"share_of_{limit}"] = round(share, 3)
    return told


def contribute(tree: Path, base: Path, tune: Path, kind: str) -> dict[str, Any]:
    """Contribute once with the code in `tree`, in a process of its own."""
    settle()
    drop_cache(sorted(tune.glob("*.safetensors")))
    home = tune.parent / "home"
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, HERE / "ingest_worker.py", home, base, tune, kind],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    shutil.rmtree(home)
    os.sync()
    facts: dict[str, Any] = json.loads(done.stdout)
    assert facts["tree"] == str(tree), "another tree was imported"
    return facts


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def settle() -> None:
    """Let the system come to rest: memory that was just freed is cheaper than other.

    A virtual machine gives free pages back to its host after some seconds; whoever writes
    next pays for them, up to ten times what a write into pages at hand costs.
    """
    os.sync()
    time.sleep(SETTLE_S)


def drop_cache(files: Sequence[Path]) -> None:
    """Take files out of the page cache."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read_all(files: Sequence[Path]) -> None:
    """Read files once, in blocks."""
    buffer = bytearray(BLOCK)
    for file in files:
        with file.open("rb", buffering=0) as source:
            while source.readinto(buffer):
                pass


def hash_all(files: Sequence[Path]) -> None:
    """Hash files by chunks on one core, from the page cache."""
    for file in files:
        with file.open("rb", buffering=0) as source:
            while data := source.read(CHUNK_BYTES):
                blake3(data, derive_key_context=Domain.CHUNK).digest()


def write_all(target: Path, files: Sequence[Path]) -> None:
    """Write as many bytes in one file, and sync it, as `dd conv=fsync` does."""
    block: NDArray[np.uint8] = np.random.default_rng(1).integers(
        0, 256, BLOCK, dtype=np.uint8
    )
    with target.open("wb", buffering=0) as out:
        for _ in range(sum(file.stat().st_size for file in files) // BLOCK):
            out.write(block.data)
        os.fsync(out.fileno())


def copy_all(target: Path, files: Sequence[Path]) -> None:
    """Copy the files into one, block by block, and sync it: both directions at once."""
    buffer = memoryview(bytearray(BLOCK))
    with target.open("wb", buffering=0) as out:
        for file in files:
            with file.open("rb", buffering=0) as source:
                while count := source.readinto(buffer):
                    out.write(buffer[:count])
        os.fsync(out.fileno())


def _table(found: dict[str, Any]) -> str:
    lines = [f"{found['bytes'] / 1e9:.2f} GB in {found['files']} files"]
    for name, value in found["summary"].items():
        lines.append(f"{name:20} {value}")
    lines.append(f"peak of this process: {resource.getrusage(0).ru_maxrss >> 10} MiB")
    return "\n".join(lines)
