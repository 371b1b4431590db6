"""The demo, for real: four peers, sockets, disks, a ban; and nothing left behind.

The demo runs in a session of its own, so whatever it starts is in its process group.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SECONDS_MAX = 120


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short name: paths of sockets must be short."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


def start(temporary: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("crdtmerge")), "demo", *options],
        env={**os.environ, "TMPDIR": str(temporary)},
        cwd=temporary,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def lives(group: int) -> bool:
    """Return whether any process of a group lives, and end what does."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    os.killpg(group, signal.SIGKILL)
    return True


def check_report(report: Path, figures: dict[str, Any]) -> None:
    """Check that the report agrees with the figures, and the peers with each other."""
    told = json.loads((report / "figures.json").read_text())
    assert told["accuracy"] == figures["accuracy"]
    for model in told["models"]:
        assert len(model["by_digit"]) == 10
        assert abs(sum(model["by_digit"]) / 10 - model["all"]) < 0.02
    assert (report / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    written: dict[str, set[bytes]] = {}
    for file in report.glob("resolutions/*/*.json"):
        written.setdefault(file.parent.name, set()).add(file.read_bytes())
    assert [len(texts) for texts in written.values()] == [1, 1, 1]
    assert written["merged"] == written["after-the-ban"] != written["with-the-poison"]
    digest = json.loads(written["merged"].pop())["model_digest"]
    assert digest == figures["peers"][0]["model_digest"]


def test_the_demo_shows_what_it_promises(temporary: Path) -> None:
    """Figures in the promised order, equal peers, a report; nothing else is left."""
    figures = temporary / "figures.json"
    demo = start(temporary, "--json", str(figures))
    try:
        printed, _ = demo.communicate(timeout=SECONDS_MAX)
    finally:
        left_behind = lives(demo.pid)
    assert demo.returncode == 0, printed
    assert not left_behind
    report = temporary / "crdtmerge-demo"
    assert set(temporary.iterdir()) == {figures, report}
    check_report(report, json.loads(figures.read_text()))
    assert f"The report is in {report.resolve()}" in printed
    found = json.loads(figures.read_text())
    peers, accuracy = found["peers"], found["accuracy"]
    assert [peer["name"] for peer in peers] == ["alice", "bob", "carol", "mallory"]
    assert len({(peer["root"], peer["model_digest"]) for peer in peers}) == 1
    assert len(bytes.fromhex(peers[0]["model_digest"])) == 32
    assert len(accuracy["fine_tunes"]) == 3
    assert accuracy["merged"] > max(accuracy["base"], *accuracy["fine_tunes"])
    assert accuracy["poisoned"] < accuracy["merged"] == accuracy["after_ban"]
    assert peers[0]["model_digest"][:12] in printed


def test_a_demo_that_is_stopped_leaves_nothing_behind(temporary: Path) -> None:
    """SIGTERM while four nodes run: no process lives on, and no file is left."""
    demo = start(temporary)
    assert demo.stdout is not None
    try:
        for line in demo.stdout:
            if line.startswith("[3/6]"):
                break
        demo.send_signal(signal.SIGTERM)
        rest, _ = demo.communicate(timeout=30)
    finally:
        left_behind = lives(demo.pid)
    assert demo.returncode not in (0, -signal.SIGKILL), rest
    assert not left_behind
    assert list(temporary.iterdir()) == []
