"""Progress of long work, on stderr, and only when somebody is looking.

Owns the bars. Does not own when work reports.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Tell = Callable[[Mapping[str, object]], None]


def silent(_progress: Mapping[str, object]) -> None:
    """Show nothing."""


@contextmanager
def shown() -> Iterator[Tell]:
    """Lend a receiver of progress; it draws bars if stderr is a terminal.

    Nothing is drawn, nor imported for it, before there is progress.
    """
    if not sys.stderr.isatty():
        yield silent
        return
    bars = _Bars()
    try:
        yield bars.tell
    finally:
        bars.stop()


class _Bars:
    """One bar for each kind of work, gone when all is done."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def tell(self, progress: Mapping[str, object]) -> None:
        """Move the bar of this work; the first one starts the drawing."""
        if self._progress is None:
            self._progress = _start()
        work = str(progress.get("work", "working"))
        done = _number(progress.get("done"))
        total = _number(progress.get("total")) or None  # None: nobody knows how much
        if work not in self._tasks:
            self._tasks[work] = self._progress.add_task(work, total=total)
        self._progress.update(self._tasks[work], completed=done, total=total)

    def stop(self) -> None:
        """Clear the bars and give the cursor back."""
        if self._progress is not None:
            self._progress.stop()


def _start() -> "Progress":
    from rich.console import Console
    from rich.progress import Progress

    bars = Progress(console=Console(stderr=True), transient=True)
    bars.start()
    return bars


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
