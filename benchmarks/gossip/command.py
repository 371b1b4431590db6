"""`python -m benchmarks gossip`: in how many gossip periods news is everywhere.

    python -m benchmarks gossip [--json] [--nodes 10 100 1000] [--loss 0 0.3]
                                [--records 100] [--seed 1] [--processes 2]

A round is one gossip period: a node begins one exchange in it. Time is counted from the
commit of a record at one node to the moment at which the last node has it, in periods, and
not rounded down; messages take 5 to 80 ms each. Two rows are measured each: as nodes are
(`push-pull`), and with rumours switched off (`pull`), where news waits for an exchange.
Owns what is measured and printed, not the world (`simulations.town`).
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from nodes.gossip import RUMOUR_FANOUT
from simulations.town import Town

IDLE_TICKS: Final = 30
GOALS: Final = {(100, 0.0): 8.0, (1000, 0.0): 10.0}
"""Most periods until the slowest of a hundred records is everywhere, by nodes and loss."""
MODES: Final = {"push-pull": RUMOUR_FANOUT, "pull": 0}


def main(argv: Sequence[str]) -> int:
    """Measure and print; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gossip")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--loss", type=float, nargs="+", default=[0.0, 0.3])
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(argv)
    cases = [
        (nodes, loss, mode, options.records, options.seed)
        for nodes in sorted(options.nodes, reverse=True)
        for loss in options.loss
        for mode in MODES
    ]
    with ProcessPoolExecutor(options.processes) as pool:
        rows = sorted(pool.map(measure, cases), key=_place)
    if options.json:
        print(json.dumps({"rows": rows}, indent=1))
    else:
        _print(rows)
    return 0 if all(row["met"] is not False for row in rows) else 1


def _place(row: dict[str, Any]) -> tuple[int, float, str]:
    return row["nodes"], row["loss"], row["mode"]


def measure(case: tuple[int, float, str, int, int]) -> dict[str, Any]:
    """Return the figures of one size, loss and mode."""
    nodes, loss, mode, records, seed = case
    began = time.perf_counter()
    town = Town(nodes, loss, MODES[mode], seed)
    idle_messages, idle_bytes = town.idle(IDLE_TICKS)
    spreads = [town.spread() for _ in range(records)]
    rounds = sorted(spread.all for spread in spreads)
    p99 = rounds[math.ceil(0.99 * len(rounds)) - 1]
    goal = GOALS.get((nodes, loss)) if mode == "push-pull" else None
    degrees = [len(m.node.sessions) for m in town.machines if m.node is not None]
    return {
        "nodes": nodes,
        "loss": loss,
        "mode": mode,
        "records": records,
        "rounds_mean": round(statistics.mean(rounds), 2),
        "rounds_p99": round(p99, 2),
        "rounds_max": round(rounds[-1], 2),
        "rounds_half_of_nodes": round(statistics.mean(s.half for s in spreads), 2),
        "rounds_99_of_100_nodes": round(statistics.mean(s.most for s in spreads), 2),
        "goal_p99": goal,
        "met": None if goal is None else p99 <= goal,
        "messages_a_node_a_record": _share(spreads, "messages", idle_messages, nodes),
        "bytes_a_node_a_record": _share(spreads, "bytes", idle_bytes, nodes),
        "idle_messages_a_node_a_period": round(idle_messages, 3),
        "idle_bytes_a_node_a_period": round(idle_bytes, 1),
        "streams_mean": round(statistics.mean(degrees), 1),
        "streams_max": max(degrees),
        "log": town.world.log_digest[:16],
        "seconds": round(time.perf_counter() - began, 1),
    }


def _share(spreads: Sequence[Any], what: str, idle: float, nodes: int) -> float:
    """Return what a record took of each node, beyond what idling takes meanwhile."""
    total: float = sum(getattr(spread, what) for spread in spreads) / nodes
    periods = sum(spread.periods for spread in spreads)
    beyond: float = (total - idle * periods) / len(spreads)
    return round(beyond, 2)


def _print(rows: Sequence[dict[str, Any]]) -> None:
    print(
        f"{'nodes':>5} {'loss':>4} {'mode':9} {'mean':>5} {'p99':>5} {'max':>5} "
        f"{'msgs':>6} {'bytes':>7} {'idle B/s':>8} {'streams':>7}"
    )
    for row in rows:
        print(
            f"{row['nodes']:5} {row['loss']:4} {row['mode']:9} {row['rounds_mean']:5}"
            f" {row['rounds_p99']:5} {row['rounds_max']:5}"
            f" {row['messages_a_node_a_record']:6} {row['bytes_a_node_a_record']:7}"
            f" {row['idle_bytes_a_node_a_period']:8} {row['streams_mean']:7}"
        )
