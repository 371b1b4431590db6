"""How much memory a task takes, and whether a plan's tasks fit in a budget.

Owns the bound on one task beside what is mapped. Does not own what strategies declare
(`strategies.Memory`), nor keeping running tasks within the budget (`pool`).

The tensors of a task are mapped where they lie in files: the system takes their pages back
when it needs them, so they do not count. What counts is what a task makes: task vectors
out of factors, what strategy and steps hold, and the part of the output being made.
"""

from math import prod
from typing import Final

from crdtmerge.changes import LowRank, Whole
from crdtmerge.errors import BadInputError
from crdtmerge.manifest import ITEM_BYTES
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.ground import Frame
from crdtmerge.resolve.plan import Plan, Task, output_dtype
from crdtmerge.strategies import Strategy, Values
from crdtmerge.strategies.base import Memory

PART_ITEMS: Final = 1 << 20
"""Items that are made and written at once, where a strategy makes any part of a tensor.

In every dtype they are whole chunks, so digests are found on the way.
"""

MEMORY_DEFAULT: Final = 2 << 30
"""The budget if none is given, in bytes."""

_FIXED: Final = 4 << 20
"""Blocks of fixed size that any task works in."""

_STEP_VECTORS: Final = 3
"""Task vectors in float32 that a step has at once beside those that it was given."""


def task_bytes(plan: Plan, task: Task) -> int:
    """Return a bound on the memory that a task takes beside what is mapped, in bytes."""
    if task.kind == "reduce":
        return 0
    frame = plan.frames[task.tensor]
    if not frame.is_merged:
        return _FIXED
    items, count = frame.entry.items, len(plan.contributions)
    values = Values(plan.settings.of_tensor(task.tensor).parameters)
    out = ITEM_BYTES[output_dtype(plan.recipe, frame) or frame.entry.dtype]
    shape = frame.entry.shape
    worked = strategy_bytes(plan.strategy, values, shape, count, out)
    steps = steps_bytes(plan.recipe, items, count)
    evidence = plan.attached.memory(frame.entry)
    return _FIXED + _given_bytes(plan, frame) + evidence + steps + worked


def strategy_bytes(
    strategy: Strategy, values: Values, shape: tuple[int, ...], count: int, out: int
) -> int:
    """Return what a strategy takes for a tensor, the part of the output included.

    `out` is how many bytes an item of the output has.
    """
    items = prod(shape)
    held = strategy.held(values)
    if held is None:
        return strategy.memory.bytes_of(items, count, shape) + items * out
    part = min(items, PART_ITEMS)
    worked = strategy.memory.bytes_of(part, count) + part * out
    return held.bytes_of(items, count, shape) + worked


def check_memory(plan: Plan, budget: int) -> None:
    """Refuse a plan of which one task alone is above the budget, before any runs.

    Raises:
        BadInputError: it says which tensor, what it takes, and what would help.
    """
    needed, worst = max(
        ((task_bytes(plan, task), task.tensor) for task in plan.tasks), default=(0, "")
    )
    if needed <= budget:
        return
    message = (
        f"tensor {worst!r} takes {-(-needed >> 20)} MiB of memory with"
        f" {plan.strategy.full_name}, above the budget of {budget >> 20} MiB"
    )
    hint = f"give --memory {-(-needed >> 20)}MiB{_other(plan, worst)}"
    raise BadInputError(message, hint=hint)


def _other(plan: Plan, name: str) -> str:
    """Say what else would help."""
    if plan.recipe.pre or plan.recipe.post:
        return ", or take the steps out of the recipe: they hold whole task vectors"
    if _held(plan, name) is None:
        return (
            ", or take a strategy that makes a tensor part by part:"
            " `crdtmerge strategies NAME` says what one takes"
        )
    return ""


def _held(plan: Plan, name: str) -> Memory | None:
    """Return what the strategy keeps for a whole tensor; None if it makes all at once."""
    values = Values(plan.settings.of_tensor(name).parameters)
    return plan.strategy.held(values)


def _given_bytes(plan: Plan, frame: Frame) -> int:
    """Return what inputs take that are not mapped: zeros, and task vectors being made."""
    items, name = frame.entry.items, frame.entry.name
    total = items * ITEM_BYTES["F32"] if frame.ground == "zero" else 0
    said = {found[name] for found in plan.changes if name in found}
    vectors = [change for change in said if not isinstance(change, Whole)]
    total += len(vectors) * items * ITEM_BYTES["F32"]
    # While one is made of its factors, it is there in float64 too.
    if any(isinstance(change, LowRank) for change in vectors):
        total += 2 * items * ITEM_BYTES["F64"]
    return total


def steps_bytes(recipe: Recipe, items: int, count: int) -> int:
    """Return what the steps of a recipe hold: whole task vectors, the merged tensor."""
    single = ITEM_BYTES["F32"]
    total = 0
    if recipe.pre:
        total += (count + _STEP_VECTORS) * items * single
    if recipe.post:
        total += items * (2 * ITEM_BYTES["F64"] + _STEP_VECTORS * single)
    return total
