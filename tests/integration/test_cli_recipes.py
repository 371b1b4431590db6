"""Recipes on the command line: in short, in files, explained before they run."""

import json
from pathlib import Path

import pytest

from tests.integration.test_cli_local import Terminal, terminal

__all__ = ["terminal"]

FILE = """\
strategy: ties
pre:
  - trim: {density: 0.5}
weights:
  - {tag: math, weight: 2}
rules:
  - {tensors: "*bias", parameters: {density: 1}}
seed_scope: contribution
"""
IDS = """\
strategy: linear
weights: [{tag: math, weight: 2}, {content: ffff, weight: 2}]
"""
SHORT = (
    *("recipe", "set", "ties", "--pre", "trim", "--param", "trim.density=.50"),
    *("--weight", "tag:math=2", "--rule", "*bias:density=1"),
    *("--seed-scope", "contribution"),
)


def said(terminal: Terminal, *words: object) -> str:
    """Run one command that must succeed; return what people read."""
    code, out, err = terminal.run(*words)
    assert code == 0, err
    return out


def test_a_recipe_goes_from_file_to_space_to_file(
    terminal: Terminal, tmp_path: Path
) -> None:
    """Explored, set in short, set from the file, printed and set again: one recipe."""
    (tmp_path / "mine.yaml").write_text(FILE)
    said(terminal, "contribute", terminal.model("t1", 1), "--tag", "math")
    said(
        terminal, "contribute", terminal.model("t2", 2), "--tag", "text", "--tag", "b1"
    )
    table = said(terminal, "status")
    assert "TAGS" in table
    assert "b1 text" in table
    explored = terminal.json("resolve", "--recipe", "mine.yaml", "--out", "explored")
    assert explored["explored"]
    short = terminal.json(*SHORT)
    assert short["recipe"]["digest"] == explored["recipe"]["digest"]
    assert not terminal.json("recipe", "set", "--file", "mine.yaml")["new"]
    shown = said(terminal, "recipe", "show")
    assert "trim/1 -> ties/1 density=0.2" in shown
    assert "rule 1: * of tag:math: weight=2" in shown
    assert "rule 2: *bias: density=1" in shown
    (tmp_path / "again.yaml").write_text(said(terminal, "recipe", "show", "--yaml"))
    assert not terminal.json("recipe", "set", "--file", "again.yaml")["new"]
    shared = terminal.json("resolve", "--out", "shared")
    assert shared["model_digest"] == explored["model_digest"]
    assert "recomputed" in said(terminal, "verify", "shared")
    assert "#b1 #text" in said(terminal, "log")


def test_a_check_reads_as_groups_of_tensors(terminal: Terminal, tmp_path: Path) -> None:
    """What is alike is one line; what is idle is a note on stderr."""
    (tmp_path / "mine.yaml").write_text(FILE.replace("*bias", "*bios"))
    content = terminal.json("contribute", terminal.model("t1", 1))["content"]
    code, out, err = terminal.run("recipe", "check", "mine.yaml")
    assert code == 0
    assert "3 tensors, 1 group\n" in out
    assert "3 tensors: head.weight, layer.bias, layer.weight" in out
    assert f"{content[:12]}  weight 1" in out
    assert "rule 2 ('*bios') fits no tensor that is merged" in err
    assert "tag:math selects no contribution that is visible" in err
    code, out, err = terminal.run("recipe", "check", "--tensor", "*.weight")
    assert (code, err) == (0, "")
    assert "2 tensors, 1 group" in out
    # The same file for a base on disk, where there is no home at all.
    gone = ("--home", tmp_path / "nowhere")
    code, out, err = terminal.run(
        "recipe", "check", "mine.yaml", "--base", "base", *gone
    )
    assert code == 0, err
    assert "tag:math selects" not in err
    assert not (tmp_path / "nowhere").exists()


REFUSED: list[tuple[tuple[str, ...], int, str]] = [
    (("recipe", "set"), 2, "STRATEGY"),
    (("recipe", "set", "ties", "--file", "mine.yaml"), 2, "the file says all"),
    (("recipe", "set", "--file", "mine.yaml", "--pre", "trim"), 2, "the file says all"),
    (("recipe", "set", "ties", "--weight", "tag:a"), 2, "SELECTOR=W"),
    (
        ("recipe", "set", "ties", "--weight", "tag:a=1", "--weight", "tag:a=2"),
        2,
        "twice",
    ),
    (("recipe", "set", "ties", "--weight", "math=1"), 3, "selects no contributions"),
    (("recipe", "set", "ties", "--post", "trimm"), 3, "no step"),
    (
        ("recipe", "set", "pma", "--rule", "tag:math:step=1"),
        2,
        "'tag:math' selects models",
    ),
    (("recipe", "set", "--file", "gone.yaml"), 3, "cannot read"),
    (("recipe", "set", "--file", "ids.yaml"), 4, "rule 2: no contribution"),
    (("recipe", "check", "mine.txt"), 3, "does not end in"),
    (("recipe", "check", "--base", "base"), 2, "it takes a FILE"),
    (
        ("resolve", "--out", "o", "--recipe", "mine.yaml", "--param", "a=1"),
        2,
        "the file says all",
    ),
]


@pytest.mark.parametrize(("words", "code", "message"), REFUSED)
def test_what_is_no_recipe_is_refused(
    terminal: Terminal, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "mine.yaml").write_text(FILE)
    (tmp_path / "ids.yaml").write_text(IDS)
    found = terminal.refused(*words)
    assert found["exit_code"] == code
    assert message in found["message"], json.dumps(found)


def test_the_steps_are_listed(terminal: Terminal) -> None:
    """What `--pre` and `--post` take, with the names that `--param` uses."""
    table = said(terminal, "recipe", "steps")
    assert "trim.density" in table
    assert "0 to 0.999999999" in table
    assert "paper or l1 or none" in table
    (trim,) = [s for s in terminal.json("recipe", "steps") if s["name"] == "trim"]
    assert [p["name"] for p in trim["parameters"]] == ["trim.density"]


def test_a_budget_is_said_in_short_in_a_file_and_beside_the_recipe(
    terminal: Terminal, tmp_path: Path
) -> None:
    """The same recipe and the same model each way; people are told what stayed unread."""
    for seed in (1, 2, 3):
        said(terminal, "contribute", terminal.model(f"t{seed}", seed))
    budget = "1KB"
    explored = terminal.json("resolve", "--io-budget", budget, "--out", "one")
    (tmp_path / "mine.toml").write_text(
        f'strategy = "linear"\nio_budget = "{budget}"\n'
    )
    by_file = terminal.json("resolve", "--recipe", "mine.toml", "--out", "two")
    short = terminal.json("recipe", "set", "linear", "--io-budget", budget)
    assert short["recipe"] == by_file["recipe"] == explored["recipe"]
    assert by_file["model_digest"] == explored["model_digest"]
    shown = said(terminal, "resolve", "--out", "three")
    assert "explored" not in shown
    assert "of 1000 bytes, " in shown
    assert " left unread" in shown
    assert "io budget     1000" in said(terminal, "recipe", "check")
    code, _, err = terminal.run(
        *("resolve", "--out", "four", "--recipe", "mine.toml", "--io-budget", "9GB")
    )
    assert code == 2
    assert "the file says all" in err
