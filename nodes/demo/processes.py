"""The processes of the demo: starting them, and ending every one whatever happens.

Owns child processes and the signals that would otherwise end the demo before its children.
Does not own what the processes are told to do (`peers`).
"""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

GRACE_SECONDS: Final = 5.0
"""What a process gets between being asked to stop and being killed."""

STOP_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")
"""The ways in which a user or a supervisor stops us; not every system has them all."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


class Children:
    """Every process that the demo started; leaving the context ends those that live.

    Signals that stop the demo become `KeyboardInterrupt`, also those whose default is to
    end a process at once, so that the way out is always the same.
    """

    def __init__(self) -> None:
        self._living: list[subprocess.Popen[str]] = []
        self._handlers: dict[signal.Signals, Any] = {}
        self._deferring = False
        self._pending = False

    def __enter__(self) -> Self:
        """Take over the stop signals; Python lets only the main thread do so."""
        if threading.current_thread() is threading.main_thread():
            for name in STOP_SIGNALS:
                self._take_over(name)
        return self

    def __exit__(self, *_: object) -> None:
        """End every child, then give the signals back."""
        self._deferring = True  # a second Ctrl-C must not cut the ending short
        try:
            self.end()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def spawn(
        self, arguments: Sequence[str], folder: Path, env: Mapping[str, str], log: Path
    ) -> subprocess.Popen[str]:
        """Start a process that runs until `end`; what it prints goes to the log."""
        with log.open("a") as out:
            return self._start(arguments, folder, env, out, subprocess.STDOUT)

    def command(
        self, arguments: Sequence[str], folder: Path, env: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        """Start a process that ends by itself; `finish` waits for it."""
        return self._start(arguments, folder, env, subprocess.PIPE, subprocess.PIPE)

    def finish(self, process: subprocess.Popen[str], seconds: float) -> Finished:
        """Wait for a command and return what it printed.

        Raises:
            TimeoutError: it did not end in time; it lives until `end`.
        """
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            message = f"no answer within {seconds:.0f} s"
            raise TimeoutError(message) from None
        self._living.remove(process)
        return Finished(process.returncode, out, err)

    def end(self) -> None:
        """Ask every living child to stop, and kill those that do not in time."""
        for process in self._living:
            process.terminate()  # asks all before it waits for any
        for process in self._living:
            self._reap(process)
        self._living.clear()

    def _start(
        self,
        arguments: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        out: Any,
        err: int,
    ) -> subprocess.Popen[str]:
        # SUBTLE: a signal between the fork and the append would orphan the child, so it
        # is held back until the child is in our list.
        self._deferring = True
        try:
            process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
                arguments,
                cwd=folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                encoding="utf-8",
                errors="replace",
            )
            self._living.append(process)
        finally:
            self._deferring = False
        if self._pending:
            raise KeyboardInterrupt
        return process

    def _reap(self, process: subprocess.Popen[str]) -> None:
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _take_over(self, name: str) -> None:
        number = getattr(signal, name, None)
        # A signal that our parent made us ignore (nohup) stays ignored.
        if number is None or signal.getsignal(number) is signal.SIG_IGN:
            return
        self._handlers[number] = signal.signal(number, self._interrupt)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._pending = True
        if not self._deferring:
            raise KeyboardInterrupt
