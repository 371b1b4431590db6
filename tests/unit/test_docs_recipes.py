"""The files in docs/recipes.md are recipes, and both languages say one."""

import re
from pathlib import Path

from crdtmerge.formats.recipe_file import parse_recipe
from crdtmerge.formats.toml_text import parse_toml
from crdtmerge.formats.yaml_text import parse_yaml
from crdtmerge.strategies.steps import STEPS

TEXT = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()


def block(language: str) -> str:
    """Return the one block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(found)


def test_both_files_of_the_guide_are_the_same_recipe() -> None:
    """Every word that the guide shows is one that the reader knows."""
    found = parse_recipe(parse_yaml(block("yaml")))
    assert found == parse_recipe(parse_toml(block("toml")))
    rules = found["rules"]
    assert isinstance(rules, list)
    assert len(rules) == 6


def test_the_steps_of_the_guide_exist() -> None:
    shown = set(re.findall(r"--pre (\w+)", TEXT))
    assert shown
    assert shown <= {step.name for step in STEPS.values()}
