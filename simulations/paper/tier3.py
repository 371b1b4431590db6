"""Tier 3: many replicas, over messages; the paper's experiments, then ours with faults.

Owns which are run at which size, and how they are spread over processes. Does not own the
experiments (`crowd`, `smaller`, `hostile`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import Final

from crdtmerge.strategies import make_recipe

from . import published
from .catalogue import catalogue, not_run
from .crowd import Ordering, run_ordering
from .hostile import faulty, lied_to, news, optimum
from .replicas import Traffic
from .smaller import SIZES, STRATEGY, overhead, partition, scaling, sweep_one
from .timing import Tell, Watch, in_processes, tell

Facts = dict[str, object]


@dataclass(frozen=True, slots=True)
class Size:
    """How large the experiments are; `FULL` is the paper's."""

    nodes: int
    orderings: int
    side: int
    islands: int
    sweep: tuple[str, ...]
    sizes: tuple[int, ...]
    faulty: tuple[int, ...]
    news: tuple[int, ...]
    liars: int


FULL: Final = Size(100, 20, 512, 10, (), SIZES, (8, 16, 32), (1000,), 12)
QUICK: Final = Size(8, 2, 16, 2, ("slerp", "ties", "pma"), (2, 5), (6,), (8,), 6)
EACH: Final = 10
"""Nodes of one island, and of the sweep."""


def run(size: Size, processes: int, say: Tell) -> Facts:
    """Return all figures of tier 3."""
    facts = _crowd(size, processes, say)
    facts["partition"] = partition(size.islands, EACH) | {
        "paper": dict(published.PARTITION)
    }
    say("tier 3: partition")
    facts["sweep"] = _sweep(size, processes, say)
    facts["scaling"] = {
        "rows": scaling(size.sizes),
        "paper_ms": {str(n): ms for n, ms in published.SCALING.items()},
    }
    say("tier 3: scaling")
    facts["overhead"] = overhead() | {"paper": dict(published.OVERHEAD)}
    return facts | _hostile(size, processes, say)


def _hostile(size: Size, processes: int, say: Tell) -> Facts:
    """Run what is ours beyond the paper, the longest first."""
    jobs = [("news", n) for n in size.news] + [("faulty", n) for n in size.faulty]
    jobs.sort(key=lambda job: -job[1])
    found = list(in_processes(_hostile_one, jobs, processes))
    told: dict[str, list[Facts]] = {"news": [], "faulty": []}
    for (name, _), facts in zip(jobs[::-1], found[::-1], strict=True):
        told[name].append(facts)
    return {**told, "liars": lied_to(size.liars, 1, say)}


def _hostile_one(job: tuple[str, int]) -> Facts:
    name, nodes = job
    found = (news if name == "news" else faulty)(nodes, 1)
    tell(f"tier 3: {name}, {nodes} nodes: agreed")
    return found


# --- the crowd ----------------------------------------------------------------------------


def _crowd(size: Size, processes: int, say: Tell) -> Facts:
    """Run all orderings; each process runs whole ones."""
    say(f"tier 3: {size.nodes} nodes, {size.orderings} orderings")
    watch = Watch()
    work = partial(one_ordering, size.nodes, size.side)
    found = list(in_processes(work, range(size.orderings), processes))
    seconds = watch.lap()
    models = {model for ordering in found for model in ordering.models}
    traffic = Traffic()
    for ordering in found:
        traffic.add(ordering.traffic)
    nodes, orders = size.nodes, len(found)
    return {
        "nodes": nodes,
        "orderings": orders,
        "side": size.side,
        "strategy": STRATEGY,
        "distinct_models": len(models),
        "models_compared": sum(len(ordering.models) for ordering in found),
        "most_roots_in_an_ordering": max(ordering.roots for ordering in found),
        "seconds": round(seconds, 1),
        "processes": processes,
        "gossip_ms": _mean_ms([o.gossip_s for o in found]),
        "resolve_ms": _mean_ms([o.resolve_s for o in found]),
        "resolve_ms_per_node": round(_mean_ms([o.resolve_s for o in found]) / nodes, 1),
        "traffic": traffic.facts(),
        "per_node_and_ordering": {
            "messages": round(traffic.messages / nodes / orders, 1),
            "message_bytes": round(traffic.message_bytes / nodes / orders),
            "blob_bytes": round(traffic.blob_bytes / nodes / orders),
        },
        "pushes_until_equal": [ordering.until_equal for ordering in found],
        "optimum_rounds": round(optimum(nodes), 2),
        "rounds_until_equal": round(
            mean(ordering.until_equal for ordering in found) / nodes, 2
        ),
        "paper": dict(published.CROWD),
    }


def _mean_ms(seconds: Sequence[float]) -> float:
    return round(mean(seconds) * 1e3, 1)


def one_ordering(nodes: int, side: int, number: int) -> Ordering:
    """Run one ordering in a process of its own."""
    return run_ordering(make_recipe(STRATEGY, {}), nodes, side, number, tell)


def _sweep(size: Size, processes: int, say: Tell) -> Facts:
    names = [choice.strategy.name for choice in catalogue(size.sweep)]
    rows = list(in_processes(sweep_one, names, processes))
    say(f"tier 3: {len(rows)} strategies, {EACH} nodes each")
    return {
        "nodes": EACH,
        "strategies": len(rows),
        "all_equal": sum(row["distinct_models"] == 1 for row in rows),
        "rows": rows,
        "not_run": not_run(),
        "paper": dict(published.SWEEP),
    }
