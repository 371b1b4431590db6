"""The measurement of reconciliation: every way finds what differs, and is counted."""

import json

import pytest

from benchmarks.reconcile import command
from benchmarks.reconcile.counting import Cost, together
from benchmarks.reconcile.pairs import Ids

FIGURES = {"n", "d", "way", "both", "bytes", "messages", "cpu_s"}


def test_ways_are_counted_at_the_same_sets(capsys: pytest.CaptureFixture[str]) -> None:
    """The rows that the issue names, and the three mechanisms of real sessions."""
    assert command.main(["--json", "--count", "1000", "--only", "clues"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(row.keys() >= FIGURES for row in found["rows"])
    assert {row["d"] for row in found["rows"]} == {0, 1, 10, 100, 1_000}
    equal, feed, *_ = found["mechanisms"]
    assert equal["kinds"] == {"Heartbeat": 1}
    assert feed["round_trips"] == 1
    assert feed["bytes"] < found["goals"]["feed_bytes"]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    "way",
    [w if w != "rateless" else pytest.param(w, marks=pytest.mark.slow)
     for w in sorted(command.WAYS)],
)  # fmt: skip
def test_every_way_finds_what_is_lacking(way: str, both: bool) -> None:
    """Each checks what it found against what was left out, and ends the run else."""
    ids = Ids(700)
    for differences in (0, 1, 2, 40, 700):
        cost = command.WAYS[way](ids.pair(differences, both=both and differences > 1))
        assert cost.messages == len(cost.sizes) >= 2
        assert cost.bytes > 0


def test_a_way_that_finds_less_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure of an exchange that missed something is worth nothing."""
    pair = Ids(300).pair(3, both=False)
    object.__setattr__(pair, "we_lack", pair.we_lack | {bytes(32)})
    for way in ("clues", "whole", "negentropy"):
        with pytest.raises(SystemExit):
            command.WAYS[way](pair)


def test_time_is_work_bytes_and_half_round_trips() -> None:
    """What both sides do at once counts once; bytes and messages of two all count."""
    one, other = Cost([1_000, 2_000], 0.5), Cost([10], 0.25)
    assert one.seconds(1, 100) == pytest.approx(0.5 + 0.024 + 0.1)
    both = together(other, one)
    assert both.sizes == [1_010, 2_000]
    assert both.seconds(1, 100) == pytest.approx(0.5 + 0.02408 + 0.1)
