"""What a recipe says beside its strategy: optional and canonical; old recipes stay."""

import json
from pathlib import Path

import pytest

from crdtmerge.errors import (
    BadInputError,
    CrdtMergeError,
    MalformedRecordError,
    UpgradeNeededError,
)
from crdtmerge.formats.recipe_file import parse_recipe, read_recipe_file, recipe_of
from crdtmerge.formats.recipe_text import recipe_to_yaml
from crdtmerge.formats.yaml_text import parse_yaml
from crdtmerge.recipe import EXTRAS_MAX, Recipe, recipe_from_value
from crdtmerge.strategies import check_recipe, make_recipe

PLAIN = make_recipe("ties", {})
BASE = make_recipe("ties", {}, extras={"missing": "base"})


def test_a_default_leaves_no_trace() -> None:
    """A recipe that says it, and one from before it could be said, are one recipe."""
    assert make_recipe("ties", {}, extras={"missing": "refuse"}) == PLAIN
    assert make_recipe("ties", {}, extras={"missing": "Base"}) == BASE
    assert len(PLAIN.to_value()) == 5  # type: ignore[arg-type]
    assert "extras" not in PLAIN.describe()
    assert PLAIN.missing == "refuse"


@pytest.mark.parametrize("steps", [(), ("trim",)])
def test_extras_come_last(steps: tuple[str, ...]) -> None:
    """With steps or without, the value reads back, and the digest is another."""
    with_steps = make_recipe("linear", {}, pre=steps)
    made = make_recipe("linear", {}, pre=steps, extras={"missing": "base"})
    value = made.to_value()
    assert isinstance(value, list)
    assert value[:-1] == with_steps.to_value()
    assert value[-1] == [["missing", "base"]]
    assert recipe_from_value(value) == made
    assert made.digest != with_steps.digest
    assert made.missing == "base"
    check_recipe(made)


@pytest.mark.parametrize(
    "extras",
    [
        [],
        "missing",
        [["missing"]],
        [["missing", 1]],
        [["b", "1"], ["a", "1"]],
        [["a", "1"], ["a", "1"]],
        [[f"{n:03}", "1"] for n in range(EXTRAS_MAX + 1)],
    ],
)
def test_extras_of_another_form_are_no_recipe(extras: object) -> None:
    """Empty, unsorted, doubled, too many, no pairs."""
    with pytest.raises(MalformedRecordError):
        recipe_from_value([*_list(PLAIN), extras])


def _list(recipe: Recipe) -> list[object]:
    value = recipe.to_value()
    assert isinstance(value, list)
    return list(value)


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([["later", "1"], ["missing", "base"]], UpgradeNeededError),
        ([["missing", "refuse"]], BadInputError),
        ([["missing", "BASE"]], BadInputError),
        ([["missing", "zeros"]], BadInputError),
    ],
)
def test_a_peers_extras_are_checked_before_use(
    pairs: object, error: type[CrdtMergeError]
) -> None:
    """What a later version says stops the merge here, not the record."""
    recipe = recipe_from_value([*_list(PLAIN), pairs])
    with pytest.raises(error):
        check_recipe(recipe)


def test_a_file_says_it_in_a_word(tmp_path: Path) -> None:
    """It is read from YAML, and written so that it reads back."""
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_to_yaml(BASE))
    assert "\nmissing: base\n" in path.read_text()
    assert recipe_of(read_recipe_file(path)) == BASE
    with pytest.raises(BadInputError, match="missing: 'zeros' is none of refuse, base"):
        parse_recipe(parse_yaml("{strategy: ties, missing: zeros}"))
    with pytest.raises(BadInputError, match="missing has no value"):
        parse_recipe(parse_yaml("{strategy: ties, missing: }"))


def test_an_unknown_name_gets_the_nearest() -> None:
    """A slip is refused with what was meant."""
    with pytest.raises(BadInputError) as refusal:
        make_recipe("ties", {}, extras={"mising": "base"})
    assert "did you mean 'missing'" in refusal.value.hint


def test_json_carries_them() -> None:
    """As a resolution and `recipe show --json` do."""
    found = json.loads(json.dumps(BASE.describe()))
    assert found["extras"] == {"missing": "base"}


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GiB", 20 << 30), ("1.5 gb", 1_500_000_000), ("7", 7), (str(1 << 60), 1 << 60)],
)
def test_an_io_budget_is_kept_in_bytes(text: str, size: int) -> None:
    """However it is spelt; and read back as it is kept."""
    made = make_recipe("linear", {}, extras={"io_budget": text, "missing": "base"})
    assert made.extras == (("io_budget", str(size)), ("missing", "base"))
    assert made.io_budget == size
    assert made.without("io_budget").extras == (("missing", "base"),)
    assert make_recipe("linear", {}, extras=dict(made.extras)) == made
    read = recipe_of(parse_recipe(parse_yaml(recipe_to_yaml(made))))
    assert read == made
    check_recipe(made)


@pytest.mark.parametrize(
    "text", ["0", "", "-1", "1iB", "all", str((1 << 60) + 1), "1e9"]
)
def test_what_is_no_io_budget_is_refused(text: str) -> None:
    """From a user, and from a peer."""
    with pytest.raises(BadInputError, match="io_budget: "):
        make_recipe("linear", {}, extras={"io_budget": text})
    with pytest.raises(CrdtMergeError):
        check_recipe(recipe_from_value([*_list(PLAIN), [["io_budget", text]]]))


def test_a_peers_io_budget_is_in_plain_bytes() -> None:
    """Two spellings would be two recipes."""
    recipe = recipe_from_value([*_list(PLAIN), [["io_budget", "1KiB"]]])
    with pytest.raises(BadInputError, match="not canonical"):
        check_recipe(recipe)
