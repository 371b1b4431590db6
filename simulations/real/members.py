"""Members of one space: homes, the nodes that run on them, and commands as users give them.

Owns driving them, each by the command line or the control socket of its node. Does not own
what happens to them (`stories`), nor what is checked (`checks`).
"""

import io
import json
import signal
import subprocess
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

from nodes import cli
from nodes.cli.control import ask_node

from .process import HERE, Launch, NodeProcess

DEADLINE_S: Final = 60.0

Answer = dict[str, Any]
Command = Sequence[str]


class Members:
    """Homes in one folder, by name; at most one node runs on each."""

    def __init__(self, folder: Path) -> None:
        """Start with none."""
        self.folder = folder
        self.nodes: dict[str, NodeProcess] = {}
        """Those that were started and not ended."""

    def launching(self, name: str) -> Launch:
        """Return how what `name` runs is started."""
        assert name
        return HERE

    def variables(self, name: str) -> dict[str, str]:
        """Return the environment of what `name` runs."""
        home = {"CRDTMERGE_HOME": str(self.folder / name)}
        return self.launching(name).variables() | home

    # --- commands -----------------------------------------------------------------------

    def run(self, name: str, *words: str, exits: int = 0) -> Any:
        """Run one command of `name`, which must exit so; return the JSON it printed."""
        return self.finish(self.begin(name, *words), words, exits)

    def run_here(self, name: str, *words: str) -> Any:
        """Run one command of `name` in this process, for which a new one takes longer.

        It must be one that asks no node.
        """
        if self.launching(name).program is not None:
            return self.run(name, *words)
        printed, said = io.StringIO(), io.StringIO()
        home = ("--home", str(self.folder / name))
        with redirect_stdout(printed), redirect_stderr(said):
            code = cli.run([*words, "--json", *home])
        assert code == 0, f"{words}: {printed.getvalue()}{said.getvalue()}"
        return json.loads(printed.getvalue())

    def run_each(self, *commands: tuple[str, *tuple[str, ...]]) -> list[Any]:
        """Run commands at once, each a name and its words; return what they printed."""
        begun = [self.begin(*command) for command in commands]
        pairs = zip(begun, commands, strict=True)
        return [self.finish(process, command) for process, command in pairs]

    def begin(self, name: str, *words: str) -> subprocess.Popen[str]:
        """Start one command of `name`."""
        launch = self.launching(name)
        return subprocess.Popen(
            launch.command(*words, "--json"),
            env=self.variables(name),
            cwd=launch.program,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(
        self, process: subprocess.Popen[str], words: Command, exits: int = 0
    ) -> Any:
        """Wait for a command, which must exit so; return the JSON it printed."""
        try:
            printed, said = process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        assert process.returncode == exits, f"{words}: {printed}{said}"
        return json.loads(said if exits else printed)

    def ask(self, name: str, verb: str, **arguments: object) -> Any:
        """Return what the node of `name` answers, as a command asks it; or run that.

        A process a question would take more time than all that is waited for.
        """
        running = name in self.nodes
        if running and self.launching(name).program is None:
            answer = ask_node(self.folder / name, verb, arguments, lambda _: None)
            assert answer is not None, self.log(name)
            return answer
        assert not arguments
        return self.run(name, verb)

    def status(self, name: str) -> Answer:
        """Return what `status` says of the one space."""
        (space,) = self.ask(name, "status")["spaces"]
        return dict(space)

    # --- nodes --------------------------------------------------------------------------

    def start(self, name: str, *options: str) -> None:
        """Start the node of `name` and wait until it listens."""
        self.launch(name, *options)
        self.await_ready(name)

    def launch(self, name: str, *options: str) -> None:
        """Start the node of `name`."""
        launch = self.launching(name)
        self.nodes[name] = NodeProcess(self.folder / name, *options, launch=launch)

    def await_ready(self, name: str) -> None:
        """Wait until the node of `name` says where it listens."""
        self.nodes[name].ready()

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """End the node of `name`; return its exit code."""
        return self.nodes.pop(name).stop(how)

    def log(self, name: str) -> str:
        """What the node of `name` printed on stderr."""
        return (self.folder / f"{name}.log").read_text()

    # --- what they hold -----------------------------------------------------------------

    def resolved(
        self, name: str, out: str, threads: int, *options: str
    ) -> dict[str, bytes]:
        """Resolve at `name`; return the files of the model."""
        folder = self.folder / f"{name}-{out}"
        resolve = ("resolve", "--out", str(folder), "--threads", str(threads))
        self.run(name, *resolve, *options)
        return contents(folder)

    def end(self) -> None:
        """Kill the nodes that still run."""
        for name in list(self.nodes):
            self.stop(name, signal.SIGKILL)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
