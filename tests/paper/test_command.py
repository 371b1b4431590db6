"""`python -m simulations paper`: figures, report and exit status."""

import json
from pathlib import Path

import pytest

from simulations import __main__ as program
from simulations.paper import command
from simulations.paper.report import markdown

HERE = ["paper", "--quick", "--tier", "1", "--processes", "1"]


def test_report_and_figures_are_of_one_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed, what is kept, and the report that is made of it."""
    monkeypatch.setattr(command, "QUICK_STRATEGIES", ("ties",))
    assert program.main([*HERE, "--json", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["tier1"]["phase2_passed"], found["tier1"]["phase2_total"]) == (4, 4)
    assert found == json.loads((tmp_path / "figures.json").read_text())
    assert (tmp_path / "report.md").read_text() == markdown(found)
    assert (tmp_path / "algebra.svg").read_text().startswith("<?xml")
    assert "tier3" not in found
    assert str(tmp_path) not in (tmp_path / "report.md").read_text()


def test_a_law_that_fails_shows_in_the_exit_status() -> None:
    """A script can tell."""
    held = {"phase2_passed": 4, "phase2_total": 4}
    assert command.all_hold({"tier1": held})
    assert not command.all_hold({"tier1": {**held, "phase2_passed": 3}})
    layers = {"layer_checks": 8, "layer_checks_passed": 7}
    assert not command.all_hold({"tier2": layers})
