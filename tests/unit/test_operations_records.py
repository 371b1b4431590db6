"""The recipe of a space and the log of its records, as verbs show and change them."""

from pathlib import Path
from typing import Any

import pytest

from crdtmerge.errors import (
    BadInputError,
    CrdtMergeError,
    NotAllowedError,
    UnknownNameError,
)
from tests.homes import snapshot
from tests.unit.test_operations_members import Cast, cast

__all__ = ["cast"]


def recipe_of(cast: Cast, home: Path) -> Any:
    """Return what a home is told of the recipe."""
    return cast.call(home, "recipe_show")


def rule(tensors: str, **parameters: str) -> dict[str, object]:
    return {"tensors": tensors, "parameters": parameters}


# --- recipes ---------------------------------------------------------------------------


def test_a_recipe_that_is_set_serves_everybody(cast: Cast) -> None:
    """Parameters are completed by defaults; rules, dtype and scope are as typed."""
    words = {
        "strategy": "ties",
        "params": {"density": "0.50"},
        "rules": [
            rule("*.bias", density="1", normalize="no"),
            rule("head.*", density="0.1"),
        ],
        "output_dtype": "bfloat16",
        "seed_scope": "contribution",
    }
    made = cast.call(cast.maintainer, "recipe_set", **words)
    assert made["new"]
    assert made["notes"] == []
    cast.share()
    shown = recipe_of(cast, cast.contributor)
    assert shown["recipe"] == made["recipe"]
    assert shown["record"] == made["record"]
    assert not shown["conflict"]
    found = shown["recipe"]
    assert found["strategy"] == "ties/1"
    assert found["parameters"]["density"] == "0.5"
    assert "lambda" in found["parameters"]
    assert [rule["pattern"] for rule in found["rules"]] == ["*.bias", "head.*"]
    assert found["rules"][0]["parameters"] == {"density": "1", "normalize": "false"}
    assert (found["output_dtype"], found["seed_scope"]) == ("BF16", "contribution")
    (space,) = cast.call(cast.owner, "status")["spaces"]
    assert space["merge_id"] == made["merge_id"]


def test_the_same_recipe_again_signs_nothing(cast: Cast) -> None:
    """Spelled otherwise it is the same recipe."""
    words = {"strategy": "ties", "params": {"density": "0.2"}}
    first = cast.call(cast.owner, "recipe_set", **words)
    words["params"] = {"density": "0.20"}
    again = cast.call(cast.owner, "recipe_set", **words)
    assert (again["new"], again["record"]) == (False, first["record"])
    assert "already" in again["notes"][0]


def test_concurrent_recipes_are_shown_until_another_is_set(cast: Cast) -> None:
    """The lowest id serves on every replica, though the other may be newer there."""
    both = [
        cast.call(home, "recipe_set", strategy=name)
        for home, name in ((cast.owner, "ties"), (cast.maintainer, "metagpt"))
    ]
    cast.share()
    shown = [recipe_of(cast, home) for home in cast.homes]
    assert shown[0] == shown[1] == shown[2]
    assert shown[0]["conflict"]
    assert "concurrent" in shown[0]["notes"][0]
    heads = shown[0]["heads"]
    assert [head["record"] for head in heads] == sorted(m["record"] for m in both)
    assert [head["serves"] for head in heads] == [True, False]
    # The one that serves, said again, ends the conflict.
    serving = next(m for m in both if m["record"] == heads[0]["record"])
    name = serving["recipe"]["strategy"]
    third = cast.call(cast.owner, "recipe_set", strategy=name)
    assert third["new"]
    assert sorted(third["replaced"]) == [head["record"] for head in heads]
    assert not recipe_of(cast, cast.owner)["conflict"]


def test_a_rule_that_fits_no_tensor_is_noted(cast: Cast) -> None:
    """A typing error in a pattern would else go unseen."""
    rules = [rule("layer.*", density="0.1"), rule("lyer.*", density="0.1")]
    made = cast.call(cast.owner, "recipe_set", strategy="ties", rules=rules)
    assert made["new"]
    assert made["notes"] == ["the rule for 'lyer.*' fits no tensor of the base"]


RECIPES: list[tuple[dict[str, object], type[CrdtMergeError], str]] = [
    ({"strategy": "tise"}, UnknownNameError, "ties"),
    ({"params": {"densty": "0.5"}}, UnknownNameError, "density"),
    ({"params": {"density": "1.5"}}, BadInputError, "density"),
    ({"params": {"density": "1e-1"}}, BadInputError, "exponent"),
    ({"rules": [rule("*", densty="0.5")]}, UnknownNameError, "density"),
    ({"rules": [rule("*", density="2")]}, BadInputError, "density"),
    ({"rules": [rule("", density="0.5")]}, BadInputError, "pattern"),
    ({"rules": [rule("*", density="1") | {"models": "me"}]}, BadInputError, "tag:"),
    ({"rules": [rule("*", lambda_="1")]}, UnknownNameError, "lambda"),
    ({"pre": ["trimm"]}, UnknownNameError, "trim"),
    ({"pre": ["trim", "trim"]}, BadInputError, "twice"),
    ({"rules": [["*", "density"]]}, BadInputError, "rule"),
    (
        {"rules": [rule(f"a{i}", density="1") for i in range(1025)]},
        BadInputError,
        "1024",
    ),
    ({"rules": [rule("a\udcff", density="1")]}, BadInputError, "surrogate"),
    (
        {"rules": [rule(f"{i:03}".ljust(250, "x"), density="1") for i in range(256)]},
        BadInputError,
        "fewer rules",
    ),
    ({"output_dtype": "int8"}, BadInputError, "BF16"),
    ({"seed_scope": "all"}, BadInputError, "contribution"),
]


def test_what_no_recipe_can_say_is_refused(cast: Cast) -> None:
    """A misspelt name comes with the nearest one, a value with its range."""
    for words, error, said in RECIPES:
        asked = {"strategy": "ties", **words}
        found = cast.refused(cast.owner, error, "recipe_set", **asked)
        assert said in f"{found} {found.hint}", words


def test_a_contributor_sets_no_recipe(cast: Cast) -> None:
    """Not even the one that stands; it is told which rank it takes."""
    for name in ("ties", "linear"):
        error = cast.refused(
            cast.contributor, NotAllowedError, "recipe_set", strategy=name
        )
        assert "maintainer" in str(error)


# --- the log ---------------------------------------------------------------------------


def log(cast: Cast, home: Path, **words: object) -> list[Any]:
    """Return the records that a home lists."""
    found: list[Any] = cast.call(home, "log", **words)["records"]
    return found


def test_every_home_lists_the_same_records_in_one_order(cast: Cast) -> None:
    """Whatever came first; each record after those that it names."""
    cast.offers(cast.contributor, 0)
    cast.offers(cast.owner, 1)
    cast.call(cast.maintainer, "recipe_set", strategy="ties")
    cast.share()
    listed = [log(cast, home) for home in cast.homes]
    assert listed[0] == listed[1] == listed[2]
    place = {record["record"]: i for i, record in enumerate(listed[0])}
    for i, record in enumerate(listed[0]):
        for named in filter(None, (record["prev"], record["auth"])):
            assert place[named] < i
    assert listed[0][0]["kind"] == "genesis"
    assert log(cast, cast.owner, limit=3) == listed[0][-3:]
    assert cast.call(cast.owner, "log", limit=3)["total"] == len(listed[0])


def kinds(records: list[Any]) -> dict[tuple[str, str], int]:
    """Return how many records there are of each kind and state."""
    found: dict[tuple[str, str], int] = {}
    for record in records:
        assert record["effect"] == (record["state"] == "in effect")
        key = record["kind"], record["state"]
        found[key] = found.get(key, 0) + 1
    return found


def test_the_log_says_what_has_effect_now_and_why_not(cast: Cast) -> None:
    """Removed, banned, replaced, lifted, revoked: each in its words."""
    gone = cast.offers(cast.contributor, 0)["content"]
    poison = cast.offers(cast.contributor, 1)["content"]
    cast.call(cast.contributor, "remove", id=gone)
    cast.share()
    cast.call(cast.owner, "recipe_set", strategy="ties")
    cast.call(cast.owner, "ban", id=poison)
    key = cast.key(cast.contributor)
    cast.call(cast.maintainer, "ban", id=key)
    cast.call(cast.maintainer, "ban_lift", id=key)
    cast.call(cast.owner, "space_revoke", author=key)
    cast.offers(cast.contributor, 2)
    cast.share()
    found = kinds(log(cast, cast.owner))
    assert found == {
        ("genesis", "in effect"): 1,
        ("recipe", "replaced"): 1,
        ("recipe", "in effect"): 1,
        ("grant", "in effect"): 2,
        ("node", "in effect"): 1,
        ("node", "it does not count now"): 1,
        ("add", "removed"): 1,
        ("add", "banned"): 1,
        ("add", "its author was revoked"): 1,
        ("remove", "in effect"): 1,
        ("ban", "in effect"): 1,
        ("ban", "lifted"): 1,
        ("lift", "in effect"): 1,
        ("revoke", "in effect"): 1,
    }
    cast.call(cast.owner, "ban", id=key)
    found = kinds(log(cast, cast.owner))
    assert found["add", "its author is banned"] == 3
    assert found["remove", "its author is banned"] == 1


def test_a_limit_is_a_number_above_zero(cast: Cast) -> None:
    """A command of another version may ask anything."""
    for limit in (0, -1, "5", True):
        cast.refused(cast.owner, BadInputError, "log", limit=limit)


@pytest.mark.parametrize("verb", ["recipe_show", "log", "space_members"])
def test_looking_changes_nothing(cast: Cast, verb: str) -> None:
    """Also not for who has no rights."""
    before = snapshot(cast.contributor)
    cast.call(cast.contributor, verb)
    assert snapshot(cast.contributor) == before
