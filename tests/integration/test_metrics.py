"""What a running node counts, as `crdtmerge node metrics` prints it and others read it."""

import asyncio
import contextlib
import dataclasses
import errno
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    MachineError,
    NodeNeededError,
)
from docs.make import METRICS_PAGE, metrics_page
from nodes import cli
from nodes import runtime as runtimes
from nodes.home import open_home
from nodes.metrics import _TRAFFIC, METRICS
from nodes.runtime import Runtime
from nodes.traffic import Traffic
from tests.archives import Shared
from tests.homes import Fleet, write_model
from tests.integration.living import (
    DEADLINE_S,
    admit,
    blob_of,
    found,
    homes,
    living,
    offer,
    run,
    tensors,
    until,
)
from tests.integration.test_cli_node import Person

Read = dict[tuple[str, tuple[str, ...]], float]


async def metrics(node: Runtime) -> dict[str, Any]:
    """Run the verb as the control socket does."""
    call = node.operations.call
    return await asyncio.to_thread(call, "node_metrics", {}, lambda _: None)


def parsed(text: str) -> Read:
    """Return what Prometheus' own parser reads: values by name and labels."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_page_of_metrics_is_generated() -> None:
    """Else run `make docs`."""
    assert METRICS_PAGE.read_text() == metrics_page()


def test_names_follow_the_conventions() -> None:
    """Counters end in _total, sizes say bytes, nothing is named twice."""
    names = [metric.full_name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.full_name.startswith("crdtmerge_")
        assert metric.full_name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")


def test_all_that_transfers_count_is_told() -> None:
    """A counter that is added to the traffic gets a name here, or this fails."""
    told = {field for _, field, _ in _TRAFFIC}
    assert told == {field.name for field in dataclasses.fields(Traffic)} - {"failed"}


def test_metrics_take_a_running_node(tmp_path: Path) -> None:
    """Counters live as long as a node runs: without one there is nothing to say."""
    fleet = Fleet.at(tmp_path)
    home = fleet.init("alone")
    with pytest.raises(NodeNeededError):
        fleet.call(home, "node_metrics")


def test_a_transfer_and_its_failures_are_counted(tmp_path: Path) -> None:
    """Each number is what the two homes hold, read back by Prometheus' own parser."""
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        data = bytes(range(256)) * 5000
        model = tensors(data)
        add = offer(owner, space, model)

        async def test() -> None:
            async with living(owner) as host, living(guest, host) as other:
                blobs = other.home.blobs
                await asyncio.to_thread(host.spaces.publish, space, [add])
                manifest = model.blob
                await until(lambda: blobs.has(manifest), "the manifest")
                lacking = parsed(str((await metrics(other))["text"]))
                assert lacking["crdtmerge_missing_bytes", (space.hex(),)] == len(data)
                await until(lambda: bool(other.fetching.failed), "a refused fetch")
                host.home.blobs.put(data)
                await until(lambda: blobs.has(blob_of(data)), "the tensor")
                traffic = other.fetching.traffic
                await until(lambda: traffic.blobs_in == 2, "the count of both")
                before = other.fetching.failed.copy()
                answer = await metrics(other)
                seen = parsed(str(answer["text"]))
                size = len(data) + len(model.encode())
                key = (space.hex(),)
                count = len(other.spaces.opset(space))
                assert seen["crdtmerge_records", key] == count
                assert seen["crdtmerge_contributions", key] == 1
                assert seen["crdtmerge_missing_bytes", key] == 0
                assert seen["crdtmerge_blobs", ("raw",)] == 2
                assert seen["crdtmerge_blob_bytes", ("raw",)] == size
                assert seen["crdtmerge_received_bytes_total", ()] == size
                assert seen["crdtmerge_received_blobs_total", ()] == 2
                assert seen["crdtmerge_received_wire_bytes_total", ()] > 0
                theirs = parsed(str((await metrics(host))["text"]))
                assert theirs["crdtmerge_sent_bytes_total", ()] == size
                assert seen["crdtmerge_peers_connected", ()] == 1
                failed = Counter(
                    {
                        labels[0]: int(value)
                        for (name, labels), value in seen.items()
                        if name == "crdtmerge_failed_fetches_total"
                    }
                )
                assert Counter() < before <= failed <= other.fetching.failed
                same_as_json(answer, seen)

        run(test())


def same_as_json(answer: dict[str, Any], seen: Read) -> None:
    """Check that both forms say the same, and that every metric is there."""
    listed = answer["metrics"]
    told = {
        (metric["name"], tuple(sample["labels"].values())): sample["value"]
        for metric in listed
        for sample in metric["samples"]
    }
    assert told == seen
    assert [metric["name"] for metric in listed] == [m.full_name for m in METRICS]


def test_the_command_asks_the_running_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text it goes to a scraper as it is; what failed before is counted."""
    ann = Person(tmp_path / "ann", capsys)
    assert ann.refused("node", "metrics")["type"] == "NodeNeededError"
    ann.start()
    try:
        assert ann.refused("remove", "00")["type"] == "NotFoundError"
        capsys.readouterr()
        assert cli.run(["--home", str(ann.home), "node", "metrics"]) == 0
        seen = parsed(capsys.readouterr().out)
        assert seen["crdtmerge_failed_commands_total", ("NotFoundError",)] == 1
        assert seen["crdtmerge_spaces", ()] == 0
        listed = ann.json("node", "metrics")["metrics"]
        assert [metric["name"] for metric in listed] == [m.full_name for m in METRICS]
    finally:
        ann.stop()


def test_what_the_disk_did_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged blob, an edited reference, one that is gone, and a sync that failed."""
    shared = Shared.at(tmp_path)
    referenced = write_model(tmp_path / "referenced", 3, near=shared.base)
    shared.fleet.call(shared.ann, "contribute", path=referenced, reference=True)

    async def test() -> None:
        with open_home(shared.ann, write=True) as home:
            async with living(home) as node:
                blobs = home.blobs
                ours = [b for b in blobs.ids() if not blobs.rows.find(b).referenced]
                damaged, gone = (blobs.rows.find(blob) for blob in ours[:2])
                damaged.path.write_bytes(bytes(damaged.size))
                gone.path.unlink()
                (referenced / "model.safetensors").write_bytes(bytes(1000))
                theirs = [b for b in blobs.ids() if blobs.rows.find(b).referenced]
                met = 0
                for blob in (*ours[:2], *theirs):
                    with contextlib.suppress(ContentMissingError, CorruptBlobError):
                        blobs.read(blob, blobs.rows.find(blob).size)
                        met += 1
                monkeypatch.setattr(os, "fsync", refuses)
                with pytest.raises(MachineError):
                    blobs.put(b"what no disk keeps")
                monkeypatch.undo()
                seen = parsed(str((await metrics(node))["text"]))
                edited = len(theirs) - met
                assert edited > 0
                # at least: the node itself reads what lies in its store
                assert seen["crdtmerge_bad_blobs_total", ("damaged",)] >= 1
                assert seen["crdtmerge_bad_blobs_total", ("gone",)] >= 1
                assert seen["crdtmerge_bad_blobs_total", ("edited",)] >= edited
                assert seen["crdtmerge_failed_syncs_total", ()] >= 1
                assert seen["crdtmerge_disk_free_bytes", ()] > 0

    run(test())


def refuses(_: int) -> None:
    raise OSError(errno.EIO, "the disk is on fire")


async def read_at_rest(node: Runtime) -> Read:
    """Return what a node counts at a moment at which nothing waits to be sent."""
    for _ in range(100):
        read = parsed((await metrics(node))["text"])
        if read["crdtmerge_waiting_messages", ()] == 0:
            return read
        await asyncio.sleep(0.02)
    raise AssertionError("something waits all the time")


def test_connections_are_counted_by_who_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At both ends, and how they ended: a goodbye of one is heard by the other."""
    monkeypatch.setattr(runtimes, "PART_S", DEADLINE_S)
    with homes(tmp_path, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)

        async def meet() -> None:
            async with living(owner) as host:
                async with living(guest, host) as joiner:
                    await until(lambda: joiner.connected() == [host.me], "a stream")
                    await until(lambda: bool(host.connected()), "a stream")
                    ours, theirs = await read_at_rest(host), await read_at_rest(joiner)
                    for read, dialler in ((ours, "peer"), (theirs, "us")):
                        assert read["crdtmerge_streams", (dialler,)] == 1
                        assert read["crdtmerge_opened_streams_total", (dialler,)] == 1
                    assert ours["crdtmerge_handshakes_total", ("sync",)] == 1
                    assert theirs["crdtmerge_handshakes_total", ("sync",)] == 0
                    await until(lambda: not host.turns, "the end of all turns")
                await until(lambda: not host.connected(), "the end of the stream")
                read = parsed((await metrics(host))["text"])
                assert read["crdtmerge_ended_streams_total", ("heard goodbye",)] == 1
                heard = read["crdtmerge_messages_total", ("in",)]
                assert heard == joiner.links.messages["out"] > 1, (
                    "a goodbye is the last"
                )
                assert not [key for key in read if key[0] == "crdtmerge_streams"]

        run(meet())
