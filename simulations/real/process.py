"""A node in a process of its own, as `crdtmerge node run` is, and what it takes.

Owns starting, measuring, pausing and ending it. It ends only what it started.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

READY_S: Final = 60.0
STOP_S: Final = 30.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def end_in_order() -> None:
    """Let SIGTERM end this process as an exit does, so that what it started ends too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))


@dataclass(frozen=True, slots=True)
class Launch:
    """How the program is started: where, which version of it, and behind what."""

    behind: tuple[str, ...] = ()
    """A command that runs ours, such as one that enters a network first."""
    program: Path | None = None
    """The folder of another version; None is the one that runs here."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs `words`."""
        return [*self.behind, sys.executable, "-m", "nodes.cli", *words]

    def variables(self) -> dict[str, str]:
        """Return the environment."""
        where = {"PYTHONPATH": str(self.program)} if self.program else {}
        return {**os.environ, **where, **self.environment}


HERE: Final = Launch()
"""This version, in the network of this process."""


class NodeProcess:
    """One `node run`."""

    def __init__(self, home: Path, *options: str, launch: Launch = HERE) -> None:
        """Start it; `ready` waits until it listens: where it did the last time."""
        self._log = home.with_suffix(".log").open("a")
        words = ["node", "run", "--json", "--home", str(home)]
        self._process = subprocess.Popen(
            launch.command(*words, *options),
            env=launch.variables(),
            cwd=launch.program,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.home = home
        self.address = ""

    def ready(self) -> str:
        """Return where it listens, once it does.

        Raises:
            SystemExit: it ended before; the message is what it said.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(self.home.with_suffix(".log").read_text())
        self.address = json.loads(line)["addresses"][0]
        return self.address

    def poll(self) -> int | None:
        """Return its exit code, if it has ended."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def cpu_s(self) -> float:
        """Return the seconds of processors that it has used."""
        stat = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / _TICKS

    def memory_mib(self, what: str = "VmRSS") -> float:
        """Return its memory; `VmHWM` is the most that it had."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def descriptors(self) -> int:
        """Return how many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def threads(self) -> int:
        """Return how many threads it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def pause(self) -> None:
        """Let it stand still, whatever it is at; the system goes on for it."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()
        return code
