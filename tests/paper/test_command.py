"""`python -m simulations paper`: figures, report and exit status."""

import json
from pathlib import Path

import pytest

from simulations import __main__ as program
from simulations.paper import command
from simulations.paper.report import PLOTS, markdown

DOCS = Path(__file__).parents[2] / "docs" / "paper"
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


def test_the_committed_report_is_that_of_its_figures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No number of it was written by hand, and nothing that it tells of failed."""
    assert program.main(["paper", "--load", str(DOCS / "figures.json")]) == 0
    assert capsys.readouterr().out == (DOCS / "report.md").read_text()
    for file, _ in PLOTS.values():
        assert (DOCS / file).stat().st_size < 100_000


def test_runs_of_a_tier_each_are_put_together() -> None:
    """Of each tier the last run counts, and a run that nothing is left of is not named."""
    first = {"runs": [{"commit": "a", "tiers": [1, 3]}], "tier1": 1, "tier3": 3}
    second = {"runs": [{"commit": "b", "tiers": [3]}], "tier3": 33}
    third = {"runs": [{"commit": "c", "tiers": [1]}], "tier1": 11}
    found = command.together([first, second])
    assert (found["tier1"], found["tier3"]) == (1, 33)
    assert [run["tiers"] for run in found["runs"]] == [[1], [3]]
    found = command.together([first, second, third])
    assert [run["commit"] for run in found["runs"]] == ["b", "c"]


def test_a_law_that_fails_shows_in_the_exit_status() -> None:
    """A script can tell."""
    held = {"phase2_passed": 4, "phase2_total": 4}
    assert command.all_hold({"tier1": held})
    assert not command.all_hold({"tier1": {**held, "phase2_passed": 3}})
    layers = {"layer_checks": 8, "layer_checks_passed": 7}
    assert not command.all_hold({"tier2": layers})
