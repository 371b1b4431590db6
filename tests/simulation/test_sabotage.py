"""The checkers can fail: each break of the code is caught within a few seeds."""

import json

import pytest

from nodes.sets import Sets
from simulations import sabotage
from simulations.hunting.attempts import attempt
from simulations.outcome import Outcome
from simulations.sabotage import SABOTAGES, SMALL, Sabotage
from simulations.stories import swarm as story

SEEDS_MOST = 8
"""Seeds within which each must be caught here; `python -m simulations sabotage` counts."""
PATIENCE_ROUNDS = 150
"""Rounds enough to agree for all but those whose chunks are taken for lies."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "PATIENCE_ROUNDS", PATIENCE_ROUNDS)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", SABOTAGES)
def test_every_break_is_caught(name: str) -> None:
    """A dropped record, a number used again, a skipped fsync, a trusted chunk, ..."""
    assert any(SABOTAGES[name].caught(range(SEEDS_MOST)))


def test_nothing_is_caught_where_nothing_is_broken() -> None:
    """In the runs in which the breaks are looked for, and after each of them."""
    for run in dict.fromkeys(chosen.run for chosen in SABOTAGES.values()):
        assert isinstance(attempt(run), Outcome)


def test_a_break_lasts_no_longer_than_it_is_asked_for() -> None:
    """The next run is one of the code as it is."""
    before = Sets.take
    with SABOTAGES["drop-a-record"].done():
        assert Sets.take is not before
    assert Sets.take is before


def test_the_command_counts_seeds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And fails if a break is never caught: a checker is lacking then."""
    words = ["fetch-nothing", "--seeds", "2"]
    assert sabotage.main([*words, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["sabotages"]
    assert (row["seeds"], row["caught"], row["first"]) == (2, 2, 1)
    assert row["command"].endswith(SMALL.command)
    harmless = Sabotage("Nothing is broken.", lambda _undo: None)
    monkeypatch.setitem(SABOTAGES, "fetch-nothing", harmless)
    assert sabotage.main(words) == 1
    assert "fetch-nothing  0" in capsys.readouterr().out
