"""Running a plan: read, compute, write, drop; so many tasks at a time as fit in memory.

Owns the order of tasks and what each does. Does not own reading and its checks
(`reading`), the bound (`pool`), threads (the caller gives an executor), storage, nor
formulas. The result does not depend on the executor or on the number of threads.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
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
from crdtmerge.resolve.reading import TensorReader, TensorSource, reads_of
from crdtmerge.strategies import Made, Parts
from crdtmerge.strategies.pipeline import emit, measure


class Results(Protocol):
    """What is known of tasks without running them, and who is told what came of those run.

    Safe to call from threads.
    """

    def take(self, task: Task) -> BlobId | None:
        """Give the sink the output of an emit that is known; None if it is not."""

    def made(self, task: Task) -> BlobId | None:
        """Give the sink an output made in another way; None if it is to be computed."""

    def measured(self, task: Task) -> tuple[float, ...] | None:
        """Return what a map came to, None if it is not known."""

    def memory(self, task: Task) -> int:
        """Return what making an output in another way takes beside the task, in bytes."""

    def note(self, task: Task, digest: BlobId) -> None:
        """Take note of an output that the sink was given whole."""

    def note_measures(self, task: Task, measures: tuple[float, ...]) -> None:
        """Take note of what a map came to."""


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
    results: Results | None = None,
) -> dict[str, BlobId]:
    """Compute the model of `plan`; return the digest of each output tensor.

    What `results` know is not computed, nor what only such outputs need.

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

    def cost(task: Task) -> int:
        more = results.memory(task) if results else 0
        return task_bytes(plan, task) + more

    pool = Pool(executor, threads, memory, cost)
    run = _Run(plan, source, _Stoppable(sink, pool), results)
    emits = [task for task in plan.tasks if task.kind == "emit"]
    digests: dict[str, BlobId] = {}
    if results is not None:
        digests = _take(plan, results, pool, emits, report)
    left = [task for task in emits if task.tensor not in digests]
    if any(task.needs for task in left):
        _measure(plan, run, pool, report)
    made = pool.run(run.emit, left, reporter(plan, "merging", left, report))
    digests |= {task.tensor: digest for task, digest in zip(left, made, strict=True)}
    return {task.tensor: digests[task.tensor] for task in emits}


def _take(
    plan: Plan,
    results: Results,
    pool: Pool[Task],
    emits: Sequence[Task],
    report: Report | None,
) -> dict[str, BlobId]:
    """Put all outputs into place that are known; return their digests."""
    found: dict[str, BlobId] = {}
    count = reporter(plan, "reusing", emits, report)

    def take(task: Task) -> None:
        digest = results.take(task)
        if digest is not None:
            found[task.tensor] = digest

    def done(task: Task) -> None:
        if task.tensor in found:
            count(task)

    pool.run(take, emits, done)
    return found


def _measure(plan: Plan, run: "_Run", pool: Pool[Task], report: Report | None) -> None:
    """Run what emits need: the maps, and what is made of them."""
    maps = [task for task in plan.tasks if task.kind == "map"]
    mapped = pool.run(run.map, maps, reporter(plan, "measuring", maps, report))
    found = {task.key: measures for task, measures in zip(maps, mapped, strict=True)}
    for task in plan.tasks:
        if task.kind == "reduce":
            run.reduce(task, found)


def reporter(
    plan: Plan, work: str, tasks: Sequence[Task], report: Report | None
) -> Callable[[Task], None]:
    """Return what to call after each task, to count the bytes that tasks read."""
    read = {task.tensor: reads_of(plan, task.tensor) for task in tasks}
    sizes = {name: sum(size for _, size in found) for name, found in read.items()}
    total, done, ended = sum(sizes.values()), 0, 0

    def count(task: Task) -> None:
        nonlocal done, ended
        done, ended = done + sizes[task.tensor], ended + 1
        if report:
            report(Progress(work, done, total, tensors=(ended, len(tasks))))

    return count


class _Stoppable:
    """The sink, as long as nobody broke the run off: a large tensor then ends early."""

    def __init__(self, sink: TensorSink, pool: Pool[Task]) -> None:
        self._sink = sink
        self._pool = pool

    def write(self, name: str, data: Data, offset: int = 0) -> None:
        self._pool.go_on()
        self._sink.write(name, data, offset)


class _Run:
    """One execution: what its tasks share."""

    def __init__(
        self,
        plan: Plan,
        source: TensorSource,
        sink: TensorSink,
        results: Results | None,
    ) -> None:
        self._plan = plan
        self._results = results
        self._reader = TensorReader(plan, source)
        self._sink = sink
        self._coefficients: dict[bytes, tuple[int, ...]] = {}

    def map(self, task: Task) -> tuple[float, ...]:
        """Return what the strategy measures on one tensor."""
        known = self._results.measured(task) if self._results else None
        if known is not None:
            return known
        # The output dtype is not part of a map's key, so the map does not see it.
        inputs = replace(self._reader.inputs(task.tensor), output_dtype="")
        found = measure(self._plan.strategy, self._plan.recipe.pre, inputs)
        if self._results:
            self._results.note_measures(task, found)
        return found

    def reduce(self, task: Task, results: dict[bytes, tuple[float, ...]]) -> None:
        """Keep the coefficients for the emits that need them."""
        reduce = self._plan.strategy.reduce
        assert reduce is not None, "planned a reduce for a strategy that has none"
        measured = [results[key] for key in task.needs]
        self._coefficients[task.key] = reduce(measured, self._reader.whole())

    def emit(self, task: Task) -> BlobId:
        """Write one output tensor; return its digest."""
        digest = self._results.made(task) if self._results else None
        if digest is None:
            digest = self._computed(task)
        if self._results:
            self._results.note(task, digest)
        return digest

    def _computed(self, task: Task) -> BlobId:
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
