"""Three real nodes in processes of their own converge, whatever happens to one of them.

Real homes, real gRPC over mutual TLS on loopback, the real command line. Each process has
another PYTHONHASHSEED, and resolves with another number of threads.
"""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crdtmerge.digest import CHUNK_BYTES
from nodes.home import open_home
from tests.homes import Fleet, write_model
from tests.integration.processes import Cluster, running

NAMES = ("ann", "ben", "cem")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three members of one space, all nodes running."""
    with running(tmp_path) as members:
        base = write_model(tmp_path / "base", 1)
        fleet = Fleet.at(tmp_path)
        for name in NAMES:
            fleet.init(name)
        ann = NAMES[0]
        create = ("space", "create", "friends", "--base", str(base))
        members.run(ann, *create, "--strategy", "ties", "--param", "density=0.5")
        members.start(ann)
        for name in NAMES[1:]:
            ticket = members.run(ann, "space", "ticket")["ticket"]
            members.run(name, "space", "join", ticket, "--base", str(base))
            members.start(name)
        yield members


def test_three_processes_write_the_same_bytes(cluster: Cluster) -> None:
    """Contributions, a removal, a re-add and a ban end in byte-identical folders."""
    contents = {name: cluster.contribute(name, 10 + i) for i, name in enumerate(NAMES)}
    cluster.wait(NAMES, lambda space: len(space["contributions"]) == 3)
    cluster.run("ben", "remove", contents["ben"])
    cluster.run("ann", "ban", contents["cem"])
    cluster.wait(NAMES, lambda space: len(space["contributions"]) == 1)
    assert cluster.contribute("ben", 11) == contents["ben"]
    banned = str(cluster.folder / "cem-12")
    refusal = cluster.run("cem", "contribute", banned, exits=9)
    assert contents["cem"][:12] in refusal["error"]["message"]
    spaces = cluster.wait(NAMES, lambda space: len(space["contributions"]) == 2)
    assert len({space["merge_id"] for space in spaces}) == 1
    folders = [cluster.resolved(n, "out", 1 + i % 2) for i, n in enumerate(NAMES)]
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
    before = cluster.contribute("cem", 20)
    cluster.stop("cem", signal.SIGKILL)
    held = [item["content"] for item in cluster.status("cem")["contributions"]]
    assert held == [before]
    while_down = [cluster.contribute(name, 21) for name in ("ann",)]
    offline = cluster.contribute("cem", 22)  # the same verb, with no node running
    cluster.start("cem")
    everything = {before, offline, *while_down}
    spaces = cluster.wait(
        NAMES, lambda s: {i["content"] for i in s["contributions"]} == everything
    )
    assert len({space["visible_root"] for space in spaces}) == 1


def test_a_starting_node_waits_for_a_command(tmp_path: Path) -> None:
    """A script may start a node and go on: neither gets in the other's way."""
    with running(tmp_path) as members:
        members.run("ann", "init")
        with open_home(tmp_path / "ann", write=True):
            members.launch("ann")
            time.sleep(1.5)
            assert members.nodes["ann"].poll() is None
        members.await_ready("ann")
        assert members.stop("ann") == 0


def test_a_large_tensor_travels_in_verified_chunks(tmp_path: Path) -> None:
    """A tensor of several chunks arrives whole, and equal to what was contributed."""
    with running(tmp_path) as members:
        big = [[0.25] * 1024 for _ in range(3 * CHUNK_BYTES // 4096 + 7)]
        base = write_model(tmp_path / "base", 1, head_weight=big)
        for name in NAMES[:2]:
            members.run(name, "init")
        create = ("space", "create", "big", "--base", str(base), "--strategy", "linear")
        members.run("ann", *create)
        members.start("ann")
        ticket = members.run("ann", "space", "ticket")["ticket"]
        members.run("ben", "space", "join", ticket, "--base", str(base))
        members.start("ben")
        tuned = [[i / 4096] * 1024 for i in range(len(big))]
        model = write_model(tmp_path / "tuned", 2, head_weight=tuned)
        members.run("ann", "contribute", str(model))
        members.wait(NAMES[:2], lambda space: len(space["contributions"]) == 1)
        assert members.resolved("ann", "out", 1) == members.resolved("ben", "out", 2)
