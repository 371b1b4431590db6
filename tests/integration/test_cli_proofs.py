"""`space prove` and `space check-proof`: what one home shows, anybody checks."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.codec import encode
from nodes import cli
from nodes.home import open_home
from tests.homes import write_model
from tests.properties.oracle import trie_root

Run = Callable[..., dict[str, Any]]


@pytest.fixture(name="run")
def fixture_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return how to run a command in a home that founded a space."""

    def run(*words: object, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        place = ["--home", str(tmp_path / "home"), "--json"]
        assert cli.run([*place, *map(str, words)]) == code
        printed = capsys.readouterr()
        answer: dict[str, Any] = json.loads(printed.out or printed.err)
        return answer

    write_model(tmp_path / "base", 0)
    run("init", "--no-passphrase")
    create = ("space", "create", "s", "--base", tmp_path / "base")
    run(*create, "--strategy", "linear")
    return run


def test_a_record_is_proved_and_checked(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the root of the records that are on the disk; one that is not, too."""
    with open_home(tmp_path / "home", write=False) as home:
        (space,) = home.records.spaces()
        ids = [signed.record.id for signed in home.records.load(space)]
    for asked, record, held in (
        (ids[0].hex()[:10], ids[0].hex(), True),
        ("ab" * 32, "ab" * 32, False),
    ):
        shown = run("space", "prove", asked)
        assert shown["record"] == record
        assert shown["root"] == trie_root([*ids]).hex()
        assert (shown["records"], shown["held"]) == (len(ids), held)
        proof = ("space", "check-proof", shown["root"], record)
        assert run(*proof, shown["proof"])["held"] is held
        monkeypatch.setattr("sys.stdin", io.StringIO(shown["proof"] + "\n"))
        assert run(*proof, "-")["held"] is held


def test_a_false_proof_and_a_wrong_word_are_told_apart(run: Run) -> None:
    """Whose fault it is: who showed it, or who typed it."""
    shown = run("space", "prove", "cd" * 32)
    words = ("space", "check-proof")
    error = run(*words, "00" * 32, shown["record"], shown["proof"], code=7)
    assert "does not lead to this root" in json.dumps(error)
    error = run(*words, shown["root"], shown["record"], encode(7).hex(), code=7)
    assert "not a proof of membership" in json.dumps(error)
    for root, record, proof in (
        ("0" * 63, shown["record"], shown["proof"]),
        (shown["root"], "x" * 64, shown["proof"]),
        (shown["root"], shown["record"], "abc"),
    ):
        error = run(*words, root, record, proof, code=3)
        assert "hexadecimal digits" in json.dumps(error)
    run("space", "prove", "0000", code=4)


def test_people_read_the_answer(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, with the root, the record and the proof."""
    shown = run("space", "prove", "ef" * 32)
    place = ["--home", str(tmp_path / "home")]
    assert cli.run([*place, "space", "prove", "ef" * 32]) == 0
    text = capsys.readouterr().out
    assert "the set does not hold the record" in text
    assert shown["proof"] in text
