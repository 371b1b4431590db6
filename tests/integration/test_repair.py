"""Damage at rest is repaired from peers: by a running node, and by commands."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from crdtmerge.digest import CHUNK_BYTES, BlobId
from nodes.cli import render
from nodes.home import open_home
from tests.homes import write_model
from tests.integration.living import admit, found, homes, living, offer, run, tensors
from tests.integration.living import until as soon
from tests.integration.test_cli_node import Person
from tests.unit.test_store_blobs import content

BIG = 2 * CHUNK_BYTES + 40
END = BIG - 2 * CHUNK_BYTES
"""The last chunk: what its damage costs to send."""


def flip(path: Path, place: int) -> None:
    """Flip one bit of a file."""
    with path.open("r+b") as file:
        file.seek(place)
        [byte] = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(("place", "cost"), [(0, CHUNK_BYTES), (BIG - 1, END)])
def test_a_running_node_repairs_what_it_finds(
    tmp_path: Path, place: int, cost: int
) -> None:
    """From a peer, while it runs, and only the chunk that was wrong; `status` says so."""
    with homes(tmp_path, "owner", "member") as (owner, member):
        space = found(owner)
        admit(owner, space, member)
        data = content(BIG)
        blob = owner.blobs.put(data)
        owner.records.append(space, [offer(owner, space, tensors(data))])

        async def meet() -> None:
            async with living(owner) as host, living(member, host) as guest:
                await soon(lambda: member.blobs.has(blob), "the blob")
                path = member.blobs.path_of(blob)
                before = guest.brought()
                flip(path, place)
                await soon(lambda: bool(guest.keeper.scrubber.damaged), "the damage")
                await soon(lambda: member.blobs.has(blob), "its repair")
                assert path.read_bytes() == data
                assert guest.brought() - before == cost
                call = guest.operations.call
                status = await asyncio.to_thread(call, "status", {}, lambda _: None)
                upkeep = cast("dict[str, object]", status["upkeep"])
                assert upkeep["damaged"] == {"wanted": 1}
                assert any("1 damaged blob" in line for line in render.status(status))

        run(meet())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    big = np.arange(BIG // 4, dtype=np.float32)
    write_model(tmp_path / "base", 0, big=big)
    write_model(tmp_path / "tune1", 1, near=tmp_path / "base", big=big + 1)
    return tmp_path


@pytest.fixture
def people(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[tuple[Person, Person]]:
    """Two persons with the same contribution; the first has a running node."""
    first, second = Person(folder / "a", capsys), Person(folder / "b", capsys)
    first.json("space", "create", "digits", "--base", folder / "base")
    try:
        first.start()
        ticket = first.json("space", "ticket")["ticket"]
        second.json("space", "join", ticket, "--base", folder / "base")
        first.json("contribute", folder / "tune1")
        second.json("fetch")
        yield first, second
    finally:
        for person in (first, second):
            if person.node is not None:
                person.stop(signal.SIGKILL)


def big_of(person: Person) -> tuple[BlobId, Path]:
    """Return the large blob of a home, and its file."""
    with open_home(person.home, write=False) as home:
        [found] = [h for h in home.blobs.holdings() if (h.form, h.size) == ("own", BIG)]
        return found.blob, home.blobs.path_of(found.blob)


def run_json(person: Person, *words: object) -> tuple[int, Any]:
    code, out, err = person.run(*words)
    assert out, err
    return code, json.loads(out)


@pytest.mark.parametrize("running", [False, True])
def test_fsck_names_damage_and_repairs_it_from_a_peer(
    people: tuple[Person, Person], *, running: bool
) -> None:
    """Exit code 8 while damage is left; one chunk is sent; then all is right."""
    _, second = people
    blob, path = big_of(second)
    right = path.read_bytes()
    flip(path, BIG - 1)
    code, facts = run_json(second, "store", "fsck")
    assert (code, facts["sound"]) == (8, False)
    content_id = second.json("status")["spaces"][0]["contributions"][0]["content"]
    [damage] = facts["damaged"]
    assert damage["needed_by"][0]["content"] == content_id
    assert path.read_bytes() != right
    if running:
        second.start("--scrub-rate", "0")
    code, facts = run_json(second, "store", "fsck", "--repair")
    assert (code, facts["sound"], facts["wanted"]) == (0, True, [])
    assert [d["outcome"] for d in facts["damaged"]] == ["repaired"]
    assert facts["fetched_bytes"] == END
    assert path.read_bytes() == right
    assert second.json("store", "fsck")["damaged"] == []
    assert facts["damaged"][0]["blob"] == blob.hex()


def test_what_no_peer_has_stays_wanted_and_comes_later(
    people: tuple[Person, Person], folder: Path
) -> None:
    """The peer is away: exit code 8 and words for people; it comes once it is back."""
    first, second = people
    _, path = big_of(second)
    os.truncate(path, CHUNK_BYTES)
    first.stop()
    words = ("store", "fsck", "--repair", "--patience", "1")
    code, facts = run_json(second, *words)
    assert code == 8
    assert [d["outcome"] for d in facts["damaged"]] == ["wanted"]
    error = second.refused("resolve", "--out", folder / "out")
    assert error["type"] == "ContentMissingError"
    first.start()
    second.start("--scrub-rate", "0")
    second.wait(1, "digits")
    second.json("resolve", "--out", folder / "out")


def test_the_store_is_shown_collected_and_pinned(
    people: tuple[Person, Person], capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside a node and without one, for people and for programs."""
    from nodes import cli

    first, second = people
    content_id = first.json("status")["spaces"][0]["contributions"][0]["content"]
    assert first.json("store", "pin", content_id[:8], "--note", "kept")["pinned"]
    first.json("remove", content_id[:8])
    assert first.json("store", "gc", "--grace", "0")["count"] == 0
    assert first.json("store", "show")["pins"][0]["note"] == "kept"
    first.json("store", "unpin", content_id[:8])
    dry = first.json("store", "gc", "--grace", "0", "--dry-run")
    assert (dry["count"], dry["needed"]["count"]) == (5, 5)
    assert first.json("store", "gc", "--grace", "2w")["stays_count"] == 5
    assert first.json("store", "gc", "--grace", "0")["went"] == dry["went"]
    assert second.refused("store", "unpin", content_id)["exit_code"] == 4
    assert second.run("store", "gc", "--grace", "1 year")[0] == 2
    for words in (("show",), ("gc",), ("fsck",), ("gc", "--dry-run")):
        capsys.readouterr()
        assert cli.run(["--home", str(first.home), "store", *words]) == 0
        assert capsys.readouterr().out
