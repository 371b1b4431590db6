"""Running a plan: read, compute, write, drop; a bounded number of tasks at a time.

Owns the order of tasks, the bound, and the checks that need tensor bytes. Does not own
threads (the caller gives an executor), storage (`TensorSource`, `TensorSink`), nor
formulas. The result does not depend on the executor or on the number of threads.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import replace
from typing import Final, Protocol, TypeVar, assert_never

import numpy as np

from crdtmerge.changes import Change, Whole, task_vector_of
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import (
    BadInputError,
    ContractError,
    CorruptBlobError,
    FaultyContributionError,
)
from crdtmerge.formats.progress import Progress, Report
from crdtmerge.manifest import FLOAT_DTYPES, ITEM_BYTES, TensorEntry
from crdtmerge.numerics import (
    EXPONENT_MAX,
    Data,
    TensorFacts,
    check_base,
    check_headroom,
    check_reach,
    inspect,
)
from crdtmerge.resolve.plan import Contribution, Plan, Task, output_dtype
from crdtmerge.strategies import Given, Inputs, Values

THREADS_MAX: Final = 256
"""Tasks that may be in flight, each holding its inputs in memory."""

Result = TypeVar("Result")


class TensorSource(Protocol):
    """Where the bytes of base and contributions come from; safe to call from threads."""

    def read(self, blob: BlobId, size: int) -> Data:
        """Return the `size` bytes of `blob`, verified.

        Raises:
            ContentMissingError: they are not here.
            CorruptBlobError: what is here does not have the digest.
        """


class TensorSink(Protocol):
    """Where output tensors go; safe to call from threads, in any order of names."""

    def write(self, name: str, data: Data) -> None:
        """Keep the bytes of one output tensor."""


def execute(
    plan: Plan,
    source: TensorSource,
    sink: TensorSink,
    *,
    executor: Executor | None = None,
    threads: int = 1,
    report: Report | None = None,
) -> dict[str, BlobId]:
    """Compute the model of `plan`; return the digest of each output tensor.

    At most `threads` tasks are in flight; without an executor they run right here, one
    by one. If tasks fail, the error of the first in the plan's order is raised, when no
    task runs any more.

    Raises:
        FaultyContributionError: a contribution's tensor cannot be merged.
        ContentMissingError: bytes of a contribution have not arrived.
        CorruptBlobError: stored bytes are not what they are named.
        ContractError: a result leaves the numeric contract.
    """
    if not 1 <= threads <= THREADS_MAX:
        message = f"{threads} threads are not 1 to {THREADS_MAX}"
        raise BadInputError(message)
    run = _Run(plan, source, sink)
    pool = _Pool(executor, threads)
    maps = [task for task in plan.tasks if task.kind == "map"]
    emits = [task for task in plan.tasks if task.kind == "emit"]
    mapped = pool.run(run.map, maps, run.reporter("measuring", maps, report))
    results = {task.key: found for task, found in zip(maps, mapped, strict=True)}
    for task in plan.tasks:
        if task.kind == "reduce":
            run.reduce(task, results)
    digests = pool.run(run.emit, emits, run.reporter("merging", emits, report))
    return {task.tensor: found for task, found in zip(emits, digests, strict=True)}


class _Pool:
    """Runs tasks, at most so many at a time."""

    def __init__(self, executor: Executor | None, threads: int) -> None:
        self._executor = executor
        self._threads = threads

    def run(
        self,
        work: Callable[[Task], Result],
        tasks: Sequence[Task],
        done: Callable[[Task], None],
    ) -> list[Result]:
        """Return the results in the order of `tasks`."""
        if self._executor is None:
            results = []
            for task in tasks:
                results.append(work(task))
                done(task)
            return results
        return self._run_on(self._executor, work, tasks, done)

    def _run_on(
        self,
        executor: Executor,
        work: Callable[[Task], Result],
        tasks: Sequence[Task],
        done: Callable[[Task], None],
    ) -> list[Result]:
        futures: list[Future[Result]] = []
        running: dict[Future[Result], Task] = {}
        failed = False
        try:
            for task in tasks:
                while len(running) >= self._threads and not failed:
                    failed = _settle(running, done)
                if failed:
                    break
                future = executor.submit(work, task)
                futures.append(future)
                running[future] = task
            while running and not failed:
                failed = _settle(running, done)
        finally:
            # SUBTLE: nothing may write to the sink after this returns; and the failure
            # that the loop below finds first is the same in every run, since tasks start
            # in order and all that started have ended.
            wait(running)
        return [future.result() for future in futures]


def _settle(running: dict[Future[Result], Task], done: Callable[[Task], None]) -> bool:
    """Wait for a task to end; tell whether one failed."""
    ended, _ = wait(running, return_when=FIRST_COMPLETED)
    failed = False
    for future in ended:
        task = running.pop(future)
        if future.exception() is not None:
            failed = True
        else:
            done(task)
    return failed


class _Run:
    """One execution: what its tasks share."""

    def __init__(self, plan: Plan, source: TensorSource, sink: TensorSink) -> None:
        self._plan = plan
        self._source = source
        self._sink = sink
        self._base = {entry.name: entry for entry in plan.base.tensors}
        self._coefficients: dict[bytes, tuple[int, ...]] = {}

    def reporter(
        self, work: str, tasks: Sequence[Task], report: Report | None
    ) -> Callable[[Task], None]:
        """Return what to call after each task, to count the base's bytes worked on."""
        total, done = sum(self._base[task.tensor].size for task in tasks), 0

        def count(task: Task) -> None:
            nonlocal done
            done += self._base[task.tensor].size
            if report:
                report(Progress(work, done, total))

        return count

    def map(self, task: Task) -> tuple[float, ...]:
        """Return what the strategy measures on one tensor."""
        measure = self._plan.strategy.map
        assert measure is not None, "planned a map for a strategy that has none"
        # The output dtype is not part of a map's key, so the map does not see it.
        return measure(replace(self._inputs(task.tensor), output_dtype=""))

    def reduce(self, task: Task, results: dict[bytes, tuple[float, ...]]) -> None:
        """Keep the coefficients for the emits that need them."""
        reduce = self._plan.strategy.reduce
        assert reduce is not None, "planned a reduce for a strategy that has none"
        measured = [results[key] for key in task.needs]
        self._coefficients[task.key] = reduce(measured, self._plan.weights)

    def emit(self, task: Task) -> BlobId:
        """Write one output tensor; return its digest."""
        entry = self._base[task.tensor]
        if entry.dtype in FLOAT_DTYPES:
            inputs = self._inputs(task.tensor)
            if task.needs:
                found = self._coefficients[task.needs[0]]
                inputs = replace(inputs, coefficients=found)
            data: Data = self._plan.strategy.emit(inputs)
        else:
            data = self._read(entry)
        self._sink.write(task.tensor, data)
        return blob_id_of(data)

    def _inputs(self, name: str) -> Inputs:
        """Read and check one tensor of every model."""
        plan, entry = self._plan, self._base[name]
        base, dtype = self._stands_on(entry)
        known = plan.frames[name].exponent
        facts = TensorFacts(
            finite=True, exponent=EXPONENT_MAX if known is None else known
        )
        held: dict[BlobId | Change, Given] = {}
        if base is not None:
            held[entry.blob] = base
        if base is not None and known is None:
            facts = inspect(base, dtype)
            check_base(facts, f"tensor {name!r}")
        given = []
        for contribution, changes in zip(plan.contributions, plan.changes, strict=True):
            change = changes.get(name)
            key = _key(entry, change)
            if key not in held:
                assert change is not None, "who leaves a tensor alone gives the base's"
                held[key] = self._given(contribution, change, facts, name)
                self._check_reach(contribution, held[key], entry, base)
            given.append(held[key])
        shared = plan.recipe.parameters_for(name)
        return Inputs(
            tensor=name,
            dtype=dtype,
            items=entry.items,
            base=base,
            contributions=tuple(given),
            contents=plan.contents,
            weights=plan.weights,
            seed=plan.seeds.get(name, b""),
            seed_scope=plan.recipe.seed_scope,
            output_dtype=output_dtype(plan.recipe, plan.frames[name]),
            values=Values(shared),
            own=tuple(
                Values(tuple((dict(shared) | dict(c.parameters)).items()))
                for c in plan.contributions
            ),
            shape=entry.shape,
            exponent=known,
        )

    def _stands_on(self, entry: TensorEntry) -> tuple[Data | None, str]:
        """Return what task vectors are added to, and the dtype that is computed in."""
        match self._plan.frames[entry.name].ground:
            case "base":
                return self._read(entry), entry.dtype
            case "zero":
                return bytes(entry.items * ITEM_BYTES["F32"]), "F32"
            case "none":
                return None, entry.dtype
            case ground:
                assert_never(ground)

    def _read(self, entry: TensorEntry) -> Data:
        data = self._source.read(entry.blob, entry.size)
        if len(data) != entry.size:
            message = f"tensor {entry.name!r} has {len(data)} bytes, not {entry.size}"
            raise CorruptBlobError(message)
        return data

    def _given(
        self,
        contribution: Contribution,
        change: Change,
        base: TensorFacts,
        name: str,
    ) -> Given:
        """Read a contribution's tensor: that it is visible says nothing of its values."""
        label = f"tensor {name!r}"
        try:
            if isinstance(change, Whole):
                data = self._read(change.entry)
                check_headroom(inspect(data, change.entry.dtype), base, label)
                return data
            tau = task_vector_of(change, self._read, label)
            check_headroom(inspect(tau.data, "F32"), base, label)
        except ContractError as e:
            raise FaultyContributionError(contribution.content, str(e)) from e
        return tau

    def _check_reach(
        self,
        contribution: Contribution,
        given: Given,
        entry: TensorEntry,
        base: Data | None,
    ) -> None:
        """Refuse a task vector that leads out of the dtype: its author is to be named."""
        if base is None or not isinstance(given, np.ndarray):
            return
        if self._plan.frames[entry.name].ground != "base":
            return
        try:
            check_reach(base, given, entry.dtype, f"tensor {entry.name!r}")
        except ContractError as e:
            raise FaultyContributionError(contribution.content, str(e)) from e


def _key(entry: TensorEntry, change: Change | None) -> BlobId | Change:
    """Return what tells equal tensors of several contributions apart from others."""
    if change is None:
        return entry.blob
    return change.entry.blob if isinstance(change, Whole) else change
