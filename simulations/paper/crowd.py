"""Tier 3: one hundred replicas that exchange with one another in a random order.

Owns the order of exchanges and what is measured of them. Does not own an exchange
(`replicas`), processes and clocks (`timing`). The definition is the paper's: each replica
contributes one tensor, then each pushes to each other one once, in random order; then every
one resolves, with a plan of its own from a store of its own.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from crdtmerge.recipe import Recipe

from .replicas import Traffic, push
from .spaces import SEED, Founded, bytes_digest, contributed
from .timing import Watch


@dataclass(frozen=True, slots=True)
class Ordering:
    """What one order of all pushes came to; seconds are of one process.

    `models` are the digests of the bytes that each replica made, in the members' order, and
    `roots` how many different sets there were.
    """

    number: int
    traffic: Traffic
    until_equal: int
    """Pushes after which all had the same records."""
    gossip_s: float
    gossip_cpu_s: float
    resolve_s: float
    resolve_cpu_s: float
    models: tuple[str, ...]
    roots: int


def all_pairs(count: int, label: str) -> list[tuple[int, int]]:
    """Return all pairs (sender, receiver) in an order that the label decides."""
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    random.Random(f"{SEED} {label}").shuffle(pairs)  # noqa: S311  a seed decides it all
    return pairs


def run_ordering(
    recipe: Recipe, nodes: int, side: int, number: int, tell: Callable[[str], None]
) -> Ordering:
    """Run one ordering to its end: found, push, resolve."""
    founded = contributed(recipe, nodes, side)
    traffic, watch = Traffic(), Watch()
    until = gossip(founded, all_pairs(nodes, f"ordering {number}"), traffic)
    gossip_s = watch.lap()
    gossip_cpu_s = watch.cpu
    tell(f"ordering {number}: {traffic.exchanges} pushes in {gossip_s:.1f} s")
    models = tuple(bytes_digest(founded.resolve(peer)) for peer in founded.peers)
    resolve_s = watch.lap()
    tell(f"ordering {number}: {nodes} resolves in {resolve_s:.1f} s")
    roots = len({p.spaces.opset(founded.space).root for p in founded.peers})
    return Ordering(
        number,
        traffic,
        until,
        gossip_s,
        gossip_cpu_s,
        resolve_s,
        watch.cpu,
        models,
        roots,
    )


def gossip(founded: Founded, pairs: list[tuple[int, int]], traffic: Traffic) -> int:
    """Let all pushes happen; return after how many all had all records."""
    space, peers = founded.space, founded.peers
    everything = len(peers) + 2  # the genesis and the recipe beside the contributions
    lacking, until = set(range(len(peers))), 0
    for done, (sender, receiver) in enumerate(pairs, 1):
        push(peers[sender], peers[receiver], space, traffic)
        if receiver in lacking:
            if len(peers[receiver].spaces.opset(space)) == everything:
                lacking.discard(receiver)
            until = done if not lacking else 0
    return until
