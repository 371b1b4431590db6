"""Quotas on the command line: shown, set, refused, and given to one run of a node."""

from pathlib import Path

import pytest

from crdtmerge.errors import BadInputError
from nodes.quotas import AUTHOR_BYTES, NAMES
from tests.integration.test_cli_local import Terminal


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    made = Terminal(tmp_path, capsys)
    assert made.run("init")[0] == 0
    return made


def values(terminal: Terminal) -> dict[str, float]:
    return {q["name"]: q["value"] for q in terminal.json("node", "quotas")["quotas"]}


def test_quotas_are_shown_set_and_reset(terminal: Terminal) -> None:
    """A line each, with what it means; what was set is marked."""
    code, out, _ = terminal.run("node", "quotas")
    assert code == 0
    assert len(out.splitlines()) == 1 + len(NAMES)
    assert terminal.run("node", "quotas", "author-bytes=2TB", "peer-records=0")[0] == 0
    assert values(terminal)["author-bytes"] == 2 * 10**12
    _, out, _ = terminal.run("node", "quotas")
    (line,) = [line for line in out.splitlines() if line.startswith("peer-records")]
    assert line.split()[1:4] == ["no", "limit", "set"]
    assert terminal.run("node", "quotas", "author-bytes=default")[0] == 0
    assert values(terminal)["author-bytes"] == AUTHOR_BYTES


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("node", "quotas", "author-bytes"), "is not NAME=VALUE"),
        (("node", "quotas", "authors=1"), "known: peer-cost, peer-records"),
        (("node", "quotas", "peer-cost=3"), "not at least 512"),
        (("node", "run", "--quota", "peer-cost=3"), "not at least 512"),
        (("node", "run", "--quota", "peer-cost"), "is not NAME=VALUE"),
    ],
)
def test_wrong_quotas_are_bad_input(
    terminal: Terminal, words: tuple[str, ...], told: str
) -> None:
    """The user's mistake: it says what is known, and nothing is kept or started."""
    before = values(terminal)
    code, out, err = terminal.run(*words)
    assert (code, out) == (2 if "NAME=VALUE" in told else BadInputError.exit_code, "")
    assert told in " ".join(err.split())
    assert values(terminal) == before
