"""Tier 3: many replicas, over messages; the paper's experiments, then ours with faults.

Owns which are run at which size, and how they are spread over processes. Does not own the
experiments (`crowd`, `smaller`, `hostile`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean
from typing import Final

from crdtmerge.strategies import make_recipe

from . import published
from .catalogue import catalogue, not_run
from .crowd import Ordering, run_ordering
from .hostile import LIARS, faulty, lied_to, news, optimum
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
SEED: Final = 1
"""Of the worlds in which faults are drawn."""
EACH: Final = 10
"""Nodes of one island, and of the sweep."""


def run(size: Size, processes: int, say: Tell, orderings: int = 0) -> Facts:
    """Return all figures of tier 3; `orderings` in place of the size's own, if any."""
    if orderings:
        size = replace(size, orderings=orderings)
    facts = _crowd(size, processes, say)
    jobs = _jobs(size)
    found: dict[str, list[Facts]] = {name: [] for name, _ in jobs}
    done = in_processes(_job, jobs, processes)
    for (name, _), result in zip(jobs, done, strict=True):
        found[name].append(result)
    rows = found["sweep"]
    return {
        **facts,
        "partition": found["partition"][0] | {"paper": dict(published.PARTITION)},
        "sweep": {
            "nodes": EACH,
            "strategies": len(rows),
            "all_equal": sum(row["distinct_models"] == 1 for row in rows),
            "rows": rows,
            "not_run": not_run(),
            "paper": dict(published.SWEEP),
        },
        "scaling": {
            "rows": found["scaling"][::-1],
            "paper_ms": {str(n): ms for n, ms in published.SCALING.items()},
        },
        "overhead": found["overhead"][0] | {"paper": dict(published.OVERHEAD)},
        "faulty": found["faulty"][::-1],
        "news": found["news"],
        "liars": found["liars"],
    }


# --- beside the crowd ---------------------------------------------------------------------

Job = tuple[str, tuple[int | str, ...]]

EXPERIMENTS: Final[Mapping[str, Callable[..., Facts]]] = {
    "news": news,
    "faulty": faulty,
    "liars": lied_to,
    "partition": partition,
    "scaling": scaling,
    "sweep": sweep_one,
    "overhead": overhead,
}


def _jobs(size: Size) -> list[Job]:
    """Return all experiments but the crowd, those that take longest first."""
    return [
        *(("news", (nodes, SEED)) for nodes in size.news),
        *(("faulty", (nodes, SEED)) for nodes in size.faulty[::-1]),
        ("partition", (size.islands, EACH)),
        *(("scaling", (nodes,)) for nodes in size.sizes[::-1]),
        *(("liars", (name, size.liars, SEED)) for name in LIARS),
        *(("sweep", (choice.strategy.name, EACH)) for choice in catalogue(size.sweep)),
        ("overhead", ()),
    ]


def _job(job: Job) -> Facts:
    name, arguments = job
    found = EXPERIMENTS[name](*arguments)
    tell(f"tier 3: {name} {' '.join(map(str, arguments))}")
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
        "gossip_cpu_ms": _mean_ms([o.gossip_cpu_s for o in found]),
        "resolve_ms": _mean_ms([o.resolve_s for o in found]),
        "resolve_cpu_ms": _mean_ms([o.resolve_cpu_s for o in found]),
        "cpu_s": round(sum(o.gossip_cpu_s + o.resolve_cpu_s for o in found), 1),
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
