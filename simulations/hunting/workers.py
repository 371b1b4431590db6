"""Runs side by side, in processes of their own.

Owns the processes, and the order of results, which is that of what was asked: nothing that
is found depends on how many processes there are. Does not own what a run is.
"""

import gc
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Final, TypeAlias

from simulations.runs import Run

from .attempts import Result, attempt

AHEAD: Final = 4
"""Runs per process that are asked for before their turn."""
INTERRUPTED: Final = 130
COLLECT: Final = (50_000, 20, 20)
"""Cyclic garbage is looked for a tenth as often as by default: a run is soon over.

All that it leaves is collected then, or a process of many runs would grow by each.
"""

Attempts: TypeAlias = Callable[[Iterable[Run]], Iterator[Result]]
"""Performs runs, and yields their results in the order of the runs."""


@contextmanager
def workers(jobs: int) -> Iterator[Attempts]:
    """Lend what performs runs in `jobs` processes; one is this process itself.

    Whoever leaves ends the processes at once, whatever they are at.
    """
    _say_nothing()
    if jobs == 1:
        yield lambda runs: map(_attempt, runs)
        return
    # Spawned: a forked process would take over threads' locks, and whatever was patched.
    context = get_context("spawn")
    before = set(active_children())
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin)
    try:
        yield lambda runs: _ordered(pool, runs, jobs * AHEAD)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(active_children()) - before:
            child.terminate()


def _ordered(
    pool: ProcessPoolExecutor, runs: Iterable[Run], ahead: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    coming = iter(runs)
    try:
        while True:
            while len(waiting) < ahead and (run := next(coming, None)) is not None:
                waiting.append(pool.submit(_attempt, run))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _attempt(run: Run) -> Result:
    """Perform a run, and keep nothing of its world."""
    try:
        return attempt(run)
    finally:
        gc.collect()


def _say_nothing() -> None:
    """Let nodes log nothing: what they warn of is what the stories are about."""
    for name in ("crdtmerge", "nodes"):
        logging.getLogger(name).addHandler(logging.NullHandler())


def _begin() -> None:
    """End without a word on Ctrl-C, and when the process that asked is no more."""
    _say_nothing()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(INTERRUPTED)

    Thread(target=watch, daemon=True).start()
