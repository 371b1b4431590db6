"""Bars of long work: how much is done, of how much, if anybody knows."""

import io
import re

import pytest
from rich.console import Console
from rich.progress import Progress

from nodes.cli import progress


@pytest.mark.parametrize(
    ("total", "finished"), [(None, False), (0, False), (9, False), (5, True)]
)
def test_work_without_a_known_end_is_never_shown_as_done(
    total: int | None, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection does not know its total, and a comparison begins with none."""
    bars = Progress(disable=True)
    monkeypatch.setattr(progress, "_start", lambda: bars)
    shown = progress._Bars()
    shown.tell({"work": "collecting", "done": 5, "total": total})
    [task] = bars.tasks
    assert task.completed == 5
    assert task.finished is finished


def test_merging_shows_tensors_rate_and_time_left() -> None:
    """Tensors where they are worked on, bytes a second where bytes are, and an end."""
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    bars = progress._start()
    bars.stop()
    shown = Progress(*bars.columns, console=console, get_time=iter(range(99)).__next__)
    task = shown.add_task("merging", total=400, amount="", in_bytes=True)
    facts = {"work": "merging", "done": 10**9, "total": 4 * 10**9, "unit": "bytes"}
    told = progress._amount(facts | {"tensors": [3, 9]}, 1, 4, in_bytes=True)
    shown.start_task(task)
    shown.update(task, completed=10**9, total=4 * 10**9, amount=told)
    shown.update(task, completed=2 * 10**9)
    with console.capture() as captured:
        console.print(shown.make_tasks_table(shown.tasks))
    text = captured.get()
    assert "3 of 9 tensors" in text
    assert re.search(r"[0-9.]+ GB/s", text)
    assert re.search(r"\d:\d\d:\d\d", text)


@pytest.mark.parametrize(
    ("unit", "total", "said"),
    [
        ("bytes", 5 << 20, "1.0 MiB of 5.0 MiB"),
        ("items", 5 << 20, "1048576 of 5242880"),
        ("bytes", None, "1.0 MiB"),
    ],
)
def test_amounts_are_in_the_unit_of_the_work(
    unit: str, total: int | None, said: str
) -> None:
    """Bytes as people say them, items as a number."""
    assert progress._amount({}, 1 << 20, total, in_bytes=unit == "bytes") == said
