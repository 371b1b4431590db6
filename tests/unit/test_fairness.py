"""Who comes next: who has had least, in order inside a flow, and nobody saves up."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from nodes.fairness import IDLE_MAX, FairQueue

A, B, C = b"a", b"b", b"c"


def drained(queue: FairQueue[int], cost: float = 1.0) -> list[tuple[bytes, int]]:
    """Take all that waits."""
    taken = []
    while queue:
        flow, item = queue.take()
        queue.charge(flow, cost)
        taken.append((flow, item))
    return taken


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from([A, B, C]), st.integers(0, 9)),
            st.floats(0.1, 5.0),
        )
    )
)
def test_nothing_is_lost_and_flows_keep_their_order(
    steps: list[tuple[bytes, int] | float],
) -> None:
    """Whatever comes and goes in which order."""
    queue: FairQueue[tuple[int, int]] = FairQueue()
    put: dict[bytes, list[tuple[int, int]]] = {A: [], B: [], C: []}
    got: dict[bytes, list[tuple[int, int]]] = {A: [], B: [], C: []}
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            flow, item = step
            queue.put(flow, (number, item))
            put[flow].append((number, item))
        elif queue:
            flow, taken = queue.take()
            queue.charge(flow, step)
            got[flow].append(taken)
    while queue:
        flow, taken = queue.take()
        queue.charge(flow, 1.0)
        got[flow].append(taken)
    assert got == put


def test_one_thing_of_another_flow_passes_all_that_waits() -> None:
    """However much a flow has to do, who comes late waits for one thing of it."""
    queue: FairQueue[int] = FairQueue()
    for item in range(100):
        queue.put(A, item)
    for _ in range(10):
        queue.charge(queue.take()[0], 1.0)
    queue.put(B, 0)
    order = [flow for flow, _ in drained(queue)]
    assert order.index(B) <= 1


def test_equal_amounts_go_to_each_whatever_a_thing_costs() -> None:
    """A flow of large things is served as seldom as they are large."""
    queue: FairQueue[int] = FairQueue()
    costs = {A: 10.0, B: 1.0}
    for item in range(1000):
        queue.put(A, item)
        queue.put(B, item)
    had: Counter[bytes] = Counter()
    for _ in range(550):
        flow, _ = queue.take()
        queue.charge(flow, costs[flow])
        had[flow] += int(costs[flow])
    assert abs(had[A] - had[B]) <= 10


def test_who_was_idle_has_saved_nothing() -> None:
    """It does not keep the others waiting for as long as it had nothing to do."""
    queue: FairQueue[int] = FairQueue()
    queue.put(B, 0)
    drained(queue)
    for item in range(100):
        queue.put(A, item)
    for _ in range(90):
        queue.charge(queue.take()[0], 1.0)
    for item in range(100):
        queue.put(B, item)
    order = [flow for flow, _ in drained(queue)]
    assert order[:20].count(A) == 10


def test_who_has_had_much_waits_also_after_a_pause() -> None:
    """An empty queue for a moment is no reason to come first again."""
    queue: FairQueue[int] = FairQueue()
    queue.put(A, 0)
    queue.charge(queue.take()[0], 100.0)
    queue.put(A, 1)
    queue.put(B, 0)
    assert queue.take() == (B, 0)


def test_who_comes_after_a_dear_thing_earns_nothing_by_it() -> None:
    """One that waited for its dear thing has had little; newcomers as the others."""
    queue: FairQueue[int] = FairQueue()
    queue.put(A, 0)
    queue.charge(queue.take()[0], 100.0)
    queue.put(A, 1)
    for item in range(400):
        queue.put(B, item)
    while queue.take()[0] == B:
        queue.charge(B, 1.0)
    queue.charge(A, 100.0)
    for item in range(200):
        queue.put(C, item)
    order = [flow for flow, _ in drained(queue)]
    assert order[:20].count(B) >= 9


def test_flows_that_went_are_forgotten() -> None:
    """Peers come and go for months: what is kept follows what waits."""
    queue: FairQueue[int] = FairQueue()
    for number in range(10_000):
        queue.put(b"%d" % number, 0)
        queue.charge(queue.take()[0], 0.001)
    assert len(queue._flows) == len(queue._order) == 0
    assert len(queue._had) == len(queue._last) <= 2 * IDLE_MAX
