"""`python -m benchmarks crowd`: a thousand real node cores in one run, and what it takes.

    python -m benchmarks crowd [--json] [--nodes 100 1000] [--seed 1]

Plays the story `crowd` (`simulations.stories.crowd`) in a process of its own for each size.
Owns what is measured: wall time, processor, events and the most memory that the process
had.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from simulations.cluster import Cluster
from simulations.runs import Run
from simulations.stories.crowd import Crowd


def main(argv: Sequence[str]) -> int:
    """Measure and print; what does not converge ends it with its error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks crowd")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    fresh = multiprocessing.get_context("spawn")  # its memory is its own
    rows = []
    for nodes in options.nodes:
        with ProcessPoolExecutor(1, mp_context=fresh) as pool:
            rows.append(pool.submit(measure, nodes, options.seed).result())
        if not options.json:
            print(" ".join(f"{name} {value}" for name, value in rows[-1].items()))
    if options.json:
        print(json.dumps({"rows": rows}, indent=1))
    return 0


def measure(nodes: int, seed: int) -> dict[str, Any]:
    """Return the figures of one run, whose promises held."""
    seen: list[Cluster] = []
    began, spent = time.perf_counter(), time.process_time()
    outcome = Run("crowd", seed, nodes).perform(watch=seen.append)
    took, spent = time.perf_counter() - began, time.process_time() - spent
    (crowd,) = seen
    assert isinstance(crowd, Crowd)
    return {
        "nodes": nodes,
        "seed": seed,
        "seconds": round(took, 1),
        "processor_seconds": round(spent, 1),
        "events": outcome.events,
        "events_a_processor_second": round(outcome.events / spent),
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "records": outcome.records,
        "visible": outcome.visible,
        "messages": outcome.messages,
        "blobs": outcome.blobs,
        "rounds_records": round(outcome.settled.record_rounds, 2),
        "rounds_contents": round(outcome.settled.rounds, 2),
        "injected": dict(outcome.injected),
        "most": crowd.most,
        "sets_computed": crowd.inserts.computed,
        "record_root": outcome.record_root,
        "model_digest": outcome.model_digest,
        "log_digest": outcome.log_digest,
    }
