"""One contribution in a process of its own, with the code that PYTHONPATH names.

    python ingest_worker.py HOME BASE TUNE copy|reference

Uses only what commit 91f31e8 has too, so that both are measured alike. Prints JSON.
"""

import asyncio
import inspect
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import crdtmerge
from nodes.home import create_home
from nodes.operations.verbs import Operations
from nodes.spaces import Spaces


def counters() -> dict[str, int]:
    """Return what the system counts of this process."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def memory(key: str) -> int:
    """Return a size of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(key))
    return int(line.split()[1]) << 10


def main(argv: list[str]) -> None:
    """Make a home and a space, then measure one contribution."""
    path, base, tune = (Path(word) for word in argv[:3])
    home = create_home(
        path, author_seed=b"a" * 32, node_seed=b"n" * 32, generation=b"g" * 16
    )
    with home:
        spaces = Spaces(home.records, home.blobs)
        given: dict[str, Any] = {
            "entropy": os.urandom,
            "run": asyncio.run,
            "live": None,
        }
        if "clock" in inspect.signature(Operations).parameters:
            given["clock"] = time.time
        verbs = Operations(home, spaces, **given)

        def call(verb: str, **arguments: object) -> dict[str, Any]:
            asked = {
                k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()
            }
            return verbs.call(verb, asked, lambda _: None)

        call("space_create", name="bench", base=base, strategy="linear")
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM counts from here
        at_start, before = memory("VmRSS"), counters()
        start, worked = time.perf_counter(), time.process_time()
        by_reference = argv[3] == "reference"
        answer = call("contribute", path=tune, reference=by_reference, uninspected=True)
        took, worked = time.perf_counter() - start, time.process_time() - worked
        after = counters()
    facts = {
        "tree": str(Path(crdtmerge.__file__).parents[1]),
        "content": answer["content"],
        "seconds": took,
        "processor_s": worked,
        "read": after["rchar"] - before["rchar"],
        "read_from_disk": after["read_bytes"] - before["read_bytes"],
        "written": after["wchar"] - before["wchar"],
        "peak": memory("VmHWM") - at_start,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1:])
