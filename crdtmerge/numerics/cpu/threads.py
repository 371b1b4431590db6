"""Cutting one kernel's work over threads: as many as the caller allows, one by default.

Owns the cut. Does not own how many there are (`backends`). Tasks of a resolve run side by
side already; this is for a caller that has one long vector and idle cores. What is cut
are blocks, so no bit depends on it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from crdtmerge.numerics.backends import threads

Result = TypeVar("Result")


def on_threads(
    work: Callable[[int, int], Result], part: range, block: int
) -> list[Result]:
    """Return what `work(start, stop)` gives for cuts of `part`, each of whole blocks."""
    count = min(threads(), max(1, len(part) // (4 * block)))
    if count == 1:
        return [work(part.start, part.stop)]
    blocks = -(-len(part) // block)
    ends = [part.start + block * (blocks * i // count) for i in range(count)]
    cuts = zip(ends, [*ends[1:], part.stop], strict=True)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda cut: work(*cut), cuts))
