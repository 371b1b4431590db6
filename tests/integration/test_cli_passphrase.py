"""Homes with encrypted keys, from the command line: made, used, changed, refused.

Real terminals (pty) and nodes, and the cost of a guess that users pay.
"""

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keyring
import keyring.backends.null
import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import ContentId
from crdtmerge.identity import SigningKey
from nodes import cli
from nodes.home import open_home
from nodes.passphrase import from_text
from nodes.ticket import Ticket
from tests.homes import snapshot, write_model

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "nodes.cli"]
SECRET, OTHER = "correct horse", "battery staple"
DEADLINE_S = 60.0
SOURCES = ("CRDTMERGE_PASSPHRASE", "CRDTMERGE_PASSPHRASE_FILE")


@dataclass(frozen=True)
class Done:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value of a command that succeeded."""
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True)
class User:
    """Somebody with a home and a folder for models and secrets."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def home(self) -> Path:
        """The home that the commands use."""
        return self.folder / "home"

    def run(self, *words: object, **variables: str) -> Done:
        """Run one command in this process, without a terminal."""
        self.capsys.readouterr()
        with pytest.MonkeyPatch.context() as patched:
            for name in SOURCES:
                patched.delenv(name, raising=False)
            for name, value in (self.place | variables).items():
                patched.setenv(name, value)
            code = cli.run([str(word) for word in words])
        found = self.capsys.readouterr()
        return Done(code, found.out, found.err)

    def type(self, *words: object, answers: tuple[str, ...]) -> Done:
        """Run one command on a terminal, and give an answer to each prompt."""
        theirs, ours = pty.openpty()
        process = subprocess.Popen(
            [*CLI, *map(str, words)],
            env=self.environment({}),
            cwd=ROOT,
            stdin=ours,
            stdout=subprocess.PIPE,
            stderr=ours,
            text=True,
            start_new_session=True,  # no terminal but this one
        )
        os.close(ours)
        drawn, left = b"", list(answers)
        with contextlib.suppress(OSError):  # Linux ends a terminal so
            while piece := os.read(theirs, 4096):
                drawn += piece
                if left and drawn.rstrip(b" ").endswith(b":"):
                    os.write(theirs, f"{left.pop(0)}\n".encode())
        out, _ = process.communicate(timeout=DEADLINE_S)
        os.close(theirs)
        assert left == []
        return Done(process.returncode, out, drawn.decode())

    @property
    def place(self) -> dict[str, str]:
        """Where the home is, and that no keyring is asked."""
        none = "keyring.backends.null.Keyring"
        return {"CRDTMERGE_HOME": str(self.home), "PYTHON_KEYRING_BACKEND": none}

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a process, with no passphrase but those given."""
        kept = {k: v for k, v in os.environ.items() if k not in SOURCES}
        return {**kept, **self.place, **more}

    def second(self, name: str) -> "User":
        """Return another user, whose folder is within this one's."""
        folder = self.folder / name
        folder.mkdir()
        return User(folder, self.capsys)

    def secret(self, text: str, name: str = "secret") -> Path:
        """Write a private file with a passphrase."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(f"{text}\n")
        return path

    def init(self) -> None:
        """Make a home under the passphrase."""
        made = self.run("init", "--json", CRDTMERGE_PASSPHRASE=SECRET)
        assert made.json["encrypted"] is True

    def found(self) -> Done:
        """Found a space."""
        return self.run(*self.founding, CRDTMERGE_PASSPHRASE=SECRET)

    @property
    def founding(self) -> tuple[object, ...]:
        """The command that founds a space: one that must sign."""
        base = self.folder / "base"
        if not base.exists():
            write_model(base, 0)
        return ("space", "create", "digits", "--base", base, "--json")

    def key_files(self) -> list[bytes]:
        """Return what the key files hold."""
        return [(self.home / f"{name}.key").read_bytes() for name in ("author", "node")]

    def refused(self, done: Done, message: str, code: int = 3) -> str:
        """Check a refusal that is no bug and shows no secret; return its text."""
        assert (done.code, done.out) == (code, ""), done
        assert message in done.err, done.err
        assert "Traceback" not in done.err
        for secret in (SECRET, OTHER):
            assert secret not in done.err
        return done.err


@pytest.fixture
def user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[User]:
    before = keyring.get_keyring()
    none = keyring.backends.null.Keyring()  # type: ignore[no-untyped-call]  # theirs
    keyring.set_keyring(none)
    yield User(tmp_path, capsys)
    keyring.set_keyring(before)


# --- init ------------------------------------------------------------------------------


def test_a_typed_passphrase_encrypts_a_new_home_and_is_not_shown(user: User) -> None:
    """Who the home is can be read without it; what signs asks for it once."""
    made = user.type("init", answers=(SECRET, SECRET))
    assert made.code == 0
    assert "keys    encrypted" in made.out
    assert SECRET not in made.err
    assert all(key.startswith(b"crdtmerge key 1\n") for key in user.key_files())
    for reading in ("whoami", "status"):
        assert user.run(reading, "--json").json["encrypted"] is True
    founded = user.type(*user.founding, answers=(SECRET,))
    assert founded.json["name"] == "digits"
    assert founded.err.count("passphrase of") == 1
    assert SECRET not in founded.err


def test_an_empty_answer_keeps_the_keys_in_the_clear_and_says_so(user: User) -> None:
    """Nobody is forced; nobody is left in the dark."""
    made = user.type("init", answers=("",))
    assert made.code == 0
    assert "keys    in the clear" in made.out
    assert "note: the keys lie in the clear" in made.err
    assert user.found().code == 0


def test_two_different_answers_make_no_home(user: User) -> None:
    """A slip is caught while it costs nothing."""
    refused = user.type("init", answers=(SECRET, OTHER))
    user.refused(refused, "the two passphrases differ")
    assert not user.home.exists()


def test_a_folder_in_use_is_told_before_a_passphrase_is_chosen(user: User) -> None:
    """Nothing is asked in vain."""
    user.init()
    user.refused(user.type("init", answers=()), "there is a home at", code=5)


def test_without_a_terminal_keys_stay_in_the_clear_with_a_note(user: User) -> None:
    """Scripts go on as they did; `--no-passphrase` says that it is meant."""
    made = user.run("init")
    assert made.code == 0
    assert made.err.startswith("note: the keys lie in the clear")
    second = user.second("second")
    made = second.run("init", "--no-passphrase", CRDTMERGE_PASSPHRASE=SECRET)
    assert (made.code, made.err) == (0, "")
    assert second.run("whoami", "--json").json["encrypted"] is False


@pytest.mark.parametrize("way", ["option", "program", "variable", "named"])
def test_a_stated_passphrase_encrypts_a_new_home(user: User, way: str) -> None:
    """By file or environment; the same way opens it again."""
    file = user.secret(SECRET)
    option = ["--passphrase-file", file]
    before = option if way == "program" else []
    after = option if way == "option" else []
    variables = {
        "variable": {"CRDTMERGE_PASSPHRASE": SECRET},
        "named": {"CRDTMERGE_PASSPHRASE_FILE": str(file)},
    }.get(way, {})
    made = user.run(*before, "init", *after, "--json", **variables)
    assert (made.json["encrypted"], made.json["notes"]) == (True, [])
    before = option if way in ("option", "program") else []
    assert user.run(*before, *user.founding, **variables).code == 0


def test_a_bad_source_makes_no_home(user: User) -> None:
    """Above all, none in the clear."""
    empty, missing = user.secret(""), user.folder / "missing"
    user.refused(user.run("init", "--passphrase-file", empty), "is empty")
    user.refused(user.run("init", "--passphrase-file", missing), "no passphrase", 4)
    user.refused(user.run("init", CRDTMERGE_PASSPHRASE=""), "is empty")
    shared = user.secret(SECRET, "shared")
    shared.chmod(0o644)
    user.refused(user.run("init", "--passphrase-file", shared), "open to others", 6)
    both = user.run("init", "--no-passphrase", "--passphrase-file", empty)
    user.refused(both, "cannot go with", 2)
    assert not user.home.exists()


def test_no_option_takes_a_passphrase_itself(user: User) -> None:
    """Everybody on the machine sees a command line."""
    for words in (("init",), ("passphrase",), ("node", "run")):
        done = user.run(*words, "--passphrase", "x")
        assert done.code == 2
        assert "No such option" in done.err


# --- use -------------------------------------------------------------------------------


def test_a_wrong_passphrase_leaves_the_home_as_it_was(user: User) -> None:
    """Typed or stated: exit code 3, no trace, and no hint in what it is wrong."""
    user.init()
    before, keys = snapshot(user.home), user.key_files()
    stated = user.run(*user.founding, CRDTMERGE_PASSPHRASE=OTHER)
    error = json.loads(user.refused(stated, "does not open"))["error"]
    assert error["type"] == "WrongPassphraseError"
    assert "from CRDTMERGE_PASSPHRASE" in error["message"]
    typed = user.type(*user.founding, answers=(SECRET[:-1],))
    user.refused(typed, "the passphrase from the prompt does not open")
    assert (snapshot(user.home), user.key_files()) == (before, keys)
    assert user.found().code == 0


def test_without_a_passphrase_nothing_signs_and_the_ways_are_told(user: User) -> None:
    """In a script, at once."""
    user.init()
    before = snapshot(user.home)
    text = user.refused(user.run(*user.founding), "no passphrase was given")
    assert "--passphrase-file" in text
    assert "CRDTMERGE_PASSPHRASE_FILE" in text
    assert snapshot(user.home) == before


def test_long_work_starts_only_once_the_keys_are_open(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits until gigabytes are hashed, only to be asked then."""
    user.init()
    user.found()
    before, base = snapshot(user.home), user.folder / "base"
    ticket = Ticket(
        space=SpaceId(b"s" * 32),
        base=ContentId(b"b" * 32),
        secret=b"t" * 16,
        node=b"n" * 32,
        addresses=("127.0.0.1:1",),
        name="other",
    ).encode()

    def hashed(*_: object, **__: object) -> None:
        pytest.fail("a model was hashed first")

    monkeypatch.setattr("nodes.operations.contents.Survey", hashed)
    for words in (
        ("contribute", base),
        ("space", "create", "second", "--base", base),
        ("space", "join", ticket, "--base", base),
    ):
        user.refused(user.run(*words), "no passphrase was given")
    assert snapshot(user.home) == before


def test_a_damaged_key_is_told_before_a_passphrase_is_asked(user: User) -> None:
    """Its content is not shown."""
    user.init()
    key = user.home / "author.key"
    data = key.read_bytes()
    key.write_bytes(data.replace(b"scrypt 17", b"scrypt 30"))
    text = user.refused(user.type("whoami", answers=()), "author.key: the key was cut")
    assert data.split()[-3].decode() not in text
    key.write_bytes(data)
    assert user.run("whoami").code == 0


# --- change ----------------------------------------------------------------------------


def seeds(user: User, secret: str = "") -> list[bytes]:
    """Return the seeds of a home, opened with a passphrase."""

    def ask(*_: object) -> Any:
        return from_text(secret, "test")

    with open_home(user.home, write=True, ask=ask) as home:
        return [key.unlock().seed for key in (home.author, home.node)]


def test_a_passphrase_is_set_changed_and_removed_and_the_keys_stay(user: User) -> None:
    """By file and by terminal; afterwards only the last one opens the home."""
    assert user.run("init").code == 0
    first = seeds(user)
    new = user.secret(SECRET)
    done = user.run("passphrase", "--new-passphrase-file", new, "--json")
    assert done.json["encrypted"] is True
    assert done.json["author"] == SigningKey(first[0]).public.hex()
    assert seeds(user, SECRET) == first
    done = user.type("passphrase", answers=(SECRET, OTHER, OTHER))
    assert "open with the new passphrase" in done.out
    assert seeds(user, OTHER) == first
    user.refused(
        user.run("passphrase", "--remove", CRDTMERGE_PASSPHRASE=SECRET), "does not open"
    )
    done = user.run("passphrase", "--remove", CRDTMERGE_PASSPHRASE=OTHER)
    assert "in the clear" in done.out
    assert seeds(user) == first
    assert user.key_files() == [seed.hex().encode() + b"\n" for seed in first]


def test_a_change_that_cannot_be_made_changes_nothing(user: User) -> None:
    """Whatever is missing, wrong or empty."""
    user.init()
    keys = user.key_files()
    empty, new = user.secret("", "empty"), user.secret(OTHER)
    known = {"CRDTMERGE_PASSPHRASE": SECRET}
    words = ("passphrase", "--new-passphrase-file")
    user.refused(user.run(*words, new), "no passphrase was given")
    user.refused(user.run(*words, new, CRDTMERGE_PASSPHRASE="x"), "does not open")
    user.refused(user.run(*words, empty, **known), "is empty")
    user.refused(user.run("passphrase", **known), "no new passphrase was given")
    user.refused(user.run(*words, new, "--remove", **known), "cannot go with", 2)
    typed = user.type("passphrase", answers=(SECRET, ""))
    user.refused(typed, "the new passphrase is empty")
    typed = user.type("passphrase", answers=(SECRET, OTHER, SECRET))
    user.refused(typed, "the two passphrases differ")
    assert user.key_files() == keys


# --- a node ----------------------------------------------------------------------------


@contextmanager
def node(user: User, **variables: str) -> Iterator[dict[str, Any]]:
    """Run a node; lend what it says once it listens."""
    process = subprocess.Popen(
        [*CLI, "node", "run", "--json"],
        env=user.environment(variables),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        _, err = process.communicate(timeout=15)
    assert (process.returncode, err) == (0, "")


def test_a_node_takes_the_passphrase_at_its_start_and_commands_then_need_none(
    user: User,
) -> None:
    """As a service does, from a file; a newcomer's home may be encrypted as well."""
    user.init()
    user.found()
    ben = user.second("ben")
    ben.init()
    tune = write_model(user.folder / "tune", 1, near=user.folder / "base")
    file = str(user.secret(SECRET))
    with node(user, CRDTMERGE_PASSPHRASE_FILE=file) as said:
        assert said["node"] == user.run("whoami", "--json").json["node"]
        assert user.run("contribute", tune, "--json").json["new"] is True
        ticket = user.run("space", "ticket", "--json").json["ticket"]
        words = ("space", "join", ticket, "--base", user.folder / "base", "--json")
        ben.refused(ben.run(*words), "no passphrase was given")
        joined = ben.run("--passphrase-file", file, *words).json
        assert (joined["joined"], joined["rank"]) == (True, "contributor")
        change = user.run("passphrase", "--remove", CRDTMERGE_PASSPHRASE=SECRET)
        user.refused(change, "a node is already running", 5)


def test_a_node_whose_author_stays_locked_does_not_start(user: User) -> None:
    """Also on a home without a space: not at its first signature, days later."""
    user.init()
    old = (user.home / "author.key").read_bytes()
    words = ("passphrase", "--new-passphrase-file", user.secret(OTHER))
    assert user.run(*words, CRDTMERGE_PASSPHRASE=SECRET).code == 0
    (user.home / "author.key").write_bytes(old)  # as from a backup
    done = subprocess.run(
        [*CLI, "node", "run"],
        env=user.environment({"CRDTMERGE_PASSPHRASE": OTHER}),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
    )
    refused = Done(done.returncode, done.stdout, done.stderr)
    user.refused(refused, f"does not open {user.home / 'author.key'}")


def test_a_node_without_a_passphrase_says_how_to_give_one(user: User) -> None:
    """No terminal: an error at once, and the home is free again."""
    user.init()
    text = user.refused(user.run("node", "run"), "no passphrase was given")
    for way in ("--passphrase-file", "CRDTMERGE_PASSPHRASE", "keyring", "terminal"):
        assert way in text
    wrong = user.run("node", "run", CRDTMERGE_PASSPHRASE=OTHER)
    user.refused(wrong, "does not open")
    wrong = user.type("node", "run", answers=(OTHER,))
    user.refused(wrong, "does not open")
    assert user.found().code == 0
