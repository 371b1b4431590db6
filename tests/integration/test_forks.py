"""Forks from end to end: real homes, real nodes, and the words that people read."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any, Final, cast

import pytest

from crdtmerge.bodies import NodeAddress, RecordId
from crdtmerge.errors import (
    NotAdmissibleError,
    NotAllowedError,
    NotFoundError,
    RestoredError,
)
from crdtmerge.identity import AuthorId
from crdtmerge.policy import ShownFork
from crdtmerge.record import make_record, sign_record
from crdtmerge.sync.messages import SignedBytes
from nodes import cli
from nodes.home import Home, open_home
from nodes.spaces import Spaces
from tests.homes import Fleet, snapshot, write_model
from tests.integration.living import living, run, until
from tests.integration.test_faults import meet

TUNES: Final = ("one", "other", "third")


@pytest.fixture(name="fleet")
def fixture_fleet(tmp_path: Path) -> Fleet:
    """A fleet whose folder has a base and fine-tunes of it."""
    fleet = Fleet.at(tmp_path)
    base = write_model(tmp_path / "base", 0)
    for seed, name in enumerate(TUNES, start=1):
        write_model(tmp_path / name, seed, near=base)
    return fleet


def members(fleet: Fleet, *names: str, quarantine: bool = False) -> list[Path]:
    """Return homes of one space; the first owns it, the others contribute."""
    homes = [fleet.init(name) for name in names]
    fleet.call(
        homes[0],
        "space_create",
        name="digits",
        base=fleet.folder / "base",
        strategy="linear",
        quarantine=quarantine,
    )
    for home in homes[1:]:
        fleet.admit(homes[0], home, fleet.folder / "base", "contributor")
    with fleet.open(homes[0]) as (owner, _, verbs):
        verbs.name_node(owner.node.public)
    fleet.share(*homes)
    return homes


def sign_twice(fleet: Fleet, path: Path) -> int:
    """Let a home sign another record of its last number, as a copy of it would."""
    with fleet.open(path) as (home, spaces, _):
        (space,) = spaces.all()
        me = home.author.public
        own = [s for s in spaces.opset(space).signed.values() if s.record.author == me]
        last = max(own, key=lambda s: s.record.author_seq).record
        record = make_record(
            space=space,
            author=me,
            author_seq=last.author_seq,
            prev=last.prev,
            auth=last.auth,
            body=NodeAddress(home.node.public, ("192.0.2.1:1",)),
        )
        spaces.commit(space, [sign_record(record, home.author.unlock())])
    return last.author_seq


def shown(home: Home) -> tuple[ShownFork, ...]:
    """Return the forks that the one space of a home shows."""
    spaces = Spaces(home.records, home.blobs)
    return spaces.view(spaces.all()[0]).forks


def said(
    capsys: pytest.CaptureFixture[str], home: Path, *words: str, code: int = 0
) -> str:
    """Return what a command prints."""
    assert cli.run(["--home", str(home), *words]) == code
    return capsys.readouterr().out


def space_of(fleet: Fleet, home: Path) -> Any:
    """Return what `status` says of the one space of a home."""
    (space,) = json.loads(json.dumps(fleet.call(home, "status")))["spaces"]
    return space


def facts(fleet: Fleet, home: Path) -> Any:
    """Return the one fork that a home knows of."""
    (fork,) = json.loads(json.dumps(fleet.call(home, "space_forks")))["forks"]
    return fork


def test_a_running_node_shows_a_fork_to_all(fleet: Fleet) -> None:
    """Three nodes meet; one of them publishes the proof, and all hold the same."""
    alice, mallory, carol = members(fleet, "alice", "mallory", "carol")
    fleet.call(mallory, "contribute", path=fleet.folder / "one")
    number = sign_twice(fleet, mallory)
    meet(alice, mallory, carol, done=lambda homes: all(map(shown, homes)))
    fleet.share(alice, mallory, carol)
    found = [facts(fleet, home) for home in (alice, mallory, carol)]
    assert found[0] == found[1] == found[2]
    assert found[0]["author"] == fleet.author(mallory)
    assert (found[0]["author_seq"], found[0]["state"]) == (number, "shown")
    log = fleet.call(carol, "log", limit=100)["records"]
    assert isinstance(log, list)
    (proof,) = [record for record in log if record["kind"] == "fork"]
    assert proof["author"] != fleet.author(mallory)


def test_a_running_node_shows_a_fork_by_what_it_refuses(fleet: Fleet) -> None:
    """A record without a right is not kept; with another of its number it is a proof."""
    alice, mallory, carol = members(fleet, "alice", "mallory", "carol")
    with fleet.open(mallory) as (home, spaces, _):
        (space,) = spaces.all()
        own = {r.author: r for r in spaces.opset(space).records.values()}
        mine, theirs = own[home.author.public], own[author_of(fleet, carol)]
        stray = make_record(
            space=space,
            author=mine.author,
            author_seq=mine.author_seq,
            prev=mine.prev,
            auth=theirs.auth,  # carol's grant
            body=NodeAddress(home.node.public, ()),
        )
        signed = sign_record(stray, home.author.unlock())
    sent = [SignedBytes(signed.record.data, signed.signature)]

    async def live() -> None:
        with open_home(alice, write=True) as home:
            async with living(home) as node:
                with pytest.raises(NotAdmissibleError):
                    await asyncio.to_thread(node.spaces.receive, space, sent)
                await until(lambda: bool(shown(home)), "a proof")
                samples = {
                    metric["name"]: metric["samples"]
                    for metric in cast("list[Any]", node.metrics()["metrics"])
                }
        (noticed,) = samples["crdtmerge_noticed_forks_total"]
        assert noticed["value"] == 1

    run(live())
    fork = facts(fleet, alice)
    assert (fork["author"], fork["author_seq"]) == (fleet.author(mallory), 0)
    assert stray.id.hex() in fork["records"]
    assert fork["state"] == "shown"


def author_of(fleet: Fleet, home: Path) -> AuthorId:
    """Return the author of a home."""
    return AuthorId(bytes.fromhex(fleet.author(home)))


def test_two_copies_of_a_home_make_a_fork_that_is_shown(fleet: Fleet) -> None:
    """A home is copied, both are made to sign, and a third home tells all of it."""
    alice, bob = members(fleet, "alice", "bob")
    copy = fleet.folder / "copy"
    shutil.copytree(bob, copy)
    with pytest.raises(RestoredError):
        fleet.call(copy, "contribute", path=fleet.folder / "one")
    fleet.call(copy, "store_adopt")  # its person says that the other one is gone
    fleet.call(copy, "contribute", path=fleet.folder / "one")
    fleet.call(bob, "contribute", path=fleet.folder / "other")
    fleet.share(alice, bob, copy)
    noticed = facts(fleet, alice)
    assert noticed["state"] == "noticed"
    assert noticed["record"] is None
    assert fleet.call(copy, "space_forks_publish")["published"] == 0
    assert fleet.call(alice, "space_forks_publish")["published"] == 1
    assert fleet.call(alice, "space_forks_publish")["published"] == 0
    assert facts(fleet, alice)["state"] == "shown"
    space = space_of(fleet, alice)
    assert len(space["contributions"]) == 2  # without quarantine both count
    assert space["quarantined"] is None


def test_a_forked_author_is_quarantined_until_it_is_lifted(fleet: Fleet) -> None:
    """What it said before counts; what it says later waits for an owner."""
    alice, bob, carol = members(fleet, "alice", "bob", "carol", quarantine=True)
    fleet.call(bob, "contribute", path=fleet.folder / "one")
    fleet.call(bob, "contribute", path=fleet.folder / "other")
    number = sign_twice(fleet, bob)
    fleet.share(alice, bob, carol)
    fleet.call(carol, "space_forks_publish")
    fleet.share(alice, bob, carol)
    for home in (alice, bob, carol):
        space = space_of(fleet, home)
        assert len(space["contributions"]) == 1
        assert facts(fleet, home)["state"] == "quarantined"
    before = snapshot(bob)
    with pytest.raises(NotAllowedError) as refused:
        fleet.call(bob, "contribute", path=fleet.folder / "third")
    assert f"number {number}" in str(refused.value)
    assert "space forks" in refused.value.hint
    assert snapshot(bob) == before
    with pytest.raises(NotAllowedError):
        fleet.call(carol, "space_forks_lift", author=fleet.author(bob))
    lifted = fleet.call(alice, "space_forks_lift", author=fleet.author(bob))
    assert (lifted["shown"], lifted["still_quarantined"]) == (1, False)
    with pytest.raises(NotFoundError):
        fleet.call(alice, "space_forks_lift", author=fleet.author(bob))
    fleet.share(alice, bob, carol)
    assert facts(fleet, carol)["state"] == "lifted"
    fleet.call(bob, "contribute", path=fleet.folder / "third")
    members_ = fleet.call(alice, "space_members")["members"]
    assert isinstance(members_, list)
    (member,) = [m for m in members_ if m["author"] == fleet.author(bob)]
    assert (member["state"], member["forked"]) == ("member", [number])


def test_the_fork_of_an_owner_is_lifted_by_a_council(fleet: Fleet) -> None:
    """One owner says it, and it waits for another, as all acts of councils do."""
    anna, bert, cora = homes = [fleet.init(name) for name in ("anna", "bert", "cora")]
    fleet.call(
        anna,
        "space_create",
        name="digits",
        base=fleet.folder / "base",
        strategy="linear",
        owners=[fleet.author(home) for home in (bert, cora)],
        quarantine=True,
    )
    with fleet.open(anna) as (home, _, verbs):
        verbs.name_node(home.node.public)
    number = sign_twice(fleet, anna)
    fleet.share(*homes)
    assert fleet.call(bert, "space_forks_publish")["published"] == 1
    assert facts(fleet, bert)["state"] == "quarantined"
    assert space_of(fleet, bert)["quarantined"] is None
    fleet.share(*homes)
    assert space_of(fleet, anna)["quarantined"] == number
    author = fleet.author(anna)
    said = json.loads(json.dumps(fleet.call(bert, "space_forks_lift", author=author)))
    assert said["still_quarantined"]
    (lift,) = said["pending"]
    assert "space approve" in said["notes"][0]
    fleet.share(*homes)
    fleet.call(cora, "space_approve", id=lift)
    assert facts(fleet, cora)["state"] == "lifted"
    fleet.share(*homes)
    assert space_of(fleet, anna)["quarantined"] is None


def test_people_are_told_who_forked_and_what_to_do(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """In `space forks`, `status`, `log` and `space members`."""
    alice, bob = members(fleet, "alice", "bob", quarantine=True)
    assert "nobody signed two records" in said(capsys, alice, "space", "forks")
    fleet.call(bob, "contribute", path=fleet.folder / "one")
    number = sign_twice(fleet, bob)
    fleet.share(alice, bob)
    author = fleet.author(bob)[:12]
    listed = said(capsys, alice, "space", "forks")
    assert "noticed" in listed
    assert "published 1 proof" in said(capsys, alice, "space", "forks", "--publish")
    fleet.share(alice, bob)
    listed = said(capsys, alice, "space", "forks")
    assert author in listed
    assert "quarantined" in listed
    status = said(capsys, alice, "status")
    assert f"forked author {author} at number {number}: quarantined" in status
    ours = said(capsys, bob, "status")
    assert f"nothing you signed from number {number} on counts" in ours
    assert f"{author} signed two records of number {number}" in said(
        capsys, alice, "log"
    )
    assert "its author forked" in said(capsys, alice, "log")
    assert f"quarantined, forked at {number}" in said(capsys, alice, "space", "members")
    said(capsys, alice, "space", "forks", "--lift", author, "--publish", code=2)
    lifted = said(capsys, alice, "space", "forks", "--lift", author)
    assert lifted.startswith(f"lifted the forks of author {author}: 1 contribution")


def test_a_proof_is_stored_and_read_again(fleet: Fleet) -> None:
    """What came through the door is loaded without being checked again."""
    alice, bob = members(fleet, "alice", "bob")
    sign_twice(fleet, bob)
    fleet.share(alice, bob)
    fleet.call(alice, "space_forks_publish")
    with open_home(alice, write=False) as home:
        (fork,) = shown(home)
    assert fork.record == RecordId(bytes.fromhex(facts(fleet, alice)["record"]))
