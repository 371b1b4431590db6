"""Progress of long work, on stderr, and only when somebody is looking.

Owns the bars. Does not own when work reports.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Tell = Callable[[Mapping[str, object]], None]


def silent(_progress: Mapping[str, object]) -> None:
    """Show nothing."""


@contextmanager
def shown() -> Iterator[Tell]:
    """Lend a receiver of progress; it draws bars if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    tasks: dict[str, TaskID] = {}
    with Progress(console=Console(stderr=True), transient=True) as bars:

        def tell(progress: Mapping[str, object]) -> None:
            work = str(progress.get("work", "working"))
            done, total = (_number(progress.get(key)) for key in ("done", "total"))
            if work not in tasks:
                tasks[work] = bars.add_task(work, total=total)
            bars.update(tasks[work], completed=done, total=total)

        yield tell


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
