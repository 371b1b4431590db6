"""SIGKILL amid contribute, fetch and resolve: nothing acknowledged is lost.

Real processes of the command line, real disks, real gRPC. After each death the home is read
with a reader of its own before anything is started again. The moments are random: the seed
is printed, and taken from CRDTMERGE_KILL_SEED. Twelve deaths by default, or fifty.
"""

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.homes import Fleet

from .killing import (
    DEADLINE_S,
    Asking,
    Model,
    Moments,
    Processes,
    Witness,
    await_sign,
    kill,
    names,
    write_model,
)

SEED = int(os.environ.get("CRDTMERGE_KILL_SEED", "20"))
TWELVE = {"contribute": 3, "fetch": 3, "resolve": 3, "contribute alone": 3}
FIFTY = {"contribute": 14, "fetch": 13, "resolve": 13, "contribute alone": 10}
CUT_SHARE_MIN = 0.4
"""A share of the rounds that must be killed before their work is done."""
MEASURED = {3: 1, 10: 3, 13: 3, 14: 3}
"""Undisturbed runs of each kind that say how long its work takes, by its rounds."""


class Scene:
    """ann and ben run nodes; cem contributes without one; dan resolves; one is spared."""

    def __init__(self, folder: Path) -> None:
        self.processes = Processes(folder)
        self.folder = folder
        self.fleet = Fleet.at(folder)
        self.moments = Moments(random.Random(SEED))
        self.homes = {name: Witness(folder / name) for name in ("ann", "ben", "cem")}
        self.models: list[Model] = []
        self.whole: dict[str, bytes] = {}
        self.again: tuple[subprocess.Popen[str], tuple[str, ...]] | None = None

    def set_up(self) -> None:
        """Make the homes; ann's space has three members, dan's is his own."""
        base = write_model(self.folder / "base", 0).path
        for name in ("ann", "ben", "cem", "dan", "spared"):
            self.fleet.init(name)
        created = {"name": "killed", "base": base, "params": {}, "mode": "members"}
        for name in ("ann", "dan", "spared"):
            self.call(name, "space_create", strategy="linear", **created)
        self.processes.start_node("ann")
        for name in ("ben", "cem"):
            ticket = self.processes.ask("ann", "space_ticket", space=None)["ticket"]
            self.processes.run(name, "space", "join", ticket, "--base", str(base))
        self.processes.start_node("ben")
        for number in range(1, 4):
            model = write_model(self.folder / "dans" / str(number), number)
            self.call("dan", "contribute", path=model.path)
        self.call("dan", "resolve", out=self.out)
        self.whole = contents(self.out)

    def call(self, home: str, verb: str, /, **arguments: object) -> None:
        """Run one verb right here, undisturbed, where no node runs."""
        self.fleet.call(self.folder / home, verb, **arguments)

    # --- the works ----------------------------------------------------------------------

    @property
    def out(self) -> Path:
        """Where dan resolves to."""
        return self.folder / "outs" / "model"

    def new_model(self) -> Model:
        """Write a model that nobody has yet."""
        number = 100 + len(self.models)
        self.models.append(write_model(self.folder / "models" / str(number), number))
        return self.models[-1]

    def contribute(self, *, killed: bool) -> bool:
        """Let ann's node contribute; tell whether it was killed before it answered."""
        ann, model = self.homes["ann"], self.new_model()
        self.processes.await_node("ann")
        before = ann.touched()
        asking = Asking(lambda: self._ask_contribute(model))
        await_sign(lambda: ann.touched() != before, None)
        began = time.monotonic()
        if killed:
            self.moments.wait("contribute")
            self.processes.kill_node("ann")
        answer = asking.result()
        if not killed:
            self.moments.measure("contribute", time.monotonic() - began)
        if answer is not None:
            ann.acknowledge(answer, model)
        if killed:
            ann.check()
            self.processes.start_node("ann")
        if answer is None:
            ann.acknowledge(self._ask_contribute(model), model)
        return answer is None

    def _ask_contribute(self, model: Model) -> dict[str, object]:
        return self.processes.ask("ann", "contribute", path=str(model.path))

    def fetch(self, *, killed: bool) -> bool:
        """Let ben fetch what ann contributes; tell whether he died before he had it."""
        ben = self.homes["ben"]
        model = self.new_model()
        for name in ("ann", "ben"):
            self.processes.await_node(name)
        self.await_blobs("ben")
        before = ben.touched()
        asking = Asking(lambda: self._ask_contribute(model))
        await_sign(lambda: ben.touched() != before, None)
        began = time.monotonic()
        if killed:
            self.moments.wait("fetch")
            self.processes.kill_node("ben")
        answer = asking.result()
        assert answer is not None
        self.homes["ann"].acknowledge(answer, model)
        if not killed:
            self.await_blobs("ben")
            self.moments.measure("fetch", time.monotonic() - began)
            return False
        cut = not model.blobs <= ben.held()
        ben.check()
        self.processes.start_node("ben")
        return cut

    def await_blobs(self, name: str) -> None:
        """Wait until a node has every tensor that was contributed through ann's."""
        wanted = self.homes["ann"].blobs
        end = time.monotonic() + DEADLINE_S
        while not wanted <= self.homes[name].held():
            assert time.monotonic() < end, self.processes.log(name)
            time.sleep(0.005)

    def contribute_alone(self, *, killed: bool) -> bool:
        """Let cem contribute where no node runs; tell whether that was killed."""
        cem, model = self.homes["cem"], self.new_model()
        command = ("cem", "contribute", str(model.path))
        before = cem.touched()
        process = self.processes.launch(*command)
        await_sign(lambda: cem.touched() != before, process)
        began = time.monotonic()
        if not killed:
            cem.acknowledge(self.processes.finish(process, command), model)
            self.moments.measure("contribute alone", self.processes.answered - began)
            return False
        self.moments.wait("contribute alone")
        printed = kill(process)
        if said := parsed(printed):
            cem.acknowledge(said, model)
        cem.check()
        cem.acknowledge(self.processes.run(*command), model)
        assert not list((cem.path / "temporary").iterdir())
        return not said

    def resolve(self, *, killed: bool) -> bool:
        """Let dan resolve, half of the times over a model; tell whether he was cut."""
        self.resolve_again()
        if self.moments.rng.random() < 0.5:
            shutil.rmtree(self.out)
        there = self.out.exists()
        command = ("dan", "resolve", "--out", str(self.out), "--force")
        process = self.processes.launch(*command)
        await_sign(lambda: bool(partials(self.out)), process)
        began = time.monotonic()
        if not killed:
            self.processes.finish(process, command)
            self.moments.measure("resolve", self.processes.answered - began)
            return False
        self.moments.wait("resolve")
        printed = kill(process)
        if self.out.exists():
            assert contents(self.out) == self.whole
        else:
            assert not printed, "a model that was acknowledged is lost"
            assert not there or partials(self.out), "what was there is lost"
        self.again = self.processes.launch(*command), command
        return not printed

    def resolve_again(self) -> None:
        """Wait for the resolve that followed the last death, which must mend all."""
        if self.again is not None:
            self.processes.finish(*self.again)
            self.again = None
        assert contents(self.out) == self.whole
        assert names(self.out.parent) == {self.out.name}

    def rounds(self, counts: dict[str, int]) -> Iterator[tuple[str, bool]]:
        """Yield the kind of each round, and whether its work was cut short."""
        works = {
            "contribute": self.contribute,
            "fetch": self.fetch,
            "contribute alone": self.contribute_alone,
            "resolve": self.resolve,
        }
        for kind, work in works.items():
            for _ in range(MEASURED[counts[kind]]):
                work(killed=False)
        kinds = [kind for kind, count in counts.items() for _ in range(count)]
        self.moments.rng.shuffle(kinds)
        for kind in kinds:
            yield kind, works[kind](killed=True)
        self.resolve_again()

    # --- the end ------------------------------------------------------------------------

    def converge(self) -> None:
        """Wait until the three members hold the same records and every byte."""
        self.processes.start_node("cem")
        end = time.monotonic() + DEADLINE_S
        while True:
            seen = [
                self.processes.ask(name, "status")["spaces"][0] for name in self.homes
            ]
            roots = {space["record_root"] for space in seen}
            counts = {len(space["contributions"]) for space in seen}
            whole = all(space["missing_blobs"] == 0 for space in seen)
            if len(roots) == 1 and whole and counts == {len(self.models)}:
                return
            assert time.monotonic() < end, seen
            time.sleep(0.1)

    def resolve_everywhere(self) -> list[dict[str, bytes]]:
        """Let the members and the spared home resolve; return what they wrote."""
        for model in self.models:
            self.call("spared", "contribute", path=model.path)
        outs = {n: self.folder / "ends" / n for n in (*self.homes, "spared")}
        self.processes.run_each(
            *((name, "resolve", "--out", str(out)) for name, out in outs.items())
        )
        return [contents(out) for out in outs.values()]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def partials(out: Path) -> list[str]:
    """Return what lies hidden beside an output."""
    return [n for n in names(out.parent) if n.startswith(f".{out.name}.partial-")]


def parsed(printed: str) -> dict[str, object]:
    """Return the JSON that a killed command had printed, if all of it."""
    try:
        return dict(json.loads(printed))
    except ValueError:
        return {}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """The scene, set up; its nodes are killed at the end."""
    made = Scene(tmp_path)
    try:
        made.set_up()
        yield made
    finally:
        made.processes.end()
        for home in made.folder.iterdir():
            shutil.rmtree(
                home, ignore_errors=True
            )  # a gigabyte, which pytest would keep


@pytest.mark.timeout(900)  # fifty take a minute or two on two quiet cores
@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(TWELVE, id="twelve"),
        pytest.param(FIFTY, id="fifty", marks=pytest.mark.slow),
    ],
)
def test_sigkills_lose_nothing(scene: Scene, counts: dict[str, int]) -> None:
    """What was acknowledged is there, nothing is half-named, all converge and agree."""
    print(f"CRDTMERGE_KILL_SEED={SEED}")
    for kind, cut in scene.rounds(counts):
        scene.moments.count(kind, cut=cut)
    print(scene.moments)
    cuts = scene.moments.rounds
    assert {kind: len(cut) for kind, cut in cuts.items()} == counts
    few = [[cut for kind in cuts.values() for cut in kind]]
    for rounds in cuts.values() if counts is FIFTY else few:
        assert sum(rounds) >= CUT_SHARE_MIN * len(rounds), str(scene.moments)
    scene.converge()
    for home in scene.homes.values():
        home.check()
        assert not names(home.path / "partial"), (
            "what was cut is neither whole nor gone"
        )
    *members, spared = scene.resolve_everywhere()
    assert members[0] == members[1] == members[2]
    assert members[0]["model.safetensors"] == spared["model.safetensors"]
    assert members[0]["config.json"] == spared["config.json"]
