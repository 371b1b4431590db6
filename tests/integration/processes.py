"""Nodes in processes of their own, each with a home, driven through the command line.

Owns starting and ending them, and waiting until they agree. Each process has another
PYTHONHASHSEED. Some may run the version before (`tests.older`).
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodes.cli.control import ask_node
from tests.homes import write_model

NAMES = ("ann", "ben", "cem", "dan")
DEADLINE_S = 60.0


class Cluster:
    """Homes with a node each, driven through the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: dict[str, Path] = {}
        """Where who does not run today's program finds its own."""
        self.nodes: dict[str, subprocess.Popen[str]] = {}

    def run(self, name: str, *arguments: str, exits: int = 0) -> Any:
        """Run one command of `name`; return the JSON that it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "nodes.cli", *arguments, "--json"],
            env=self._environment(name),
            cwd=self.programs.get(name),
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
        assert done.returncode == exits, f"{arguments}: {done.stdout}{done.stderr}"
        return json.loads(done.stderr if exits else done.stdout)

    def start(self, name: str, *options: str) -> None:
        """Start the node of `name` and wait until it listens."""
        self.launch(name, *options)
        self.await_ready(name)

    def launch(self, name: str, *options: str) -> None:
        """Start the node of `name`."""
        with (self.folder / f"{name}.log").open("a") as log:
            node = subprocess.Popen(
                [sys.executable, "-m", "nodes.cli", "node", "run", *options, "--json"],
                env=self._environment(name),
                cwd=self.programs.get(name),
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

    def ask(self, name: str, verb: str) -> Any:
        """Return what the node of `name` answers, as a command asks it; or run that.

        A process a question would take more time than all that is waited for.
        """
        if name in self.nodes and name not in self.programs:
            answer = ask_node(self.folder / name, verb, {}, lambda _: None)
            assert answer is not None, self.log(name)
            return answer
        return self.run(name, verb)

    def wait(self, names: Sequence[str], done: Callable[[Any], bool]) -> list[Any]:
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
        program = self.programs.get(name)
        own = {} if program is None else {"PYTHONPATH": str(program)}
        return {
            **os.environ,
            **own,
            "CRDTMERGE_HOME": str(self.folder / name),
            "PYTHONHASHSEED": str(NAMES.index(name) + 1),
        }

    def contribute(self, name: str, seed: int, **changed: object) -> str:
        """Contribute a small model of `name`; return its content id."""
        model = self.folder / f"{name}-{seed}"
        write_model(model, seed, near=self.folder / "base", **changed)
        return str(self.run(name, "contribute", str(model))["content"])

    def resolved(
        self, name: str, out: str, threads: int, *options: str
    ) -> dict[str, bytes]:
        """Resolve at `name`; return the files of the model."""
        folder = self.folder / f"{name}-{out}"
        resolve = ("resolve", "--out", str(folder), "--threads", str(threads))
        self.run(name, *resolve, *options)
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Lend a cluster; what still runs of it is killed at the end."""
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        for name in list(cluster.nodes):
            cluster.stop(name, signal.SIGKILL)
