"""Running a plan: read, compute, write, drop; so many tasks at a time as fit in memory.

Owns the order of tasks and what each does. Does not own reading and its checks
(`reading`), the bound (`pool`), threads (the caller gives an executor), storage, nor
formulas. The result does not depend on the executor or on the number of threads.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Protocol

from crdtmerge.digest import BlobId, blob_id, chunk_digests
from crdtmerge.formats.progress import Progress, Report
from crdtmerge.manifest import FLOAT_DTYPES
from crdtmerge.numerics import Data
from crdtmerge.resolve.memory import (
    MEMORY_DEFAULT,
    PART_ITEMS,
    check_memory,
    task_bytes,
)
from crdtmerge.resolve.plan import Plan, Task
from crdtmerge.resolve.pool import Pool
from crdtmerge.resolve.reading import TensorReader, TensorSource
from crdtmerge.strategies import Made, Parts
from crdtmerge.strategies.pipeline import emit, measure


class TensorSink(Protocol):
    """Where output tensors go; safe to call from threads, in any order of names.

    Parts of one tensor come one after another, from its first byte on.
    """

    def write(self, name: str, data: Data, offset: int = 0) -> None:
        """Keep bytes of one output tensor: all, or those from `offset` on."""


def execute(
    plan: Plan,
    source: TensorSource,
    sink: TensorSink,
    *,
    executor: Executor | None = None,
    threads: int = 1,
    report: Report | None = None,
    memory: int = MEMORY_DEFAULT,
) -> dict[str, BlobId]:
    """Compute the model of `plan`; return the digest of each output tensor.

    At most `threads` tasks are in flight, and only as many as take `memory` bytes beside
    what is mapped; without an executor they run right here, one by one. If tasks fail,
    the error of the first in the plan's order is raised, when no task runs any more.

    Raises:
        BadInputError: one task alone takes more memory; nothing was read.
        FaultyContributionError: a contribution's tensor cannot be merged.
        ContentMissingError: bytes of a contribution have not arrived.
        CorruptBlobError: stored bytes are not what they are named.
        ContractError: a result leaves the numeric contract.
    """
    check_memory(plan, memory)
    run = _Run(plan, source, sink)
    pool = Pool(executor, threads, memory, partial(task_bytes, plan))
    maps = [task for task in plan.tasks if task.kind == "map"]
    emits = [task for task in plan.tasks if task.kind == "emit"]
    mapped = pool.run(run.map, maps, reporter(plan, "measuring", maps, report))
    results = {task.key: found for task, found in zip(maps, mapped, strict=True)}
    for task in plan.tasks:
        if task.kind == "reduce":
            run.reduce(task, results)
    digests = pool.run(run.emit, emits, reporter(plan, "merging", emits, report))
    return {task.tensor: found for task, found in zip(emits, digests, strict=True)}


def reporter(
    plan: Plan, work: str, tasks: Sequence[Task], report: Report | None
) -> Callable[[Task], None]:
    """Return what to call after each task, to count the base's bytes worked on."""
    sizes = {entry.name: entry.size for entry in plan.base.tensors}
    total, done = sum(sizes[task.tensor] for task in tasks), 0

    def count(task: Task) -> None:
        nonlocal done
        done += sizes[task.tensor]
        if report:
            report(Progress(work, done, total))

    return count


class _Run:
    """One execution: what its tasks share."""

    def __init__(self, plan: Plan, source: TensorSource, sink: TensorSink) -> None:
        self._plan = plan
        self._reader = TensorReader(plan, source)
        self._sink = sink
        self._coefficients: dict[bytes, tuple[int, ...]] = {}

    def map(self, task: Task) -> tuple[float, ...]:
        """Return what the strategy measures on one tensor."""
        # The output dtype is not part of a map's key, so the map does not see it.
        inputs = replace(self._reader.inputs(task.tensor), output_dtype="")
        return measure(self._plan.strategy, self._plan.recipe.pre, inputs)

    def reduce(self, task: Task, results: dict[bytes, tuple[float, ...]]) -> None:
        """Keep the coefficients for the emits that need them."""
        reduce = self._plan.strategy.reduce
        assert reduce is not None, "planned a reduce for a strategy that has none"
        measured = [results[key] for key in task.needs]
        self._coefficients[task.key] = reduce(measured, self._plan.settings.of_whole())

    def emit(self, task: Task) -> BlobId:
        """Write one output tensor; return its digest."""
        entry = self._reader.entry(task.tensor)
        if entry.dtype in FLOAT_DTYPES:
            inputs = self._reader.inputs(task.tensor)
            if task.needs:
                found = self._coefficients[task.needs[0]]
                inputs = replace(inputs, coefficients=found)
            plan, recipe = self._plan, self._plan.recipe
            made: Made = emit(plan.strategy, recipe.pre, recipe.post, inputs)
        else:
            made = self._reader.read(entry)
        return write_made(self._sink, task.tensor, made)


def write_made(sink: TensorSink, name: str, made: Made) -> BlobId:
    """Write one output tensor, part by part if it is made so; return its digest."""
    chunks: list[bytes] = []
    done = 0
    for part in _parts_of(made):
        # SUBTLE: hashed before it is written, while it lies in the core's cache.
        chunks += chunk_digests(part)
        sink.write(name, part, done)
        done += len(part)
    return blob_id(done, chunks)


def _parts_of(made: Made) -> Iterator[Data]:
    """Yield the bytes of an output tensor; one part, if empty, for one without items."""
    if not isinstance(made, Parts):
        yield made
        return
    for start in range(0, max(made.items, 1), PART_ITEMS):
        yield made.make(range(start, min(start + PART_ITEMS, made.items)))
