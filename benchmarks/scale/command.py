"""`python -m benchmarks scale`: a set of a million records, in memory and on a disk.

    python -m benchmarks scale [--json] [--count 1000000] [--home DIR]

Real signed records in a real home, which is made anew, or kept at DIR for the next time:
that takes minutes. Each start is a process of its own. Owns the goals. Beside seconds on
the wall stand those of the processor: on a busy machine only these tell anything.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from crdtmerge.trie import Trie

from .making import make_home

COUNT: Final = 1_000_000
INSERTS: Final = 2_000
GOALS: Final = {"build_s": 2.0, "insert_us": 50.0, "cold_start_s": 3.0}


def main(argv: Sequence[str]) -> int:
    """Measure, and print JSON or lines; the status does not say whether goals are met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=COUNT, help="records of the home")
    parser.add_argument("--home", type=Path, help="where the home is, or is to be made")
    options = parser.parse_args(argv)
    found: dict[str, Any] = {"count": options.count, "trie": tries(options.count)}
    with _place(options.home) as home:
        if not home.exists():
            found["making"] = _timed(lambda: make_home(home, options.count))
        found["start"] = _child("starting", home)
        found["look"] = _child("looking", home)
        found["append"] = _child("adding", home)
    found["goals"] = GOALS
    print(json.dumps(found, indent=1) if options.json else "\n".join(_lines(found)))
    return 0


def tries(count: int) -> dict[str, Any]:
    """Measure tries in memory: a build with its root, and single inserts with theirs."""
    rng = random.Random(1)
    ids = [rng.randbytes(32) for _ in range(count)]
    tries: list[Trie] = []
    built = _timed(lambda: tries.append(Trie.build(ids)))
    rooted = _timed(lambda: tries[0].root)
    fresh = [rng.randbytes(32) for _ in range(INSERTS)]

    def insert(*, root: bool) -> None:
        trie = tries[0]
        for item in fresh:
            trie = trie.insert([item])
            _ = root and trie.root

    single = _timed(lambda: insert(root=False))
    with_root = _timed(lambda: insert(root=True))
    return {
        "build": built,
        "root": rooted,
        "insert_us": {unit: s * 1e6 / INSERTS for unit, s in single.items()},
        "insert_and_root_us": {
            unit: s * 1e6 / INSERTS for unit, s in with_root.items()
        },
    }


def _timed(work: Callable[[], object]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": round(time.perf_counter() - wall, 3),
        "processor_seconds": round(time.process_time() - cpu, 3),
    }


@contextmanager
def _place(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "home"


def _child(name: str, home: Path) -> Any:
    """Run a module beside this one in a process of its own; return what it prints."""
    command = [sys.executable, "-m", f"benchmarks.scale.{name}", str(home)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    for part in ("trie", "making", "start", "look", "append"):
        for name, value in found.get(part, {}).items():
            yield f"{part:8}{name:28}{value}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
