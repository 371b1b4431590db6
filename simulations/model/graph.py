"""Who has a stream with whom: the views of many peers as one random graph.

Owns its form and how it is drawn. Does not own what is said along it (`spread`). Stands for
what `nodes.neighbours` leads to once all have met: up to `MESH_MAX` others, streams with
all; above, `CHOSEN` neighbours of one's own choice and those who chose oneself. It stays as
it is: that a neighbour is exchanged every half minute is left out.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nodes.neighbours import CHOSEN, MESH_MAX

Numbers: TypeAlias = NDArray[np.int32]
Generator: TypeAlias = np.random.Generator  # noqa: TID251  made from a seed
PEERS_MIN: Final = 10
"""Fewer have no three others to tell beside the one who told them, and then some."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Streams, each as two directed edges; those of one peer lie together.

    Of a peer its edges are `first[peer]` to `first[peer + 1]`, to those that it chose
    before the others; `chosen` says how many these are.
    """

    first: Numbers
    ends: Numbers
    """The peer at the other end of each edge."""
    back: Numbers
    """The edge in the other direction."""
    chosen: Numbers
    partial: bool

    @property
    def peers(self) -> int:
        """Return how many peers there are."""
        return len(self.first) - 1

    def degrees(self) -> Numbers:
        """Return how many streams each peer has."""
        return np.diff(self.first)


def draw_graph(peers: int, rng: Generator) -> Graph:
    """Return the streams among `peers` that have met.

    Raises:
        ValueError: fewer than `PEERS_MIN`.
    """
    if peers < PEERS_MIN:
        raise ValueError(f"{peers} peers are fewer than {PEERS_MIN}")
    partial = peers - 1 > MESH_MAX
    one, other = _drawn(peers, rng) if partial else np.triu_indices(peers, 1)
    count = len(one)
    sources, ends = np.concatenate([one, other]), np.concatenate([other, one])
    answers = np.arange(2 * count) >= count
    order = np.argsort(2 * sources + answers, kind="stable")
    places = np.empty_like(order)
    places[order] = np.arange(2 * count)
    back = places[(order + count) % (2 * count)]
    first = np.zeros(peers + 1, np.int64)
    np.cumsum(np.bincount(sources, minlength=peers), out=first[1:])
    return Graph(
        first.astype(np.int32),
        ends[order].astype(np.int32),
        back.astype(np.int32),
        np.bincount(one, minlength=peers).astype(np.int32),
        partial,
    )


def _drawn(peers: int, rng: Generator) -> tuple[Any, Any]:
    """Let each choose `CHOSEN` others, none with whom it has a stream already."""
    one = np.repeat(np.arange(peers), CHOSEN)
    other = np.full(len(one), -1)
    redrawn = np.arange(len(one))
    while len(redrawn):
        other[redrawn] = rng.integers(0, peers, len(redrawn))
        names = np.minimum(one, other) * peers + np.maximum(one, other)
        kept = np.zeros(len(one), bool)
        kept[np.unique(names, return_index=True)[1]] = True
        redrawn = np.flatnonzero(~kept | (one == other))
    return one, other
