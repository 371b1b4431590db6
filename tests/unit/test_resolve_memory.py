"""Memory: a task's bound is told before it runs, and running tasks share the budget."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from crdtmerge.digest import BlobId
from crdtmerge.errors import BadInputError
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.memory import PART_ITEMS, check_memory, task_bytes
from crdtmerge.resolve.plan import Plan, Task, make_plan
from crdtmerge.resolve.pool import Pool
from tests.models import UNIT, make_merge, recipe_of, told
from tests.sums import Sink

MIB = 1 << 20


def plan_of(name: str, **parameters: str) -> Plan:
    merge = make_merge([UNIT] * 3)
    recipe = recipe_of(name, **parameters)
    return make_plan(recipe, merge.base, told(merge, recipe))


def larger(plan: Plan, items: int) -> Plan:
    """Return the plan as if every tensor had so many items."""
    frames = {
        name: replace(frame, entry=replace(frame.entry, shape=(items,)))
        for name, frame in plan.frames.items()
    }
    return replace(plan, frames=frames)


class Nothing:
    """A source that must not be asked."""

    def read(self, blob: BlobId, size: int) -> bytes:
        """Fail."""
        raise AssertionError((blob, size))


def worst(plan: Plan) -> int:
    return max(task_bytes(plan, task) for task in plan.tasks)


def test_a_strategy_in_parts_takes_the_same_for_a_tensor_of_any_size() -> None:
    """A part is what lies in memory; what makes all at once grows with the tensor."""
    parts, whole = plan_of("linear"), plan_of("cabs")
    assert worst(larger(parts, 64 * PART_ITEMS)) == worst(larger(parts, PART_ITEMS))
    small, large = (worst(larger(whole, n * PART_ITEMS)) for n in (1, 64))
    assert large > 32 * small


def test_nearswap_of_one_model_takes_the_same_for_a_tensor_of_any_size() -> None:
    """So it is merged most often; it is of several that a mean is kept."""
    several = plan_of("nearswap")
    one = replace(several, contributions=several.contributions[:1])
    sizes = (PART_ITEMS, 64 * PART_ITEMS)
    small, large = (worst(larger(one, items)) for items in sizes)
    assert small == large
    small, large = (worst(larger(several, items)) for items in sizes)
    assert small < large


def test_a_task_above_the_budget_is_refused_before_a_byte_is_read() -> None:
    """Its tensor, what it takes, and what would help are named."""
    plan = larger(plan_of("cabs"), 64 * PART_ITEMS)
    needed = worst(plan)
    with pytest.raises(
        BadInputError, match=r"takes \d+ MiB of memory with cabs/1"
    ) as e:
        execute(plan, Nothing(), Sink(), memory=64 * MIB)
    assert f"--memory {-(-needed // MIB)}MiB" in e.value.hint
    assert "part by part" in e.value.hint
    check_memory(plan, -(-needed // MIB) * MIB)
    with pytest.raises(BadInputError):
        check_memory(plan, needed - 1)


@pytest.mark.parametrize(("budget", "most"), [(10, 1), (25, 2), (400, 4)])
def test_running_tasks_stay_within_the_budget(budget: int, most: int) -> None:
    """Threads wait where memory does not suffice; one task always runs."""
    tasks = [Task(bytes([i]), "emit", str(i)) for i in range(12)]
    running, peaks, lock = [0], [0], threading.Lock()

    def work(task: Task) -> str:
        with lock:
            running[0] += 1
            peaks.append(running[0])
        time.sleep(0.005)
        with lock:
            running[0] -= 1
        return task.tensor

    with ThreadPoolExecutor(4) as executor:
        pool: Pool[Task] = Pool(executor, 4, budget, lambda _task: 10)
        assert pool.run(work, tasks, lambda _task: None) == [t.tensor for t in tasks]
    assert max(peaks) == most
