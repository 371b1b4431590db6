"""Runs of chunks, against plain sets and lists of indexes."""

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.sync.runs import Run, Runs, clipped, runs_of

INDEXES = st.sets(st.integers(0, 60)).map(sorted)


def spelled(runs: list[Run] | Runs) -> list[int]:
    return [index for run in runs for index in range(run.first, run.end)]


@given(INDEXES, st.integers(0, 70), st.integers(1, 8))
def test_what_is_taken_and_what_is_left_are_all(
    indexes: list[int], count: int, most: int
) -> None:
    """Off the front, no more than asked, in no more runs; nothing is lost."""
    queue = Runs.of(runs_of(indexes))
    assert queue.left == len(indexes)
    taken = queue.take(count, most)
    assert len(taken) <= most
    assert len(spelled(taken)) <= count
    assert spelled(taken) + spelled(queue) == indexes
    assert queue.left == len(spelled(queue))


@given(INDEXES, st.integers(0, 70))
def test_a_cut_leaves_the_front(indexes: list[int], keep: int) -> None:
    """What is kept and what is cut off are all, in order."""
    queue = Runs.of(runs_of(indexes))
    others = queue.cut(keep)
    assert spelled(queue) == indexes[:keep]
    assert spelled(others) == indexes[keep:]
    assert queue.left == len(indexes[:keep])


@given(INDEXES, st.sets(st.integers(0, 60)))
def test_what_is_put_back_joins_its_neighbours(
    indexes: list[int], part: set[int]
) -> None:
    """The queue is the same as if nothing had been taken, in as few runs."""
    back = runs_of([index for index in indexes if index in part])
    queue = Runs.of(runs_of([index for index in indexes if index not in part]))
    queue.put(back)
    assert list(queue) == runs_of(indexes)
    assert queue.left == len(indexes)
    assert all((index in queue) == (index in indexes) for index in range(62))


@given(INDEXES, st.integers(0, 61))
def test_one_chunk_is_taken_out(indexes: list[int], index: int) -> None:
    """And no other, whether it was there or not."""
    queue = Runs.of(runs_of(indexes))
    queue.discard(index)
    assert spelled(queue) == [other for other in indexes if other != index]
    assert queue.left == len(spelled(queue))


@given(INDEXES)
def test_chunks_come_off_one_by_one(indexes: list[int]) -> None:
    """The next is the first, until none is left."""
    queue = Runs.of(runs_of(indexes))
    popped = []
    while queue.left:
        popped.append(queue.next)
        assert queue.pop() == popped[-1]
    assert popped == indexes


@given(
    st.lists(st.builds(Run, st.integers(0, 20), st.integers(0, 9))), st.integers(0, 20)
)
def test_nothing_is_asked_past_the_end(runs: list[Run], count: int) -> None:
    """A blob of so many chunks has the others not."""
    inside = [index for index in spelled(runs) if index < count]
    assert spelled(clipped(runs, count)) == inside
