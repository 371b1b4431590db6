"""Three real nodes in processes of their own converge, whatever happens to one of them.

Real homes, real gRPC over mutual TLS on loopback, the real command line. Each process has
another PYTHONHASHSEED, and resolves with another number of threads.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.digest import CHUNK_BYTES
from nodes.cli.control import ask_node
from nodes.home import open_home
from tests.homes import Fleet, write_model

NAMES = ("ann", "ben", "cem")
DEADLINE_S = 60.0


class Cluster:
    """Homes with a node each, driven through the command line.

    What is asked again and again is asked as a command asks its node, with no process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = Fleet.at(folder)
        self.nodes: dict[str, subprocess.Popen[str]] = {}

    def run(self, name: str, *arguments: str, exits: int = 0) -> Any:
        """Run one command of `name`; return the JSON that it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "nodes.cli", *arguments, "--json"],
            env=self._environment(name),
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        assert done.returncode == exits, f"{arguments}: {done.stdout}{done.stderr}"
        return json.loads(done.stderr if exits else done.stdout)

    def start(self, name: str) -> None:
        """Start the node of `name` and wait until it listens."""
        self.launch(name)
        self.await_ready(name)

    def launch(self, name: str) -> None:
        """Start the node of `name`."""
        with (self.folder / f"{name}.log").open("a") as log:
            node = subprocess.Popen(
                [sys.executable, "-m", "nodes.cli", "node", "run", "--json"],
                env=self._environment(name),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.nodes[name] = node

    def await_ready(self, name: str) -> None:
        """Wait until the node of `name` says where it listens."""
        node = self.nodes[name]
        assert node.stdout is not None
        assert "addresses" in node.stdout.readline(), self.log(name)

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """End the node of `name`; return its exit code."""
        node = self.nodes.pop(name)
        node.send_signal(how)
        code = node.wait(15)
        assert node.stdout is not None
        node.stdout.close()
        return code

    def log(self, name: str) -> str:
        """What the node of `name` printed on stderr."""
        return (self.folder / f"{name}.log").read_text()

    def status(self, name: str) -> dict[str, Any]:
        """Return what `status` says of the one space."""
        (space,) = self.ask(name, "status")["spaces"]
        return dict(space)

    def ask(self, name: str, verb: str, **arguments: object) -> Any:
        """Return what a verb answers: the running node's, or else this process's."""
        home = self.folder / name
        answer = ask_node(home, verb, arguments, lambda _: None)
        return self.fleet.call(home, verb, **arguments) if answer is None else answer

    def invite(self, name: str, base: Path) -> None:
        """Let `name` join the space of the first, whose node runs."""
        ticket = self.ask(NAMES[0], "space_ticket", space=None)["ticket"]
        self.run(name, "space", "join", ticket, "--base", str(base))

    def wait(self, names: tuple[str, ...], done: Callable[[Any], bool]) -> list[Any]:
        """Wait until `names` hold the same records, whole, and `done` says so of them."""
        end = time.monotonic() + DEADLINE_S
        while True:
            seen = [self.status(name) for name in names]
            roots = {space["record_root"] for space in seen}
            whole = all(space["missing_blobs"] == 0 for space in seen)
            if len(roots) == 1 and whole and all(map(done, seen)):
                return seen
            assert time.monotonic() < end, [seen, *map(self.log, names)]
            time.sleep(0.1)

    def _environment(self, name: str) -> dict[str, str]:
        return {
            **os.environ,
            "CRDTMERGE_HOME": str(self.folder / name),
            "PYTHONHASHSEED": str(NAMES.index(name) + 1),
        }


@contextmanager
def _cluster(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        for name in list(cluster.nodes):
            cluster.stop(name, signal.SIGKILL)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three members of one space, all nodes running."""
    with _cluster(tmp_path) as members:
        base = write_model(tmp_path / "base", 1)
        for name in NAMES:
            members.fleet.init(name)
        ann = NAMES[0]
        create = ("space", "create", "friends", "--base", str(base))
        members.run(ann, *create, "--strategy", "ties", "--param", "density=0.5")
        members.start(ann)
        for name in NAMES[1:]:
            members.invite(name, base)
            members.start(name)
        yield members


def _contribute(cluster: Cluster, name: str, seed: int, **changed: object) -> str:
    base = cluster.folder / "base"
    model = write_model(cluster.folder / f"{name}-{seed}", seed, near=base, **changed)
    return str(cluster.run(name, "contribute", str(model))["content"])


def _resolved(cluster: Cluster, name: str, out: str, threads: int) -> dict[str, bytes]:
    folder = cluster.folder / f"{name}-{out}"
    cluster.run(name, "resolve", "--out", str(folder), "--threads", str(threads))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_three_processes_write_the_same_bytes(cluster: Cluster) -> None:
    """Contributions, a removal, a re-add and a ban end in byte-identical folders."""
    contents = {
        name: _contribute(cluster, name, 10 + i) for i, name in enumerate(NAMES)
    }
    cluster.wait(NAMES, lambda space: len(space["contributions"]) == 3)
    cluster.run("ben", "remove", contents["ben"])
    cluster.run("ann", "ban", contents["cem"])
    cluster.wait(NAMES, lambda space: len(space["contributions"]) == 1)
    assert _contribute(cluster, "ben", 11) == contents["ben"]
    banned = str(cluster.folder / "cem-12")
    refusal = cluster.run("cem", "contribute", banned, exits=9)
    assert contents["cem"][:12] in refusal["error"]["message"]
    spaces = cluster.wait(NAMES, lambda space: len(space["contributions"]) == 2)
    assert len({space["merge_id"] for space in spaces}) == 1
    folders = [_resolved(cluster, n, "out", 1 + i % 2) for i, n in enumerate(NAMES)]
    assert set(folders[0]) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "resolution.json",
    }
    assert folders[0] == folders[1] == folders[2]
    for name in NAMES:
        cluster.run(name, "verify", str(cluster.folder / "ann-out"))
        assert cluster.stop(name) == 0


def test_a_killed_node_catches_up(cluster: Cluster) -> None:
    """SIGKILL loses nothing that was acknowledged; what came meanwhile arrives later."""
    before = _contribute(cluster, "cem", 20)
    cluster.stop("cem", signal.SIGKILL)
    held = [item["content"] for item in cluster.status("cem")["contributions"]]
    assert held == [before]
    while_down = [_contribute(cluster, name, 21) for name in ("ann",)]
    offline = _contribute(cluster, "cem", 22)  # the same verb, with no node running
    cluster.start("cem")
    everything = {before, offline, *while_down}
    spaces = cluster.wait(
        NAMES, lambda s: {i["content"] for i in s["contributions"]} == everything
    )
    assert len({space["visible_root"] for space in spaces}) == 1


def test_a_starting_node_waits_for_a_command(tmp_path: Path) -> None:
    """A script may start a node and go on: neither gets in the other's way."""
    with _cluster(tmp_path) as members:
        members.run("ann", "init")
        with open_home(tmp_path / "ann", write=True):
            members.launch("ann")
            time.sleep(1.5)
            assert members.nodes["ann"].poll() is None
        members.await_ready("ann")
        assert members.stop("ann") == 0


def test_a_large_tensor_travels_in_verified_chunks(tmp_path: Path) -> None:
    """A tensor of several chunks arrives whole, and equal to what was contributed."""
    with _cluster(tmp_path) as members:
        big = [[0.25] * 1024 for _ in range(3 * CHUNK_BYTES // 4096 + 7)]
        base = write_model(tmp_path / "base", 1, head_weight=big)
        for name in NAMES[:2]:
            members.fleet.init(name)
        create = ("space", "create", "big", "--base", str(base), "--strategy", "linear")
        members.run("ann", *create)
        members.start("ann")
        members.invite("ben", base)
        members.start("ben")
        tuned = [[i / 4096] * 1024 for i in range(len(big))]
        model = write_model(tmp_path / "tuned", 2, head_weight=tuned)
        members.run("ann", "contribute", str(model))
        members.wait(NAMES[:2], lambda space: len(space["contributions"]) == 1)
        assert _resolved(members, "ann", "out", 1) == _resolved(
            members, "ben", "out", 2
        )
