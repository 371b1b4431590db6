"""Recipes: one form, one digest, per-tensor rules."""

import pytest

from crdtmerge.codec import decode, encode
from crdtmerge.errors import MalformedRecordError
from crdtmerge.recipe import (
    PARAMETERS_MAX,
    RULES_MAX,
    TEXT_CHARACTERS_MAX,
    Recipe,
    Rule,
    recipe_from_value,
)
from crdtmerge.rules import Place

RECIPE = Recipe(
    "ties/1",
    (("density", "0.2"), ("lambda", "1")),
    (
        Rule("*.bias", (("density", "1"),)),
        Rule("head.*", (("density", "0.5"), ("k", "3"))),
    ),
    "BF16",
    "contribution",
)


def test_value_inverts() -> None:
    """A recipe reads from its bytes as it was."""
    assert recipe_from_value(decode(encode(RECIPE.to_value()), 4096)) == RECIPE


def test_every_field_counts_in_the_digest() -> None:
    """Two recipes that differ anywhere have two digests."""
    rules = RECIPE.rules
    others = [
        Recipe("ties/2", RECIPE.parameters, rules, "BF16", "contribution"),
        Recipe("ties/1", (("density", "0.2"),), rules, "BF16", "contribution"),
        Recipe("ties/1", RECIPE.parameters, rules[::-1], "BF16", "contribution"),
        Recipe("ties/1", RECIPE.parameters, rules, "F32", "contribution"),
        Recipe("ties/1", RECIPE.parameters, rules, "BF16", "set"),
    ]
    assert len({RECIPE.digest, *(other.digest for other in others)}) == 6


def test_later_rule_goes_over_an_earlier_one() -> None:
    """Rules apply in their order, case counts, and what no rule names stays."""
    assert RECIPE.parameters_for(Place("body.weight")) == RECIPE.parameters
    assert RECIPE.parameters_for(Place("body.bias")) == (
        ("density", "1"),
        ("lambda", "1"),
    )
    assert RECIPE.parameters_for(Place("body.BIAS")) == RECIPE.parameters
    expected = (("density", "0.5"), ("k", "3"), ("lambda", "1"))
    assert RECIPE.parameters_for(Place("head.bias")) == expected


PAIR = ["a", "1"]
FORM = ["s/1", [PAIR], [], "", "set"]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, ""),
        (0, b"s/1"),
        (0, "s" * (TEXT_CHARACTERS_MAX + 1)),
        (1, [PAIR, PAIR]),
        (1, [["b", "1"], PAIR]),
        (1, [["a"]]),
        (1, [["a", 1]]),
        (1, [["a", "1", "2"]]),
        (1, ["ab"]),
        (1, [["a", "x" * (TEXT_CHARACTERS_MAX + 1)]]),
        (1, [[f"{n:03}", "1"] for n in range(PARAMETERS_MAX + 1)]),
        (1, "ab"),
        (2, [["*"]]),
        (2, [["", []]]),
        (2, [["*" * (TEXT_CHARACTERS_MAX + 1), []]]),
        (2, [["*", [PAIR, PAIR]]]),
        (2, [["*", []]] * (RULES_MAX + 1)),
        (3, "I8"),
        (3, "f32"),
        (4, ""),
        (4, "tensor"),
    ],
)
def test_value_of_another_form_is_refused(at: int, value: object) -> None:
    """Unsorted, doubled, too long, too many, of another type: one clear refusal."""
    assert recipe_from_value(FORM).strategy == "s/1"
    with pytest.raises(MalformedRecordError):
        recipe_from_value([*FORM[:at], value, *FORM[at + 1 :]])


@pytest.mark.parametrize("value", [[], None, b"", FORM[:4], [*FORM, 0]])
def test_value_of_another_length_is_refused(value: object) -> None:
    """Five fields, no more, no less."""
    with pytest.raises(MalformedRecordError):
        recipe_from_value(value)
