"""One pass tells of a tensor what looking at the whole tells, however it is cut."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtmerge.digest import CHUNK_BYTES, blob_id_of, chunk_digests
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.survey import BLOCK_BYTES, Tally, Visit, measure
from crdtmerge.manifest import ITEM_BYTES
from crdtmerge.numerics import SIGNIFICAND_BITS, inspect, inspect_part, join_facts


@given(
    dtype=st.sampled_from(sorted(SIGNIFICAND_BITS)),
    data=st.binary(max_size=40 * 8),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    most=st.integers(0, 255),
)
def test_the_facts_of_parts_are_those_of_the_whole(
    dtype: str, data: bytes, cuts: list[int], most: int
) -> None:
    """Any bytes, NaN and infinity among them, cut anywhere: the same facts and fault."""
    width = ITEM_BYTES[dtype]
    data = bytes(min(byte, most) for byte in data[: len(data) // width * width])
    items = len(data) // width
    ends = [0, *sorted(min(cut, items) for cut in cuts), items]
    parts = [
        inspect_part(data[start * width : stop * width], dtype, start)
        for start, stop in pairwise(ends)
    ]
    assert join_facts(parts) == inspect(data, dtype)


@settings(max_examples=25)
@given(
    dtype=st.sampled_from(sorted(SIGNIFICAND_BITS)),
    items=st.integers(0, 3 * CHUNK_BYTES),
    bad=st.sets(st.integers(0, 3 * CHUNK_BYTES - 1), max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_blocks_make_up_their_tensor(
    dtype: str, items: int, bad: set[int], seed: int
) -> None:
    """Name, chunks and facts are those of the bytes in one piece."""
    width = ITEM_BYTES[dtype]
    raw = np.random.default_rng(seed).integers(0, 64, items * width, dtype=np.uint8)
    for place in bad:
        if place < items:
            raw[place * width : (place + 1) * width] = 0xFF  # NaN in every dtype
    data = raw.tobytes()
    tensor = StoredTensor("w", dtype, (items,), Path("m"), 0, len(data))
    visit = Visit(tensor, lambda d, first: inspect_part(d, dtype, first), held=True)
    tally = Tally(visit)
    for start in range(0, max(1, len(data)), BLOCK_BYTES):
        block = data[start : start + BLOCK_BYTES]
        tally.take(measure(visit, block, start), block)
    seen = tally.seen()
    assert tally.chunks == chunk_digests(data)
    assert seen.blob == blob_id_of(data)
    assert seen.data == data
    assert seen.facts == inspect(data, dtype)


@pytest.mark.parametrize("dtype", sorted(ITEM_BYTES))
def test_a_block_holds_whole_items(dtype: str) -> None:
    """So that no item lies across two blocks, or two chunks."""
    assert CHUNK_BYTES % ITEM_BYTES[dtype] == 0
    assert BLOCK_BYTES % CHUNK_BYTES == 0
