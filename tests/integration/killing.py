"""Processes that are killed at random moments, and what must be true of their homes then.

Owns real nodes and commands, the moments of their deaths, and a reader of stores that
shares no code with the one it checks. Does not own what is under way (`test_sigkill`).
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from blake3 import blake3
from safetensors.numpy import save_file

from nodes.wire import replica_pb2 as wire

SHAPES = {"big": (1056, 1024), **{f"small.{i}": (16, 1024) for i in range(4)}}
"""One tensor of several chunks, so that a fetch can be cut and resumed inside it."""
DEADLINE_S = 60.0
POLL_S = 0.0005
SPAN_SHARE = 1.1
"""A kill comes within this much of a quick run, so that a few come just after its end."""

Answer = dict[str, Any]


# --- models ------------------------------------------------------------------------------


def blob_name(data: bytes) -> str:
    """Return the id of a blob as docs/design.md defines it, written out anew."""
    chunks = [data[i : i + 2**20] for i in range(0, len(data), 2**20)]
    digests = [
        blake3(chunk, derive_key_context="crdtmerge v1 chunk").digest()
        for chunk in chunks
    ]
    listed = len(data).to_bytes(8, "little") + b"".join(digests)
    return blake3(listed, derive_key_context="crdtmerge v1 blob").hexdigest()


@dataclass(frozen=True)
class Model:
    """A model folder, and the ids of its tensors."""

    path: Path
    blobs: frozenset[str]


def write_model(folder: Path, seed: int) -> Model:
    """Write model number `seed`; all are near to number 0."""
    base, own = np.random.default_rng(0), np.random.default_rng(seed)
    tensors = {
        name: (base.random(shape, np.float32) + own.random(shape, np.float32) / 16)
        for name, shape in SHAPES.items()
    }
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "small"}\n')
    names = (blob_name(tensor.tobytes()) for tensor in tensors.values())
    return Model(folder, frozenset(names))


# --- homes -------------------------------------------------------------------------------


@dataclass
class Witness:
    """A home, and all that was acknowledged to whoever used it."""

    path: Path
    records: set[str] = field(default_factory=set)
    blobs: set[str] = field(default_factory=set)

    def acknowledge(self, answer: Mapping[str, Any], model: Model) -> None:
        """Keep in mind what a finished `contribute` said."""
        if answer["record"] is not None:
            self.records.add(answer["record"])
        self.blobs |= model.blobs

    def held(self) -> set[str]:
        """Return the blobs that the store says are there."""
        with self._store() as sql:
            return {blob.hex() for (blob,) in sql.execute("SELECT blob FROM blobs")}

    def touched(self) -> list[int]:
        """Return what changes as soon as a blob is being written, wherever that is."""
        folders = ("blobs", "partial", "temporary")
        return [(self.path / name).stat().st_mtime_ns for name in folders]

    def check(self) -> None:
        """Check every byte of the home; what it holds now must be there next time too."""
        with self._store() as sql:
            assert sql.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert sql.execute("PRAGMA foreign_key_check").fetchall() == []
            records = sql.execute("SELECT record, data FROM records").fetchall()
            rows = sql.execute("SELECT blob FROM blobs WHERE path IS NULL").fetchall()
        for record, data in records:
            said = blake3(data, derive_key_context="crdtmerge v1 record id").digest()
            assert said == record, f"{self.path}: record {record.hex()} has other bytes"
        files = [f for f in (self.path / "blobs").rglob("*") if f.is_file()]
        named = {file.parent.name + file.name for file in files}
        for file in files:
            name = file.parent.name + file.name
            assert blob_name(file.read_bytes()) == name, f"{file} is half-named"
        there = {blob.hex() for (blob,) in rows}
        assert there <= named, f"{self.path}: a blob that is there has no file"
        assert self.blobs <= there, f"{self.path}: an acknowledged blob is lost"
        kept = {record.hex() for record, _ in records}
        assert self.records <= kept, f"{self.path}: an acknowledged record is lost"
        self.records, self.blobs = kept, there

    def _store(self) -> "_Reading":
        return _Reading(self.path / "store.sqlite")


class _Reading:
    """A connection of SQLite's own that only reads, closed at the end."""

    def __init__(self, path: Path) -> None:
        self._sql = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)

    def __enter__(self) -> sqlite3.Connection:
        return self._sql

    def __exit__(self, *_: object) -> None:
        self._sql.close()


# --- processes ---------------------------------------------------------------------------


class Processes:
    """The command line on several homes, and the nodes that run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._living: dict[str, subprocess.Popen[str]] = {}
        self._starting: set[str] = set()
        self.answered = 0.0

    def launch(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """Start one command on the home `name`."""
        with (self.folder / f"{name}.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "nodes.cli", *arguments, "--json"],
                env={**os.environ, "CRDTMERGE_HOME": str(self.folder / name)},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def run_each(self, *commands: Sequence[str]) -> list[Answer]:
        """Run commands at once, each a home and its arguments; return their answers."""
        running = [self.launch(*command) for command in commands]
        return [self.finish(*pair) for pair in zip(running, commands, strict=True)]

    def run(self, *command: str) -> Answer:
        """Run one command on a home; return its answer."""
        return self.run_each(command)[0]

    def finish(self, process: subprocess.Popen[str], command: Sequence[str]) -> Answer:
        """Wait for a command, which must succeed; note when it answered."""
        assert process.stdout is not None
        printed = process.stdout.readline()
        self.answered = time.monotonic()
        printed += process.stdout.read()
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 0, (command, self.log(command[0]))
        return dict(json.loads(printed))

    def start_node(self, name: str) -> None:
        """Start the node of a home; other work goes on until it is needed."""
        self._living[name] = self.launch(name, "node", "run")
        self._starting.add(name)

    def await_node(self, name: str) -> None:
        """Wait until the node of a home listens."""
        if name in self._starting:
            node = self._living[name]
            assert node.stdout is not None
            assert "addresses" in node.stdout.readline(), self.log(name)
            self._starting.discard(name)
            left = list((self.folder / name / "temporary").iterdir())
            assert not left, f"left behind by a process that died: {left}"

    def kill_node(self, name: str) -> None:
        """SIGKILL the node of a home."""
        self._starting.discard(name)
        kill(self._living.pop(name))

    def end(self) -> None:
        """Kill the nodes that live."""
        for name in list(self._living):
            self.kill_node(name)

    def log(self, name: str) -> str:
        """Return what the processes of a home printed on stderr."""
        return (self.folder / f"{name}.log").read_text()

    def ask(self, name: str, verb: str, **arguments: object) -> Answer:
        """Ask the running node of a home, over its control socket as the CLI does.

        Raises:
            grpc.RpcError: the node died before it answered.
        """
        self.await_node(name)
        request = json.dumps({"verb": verb, "arguments": arguments}).encode()
        socket = self.folder / name / "control.sock"
        with grpc.insecure_channel(f"unix:{socket}") as channel:
            call: Any = channel.unary_stream(
                "/crdtmerge.v1.Control/Call",
                request_serializer=wire.ControlRequest.SerializeToString,
                response_deserializer=wire.ControlReply.FromString,
            )
            replies = call(wire.ControlRequest(request_json=request))
            *_, last = [json.loads(reply.reply_json) for reply in replies]
        assert "result" in last, (name, verb, last)
        return dict(last["result"])


def kill(process: subprocess.Popen[str]) -> str:
    """SIGKILL a process, dead or alive; return what it had printed."""
    process.send_signal(signal.SIGKILL)
    return process.communicate(timeout=DEADLINE_S)[0]


class Asking(threading.Thread):
    """A command that a node is doing; the answer is None if it died before it gave one."""

    def __init__(self, work: Callable[[], Answer]) -> None:
        super().__init__()
        self._work = work
        self._answer: Answer | None = None
        self._failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Ask, in this thread."""
        try:
            self._answer = self._work()
        except grpc.RpcError:
            pass  # the node went away
        except BaseException as e:  # noqa: BLE001  raised where it can be seen
            self._failure = e

    def result(self) -> Answer | None:
        """Wait for the end."""
        self.join(DEADLINE_S)
        assert not self.is_alive(), "the command did not notice that its node died"
        if self._failure is not None:
            raise self._failure
        return self._answer


# --- moments -----------------------------------------------------------------------------


@dataclass
class Moments:
    """When to kill: at random, within the time that the quickest run took."""

    rng: random.Random
    spans: dict[str, float] = field(default_factory=dict)
    rounds: dict[str, list[bool]] = field(default_factory=dict)
    _delay: float = 0.0

    def measure(self, kind: str, seconds: float) -> None:
        """Keep how long a run took at most, from its first sign to its answer."""
        self.spans[kind] = min(seconds, self.spans.get(kind, seconds))

    def wait(self, kind: str) -> None:
        """Sleep until the moment has come."""
        self._delay = self.rng.uniform(0, SPAN_SHARE * self.spans[kind])
        time.sleep(self._delay)

    def count(self, kind: str, *, cut: bool) -> None:
        """Keep whether a round was killed before its work was done."""
        self.rounds.setdefault(kind, []).append(cut)
        if not cut:
            self.measure(kind, self._delay)

    def __str__(self) -> str:
        """Say how many rounds of each kind were cut short."""
        return ", ".join(
            f"{kind}: {sum(cut)} of {len(cut)} cut short within"
            f" {self.spans[kind] * 1000:.0f} ms"
            for kind, cut in sorted(self.rounds.items())
        )


def names(folder: Path) -> set[str]:
    """Return the names in a folder; none if it is not there."""
    return {item.name for item in folder.iterdir()} if folder.exists() else set()


def await_sign(sign: Callable[[], bool], process: subprocess.Popen[str] | None) -> None:
    """Wait until work has begun, or the process has ended."""
    end = time.monotonic() + DEADLINE_S
    while not sign() and (process is None or process.poll() is None):
        assert time.monotonic() < end, "the work did not begin"
        time.sleep(POLL_S)
