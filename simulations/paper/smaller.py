"""Tier 3 beside the crowd: a partition, every strategy, growing numbers, and overhead.

Owns these four experiments as the paper defines them, over real messages. Does not own an
exchange (`replicas`).
"""

import tracemalloc
from collections.abc import Callable
from statistics import median
from typing import Final

from crdtmerge.resolve.plan import tensor_seed
from crdtmerge.strategies import make_recipe
from crdtmerge.trie import Trie

from .catalogue import catalogue
from .crowd import all_pairs, gossip
from .replicas import Traffic, push
from .spaces import TENSOR, Founded, bytes_digest, contributed
from .timing import Watch

SIDE: Final = 64
STRATEGY: Final = "slerp"
SIZES: Final = (2, 5, 10, 20, 30, 40, 50)
ROUNDS: Final = 200

Facts = dict[str, object]


def partition(islands: int, each: int) -> Facts:
    """Let islands converge apart, then let all exchange with all."""
    founded = contributed(make_recipe(STRATEGY, {}), islands * each, SIDE)
    groups = [range(k * each, (k + 1) * each) for k in range(islands)]
    apart, healed, watch = Traffic(), Traffic(), Watch()
    for number, group in enumerate(groups):
        for i, j in all_pairs(each, f"island {number}"):
            push(founded.peers[group[i]], founded.peers[group[j]], founded.space, apart)
    apart_s, apart_cpu_s = watch.lap(), watch.cpu
    before = [{_model(founded, k) for k in group} for group in groups]
    watch.lap()
    gossip(founded, all_pairs(islands * each, "heal"), healed)
    heal_s, heal_cpu_s = watch.lap(), watch.cpu
    after = [_model(founded, k) for k in range(islands * each)]
    return {
        "nodes": islands * each,
        "islands": islands,
        "side": SIDE,
        "agreed_inside": sum(len(models) == 1 for models in before),
        "distinct_apart": len(set[str]().union(*before)),
        "distinct_after": len(set(after)),
        "equal_after": max(after.count(model) for model in set(after)),
        "apart_ms": round(apart_s * 1e3, 1),
        "apart_cpu_ms": round(apart_cpu_s * 1e3, 1),
        "heal_ms": round(heal_s * 1e3, 1),
        "heal_cpu_ms": round(heal_cpu_s * 1e3, 1),
        "heal_traffic": healed.facts(),
    }


def _model(founded: Founded, number: int) -> str:
    return bytes_digest(founded.resolve(founded.peers[number]))


def sweep_one(name: str, nodes: int = 10) -> Facts:
    """Let ten replicas exchange and resolve under one strategy."""
    (choice,) = catalogue((name,))
    founded = contributed(choice.recipe(nodes), nodes, SIDE)
    traffic, watch = Traffic(), Watch()
    gossip(founded, all_pairs(nodes, name), traffic)
    gossip_s = watch.lap()
    first = _model(founded, 0)
    watch.lap()  # compiling kernels, once in the life of a process, is not resolving
    models = [_model(founded, k) for k in range(nodes)]
    return {
        "strategy": choice.name,
        "paper": list(choice.papers),
        "distinct_models": len({first, *models}),
        "gossip_ms": round(gossip_s * 1e3, 1),
        "resolve_ms": round(watch.lap() * 1e3, 1),
        "resolve_cpu_ms": round(watch.cpu * 1e3, 1),
    }


def scaling(nodes: int) -> Facts:
    """Measure all-pairs gossip of so many replicas."""
    founded = contributed(make_recipe(STRATEGY, {}), nodes, SIDE)
    traffic, watch = Traffic(), Watch()
    until = gossip(founded, all_pairs(nodes, f"scaling {nodes}"), traffic)
    spent = watch.lap(), watch.cpu
    models = {_model(founded, k) for k in range(nodes)}
    return {
        "nodes": nodes,
        "gossip_ms": round(spent[0] * 1e3, 1),
        "gossip_cpu_ms": round(spent[1] * 1e3, 1),
        **traffic.facts(),
        "until_equal": until,
        "distinct_models": len(models),
    }


def overhead(count: int = 16, rounds: int = ROUNDS) -> Facts:
    """Measure what resolve does before tensors: order, visible root, seed."""
    recipe = make_recipe("dare_ties", {})
    founded = contributed(recipe, count, 4)
    owner = founded.peers[0]
    gossip(founded, [(k, 0) for k in range(1, count)], Traffic())
    visible = list(owner.spaces.view(founded.space).visible)
    assert len(visible) == count

    def work() -> tuple[object, ...]:
        ordered = sorted(visible, key=lambda item: item.content)
        trie = Trie.build(item.leaf for item in ordered)
        return (
            ordered,
            trie,
            trie.root,
            tensor_seed(recipe, TENSOR, [v.content for v in ordered]),
        )

    spans = []
    for _ in range(rounds):
        watch = Watch()
        work()
        spans.append(watch.lap())
    kept, peak = _traced(work)
    return {
        "contributions": count,
        "ms": round(median(spans) * 1e3, 4),
        "bytes": kept,
        "peak_bytes": peak,
        "rounds": rounds,
    }


def _traced(work: Callable[[], tuple[object, ...]]) -> tuple[int, int]:
    """Return the bytes that what `work` makes takes, and the most it had meanwhile.

    The most counts the encoder's own buffer, which is 256 KiB whatever it encodes.
    """
    tracemalloc.start()
    try:
        made = work()
        kept, peak = tracemalloc.get_traced_memory()
        assert made
    finally:
        tracemalloc.stop()
    return kept, peak
