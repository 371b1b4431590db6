"""Real nodes in processes of their own attest what they resolved, and find who differs."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from nodes.cli.control import ask_node
from nodes.store.attested import AttestedFiles
from tests.homes import Fleet, write_model
from tests.integration.processes import DEADLINE_S, Cluster, running
from tests.integration.test_processes import NAMES


class Members(Fleet):
    """Three members of one space, whose nodes run in processes; verbs run here."""

    cluster: Cluster

    def home(self, name: str) -> Path:
        """Return the home of a member."""
        return self.folder / name

    def asked(self, name: str, verb: str, **asked: object) -> Any:
        """Run a verb in the node of a member, over its control socket."""
        answer = ask_node(self.home(name), verb, asked, lambda _: None)
        assert answer is not None
        return answer

    def space(self, name: str) -> Any:
        """Return what a node says of the one space."""
        (space,) = self.asked(name, "status")["spaces"]
        return space

    def until(self, names: tuple[str, ...], done: Callable[[Any], bool]) -> list[Any]:
        """Wait until what nodes say of the space is as it should be."""
        end = time.monotonic() + DEADLINE_S
        while not all(map(done, found := [self.space(name) for name in names])):
            assert time.monotonic() < end, [found, *map(self.cluster.log, names)]
            time.sleep(0.1)
        return found

    def resolve(self, name: str, out: str, **asked: object) -> Any:
        """Resolve beside the running node, as a command does."""
        with self.open(self.home(name), write=False) as (_, _, verbs):
            words = {"out": str(self.folder / f"{name}-{out}"), **asked}
            return verbs.call("resolve", words, lambda _: None)


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    """Give two contributions to three members; only who made one has its bytes."""
    with running(tmp_path) as cluster:
        fleet = Members.at(tmp_path)
        assert isinstance(fleet, Members)
        fleet.cluster = cluster
        base = write_model(tmp_path / "base", 1)
        homes = [fleet.init(name) for name in NAMES]
        words = {"name": "friends", "base": base, "strategy": "ties"}
        fleet.call(homes[0], "space_create", **words)
        for home in homes[1:]:
            fleet.admit(homes[0], home, base, "contributor")
        for number, home in enumerate(homes[:2]):
            tune = write_model(tmp_path / f"tune{number}", 10 + number, near=base)
            fleet.call(home, "contribute", path=tune)
        with fleet.open(homes[0]) as (host, _, verbs):
            verbs.name_node(host.node.public)
        fleet.share(*homes)
        cluster.start(NAMES[0])
        with fleet.open(homes[0], write=False) as (host, spaces, _):
            listens = (host.local.get_value("listen") or b"").decode()
            known = host.node.public, (listens,)
            (space,) = spaces.all()
        for name, home in zip(NAMES[1:], homes[1:], strict=True):
            with fleet.open(home) as (opened, _, _):
                opened.local.add_peer(space, *known)
            cluster.start(name)
        fleet.until(NAMES, lambda s: s["missing_blobs"] == 0)
        yield fleet


def command(members: Members, name: str, *arguments: str, code: int = 0) -> Any:
    """Run one command of the program; an audit prints facts whatever it found."""
    done = subprocess.run(
        [sys.executable, "-m", "nodes.cli", *arguments, "--json"],
        env=members.cluster.variables(name),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == code, f"{done.stdout}{done.stderr}"
    return json.loads(done.stdout)


def agree(count: int) -> Callable[[Any], bool]:
    return lambda space: bool(space["attested"]["agree"] == count)


def test_nodes_see_who_made_the_same_model_and_name_who_did_not(
    members: Members,
) -> None:
    """What is resolved is signed and heard of; another digest is asked for its tensors."""
    digests = {str(members.resolve(name, "out")["model_digest"]) for name in NAMES}
    found = members.until(NAMES, agree(len(NAMES)))
    assert {space["attested"]["model_digest"] for space in found} == digests
    everybody = set[str]()
    for told in (space["attested"] for space in found):
        assert told["resolved_here"]
        assert (told["differ"], told["other_states"]) == (0, 0)
        everybody |= {node["node"] for node in told["nodes"]}
    assert len(everybody) == len(NAMES)

    # An exploration takes nobody's place; a damaged output, or a lie, is found out.
    assert members.resolve("ben", "explored", strategy="linear")["attested"] is False
    name = _lie(members, "cem")
    liar = str(members.asked("cem", "whoami")["node"])
    named = members.until(
        NAMES[:2],
        lambda s: any(n["tensors"] for n in s["attested"]["nodes"]),
    )
    for told in (space["attested"] for space in named):
        assert (told["agree"], told["differ"]) == (2, 1)
        (differs,) = [n for n in told["nodes"] if n["verdict"] == "differs"]
        assert (differs["node"], differs["tensors"]) == (liar, [name])

    facts = command(members, "ann", "audit", "--peer", liar[:12], code=8)
    (wrong,) = facts["wrong"]
    assert wrong["tensor"] == name
    assert "the peer attests other bytes" in wrong["fault"]
    assert wrong["ours"] == wrong["recomputed"] != wrong["stated"]
    assert facts["known_to_differ"] == 1

    # The other way round it is this home's own that does not hold.
    honest = str(members.asked("ann", "whoami")["node"])
    facts = command(members, "cem", "audit", "--peer", honest[:12], code=8)
    (wrong,) = facts["wrong"]
    assert "this home attests was damaged" in wrong["fault"]

    # A node that restarts knows what it attested, and hears again what others do.
    members.cluster.stop("ben")
    members.cluster.start("ben")
    members.until(("ben",), agree(2))
    members.resolve("cem", "again")
    members.until(NAMES, agree(len(NAMES)))


def _lie(members: Members, name: str) -> str:
    """Let a home attest another blob of one tensor; return which."""
    files = AttestedFiles(members.home(name))
    space = SpaceId(bytes.fromhex(members.space(name)["id"]))
    made = files.load(space)
    assert made is not None
    *others, last = made.tensors
    changed = (*others, replace(last, blob=BlobId(bytes(32))))
    lie = replace(made, counter=made.counter + 1, tensors=changed)
    files.keep(space, lie, b"tests")
    return last.name
