"""Where a command finds a passphrase: each source beats the ones after it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

from crdtmerge.errors import BadInputError, PassphraseNeededError
from crdtmerge.identity import AuthorId
from nodes.cli import passphrases
from nodes.cli.passphrases import chosen, present, stated

AUTHOR = AuthorId(b"a" * 32)


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory, asked through the real package."""

    priority = 1.0

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        """Return the entry, unless nobody unlocks the keyring."""
        if self.locked:
            raise keyring.errors.KeyringLocked
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep an entry."""
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        """Forget an entry."""
        del self.entries[service, username]


@pytest.fixture
def ring() -> Iterator[Ring]:
    """Return an empty keyring that the package uses meanwhile."""
    before = keyring.get_keyring()
    ring = Ring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


@pytest.fixture(autouse=True)
def _nothing_set(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with no source at all, whatever surrounds the tests."""
    monkeypatch.delenv("CRDTMERGE_PASSPHRASE", raising=False)
    monkeypatch.delenv("CRDTMERGE_PASSPHRASE_FILE", raising=False)
    monkeypatch.setattr(passphrases, "on_terminal", lambda: False)


def private(path: Path, text: str) -> Path:
    """Write a private file."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def ask(home: Path, file: Path | None = None) -> str:
    """Return the passphrase that is found, as text."""
    return present(file)(home, AUTHOR).secret.decode()


def type_in(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Sit at the terminal and give these answers; return the questions."""
    questions: list[str] = []
    left = iter(answers)

    def getpass(prompt: str) -> str:
        questions.append(prompt)
        return next(left)

    monkeypatch.setattr(passphrases, "on_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", getpass)
    return questions


def test_each_source_beats_those_after_it(
    tmp_path: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompt, keyring, named file, variable, option: each is added, and wins."""
    questions = type_in(monkeypatch, "typed")
    assert ask(tmp_path) == "typed"
    assert questions == [f"passphrase of {tmp_path}: "]
    ring.set_password("crdtmerge", AUTHOR.hex(), "ring")
    assert ask(tmp_path) == "ring"
    named = private(tmp_path / "named", "named\n")
    monkeypatch.setenv("CRDTMERGE_PASSPHRASE_FILE", str(named))
    assert ask(tmp_path) == "named"
    monkeypatch.setenv("CRDTMERGE_PASSPHRASE", "variable")
    assert ask(tmp_path) == "variable"
    assert ask(tmp_path, private(tmp_path / "option", "option")) == "option"
    assert len(questions) == 1


def test_without_a_source_the_error_says_all_ways(tmp_path: Path) -> None:
    """A service has no terminal; its log must tell what to do."""
    with pytest.raises(
        PassphraseNeededError, match="no passphrase was given"
    ) as caught:
        ask(tmp_path)
    for way in (
        "--passphrase-file",
        "CRDTMERGE_PASSPHRASE or",
        "CRDTMERGE_PASSPHRASE_FILE",
        f"service crdtmerge, user {AUTHOR.hex()}",
        "terminal",
    ):
        assert way in caught.value.hint


@pytest.mark.parametrize("name", ["CRDTMERGE_PASSPHRASE", "CRDTMERGE_PASSPHRASE_FILE"])
def test_a_variable_that_is_set_but_empty_is_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that went missing must not make a home in the clear."""
    assert stated(None) is None
    monkeypatch.setenv(name, "")
    with pytest.raises(BadInputError, match="empty"):
        stated(None)


def test_a_variable_that_is_no_text_is_an_error_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The secret is in no part of the error."""
    monkeypatch.setenv("CRDTMERGE_PASSPHRASE", "hello\udcff")
    with pytest.raises(BadInputError, match="CRDTMERGE_PASSPHRASE is not UTF-8") as e:
        stated(None)
    assert e.value.__cause__ is None
    assert "hello" not in str(e.value)


def test_without_the_keyring_package_the_other_ways_stay(
    tmp_path: Path, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra; a keyring that is locked counts as none, too."""
    ring.set_password("crdtmerge", AUTHOR.hex(), "ring")
    ring.locked = True
    type_in(monkeypatch, "typed", "typed")
    assert ask(tmp_path) == "typed"
    ring.locked = False
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert ask(tmp_path) == "typed"


def test_an_entry_of_another_author_is_not_taken(tmp_path: Path, ring: Ring) -> None:
    """Homes of one user may have passphrases of their own."""
    ring.set_password("crdtmerge", "b" * 64, "other")
    with pytest.raises(PassphraseNeededError):
        ask(tmp_path)


def test_a_new_passphrase_is_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sees what is typed, so a slip would lock the keys for good."""
    questions = type_in(monkeypatch, "one", "one", "one", "two", "")
    found = chosen()
    assert found is not None
    assert found.secret == b"one"
    with pytest.raises(BadInputError, match="differ"):
        chosen()
    assert chosen() is None
    assert len(questions) == 5


def test_an_ended_input_is_no_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-D is told as what it is, not as a bug."""

    def ended(_prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr(passphrases, "on_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", ended)
    with pytest.raises(PassphraseNeededError, match="no passphrase was typed"):
        ask(tmp_path)
