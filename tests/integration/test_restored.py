"""Two real nodes, one of which was restored from a backup: no number is used twice."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import RefusedError, RestoredError
from nodes import cli
from nodes.home import open_home
from nodes.runtime import Runtime
from nodes.store.disk import SystemDisk
from nodes.tls import make_leaf
from tests.homes import write_model
from tests.integration.living import (
    AFTER,
    ANY_PORT,
    BEFORE,
    admit,
    found,
    make_home,
    run,
    until,
)
from tests.integration.test_cli_node import Person


async def call(node: Runtime, verb: str, /, **asked: object) -> Any:
    """Run one verb in a node, as the control socket does."""
    return await asyncio.to_thread(node.operations.call, verb, asked, lambda _: None)


async def sign(node: Runtime, number: int) -> str:
    """Let the author of a node sign a record that costs nothing."""
    key = bytes([number]) * 32
    granted = await call(node, "space_grant", author=key.hex(), rank="reader")
    return str(granted["record"])


def numbers(node: Runtime, space: SpaceId) -> list[int]:
    """Return the numbers that the author of a node has used."""
    records = node.spaces.opset(space).records.values()
    me = node.home.author.public
    return sorted(r.author_seq for r in records if r.author == me)


def equal(one: Runtime, other: Runtime, space: SpaceId) -> bool:
    return one.spaces.opset(space).root == other.spaces.opset(space).root


async def gauge(node: Runtime, name: str) -> float:
    text = str((await call(node, "node_metrics"))["text"])
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


def pair(folder: Path) -> tuple[SpaceId, Path, Path]:
    """Return a space of two homes, which are closed."""
    owner, guest = make_home(folder / "owner"), make_home(folder / "guest")
    space = found(owner)
    admit(owner, space, guest)
    for home in (owner, guest):
        home.close()
    return space, owner.path, guest.path


@contextlib.asynccontextmanager
async def node_on(path: Path, knows: Runtime | None = None) -> AsyncIterator[Runtime]:
    """Run a node on the home at `path`, where it listened last: so it says nothing new."""
    with open_home(path, write=True) as home:
        if knows is not None:
            for space in home.records.spaces():
                home.local.add_peer(space, knows.me, knows.addresses)
        known = home.local.get_value("listen")
        node = Runtime(home, make_leaf(home.node.unlock(), BEFORE, AFTER))
        try:
            await node.start(known.decode() if known else ANY_PORT, ANY_PORT, "")
            yield node
        finally:
            await node.stop()
        assert node.failure is None


async def live_and_lose(
    space: SpaceId, owner: Path, guest: Path, backup: Path
) -> list[int]:
    """Let the owner sign twice after the backup; return the numbers that it used."""
    async with node_on(owner) as host:
        await sign(host, 200)
    shutil.copytree(owner, backup)
    async with node_on(owner) as host, node_on(guest, host) as other:
        for number in (201, 202):
            await sign(host, number)
        await until(lambda: equal(host, other, space), "the guest knows all")
        used = numbers(host, space)
    shutil.rmtree(owner)
    shutil.copytree(backup, owner)
    return used


def test_a_restored_node_asks_its_peer_before_it_signs(tmp_path: Path) -> None:
    """Backup, life, restore, refusal, comparison, life: each number was used once."""
    space, owner, guest = pair(tmp_path)

    async def test() -> None:
        used = await live_and_lose(space, owner, guest, tmp_path / "backup")
        async with node_on(owner) as host:
            assert numbers(host, space) == used[:-2]
            with pytest.raises(RestoredError):
                await sign(host, 203)
            assert await gauge(host, "crdtmerge_doubted_spaces") == 1
            assert (await call(host, "status"))["spaces"][0]["doubt"] == "restored"
            async with node_on(guest, host):
                sure = host.home.anchor.doubted
                await until(lambda: not sure(), "the end of the doubt")
                assert numbers(host, space)[: len(used)] == used
                await sign(host, 203)
            after = numbers(host, space)
            assert len(set(after)) == len(after) > len(used)
            assert await gauge(host, "crdtmerge_doubted_spaces") == 0

    run(test())


def test_a_restored_node_lets_nobody_in_meanwhile(tmp_path: Path) -> None:
    """To let somebody in is to sign a grant; the newcomer is told why it is refused."""
    space, owner, _ = pair(tmp_path)
    shutil.copytree(owner, tmp_path / "copy")

    async def test() -> None:
        async with node_on(tmp_path / "copy") as host:
            with pytest.raises(RefusedError, match="restored or copied"):
                host.doorkeeper._welcome(
                    space, type(host.home.author.public)(b"\x07" * 32)
                )

    run(test())


def test_a_machine_that_was_set_back_learns_it_from_its_peer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No stamp tells; the records of ours that come back do, before we signed again."""
    monkeypatch.setattr(SystemDisk, "stamp", lambda *_: "the same")
    space, owner, guest = pair(tmp_path)

    async def test() -> None:
        used = await live_and_lose(space, owner, guest, tmp_path / "backup")
        async with node_on(owner) as host:
            lived = host.home.records.generation
            assert host.home.anchor.doubt(space) is None
            async with node_on(guest, host) as other:
                await until(lambda: numbers(host, space)[-1] >= used[-1], "our records")
                await until(lambda: not host.home.anchor.doubted(), "a comparison")
                assert host.home.records.generation != lived
                await sign(host, 203)
                await until(lambda: equal(host, other, space), "the guest knows all")
            after = numbers(host, space)
            assert len(set(after)) == len(after) > len(used)

    run(test())
    assert (
        "a peer sent a record of this author that this home did not sign" in caplog.text
    )
    assert "this home signs again" in caplog.text


def test_peers_follow_the_new_life_of_a_store(tmp_path: Path) -> None:
    """Their cursors were beyond its end; they start over, and take nobody for a liar."""
    space, owner, guest = pair(tmp_path)

    async def test() -> None:
        async with node_on(guest) as other, contextlib.AsyncExitStack() as lives:
            host = await lives.enter_async_context(node_on(owner, other))
            await until(lambda: equal(host, other, space), "equal roots")
            await lives.aclose()
            shutil.copytree(owner, tmp_path / "backup")
            async with node_on(owner, other) as again:
                for number in (201, 202):
                    await sign(again, number)
                await until(lambda: equal(again, other, space), "equal roots")
            shutil.rmtree(owner)
            shutil.copytree(tmp_path / "backup", owner)
            async with node_on(owner, other) as restored:
                await until(lambda: not restored.home.anchor.doubted(), "a comparison")
                for number in (203, 204, 205):
                    await sign(restored, number)
                await until(lambda: equal(restored, other, space), "equal roots again")
            assert not other.node.dropped

    run(test())


def test_who_has_no_node_waits_for_a_peer_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hint of the refusal does what it says; what works meanwhile works."""
    base = write_model(tmp_path / "base", 0)
    ann, ben = Person(tmp_path / "ann", capsys), Person(tmp_path / "ben", capsys)
    keys = [bytes([n]).hex() * 32 for n in (1, 2, 3)]
    try:
        ann.start()
        ann.json("space", "create", "s", "--base", base)
        ticket = ann.json("space", "ticket")["ticket"]
        ben.json("space", "join", ticket, "--base", base)
        ben.start()
        ann.json("wait", "--converged", "--timeout", 30)
        ann.stop()
        shutil.copytree(ann.home, tmp_path / "backup")
        ann.json("space", "grant", keys[0], "--rank", "reader")
        ann.json("wait", "--converged", "--timeout", 30)
        shutil.rmtree(ann.home)
        shutil.copytree(tmp_path / "backup", ann.home)
        with open_home(ann.home, write=True):
            pass  # what notices it draws another generation, once
        error = ann.refused("space", "grant", keys[1], "--rank", "reader")
        assert (error["type"], error["exit_code"]) == ("RestoredError", 5)
        assert "wait --converged" in error["hint"]
        assert ann.json("status")["spaces"][0]["doubt"] == "restored"
        assert cli.run(["--home", str(ann.home), "status"]) == 0
        assert "signs nothing" in capsys.readouterr().out
        ann.json("wait", "--converged", "--timeout", 30)
        ann.json("space", "grant", keys[1], "--rank", "reader")
        (space,) = ann.json("status")["spaces"]
        assert (space["doubt"], space["forked"]) == (None, [])
        again = ann.json("space", "grant", keys[0], "--rank", "reader")
        assert not again["new"], "what was signed before is known again"
    finally:
        for person in (ann, ben):
            if person.node is not None:
                person.stop()
