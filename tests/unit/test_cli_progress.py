"""Bars of long work: how much is done, of how much, if anybody knows."""

import pytest
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
