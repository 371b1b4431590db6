"""The memory that a strategy says it takes bounds what it takes."""

import math
import tracemalloc

import pytest

from crdtmerge import numerics
from crdtmerge.strategies import STRATEGIES
from tests.strategies import resolve, sample, task

LEAST = 1 << 16
"""Below so many items, blocks of fixed size count, and the bound says nothing."""


@pytest.mark.parametrize(
    "name", sorted(n for n, s in STRATEGIES.items() if s.memory.bytes_of(1, 1))
)
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("shape", [(LEAST,), (256, LEAST >> 8), (512, LEAST >> 7)])
def test_memory_is_within_the_stated_bound(
    name: str, count: int, shape: tuple[int, ...]
) -> None:
    """On the reference backend, beside what was given and what is returned."""
    items = math.prod(shape)
    base, tunes = sample(items, count)
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
    bound = STRATEGIES[name].memory.bytes_of(items, count)
    assert peak - len(output) <= bound
    assert shape != (LEAST,) or peak - len(output) > bound // 3, "it bounds nothing"
