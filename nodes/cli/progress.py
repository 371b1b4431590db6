"""Progress of long work, on stderr, and only when somebody is looking.

Owns the bars, and what stands beside them: how much of what, how fast, how long yet. Does
not own when work reports.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .render import size

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

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
        in_bytes = progress.get("unit") == "bytes"
        amount = _amount(progress, done, total, in_bytes=in_bytes)
        if work not in self._tasks:
            self._tasks[work] = self._progress.add_task(
                work, total=total, amount=amount, in_bytes=in_bytes
            )
        task = self._tasks[work]
        self._progress.update(task, completed=done, total=total, amount=amount)

    def stop(self) -> None:
        """Clear the bars and give the cursor back."""
        if self._progress is not None:
            self._progress.stop()


def _start() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        _speed(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bars.start()
    return bars


def _speed() -> "ProgressColumn":
    """Return a column with bytes a second, empty for what is not in bytes."""
    from rich.progress import Task, TransferSpeedColumn
    from rich.text import Text

    class Speed(TransferSpeedColumn):
        def render(self, task: Task) -> Text:
            return super().render(task) if task.fields["in_bytes"] else Text("")

    return Speed()


def _amount(
    progress: Mapping[str, object], done: float, total: float | None, *, in_bytes: bool
) -> str:
    """Return how much is done: in tensors, else in bytes, else as a plain count."""
    tensors = progress.get("tensors")
    if isinstance(tensors, list):
        return "{} of {} tensors".format(*tensors)
    shown = size if in_bytes else (lambda number: f"{number:.0f}")
    return f"{shown(done)} of {shown(total)}" if total else shown(done)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
