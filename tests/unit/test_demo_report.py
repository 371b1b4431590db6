"""The demo's verdict: it can fail; and its report, which replaces nothing but a report."""

import csv
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest

from crdtmerge.errors import ConflictError
from nodes.demo import folder, plot
from nodes.demo.report import (
    Accuracy,
    Outcome,
    Stage,
    as_json,
    broken_promises,
    table,
)

SAID = b'{"contributions": [1], "merge_id": "cc"}'
GOOD = Stage(("aa", "aa"), (b"1", b"1"), (SAID, SAID))
BAD = Stage(("bb", "bb"), (b"2", b"2"), (SAID, SAID))
OUTCOME = Outcome(
    names=("alice", "mallory"),
    classes=((0, 1),),
    test_images=450,
    accuracy=Accuracy(0.7, (0.3,), 0.8, 0.5, 0.8),
    by_digit=((0.8, 0.6), (0.1, 0.5), (0.9, 0.7), (0.6, 0.4), (0.9, 0.7)),
    merged=GOOD,
    poisoned=BAD,
    after_ban=GOOD,
    roots=("ff", "ff"),
)


def with_accuracy(**changes: object) -> Outcome:
    return replace(OUTCOME, accuracy=replace(OUTCOME.accuracy, **changes))  # type: ignore[arg-type]


def test_a_good_outcome_breaks_no_promise() -> None:
    """Nothing to complain about when all came true."""
    assert list(broken_promises(OUTCOME)) == []


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (with_accuracy(fine_tunes=(0.8,)), "does not beat every single fine-tune"),
        (with_accuracy(base=0.81), "does not beat the base"),
        (with_accuracy(poisoned=0.8), "did no harm"),
        (replace(OUTCOME, after_ban=BAD), "after the ban differ"),
        (replace(OUTCOME, roots=("ff", "fe")), "different record roots"),
        (
            replace(OUTCOME, poisoned=replace(BAD, digests=("bb", "bc"))),
            "different models (with the poison)",
        ),
        (
            replace(OUTCOME, merged=replace(GOOD, models=(b"1", b"x"))),
            "different models (merged)",
        ),
        (
            replace(OUTCOME, merged=replace(GOOD, resolutions=(SAID, b"{}"))),
            "different resolutions (merged)",
        ),
    ],
)
def test_a_broken_promise_is_named(outcome: Outcome, words: str) -> None:
    """Each expectation, violated alone, is found and said."""
    assert any(words in sentence for sentence in broken_promises(outcome))


def test_json_has_the_promised_shape() -> None:
    """Peers with the digest after the ban; accuracies by name."""
    assert as_json(OUTCOME) == {
        "peers": [
            {"name": "alice", "root": "ff", "model_digest": "aa"},
            {"name": "mallory", "root": "ff", "model_digest": "aa"},
        ],
        "accuracy": {
            "base": 0.7,
            "fine_tunes": [0.3],
            "merged": 0.8,
            "poisoned": 0.5,
            "after_ban": 0.8,
        },
    }


def test_the_table_says_whether_the_peers_are_equal() -> None:
    """A column of equal digests ends in `equal`, another in `DIFFERENT`."""
    assert list(table(OUTCOME))[-1].split() == ["equal"] * 4
    lines = list(table(replace(OUTCOME, roots=("ff", "fe"))))
    assert lines[-1].split() == ["DIFFERENT", "equal", "equal", "equal"]


# --- the report ---------------------------------------------------------------------------


def texts(out: Path) -> dict[str, bytes]:
    """Return every file below `out`."""
    found = (item for item in out.rglob("*") if item.is_file())
    return {str(item.relative_to(out)): item.read_bytes() for item in found}


def test_the_report_holds_table_plot_and_every_resolution(tmp_path: Path) -> None:
    """What each peer wrote at each stage is there, with sums that fit."""
    drawn = plot.draw(OUTCOME)
    folder.write(tmp_path / "out", OUTCOME, drawn)
    held = texts(tmp_path / "out")
    peers = [f"{name}.json" for name in OUTCOME.names]
    stages = ("merged", "with-the-poison", "after-the-ban")
    written = {f"resolutions/{stage}/{peer}" for stage in stages for peer in peers}
    fixed = {"README.md", "accuracy.csv", "accuracy.png", "figures.json"}
    assert set(held) == written | fixed | {"resolutions/SHA256SUMS"}
    assert all(held[name] == SAID for name in written)
    sums = held["resolutions/SHA256SUMS"].decode().splitlines()
    said = {line[66:]: line[:64] for line in sums}
    assert said == {
        name.removeprefix("resolutions/"): hashlib.sha256(held[name]).hexdigest()
        for name in written
    }
    figures = json.loads(held["figures.json"])
    assert {key: figures[key] for key in as_json(OUTCOME)} == as_json(OUTCOME)
    assert [model["by_digit"] for model in figures["models"]] == [
        list(shares) for shares in OUTCOME.by_digit
    ]
    rows = list(csv.reader(io.StringIO(held["accuracy.csv"].decode())))
    assert rows[0] == ["model", "all", "digit_0", "digit_1"]
    assert rows[1] == ["base", "0.700000", "0.800000", "0.600000"]
    page = held["README.md"].decode()
    assert "| base | **70.0%** | 80% | 60% |" in page
    assert "2 models equal, 2 resolutions equal" in page
    assert "](accuracy.png)" in page
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


def test_the_page_says_what_did_not_come_true() -> None:
    """A report of a failed demo does not read like a success."""
    page = dict(folder.files(replace(OUTCOME, roots=("ff", "fe")), b""))["README.md"]
    assert b"Not everything came true" in page
    assert b"different record roots" in page
    assert b"DIFFERENT on all" in page


def test_equal_figures_draw_equal_bytes() -> None:
    """Neither the clock nor what a user has set for matplotlib is in the picture."""
    first = plot.draw(OUTCOME)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert plot.draw(OUTCOME) == first
    assert first.startswith(b"\x89PNG")
    other = replace(OUTCOME, by_digit=(*OUTCOME.by_digit[:-1], (0.1, 0.1)))
    assert plot.draw(other) != first


def test_an_earlier_report_is_replaced(tmp_path: Path) -> None:
    """An empty folder is used, and a report makes room for the next one."""
    out = tmp_path / "out"
    out.mkdir()
    folder.write(out, OUTCOME, b"first")
    folder.write(out, with_accuracy(base=0.6), b"second")
    held = texts(out)
    assert held["accuracy.png"] == b"second"
    assert b"60.0%" in held["README.md"]
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["thesis.md", "README.md", "figures.json"])
def test_what_is_no_report_is_never_replaced(tmp_path: Path, name: str) -> None:
    """A file of somebody else's, whatever its name, is refused before the demo begins."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(ConflictError, match="no earlier report"):
        folder.check_way(tmp_path)
    with pytest.raises(ConflictError, match="not a folder"):
        folder.check_way(tmp_path / name)
    with pytest.raises(ConflictError):
        folder.write(tmp_path, OUTCOME, b"")
    assert texts(tmp_path) == {name: b"{}"}


def test_a_report_to_which_something_was_added_is_kept(tmp_path: Path) -> None:
    """Notes that a user put beside the figures are not lost."""
    out = tmp_path / "out"
    folder.write(out, OUTCOME, b"")
    (out / "notes.md").write_text("mine")
    before = texts(out)
    with pytest.raises(ConflictError, match=r"notes\.md"):
        folder.write(out, OUTCOME, b"other")
    assert texts(out) == before
