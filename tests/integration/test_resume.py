"""A command that is killed or interrupted goes on when it is run again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

TENSORS = 24
SHAPE = (257, 129)
DEADLINE_S = 120
TRIES = 10


def write(folder: Path, seed: int) -> Path:
    """Write a model of many tensors."""
    generator = np.random.default_rng(seed)
    folder.mkdir()
    tensors = {
        f"t{n:02}": generator.standard_normal(SHAPE).astype(np.float32)
        for n in range(TENSORS)
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "small"}\n')
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration that merges two models into a base."""
    names = [
        write(tmp_path / name, n).name for n, name in enumerate(("base", "a", "b"))
    ]
    models = [{"model": name, "parameters": {"weight": 1}} for name in names[1:]]
    path = tmp_path / "merge.yml"
    path.write_text(
        json.dumps({"merge_method": "ties", "base_model": "base", "models": models})
    )
    return path


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let Ctrl-C reach what is started, as at a terminal.

    A shell that starts tests in the background has it ignored, by all that they start.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(config: Path, out: Path) -> "subprocess.Popen[str]":
    """Start a merge."""
    words = [sys.executable, "-m", "nodes.cli", "merge", str(config), str(out)]
    return subprocess.Popen(
        [*words, "--threads", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def journals(out: Path) -> Iterator[Path]:
    """Yield the journals of what is under way."""
    yield from out.parent.glob(f".{out.name}.partial-*/journal")


def wait_for_work(process: "subprocess.Popen[str]", out: Path) -> None:
    """Wait until some tensors are finished, and others not."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        if any(path.read_bytes().count(b"\n") > 2 for path in journals(out)):
            return
        time.sleep(0.0005)
    raise AssertionError("it ended, or took too long")


def stopped(config: Path, out: Path, number: signal.Signals) -> tuple[int, str]:
    """Start a merge, and stop it at work; return how it ended, and its words."""
    with start(config, out) as process:
        wait_for_work(process, out)
        process.send_signal(number)
        _, told = process.communicate()
    return process.returncode, told


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_merge_that_was_stopped_goes_on(
    tmp_path: Path, config: Path, number: signal.Signals
) -> None:
    """By a kill or Ctrl-C: what was finished is kept, and the bytes are the same."""
    with start(config, tmp_path / "plain") as process:
        said, _ = process.communicate()
    assert json.loads(said)["computed"]["tensors"] == TENSORS
    out = tmp_path / "out"
    for _ in range(TRIES):
        code, told = stopped(config, out, number)
        if code:
            break
        shutil.rmtree(out)  # it had finished before the signal reached it
    assert code in {-signal.SIGKILL, 130}
    assert not out.exists()
    (journal,) = journals(out)
    if number == signal.SIGINT:
        assert str(journal.parent) in told
    with start(config, out) as process:
        said, _ = process.communicate()
    facts = json.loads(said)
    assert facts["resumed"]["tensors"] >= 2
    assert facts["resumed"]["tensors"] + facts["computed"]["tensors"] == TENSORS
    assert not list(journals(out))
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "plain").iterdir()
    }
    assert len(load_file(out / "model.safetensors")) == TENSORS
