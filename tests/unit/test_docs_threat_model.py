"""The threat model names tests that exist, and every attack test is part of a guarantee."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
LINK = re.compile(r"`(tests/[\w/]+\.py)::(\w+|\*)`")


def named_in(path: Path) -> set[str]:
    """Return the names of the tests that a file holds."""
    tree = ast.parse(path.read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def linked() -> set[tuple[str, str]]:
    """Return the tests that the threat model names, by file."""
    found: set[tuple[str, str]] = set()
    for name, test in LINK.findall(TEXT):
        tests = named_in(ROOT / name)
        assert tests, f"{name} has no tests"
        if test != "*":
            assert test in tests, f"{name} has no {test}"
        found |= {(name, each) for each in (tests if test == "*" else {test})}
    return found


def test_every_linked_test_exists() -> None:
    """What is written in the form of a link is one; nothing is misspelt."""
    assert len(linked()) > 100
    mentioned = re.findall(r"tests/[\w/]+\.py::\S+", TEXT)
    assert len(mentioned) == len(LINK.findall(TEXT))


def test_every_attack_belongs_to_a_guarantee() -> None:
    """An attack that nobody promised to withstand is a promise that is missing."""
    attacks = {
        (str(path.relative_to(ROOT)), test)
        for path in sorted((ROOT / "tests" / "attacks").glob("test_*.py"))
        for test in named_in(path)
    }
    assert len(attacks) > 100
    assert sorted(attacks - linked()) == []


def test_guarantees_are_numbered_and_each_has_tests() -> None:
    """G1 to Gn without a gap; none is a promise alone."""
    parts = re.split(r"^\*\*G(\d+)\. ", TEXT, flags=re.MULTILINE)[1:]
    numbers, texts = parts[::2], parts[1::2]
    assert [int(number) for number in numbers] == list(range(1, len(numbers) + 1))
    for number, text in zip(numbers, texts, strict=True):
        own = text.split("\n\n")[0]
        assert LINK.search(own), f"G{number} names no test"
