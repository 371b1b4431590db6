"""The command line beside a running node: verbs over the control socket, and refusals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.bodies import SpaceId
from nodes import cli
from nodes.home import open_home
from nodes.ticket import decode_ticket
from tests.homes import snapshot, write_model

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0


class Person:
    """Somebody with a home, who runs commands in this process and a node beside it."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.capsys = capsys
        self.node: subprocess.Popen[str] | None = None
        assert self.json("init")["home"] == str(home)

    def run(self, *words: object) -> tuple[int, str, str]:
        """Run one command; return its exit code, stdout and stderr."""
        self.capsys.readouterr()
        code = cli.run(["--home", str(self.home), *map(str, words), "--json"])
        found = self.capsys.readouterr()
        return code, found.out, found.err

    def json(self, *words: object) -> Any:
        """Run one command that must succeed; return what it printed."""
        code, out, err = self.run(*words)
        assert code == 0, err
        return json.loads(out)

    def refused(self, *words: object) -> Any:
        """Run one command that must fail without a trace; return the error."""
        before = snapshot(self.home)
        code, out, err = self.run(*words)
        assert snapshot(self.home) == before
        error = json.loads(err)["error"]
        assert (out, error["exit_code"]) == ("", code)
        assert code != 0
        return error

    def start(self, *options: str) -> Any:
        """Start the node; return what it said once it listened."""
        argv = [sys.executable, "-m", "nodes.cli", "node", "run", "--json", *options]
        env = {**os.environ, "CRDTMERGE_HOME": str(self.home)}
        log = self.home.with_suffix(".log").open("a")
        with log:
            self.node = subprocess.Popen(
                argv, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.node.stdout is not None
        line = self.node.stdout.readline()
        assert line, self.home.with_suffix(".log").read_text()
        return json.loads(line)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the node; return its exit code."""
        assert self.node is not None
        self.node.send_signal(how)
        code = self.node.wait(timeout=15)
        assert self.node.stdout is not None
        self.node.stdout.close()
        self.node = None
        return code

    def wait(self, contributions: int, space: str) -> Any:
        """Wait until the space has so many contributions, all bytes here."""
        for _ in range(int(DEADLINE_S / 0.2)):
            (found,) = self.json("status", "--space", space)["spaces"]
            here = found["contributions"]
            if len(here) == contributions and all(c["complete"] for c in here):
                return found
            time.sleep(0.2)
        raise AssertionError(f"{contributions} contributions did not arrive: {found}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "base", 0)
    for i in (1, 2):
        write_model(tmp_path / f"tune{i}", i, near=tmp_path / "base")
    return tmp_path


@pytest.fixture
def people(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[tuple[Person, Person]]:
    """Two persons; the first has a space and a running node."""
    first, second = Person(folder / "a", capsys), Person(folder / "b", capsys)
    first.json("space", "create", "digits", "--base", folder / "base")
    try:
        first.start()
        yield first, second
    finally:
        for person in (first, second):
            if person.node is not None:
                person.stop(signal.SIGKILL)


def test_two_running_nodes_end_with_one_digest(
    people: tuple[Person, Person], folder: Path
) -> None:
    """Every verb goes through the nodes; the second space is founded and joined live."""
    first, second = people
    second.start()
    words = ("space", "create", "live", "--base", folder / "base", "--strategy", "ties")
    made = first.json(*words)
    ticket = first.json("space", "ticket", "--space", "live")["ticket"]
    joined = second.json("space", "join", ticket, "--base", folder / "base")
    assert (joined["joined"], joined["rank"]) == (True, "contributor")
    assert joined["id"] == made["space"]
    given = first.json("contribute", folder / "tune1", "--space", "live")
    heavy = second.json("contribute", folder / "tune2", "--weight", "5")
    assert "counts as 1" in heavy["notes"][0]
    spaces = [person.wait(2, "live") for person in people]
    assert spaces[0]["merge_id"] == spaces[1]["merge_id"]
    assert [c["weight"] for c in spaces[0]["contributions"]] == ["1", "1"]
    digests = {
        person.json("resolve", "--space", "live", "--out", folder / f"out{i}")[
            "model_digest"
        ]
        for i, person in enumerate(people)
    }
    assert len(digests) == 1
    assert first.json("verify", folder / "out1")["recomputed"] is True
    status = second.json("status")
    assert status["running"] is True
    assert [peer["connected"] for peer in status["peers"]] == [True]
    # Rights are checked by the node as they are by the command.
    assert second.refused("remove", given["content"])["exit_code"] == 9
    assert second.refused("ban", given["content"])["exit_code"] == 9
    assert second.refused("space", "ticket")["exit_code"] == 9
    first.json("ban", heavy["content"][:16])
    second.wait(1, "live")
    assert second.refused("contribute", folder / "tune2")["exit_code"] == 9


def test_refusals_of_the_node_are_those_of_the_command(
    people: tuple[Person, Person], folder: Path
) -> None:
    """Type, message, hint and exit code come over the socket as they are."""
    first, _ = people
    bad = folder / "bad"
    bad.mkdir()
    (bad / "model.safetensors").write_bytes(b"\x10\0\0\0")
    trials: list[tuple[tuple[object, ...], int, str]] = [
        (("contribute", bad), 3, "BadInputError"),
        (("contribute", folder / "nowhere"), 3, "BadInputError"),
        (
            ("space", "create", "x", "--base", folder / "base", "--strategy", "tis"),
            3,
            "UnknownNameError",
        ),
        (("remove", "abcdef"), 4, "NotFoundError"),
    ]
    running = [first.refused(*words) for words, _, _ in trials]
    first.stop()
    alone = [first.refused(*words) for words, _, _ in trials]
    assert running == alone
    kinds = [(error["exit_code"], error["type"]) for error in alone]
    assert kinds == [(code, kind) for _, code, kind in trials]


def test_a_second_node_on_one_home_is_refused(people: tuple[Person, Person]) -> None:
    """Exit code 5, and the first goes on."""
    first, _ = people
    error = first.refused("node", "run")
    assert error["exit_code"] == 5
    assert "already running" in error["message"]
    assert first.json("status")["running"] is True


def test_a_port_in_use_is_refused(people: tuple[Person, Person]) -> None:
    """Exit code 5; the message has the port, and the lock is free again."""
    _, second = people
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = second.refused("node", "run", "--listen", f"127.0.0.1:{port}")
    assert error["exit_code"] == 5
    assert str(port) in error["message"]
    with open_home(second.home, write=True):
        pass


def test_a_node_listens_where_it_did_last_time(people: tuple[Person, Person]) -> None:
    """A peer that knows the address finds it again after a restart."""
    first, _ = people
    first.stop()
    before = first.json("space", "ticket")["addresses"]
    again = first.start()
    assert again["join_addresses"] == before
    assert first.stop(signal.SIGINT) == 0
    assert not (first.home / "control.sock").exists()


def test_a_ticket_of_another_space_is_refused(
    people: tuple[Person, Person], folder: Path
) -> None:
    """Its node does not host that space, or not with that secret; nothing is kept."""
    first, second = people
    ticket = decode_ticket(first.json("space", "ticket")["ticket"])
    words = ("space", "create", "other", "--base", folder / "base")
    other = SpaceId(bytes.fromhex(first.json(*words)["space"]))
    for forged in (
        replace(ticket, space=SpaceId(b"\x07" * 32)),
        replace(ticket, space=other),
        replace(ticket, secret=b"\x07" * 16),
    ):
        text = forged.encode()
        error = second.refused("space", "join", text, "--base", folder / "base")
        assert (error["exit_code"], error["type"]) == (7, "RefusedError")


def test_a_ticket_of_a_node_that_is_gone_is_refused(
    people: tuple[Person, Person], folder: Path
) -> None:
    """Exit code 7, with the address; nothing is kept."""
    first, second = people
    ticket = first.json("space", "ticket")["ticket"]
    first.stop()
    error = second.refused("space", "join", ticket, "--base", folder / "base")
    assert error["exit_code"] == 7
    assert "127.0.0.1" in error["message"]


def test_a_base_that_does_not_match_is_refused(
    people: tuple[Person, Person], folder: Path
) -> None:
    """The user's own copy is compared with the ticket before anything is sent."""
    first, second = people
    ticket = first.json("space", "ticket")["ticket"]
    error = second.refused("space", "join", ticket, "--base", folder / "tune1")
    assert (error["exit_code"], error["type"]) == (3, "BaseMismatchError")


def test_a_ticket_can_be_piped(people: tuple[Person, Person], folder: Path) -> None:
    """`space ticket` prints it alone, and `space join -` reads it."""
    first, second = people
    start = [sys.executable, "-m", "nodes.cli", "--home"]
    printed = subprocess.run(
        [*start, str(first.home), "space", "ticket"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    base = str(folder / "base")
    joined = subprocess.run(
        [*start, str(second.home), "space", "join", "-", "--base", base],
        cwd=ROOT,
        input=printed.stdout,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "as contributor" in joined.stdout


def test_a_killed_node_leaves_a_home_that_works(
    people: tuple[Person, Person], folder: Path
) -> None:
    """The system frees the lock, and the dead socket is no hindrance."""
    first, _ = people
    given = first.json("contribute", folder / "tune1")
    first.stop(signal.SIGKILL)
    assert (first.home / "control.sock").exists()
    assert first.json("contribute", folder / "tune1")["new"] is False
    (space,) = first.json("status")["spaces"]
    assert [c["content"] for c in space["contributions"]] == [given["content"]]
    first.start()
    assert first.json("status")["running"] is True
