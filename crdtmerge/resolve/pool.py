"""Running tasks side by side: so many, in so much memory; errors in the tasks' order.

Owns the bound and the end of a run. Does not own threads (the caller gives an executor),
nor what a task does.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    wait,
)
from threading import Event
from typing import Final, Generic, TypeVar

from crdtmerge.errors import BadInputError

THREADS_MAX: Final = 256
"""Tasks that may be in flight, each holding its inputs in memory."""

Result = TypeVar("Result")
Task = TypeVar("Task")


class Pool(Generic[Task]):
    """Runs tasks, at most so many at a time, in at most so many bytes of memory.

    A task that is above the budget runs alone: whether it may is for the caller.
    """

    def __init__(
        self,
        executor: Executor | None,
        threads: int,
        budget: int | None = None,
        cost: Callable[[Task], int] = lambda _task: 0,
    ) -> None:
        """Keep the bounds; without an executor tasks run right here, one by one.

        `cost` tells how many bytes of the `budget` a task takes while it runs.

        Raises:
            BadInputError: `threads` is out of its range.
        """
        if not 1 <= threads <= THREADS_MAX:
            message = f"{threads} threads are not 1 to {THREADS_MAX}"
            raise BadInputError(message)
        self._executor = executor
        self._threads = threads
        self._budget = budget
        self._cost = cost
        self._stopping = Event()

    def go_on(self) -> None:
        """Let a running task end here if the run was broken off: nobody waits for it.

        Raises:
            CancelledError: it was; only threads see this.
        """
        if self._stopping.is_set():
            raise CancelledError

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
                while running and not failed and not self._admits(task, running):
                    failed = _settle(running, done)
                if failed:
                    break
                future = executor.submit(work, task)
                futures.append(future)
                running[future] = task
            while running and not failed:
                failed = _settle(running, done)
        except BaseException:  # Ctrl-C, not a task's failure: those are raised below
            self._stopping.set()
            raise
        finally:
            # SUBTLE: nothing may write to the sink after this returns; and the failure
            # that the loop below finds first is the same in every run, since tasks start
            # in order and all that started have ended.
            wait(running)
        return [future.result() for future in futures]

    def _admits(self, task: Task, running: dict[Future[Result], Task]) -> bool:
        """Tell whether a task may run beside those that do."""
        if len(running) >= self._threads or self._budget is None:
            return len(running) < self._threads
        taken = sum(self._cost(other) for other in running.values())
        return taken + self._cost(task) <= self._budget


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
