"""`store pack` and `store unpack` on the command line, with and without a node."""

from pathlib import Path

import pytest

from tests.integration.test_cli_local import Terminal
from tests.tunes import base_weights, tuned_weights, write_weights


@pytest.fixture
def terminal(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Terminal:
    """A home with a space and one contribution, whose tensors may be packed."""
    monkeypatch.delenv("CRDTMERGE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    made, base = Terminal(tmp_path, capsys), base_weights()
    write_weights(tmp_path / "base", base)
    write_weights(tmp_path / "tune", tuned_weights(base, 1))
    assert made.run("init")[0] == 0
    words = ("space", "create", "words", "--base", "base", "--strategy", "linear")
    assert made.run(*words)[0] == 0
    assert made.run("contribute", "tune")[0] == 0
    return made


def said(terminal: Terminal, *words: object) -> str:
    """Run one command that must succeed; return what people read."""
    code, out, err = terminal.run(*words)
    assert code == 0, err
    return out


def test_cold_tensors_are_packed_and_unpacked(terminal: Terminal) -> None:
    """Each command says what it did or would do; the model is the same throughout."""
    digest = terminal.json("resolve", "--out", "one")["model_digest"]
    assert "0 of 0 cold blobs" in said(terminal, "store", "pack")
    at_once = ("store", "pack", "--older-than", "0")
    assert "2 of 2 cold blobs (1.5 MiB) would be packed" in said(
        terminal, *at_once, "--dry-run"
    )
    facts = terminal.json(*at_once)
    assert facts["older_than"] == 0
    assert facts["packed"]["count"] == 2
    assert facts["packed"]["stored_bytes"] < 0.65 * facts["packed"]["bytes"]
    assert "packed" in said(terminal, "store", "show")
    assert terminal.json("resolve", "--out", "two")["model_digest"] == digest
    assert "2 blobs unpacked (1.5 MiB)" in said(terminal, "store", "unpack")
    assert terminal.json("store", "unpack")["unpacked"]["count"] == 0
    assert terminal.json("resolve", "--out", "three")["model_digest"] == digest


def test_a_duration_that_is_none_is_wrong_usage(terminal: Terminal) -> None:
    """The message shows how to write one."""
    code, _, err = terminal.run("store", "pack", "--older-than", "soon")
    assert code == 2
    assert "no duration" in err
    assert "--older-than" in err
