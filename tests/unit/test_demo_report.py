"""The demo's verdict: it can fail, and the JSON has the promised shape."""

from dataclasses import replace

import pytest

from nodes.demo.report import (
    Accuracy,
    Outcome,
    Stage,
    as_json,
    broken_promises,
    table,
)

GOOD = Stage(("aa", "aa"), (b"1", b"1"))
BAD = Stage(("bb", "bb"), (b"2", b"2"))
OUTCOME = Outcome(
    names=("alice", "mallory"),
    classes=((0, 1),),
    test_images=450,
    accuracy=Accuracy(0.7, (0.3,), 0.8, 0.5, 0.8),
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
            replace(OUTCOME, poisoned=Stage(("bb", "bc"), (b"2", b"2"))),
            "different models (with the poison)",
        ),
        (
            replace(OUTCOME, merged=Stage(("aa", "aa"), (b"1", b"x"))),
            "different models (merged)",
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
