"""The committed pages of strategies are what their declarations and docstrings say."""

import inspect
import re
from pathlib import Path

import pytest

from crdtmerge.strategies import STRATEGIES
from docs.make import FOLDER, module_of, pages, write

PAGES = pages()


def test_the_committed_pages_are_generated() -> None:
    """Else run `make docs`: no more pages, no fewer, and the same text."""
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == PAGES


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_has_its_declaration_and_formula(name: str) -> None:
    """On the page that the index links to, under a heading of its name."""
    strategy = STRATEGIES[name]
    (target,) = re.findall(
        rf"\[{re.escape(name)}\]\((\S+)#{name.replace('/', '')}\)", PAGES["README.md"]
    )
    page = PAGES[target]
    assert f"\n## {name}\n" in page
    assert strategy.paper.rpartition(", ")[2] in page
    for parameter in strategy.parameters:
        assert f"| {parameter.name.replace('_', chr(92) + '_')} | " in page
    text = module_of(strategy).__doc__
    assert text is not None
    assert f"`{name}`" in text, "its docstring says which strategies a module owns"
    _, owns, *formula = inspect.cleandoc(text).split("\n\n")
    assert owns.startswith("Owns ")
    assert formula
    assert "\n\n".join(formula) in page
    assert page.count("\n## ") == page.count("\n* paper: ") + 1


def test_links_of_pages_lead_somewhere() -> None:
    """Files of this repository; the web is not asked."""
    for page in PAGES.values():
        for target in re.findall(r"\]\(([^)]+)\)", page):
            if not target.startswith("https://"):
                file = target.partition("#")[0]
                assert file in PAGES or (FOLDER / file).exists()


def test_pages_of_modules_that_are_gone_are_removed(tmp_path: Path) -> None:
    """Writing twice changes nothing; what is no page of ours stays."""
    folder = tmp_path / "strategies"
    folder.mkdir()
    (folder / "gone.md").write_text("old")
    (folder / "figure.svg").write_text("kept")
    for _ in range(2):
        write(folder)
        assert {p.name for p in folder.iterdir()} == {*PAGES, "figure.svg"}
    assert (folder / "ties.md").read_text() == PAGES["ties.md"]
