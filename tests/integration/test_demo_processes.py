"""The demo's processes: none outlives the demo, however it ends."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes.demo import processes
from nodes.demo.processes import Children

SLEEP_CODE = "import time; print('up', flush=True); time.sleep(60)"
DEAF_CODE = (
    f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP_CODE}"
)
SLEEP = (sys.executable, "-c", SLEEP_CODE)
DEAF = (sys.executable, "-c", DEAF_CODE)
NAG_CODE = """
import os, signal, time
def nag(*_): os.kill(os.getppid(), signal.SIGINT)
signal.signal(signal.SIGTERM, nag)
nag()
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Hear signals as in a terminal: in the background a shell has some ignored."""
    usual: dict[int, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, how) for number, how in usual.items()}
    yield
    for number, how in before.items():
        signal.signal(number, how)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def await_up(log: Path) -> None:
    for _ in range(400):
        if log.exists() and "up" in log.read_text():
            return
        time.sleep(0.02)
    pytest.fail("the child did not start")


def test_an_exception_ends_every_child(tmp_path: Path) -> None:
    """Nodes and unfinished commands end when the demo fails."""
    pids = []

    def fail() -> None:
        with Children() as children:
            log = tmp_path / "log"
            pids.append(children.spawn(SLEEP, tmp_path, os.environ, log).pid)
            pids.append(children.command(SLEEP, tmp_path, os.environ).pid)
            raise RuntimeError("fails")

    with pytest.raises(RuntimeError, match="fails"):
        fail()
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_a_child_that_ignores_the_request_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM first; SIGKILL once the grace is over."""
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.2)
    with Children() as children:
        child = children.spawn(DEAF, tmp_path, os.environ, tmp_path / "log")
        await_up(tmp_path / "log")
    assert child.returncode == -signal.SIGKILL
    assert gone(child.pid)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_stop_signal_ends_every_child(tmp_path: Path, name: str) -> None:
    """Ctrl-C, a supervisor and a closed terminal all leave by the same way out."""
    number = signal.Signals[name]
    before = signal.getsignal(number)
    pids = []

    def be_stopped() -> None:
        with Children() as children:
            child = children.spawn(SLEEP, tmp_path, os.environ, tmp_path / "log")
            pids.append(child.pid)
            os.kill(os.getpid(), number)
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        be_stopped()
    assert [gone(pid) for pid in pids] == [True]
    assert signal.getsignal(number) == before


def test_a_signal_while_ending_does_not_cut_it_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Ctrl-C, here from a child asked to stop, leaves no process behind."""
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.5)
    nag = (sys.executable, "-c", NAG_CODE)
    pids = []

    def be_stopped_twice() -> None:
        with Children() as children:
            child = children.spawn(nag, tmp_path, os.environ, tmp_path / "log")
            pids.append(child.pid)
            time.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        be_stopped_twice()
    assert [gone(pid) for pid in pids] == [True]


def test_a_command_returns_what_it_printed(tmp_path: Path) -> None:
    """Exit code, stdout and stderr come back apart; the folder is the child's own."""
    code = (
        "import os, sys; print(os.getcwd()); print('oh', file=sys.stderr); sys.exit(3)"
    )
    with Children() as children:
        command = children.command((sys.executable, "-c", code), tmp_path, os.environ)
        done = children.finish(command, 30)
    assert (done.code, done.out, done.err) == (3, f"{tmp_path.resolve()}\n", "oh\n")


def test_a_command_that_hangs_is_reported_and_ended(tmp_path: Path) -> None:
    """A deadline passes; the process does not outlive the demo."""
    with Children() as children:
        command = children.command(SLEEP, tmp_path, os.environ)
        with pytest.raises(TimeoutError, match="no answer within 0 s"):
            children.finish(command, 0.1)
    assert gone(command.pid)
