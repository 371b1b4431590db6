"""`python -m benchmarks processes`: real nodes in processes of their own converge.

    python -m benchmarks processes [--json] [--nodes 20] [--records 10000] [--seconds 600]

Each has made its share of the records while no node ran; all know one of them, and the
others from its records. Owns what is measured. It ends by itself, and what it started.
"""

import argparse
import contextlib
import json
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nodes.home import STORE_FILE, open_home
from nodes.spaces import Spaces
from simulations.real.process import NodeProcess, end_in_order

from .making import Made, knows, make
from .network import isolate, loopback_bytes

POLL_S = 0.5
SETTLED_S = 3.0
"""So long no node learns anything new before the run is over: addresses still travel."""


def main(argv: Sequence[str]) -> int:
    """Measure, and print JSON or a table; 1 unless all nodes converged."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks processes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=600.0, help="give up after")
    options = parser.parse_args(argv)
    end_in_order()
    own_network = isolate()
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder), options.nodes - 1, options.records // options.nodes)
        found = measure(made, options.seconds)
    if not own_network:
        found["loopback_bytes"] = None
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        for name, value in found.items():
            print(f"{name:24} {value}")
    return 0 if found["converged"] else 1


def measure(made: Made, seconds: float) -> dict[str, Any]:
    """Run nodes on all homes until they hold the same; return the figures."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        first = NodeProcess(made.owner)
        stack.callback(first.stop)
        address = first.ready()
        nodes = [first]
        for path in made.members:
            knows(path, made, address)
            nodes.append(NodeProcess(path))
            stack.callback(nodes[-1].stop)
        for node in nodes[1:]:
            node.ready()
        started = time.monotonic()
        all_here = _await(made, nodes, started + seconds)
        figures = {
            "nodes": len(nodes),
            "records": made.records,
            "start_s": round(started - began, 1),
            "seconds": round(all_here - started, 1) if all_here else None,
            "processor_s": round(sum(node.cpu_s() for node in nodes), 1),
            "processor_s_most": round(max(node.cpu_s() for node in nodes), 1),
            "memory_mib_most": round(max(n.memory_mib("VmHWM") for n in nodes), 1),
            "descriptors_most": max(node.descriptors() for node in nodes),
            "loopback_bytes": loopback_bytes(),
        }
    roots = {_root(made, node.home) for node in nodes}
    return {**figures, "roots": len(roots), "converged": len(roots) == 1}


def _await(made: Made, nodes: Sequence[NodeProcess], end: float) -> float | None:
    """Wait until all hold the records, and nothing more comes; return when they did."""
    reached, last = None, -1
    while time.monotonic() < end:
        counts = [_count(node.home) for node in nodes]
        now = time.monotonic()
        if min(counts) < made.records or len(set(counts)) > 1 or counts[0] != last:
            reached, last = now, counts[0]
        elif reached is not None and now - reached > SETTLED_S:
            return reached
        time.sleep(POLL_S)
    return None


def _count(home: Path) -> int:
    """Return how many records a running home holds, without asking its node."""
    reading = sqlite3.connect(f"file:{home / STORE_FILE}?mode=ro", uri=True)
    with contextlib.closing(reading) as store:
        return int(store.execute("SELECT count(*) FROM records").fetchone()[0])


def _root(made: Made, home: Path) -> bytes:
    """Return the record root of a home on which no node runs any more."""
    with contextlib.closing(open_home(home, write=False)) as opened:
        return Spaces(opened.records, opened.blobs).opset(made.space).root
