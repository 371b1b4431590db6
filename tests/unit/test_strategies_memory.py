"""The memory that a strategy says it takes bounds what it takes."""

import tracemalloc

import pytest

from crdtmerge import numerics
from crdtmerge.strategies import STRATEGIES
from tests.strategies import resolve, sample, task

ITEMS = 1 << 18
OBJECTS = 1 << 16
"""Bytes of what is no array: of one task, whatever its size."""


@pytest.mark.parametrize(
    "name", sorted(n for n, s in STRATEGIES.items() if s.memory.bytes_of(1, 1))
)
@pytest.mark.parametrize(("shape", "count"), [((ITEMS,), 3), ((512, ITEMS >> 9), 5)])
def test_memory_is_within_the_stated_bound(
    name: str, shape: tuple[int, ...], count: int
) -> None:
    """On the reference backend, beside what was given and what is returned."""
    base, tunes = sample(ITEMS, count)
    tensors = [tune.reshape(shape) for tune in tunes]
    inputs = task(name, "BF16", tensors, base.reshape(shape))
    del base, tunes, tensors
    with numerics.forced("reference"):
        tracemalloc.start()
        try:
            output = resolve(name, inputs)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    bound = STRATEGIES[name].memory.bytes_of(ITEMS, count)
    assert peak - len(output) <= bound + OBJECTS
