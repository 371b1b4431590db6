"""Stories with real nodes, as `python -m simulations real` plays them.

Each in a process, and where this machine lets us in namespaces, of its own. What it waits
for it waits for as long as something goes on.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from simulations.real import isolation
from simulations.real.command import BOUND_S
from simulations.real.stories import STORIES

pytestmark = pytest.mark.timeout(BOUND_S + 60)


def played(story: str, *options: str) -> dict[str, Any]:
    """Play a story; return what it came to, or skip with its reason."""
    words = ("-m", "simulations", "real", story, "--json", *options)
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND_S,
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    if "skipped" in facts:
        pytest.skip(facts["skipped"])
    return facts


def test_a_kill_amid_a_contribution_loses_nothing() -> None:
    """It dies before or after it has answered; both ends are well."""
    facts = played("kill", "--nodes", "3", "--times", "1")
    assert facts["done"]["killed"] == 1
    assert facts["real"]["contributions"] == 2


@pytest.mark.slow
def test_a_node_that_stood_still_catches_up() -> None:
    facts = played("pause", "--nodes", "3", "--times", "1")
    assert facts["done"]["paused"] == 1
    assert facts["real"]["contributions"] == 3


def test_a_full_disk_keeps_what_was_acknowledged() -> None:
    """Its member is refused and says so; with room again it catches up."""
    facts = played("disk-full", "--nodes", "3", "--times", "1")
    assert facts["done"]["contributions refused"] == 1
    assert facts["real"]["contributions"] == 3


@pytest.mark.parametrize("words", ["islands", "weather --storm switch"])
def test_what_needs_namespaces_says_so_on_loopback(words: str) -> None:
    """Nothing is ever laid, mounted or cut outside of a world of our own."""
    told = ("-m", "simulations", "real", *words.split(), "--loopback", "--json")
    said = subprocess.check_output([sys.executable, *told], text=True)
    facts = json.loads(said)
    assert "namespaces" in facts["skipped"]
    assert "real" not in facts


@pytest.mark.slow
@pytest.mark.parametrize("story", sorted(STORIES.keys() - {"weather"}))
def test_all_stories_end_well(story: str) -> None:
    facts = played(story)
    assert facts["real"]["contributions"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("means", ["netem", "switch", "proxy"])
def test_storms_of_every_kind_end_well(means: str) -> None:
    facts = played("weather", "--storm", means)
    assert facts["storm_by"] == means
    assert facts["storm"], "nothing happened to what was on its way"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_a_story_that_is_ended(
    how: signal.Signals, tmp_path: Path
) -> None:
    """Its nodes and networks go with its first process, whatever ends that."""
    if refused := isolation.refusal():
        pytest.skip(refused)
    words = ("-m", "simulations", "real", "pause", "--nodes", "3", "--times", "9")
    story = subprocess.Popen(
        [sys.executable, *words], env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    began: set[int] = set()
    while not any("run" in command(pid) for pid in began):
        assert story.poll() is None
        began |= descendants(story.pid)
        time.sleep(0.05)
    story.send_signal(how)
    story.wait()
    while any(command(pid) for pid in began):
        time.sleep(0.05)
    if how is signal.SIGTERM:
        assert not list(tmp_path.iterdir()), "its homes are left"


def descendants(pid: int) -> set[int]:
    """Return the processes that a process started, and they."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return set()
    found = {int(word) for word in text.split()}
    return found.union(*map(descendants, found))


def command(pid: int) -> list[str]:
    """Return the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return []
