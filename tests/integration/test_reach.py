"""`doctor` over real nodes: a peer calls back, and says what it found there."""

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from crdtmerge.errors import NodeNeededError
from nodes import reaching
from nodes.cli import render_peers
from nodes.operations.live import Context
from nodes.operations.reaching import doctor_reach
from nodes.reaching import Trial, tried
from nodes.runtime import Runtime
from tests.integration.living import admit, found, homes, living, run, until
from tests.integration.peers import ALICE, BOB, SERVER, Echo, leaf_of, members, serving
from tests.integration.test_one_way import hidden


async def asked(runtime: Runtime) -> Mapping[str, Any]:
    """Run the verb in a thread, as a command does."""
    verb = runtime.operations.call
    return await asyncio.to_thread(verb, "doctor_reach", {}, lambda _: None)


def test_doctor_tells_who_is_reached_and_who_is_not(tmp_path: Path) -> None:
    """One of two is: the other announces an address where nobody listens."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def meet() -> None:
            async with living(owner) as host, hidden(guest, host) as other:

                def heard() -> bool:
                    roots = {n.spaces.opset(space).root for n in (host, other)}
                    return bool(host.connected()) and len(roots) == 1

                await until(heard, "equal roots")
                well, ill = await asyncio.gather(asked(host), asked(other))
                assert (well["reached"], well["advice"]) == (True, [])
                (said,) = well["asked"]
                assert said["node"] == other.me.hex()
                assert [f["outcome"] for f in said["found"]] == ["reached"]
                assert ill["reached"] is False
                (said,) = ill["asked"]
                assert said["seen_from"] == "127.0.0.1"
                (address,) = other.addresses
                assert [(f["address"], f["outcome"]) for f in said["found"]] == [
                    (address, "ours")
                ]
                assert "need a third one" in ill["advice"][-1]
                assert "127.0.0.2" in "\n".join(render_peers.reach(ill))
                again = await asked(other)  # at once: it is told to wait
                assert again["reached"] is None
                assert again["asked"][0]["wait_s"] > 0

        run(meet())


def test_each_way_of_not_being_reached_is_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A closed port, another node's key, another program, a name without a host."""
    monkeypatch.setattr(reaching, "STEP_S", 1.0)

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as plain, socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))  # and does not listen
            async with serving(Echo(members(ALICE, BOB))) as served:
                addresses = (
                    served.address,
                    f"127.0.0.1:{closed.getsockname()[1]}",
                    f"127.0.0.1:{plain.getsockname()[1]}",
                    "no-such-host.invalid:7420",
                )
                trial = Trial(SERVER.public, "127.0.0.1", "", leaf_of(ALICE))
                of_server = await tried(trial, addresses)
                trial = Trial(BOB.public, "127.0.0.1", "", leaf_of(ALICE))
                of_bob = await tried(trial, addresses[:1])
                trial = Trial(BOB.public, "", "", leaf_of(ALICE))
                unseen = await tried(trial, addresses[:1])
        assert [p.outcome for p in of_server] == [1, 2, 5, 4]
        assert [p.outcome for p in of_bob] == [5]
        assert [p.outcome for p in unseen] == [6]

    run(scenario())


def test_without_a_node_nobody_can_be_asked() -> None:
    """It is said that one must run."""
    here = cast("Context", SimpleNamespace(live=None))
    with pytest.raises(NodeNeededError, match="only a running one"):
        doctor_reach(here, {}, lambda _: None)
