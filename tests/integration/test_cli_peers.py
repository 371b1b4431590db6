"""The verbs that need peers, as a user types them: beside a node, and without one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.cli import executor
from tests.homes import snapshot, write_model
from tests.integration.test_cli_node import ROOT, Person


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
    """Two persons in one space; the first has a running node, the second has none."""
    first, second = Person(folder / "a", capsys), Person(folder / "b", capsys)
    first.json("space", "create", "digits", "--base", folder / "base")
    try:
        first.start()
        ticket = first.json("space", "ticket")["ticket"]
        second.json("space", "join", ticket, "--base", folder / "base")
        yield first, second
    finally:
        for person in (first, second):
            if person.node is not None:
                person.stop(signal.SIGKILL)


def test_bytes_come_without_a_node_of_ones_own(
    people: tuple[Person, Person], folder: Path
) -> None:
    """A node runs for as long as the command takes; nothing of it is left or told."""
    first, second = people
    content = first.json("contribute", folder / "tune1")["content"]
    found = second.json("fetch")
    assert "only while one runs here" in found["notes"][-1]
    assert found["contributions"] == [content]
    assert found["compared"]
    second.json("resolve", "--out", folder / "out")
    assert not (second.home / "control.sock").exists()
    before = snapshot(second.home)
    again = second.json("fetch", content[:8])
    assert again["fetched_bytes"] == 0
    assert snapshot(second.home) == before
    node = second.json("whoami")["node"]
    first.json("wait", "--converged", "--peers", "0", "--timeout", "30")
    (peer,) = first.json("peers", "list")["peers"]
    assert (peer["node"], peer["addresses"]) == (node, [])
    started = second.start()  # a port of its own choice, as a first start has
    assert started["addresses"] != []


def test_both_agree_with_and_without_a_node(
    people: tuple[Person, Person], folder: Path
) -> None:
    """What each contributed is at the other's; the roots are the same."""
    first, second = people
    second.json("contribute", folder / "tune2")
    here = second.json("wait", "--converged", "--timeout", "30")
    assert (here["agree"], here["not_connected"]) == (1, [])
    second.start()
    first.json("contribute", folder / "tune1")
    found = [p.json("wait", "--converged", "--timeout", "30") for p in people]
    for key in ("record_root", "visible_root", "merge_id", "contributions"):
        assert found[0][key] == found[1][key]
    assert found[0]["contributions"] == 2
    assert [peer["connected"] for peer in first.json("peers", "list")["peers"]] == [
        True
    ]


def test_who_cannot_be_reached_is_named(
    people: tuple[Person, Person], folder: Path
) -> None:
    """With its address, whether a node runs here or not; the home is as it was."""
    first, second = people
    first.json("contribute", folder / "tune1")
    second.json("wait", "--converged", "--peers", "1", "--timeout", "30")
    node, where = first.json("whoami")["node"], first.json("status")["addresses"][0]
    content = first.json("contribute", folder / "tune2")["content"]
    first.stop()
    error = second.refused("wait", "--converged", "--timeout", "1")
    assert (error["exit_code"], error["type"]) == (7, "NotConvergedError")
    for word in (node[:12], where):
        assert word in error["message"]
    second.start()
    error = second.refused("wait", "--converged", "--timeout", "1")
    assert error["exit_code"] == 7
    assert where in error["message"]
    found = second.json("fetch", "--patience", "1")
    assert not found["compared"]
    assert content not in found["contributions"]


def test_a_command_that_runs_a_node_serves_others_meanwhile(
    people: tuple[Person, Person], folder: Path
) -> None:
    """The home is held, and still every command works: over that node's socket."""
    first, second = people
    first.stop()
    argv = [sys.executable, "-m", "nodes.cli", "wait", "--converged", "--json"]
    env = {**os.environ, "CRDTMERGE_HOME": str(second.home)}
    waiting = subprocess.Popen(
        argv, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        for _ in range(100):
            if (second.home / "control.sock").exists():
                break
            time.sleep(0.1)
        assert second.json("status")["running"]
        assert second.json("contribute", folder / "tune1")["new"]
        first.start()
        out, err = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, err
        assert b"record_root" in out
    finally:
        waiting.kill()
        waiting.wait()
    (space,) = first.json("status")["spaces"]
    assert len(space["contributions"]) == 1


def test_ctrl_c_ends_a_wait_and_frees_the_home(
    people: tuple[Person, Person], folder: Path
) -> None:
    """Exit code 130, no traceback, no socket; the next command has the home."""
    first, second = people
    first.stop()
    argv = [sys.executable, "-m", "nodes.cli", "wait", "--converged"]
    env = {**os.environ, "CRDTMERGE_HOME": str(second.home)}
    waiting = subprocess.Popen(
        argv, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        for _ in range(100):
            if (second.home / "control.sock").exists():
                break
            time.sleep(0.1)
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=30)
    finally:
        waiting.kill()
        waiting.wait()
    assert (waiting.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert not (second.home / "control.sock").exists()
    assert second.json("contribute", folder / "tune1")["new"]


def test_refusals_are_the_same_beside_a_node_and_without(
    people: tuple[Person, Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Type, message, hint and exit code of each new verb."""
    first, second = people
    me, other = first.json("whoami"), second.json("whoami")
    trials: list[tuple[tuple[object, ...], int]] = [
        (("space", "grant", "ab" * 32, "--rank", "owner"), 3),
        (("space", "grant", "abcd", "--rank", "reader"), 4),
        (("space", "grant", me["author"], "--rank", "reader"), 9),
        (("space", "revoke", me["author"]), 9),
        (("space", "revoke", "abcd"), 4),
        (("space", "revoke", "--lift", other["author"]), 4),
        (("space", "ticket", "--revoke", "nonsense"), 3),
        (("ban", "--lift", "abcd"), 4),
        (("recipe", "set", "tise"), 3),
        (("recipe", "set", "ties", "--param", "densty=1"), 3),
        (("peers", "add", "abcd", "far.example:1"), 4),
        (("peers", "add", other["node"], "far.example"), 3),
        (("peers", "remove", other["node"]), 4),
        (("fetch", "abcd"), 4),
        (("fetch", "--space", "nope"), 4),
        (("wait", "--converged", "--space", "nope"), 4),
        (("log", "--space", "nope"), 4),
    ]
    running = [first.refused(*words) for words, _ in trials]
    first.stop()
    monkeypatch.setattr(executor, "ATTEMPTS", 2)
    alone = [first.refused(*words) for words, _ in trials]
    assert running == alone
    assert [error["exit_code"] for error in alone] == [code for _, code in trials]


def test_a_node_tells_peers_a_host_that_they_can_reach(
    people: tuple[Person, Person],
) -> None:
    """Behind 0.0.0.0 a host must be given; it is remembered, and can be forgotten."""
    first, second = people
    first.stop()
    anywhere = ("--listen", "0.0.0.0:0", "--join-listen", "0.0.0.0:0")
    error = first.refused("node", "run", *anywhere)
    assert error["exit_code"] == 3
    assert "--advertise" in error["hint"]
    made = first.start(*anywhere, "--advertise", "localhost")
    assert all(a.startswith("localhost:") for a in made["addresses"])
    first.stop()
    assert first.start() == made
    # It moved, and nobody was told: the second has to be.
    second.json("peers", "add", first.json("whoami")["node"], made["addresses"][0])
    second.json("wait", "--converged", "--timeout", "30")
    (peer,) = second.json("peers", "list")["peers"]
    assert made["addresses"][0] in [a["address"] for a in peer["addresses"]]
    first.stop()
    assert first.refused("node", "run", "--advertise", "")["exit_code"] == 3
    back = ("--listen", "127.0.0.1:0", "--join-listen", "127.0.0.1:0")
    made = first.start(*back, "--advertise", "")
    assert all(a.startswith("127.0.0.1:") for a in made["addresses"])
    for option, value in (
        ("--advertise", "far.example:7420"),
        ("--advertise", "0.0.0.0"),
        ("--advertise", "::1"),
        ("--advertise", "two words"),
        ("--listen", "far.example"),
        ("--listen", "::1:7420"),
        ("--listen", ":7420"),
        ("--listen", "127.0.0.1:70000"),
        ("--join-listen", "127.0.0.1:-1"),
    ):
        error = second.refused("node", "run", option, value)
        assert (error["exit_code"], error["type"]) == (2, "UsageError"), value
    error = second.refused("node", "run", "--listen", "203.0.113.1:0")
    assert error["exit_code"] == 3
    assert "no address of this machine" in error["message"]
