"""Evaluations as members say and list them: subjects, words, last words, medians.

Every refusal leaves the home as it was.
"""

from pathlib import Path
from typing import Any

import pytest

from crdtmerge.bodies import NOTE_CHARACTERS_MAX
from crdtmerge.errors import BadInputError, NotAllowedError, NotFoundError
from tests.unit.test_operations_members import Cast

SCORED = {"metric": "accuracy", "data": "digits-v1"}


@pytest.fixture
def cast(tmp_path: Path) -> Cast:
    return Cast(tmp_path)


@pytest.fixture
def content(cast: Cast) -> str:
    """Return a contribution that all homes know."""
    found: str = cast.offers(cast.contributor, 0)["content"]
    cast.share()
    return found


def item(subject: str, result: str, **more: str) -> dict[str, str]:
    return {"subject": subject, "result": result, **SCORED, **more}


def says(cast: Cast, home: Path, *items: dict[str, str]) -> Any:
    return cast.call(home, "evaluation_add", items=list(items))


def listed(cast: Cast, home: Path, **asked: str) -> Any:
    return cast.call(home, "evaluation_list", **asked)


def median(cast: Cast, home: Path, **asked: str) -> list[tuple[str, int]]:
    found = listed(cast, home, **asked)["medians"]
    return [(one["median"], one["authors"]) for one in found]


def test_of_one_author_the_last_word_counts(cast: Cast, content: str) -> None:
    """What was said before stays listed, and says that it does not count."""
    first = says(cast, cast.owner, item(content[:8], "0.5", note="in haste"))
    (said,) = first["evaluations"]
    assert (said["subject"], said["target"], said["new"]) == ("content", content, True)
    second = says(cast, cast.owner, item(content, "+0.250"))["evaluations"][0]
    assert second["result"] == "0.25"
    found = {e["record"]: e for e in listed(cast, cast.owner)["evaluations"]}
    assert found[said["record"]]["state"] == "said again since"
    assert found[said["record"]]["note"] == "in haste"
    assert found[second["record"]]["effect"]
    assert all(e["you"] and e["rank"] == "owner" for e in found.values())
    assert median(cast, cast.owner) == [("0.25", 1)]


def test_the_same_again_signs_nothing(cast: Cast, content: str) -> None:
    """Another note is another word, and so is what was said before another."""
    for result, note, new in (
        ("1", "", 1), ("1.0", "", 0), ("1", "a", 1), ("2", "", 1), ("1", "", 1)
    ):  # fmt: skip
        answer = says(cast, cast.owner, item(content, result, note=note))
        assert answer["new"] == new
        assert bool(answer["notes"]) is not bool(new)
        assert (answer["evaluations"][0]["record"] is not None) is bool(new)


def test_any_rank_may_evaluate_and_strangers_not(cast: Cast, content: str) -> None:
    """A reader may; who was revoked may no more."""
    reader = cast.join("reader")
    cast.share()
    says(cast, reader, item(content, "0.5"))
    cast.share()
    (said,) = listed(cast, cast.owner)["evaluations"]
    assert (said["author"], said["rank"]) == (cast.key(reader), "reader")
    assert not said["you"]
    cast.call(cast.owner, "space_revoke", author=cast.key(reader))
    cast.share()
    asked = {"items": [item(content, "0.6")]}
    cast.refused(reader, NotAllowedError, "evaluation_add", **asked)


def test_one_who_lies_among_three_moves_no_median(cast: Cast, content: str) -> None:
    """Whatever it says, the median stays between what the two others say."""
    says(cast, cast.owner, item(content, "0.5"))
    says(cast, cast.maintainer, item(content, "0.6"))
    cast.share()
    assert median(cast, cast.owner) == [("0.55", 2)]
    for lie, counts in (("999999999", "0.6"), ("-999999999", "0.5"), ("0.57", "0.57")):
        says(cast, cast.contributor, item(content, lie))
        cast.share()
        assert median(cast, cast.maintainer) == [(counts, 3)]


def test_a_banned_authors_evaluations_do_not_count(cast: Cast, content: str) -> None:
    """They stay listed, with why."""
    says(cast, cast.owner, item(content, "0.5"))
    says(cast, cast.maintainer, item(content, "0.75"))
    cast.share()
    cast.call(cast.owner, "ban", id=cast.key(cast.maintainer))
    cast.share()
    assert median(cast, cast.owner) == [("0.5", 1)]
    found = {e["author"]: e for e in listed(cast, cast.owner)["evaluations"]}
    theirs = found[cast.key(cast.maintainer)]
    assert not theirs["effect"]
    assert "ban" in theirs["state"]


def test_medians_are_by_data_and_over_all_of_it(cast: Cast, content: str) -> None:
    """Of one author with several data one voice, as recipes without `data` read it."""
    both = [item(content, "1"), item(content, "0", data="other")]
    says(cast, cast.owner, *both, item(content, "3", metric="loss"))
    says(cast, cast.maintainer, item(content, "1"))
    cast.share()
    found = listed(cast, cast.owner)["medians"]
    told = [(m["metric"], m["data"], m["median"], m["authors"]) for m in found]
    assert told == [
        ("accuracy", None, "0.75", 2),
        ("accuracy", "digits-v1", "1", 2),
        ("accuracy", "other", "0", 1),
        ("loss", "digits-v1", "3", 1),
    ]
    assert median(cast, cast.owner, data="other") == [("0", 1)]
    assert median(cast, cast.owner, metric="loss") == [("3", 1)]
    other = cast.offers(cast.owner, 1)["content"]
    assert listed(cast, cast.owner, contribution=other)["evaluations"] == []
    assert len(median(cast, cast.owner, contribution=content[:8])) == 4


def test_models_are_scored_by_their_merge_id(cast: Cast, content: str) -> None:
    """The present one by a prefix, any by `model:` and the whole of it; no median."""
    del content
    (space,) = cast.call(cast.owner, "status")["spaces"]
    elsewhere = "cd" * 32
    answer = says(
        cast,
        cast.owner,
        item(space["merge_id"][:10], "0.5"),
        item(f"model:{elsewhere}", "0.6"),
    )
    subjects = [(e["subject"], e["target"]) for e in answer["evaluations"]]
    assert subjects == [("model", space["merge_id"]), ("model", elsewhere)]
    assert not answer["another_merge"]
    says(cast, cast.owner, item(elsewhere[:6], "0.7"))  # it is known now
    found = listed(cast, cast.owner)
    assert len(found["evaluations"]) == 3
    assert found["medians"] == []


def test_several_are_said_together_or_not_at_all(cast: Cast, content: str) -> None:
    """One that is wrong, or one record too many for the grant."""
    other = cast.offers(cast.owner, 1)["content"]
    good = item(content, "0.5")
    for bad, error, text in (
        (item(other, "much"), BadInputError, "result='much'"),
        (item(other, "1e-3"), BadInputError, "result='1e-3'"),
        (item(other, "0.0000000001"), BadInputError, "result"),
        (item(other, "1234567890"), BadInputError, "result"),
        (item(other, "1", metric="Top 1"), BadInputError, "metric 'Top 1'"),
        (item(other, "1", data=""), BadInputError, "data ''"),
        (
            item(other, "1", note="x" * (NOTE_CHARACTERS_MAX + 1)),
            BadInputError,
            "the note has",
        ),
        (item(content[:9], "1"), BadInputError, "two results"),
        (item("model:" + "cd" * 31, "1"), NotFoundError, "no known model"),
        (item("tag:abcd", "1"), BadInputError, "no subject"),
        (item("abc", "1"), BadInputError, "too short"),
        (item("ab" * 32, "1"), NotFoundError, "or known model"),
        ({"subject": other, **SCORED}, BadInputError, "evaluation 2 has no result"),
        (good | {"by": "me"}, BadInputError, "a field 'by'"),
    ):
        asked = {"items": [good, bad]}
        raised = cast.refused(cast.owner, error, "evaluation_add", **asked)
        assert text in str(raised)
    both = says(cast, cast.owner, good, item(other, "0.6"))
    assert both["new"] == 2


@pytest.mark.parametrize("items", [None, [], "x", [3], [{"subject": 3}]])
def test_what_is_no_list_of_evaluations_is_refused(cast: Cast, items: object) -> None:
    """It may come from anywhere over the socket."""
    cast.refused(cast.owner, BadInputError, "evaluation_add", items=items)


def test_a_grant_of_few_records_bounds_what_one_says(cast: Cast, content: str) -> None:
    """All of the command is refused, also what would have fitted."""
    home = cast.fleet.init("few")
    words = {"author": cast.key(home), "rank": "reader", "records": "2"}
    cast.call(cast.owner, "space_grant", **words)
    cast.homes.append(home)
    cast.share()
    items = [item(content, "1", data=f"d{i}") for i in range(4)]
    cast.refused(home, NotAllowedError, "evaluation_add", items=items)
    assert says(cast, home, *items[:3])["new"] == 3
    cast.refused(home, NotAllowedError, "evaluation_add", items=items[3:])
