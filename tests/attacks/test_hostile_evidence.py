"""Evidence as a weapon: what an author attaches weighs no more than others', or not at all.

What the program of an honest author refuses to sign, an attacker signs by hand.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from crdtmerge.bodies import Add
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import (
    BadInputError,
    ContentMissingError,
    FaultyContributionError,
)
from crdtmerge.manifest import EvidenceEntry, TensorEntry
from crdtmerge.numerics import Floats
from crdtmerge.record import Record
from nodes.operations.publishing import publish
from tests.homes import SHAPES, Fleet, snapshot, write_model

NAME = "layer.weight"
ROWS, COLUMNS = SHAPES[NAME]


def squares(seed: int) -> dict[str, Floats]:
    """Return importances of all tensors, whole numbers that any factor leaves exact."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.integers(1, 1 << 20, shape).astype(np.float64)
        for name, shape in SHAPES.items()
    }


def gram(seed: int) -> Floats:
    """Return a Gram matrix of whole numbers."""
    rows = np.random.default_rng(seed).integers(-9, 9, (11, COLUMNS))
    return (rows.T @ rows).astype(np.float64)


@dataclass
class Stage:
    """One home with a space, and an honest contribution in it with its evidence."""

    fleet: Fleet
    folder: Path
    home: Path
    strategy: str

    @property
    def kind(self) -> str:
        """The kind that the space's strategy reads."""
        return {"fisher": "fisher", "regmean": "gram"}[self.strategy]

    def honest(self, seed: int) -> Mapping[str, Floats]:
        """Return what an honest author attaches."""
        return squares(seed) if self.kind == "fisher" else {NAME: gram(seed)}

    def contribute(
        self, name: str, seed: int, evidence: Mapping[str, Any] | None, **words: Any
    ) -> str:
        """Contribute as the command does."""
        model = write_model(self.folder / name, seed, near=self.folder / "base")
        if evidence is not None:
            file = self.folder / f"{name}.safetensors"
            save_file(dict(evidence), file)
            words["evidence"] = [f"{words.pop('kind', self.kind)}={file}"]
        return str(
            self.fleet.call(self.home, "contribute", path=model, **words)["content"]
        )

    def forge(self, content: str, evidence: Mapping[tuple[str, str], Any]) -> None:
        """Sign an add of a contribution with evidence that nobody checked."""
        with self.fleet.open(self.home) as (home, spaces, verbs):
            (space,) = spaces.all()
            view = spaces.view(space)
            (seen,) = [v for v in view.visible if v.content.hex() == content]
            entries = []
            for (kind, name), value in sorted(evidence.items()):
                if isinstance(value, TensorEntry):
                    entries.append(EvidenceEntry(kind, value))
                    continue
                array = np.asarray(value, "<f8")
                data = array.tobytes()
                home.blobs.put(data)
                tensor = TensorEntry(name, "F64", array.shape, blob_id_of(data))
                entries.append(EvidenceEntry(kind, tensor))
            manifest = replace(spaces.manifest(seen), evidence=tuple(entries))
            home.blobs.put(manifest.encode())

            def sign(replica: Any) -> Any:
                return replica.contribute(manifest, weight=DECIMAL_UNIT, note="forged")

            publish(verbs._context, space, sign)

    def merged(self, out: str, **words: Any) -> dict[str, Any]:
        """Resolve; return the tensors."""
        folder = self.folder / out
        self.fleet.call(self.home, "resolve", out=folder, **words)
        found: dict[str, Any] = load_file(folder / "model.safetensors")
        return found


@pytest.fixture(params=["fisher", "regmean"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    """A space that merges by Fisher or by Gram matrices."""
    fleet = Fleet.at(tmp_path)
    home = fleet.init("ann")
    base = write_model(tmp_path / "base", 1)
    made = Stage(fleet, tmp_path, home, request.param)
    fleet.call(home, "space_create", name="s", base=base, strategy=made.strategy)
    made.contribute("honest", 2, made.honest(2))
    return made


def _said(record: Record) -> Add:
    assert isinstance(record.body, Add)
    return record.body


# --- scaling -----------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2.0**20, 2.0**-20, 2.0**900])
def test_evidence_scaled_by_a_power_of_two(stage: Stage, factor: float) -> None:
    """No bit of the merge changes."""
    mine = stage.honest(3)
    fair = stage.contribute("fair", 3, mine)
    before = stage.merged("before")
    stage.fleet.call(stage.home, "remove", id=fair)
    stage.contribute("unfair", 3, {n: v * factor for n, v in mine.items()})
    after = stage.merged("after")
    assert all(before[name].tobytes() == after[name].tobytes() for name in SHAPES)


def test_evidence_scaled_by_a_million(stage: Stage) -> None:
    """Nothing that an F32 shows."""
    mine = stage.honest(3)
    fair = stage.contribute("fair", 3, mine)
    before = stage.merged("before")
    stage.fleet.call(stage.home, "remove", id=fair)
    stage.contribute("unfair", 3, {n: v * 10.0**6 for n, v in mine.items()})
    after = stage.merged("after")
    for name in SHAPES:
        np.testing.assert_allclose(after[name], before[name], rtol=3e-7)


# --- what an honest program refuses ------------------------------------------------------

SQUARE = np.eye(COLUMNS)
BAD: dict[str, tuple[str, str, Any, str]] = {
    "another layer": ("fisher", NAME, np.ones((3, 5)), "belongs"),
    "another model": ("fisher", "layers.7.weight", np.ones((3, 5)), "no tensor"),
    "NaN": ("fisher", NAME, np.full((ROWS, COLUMNS), math.nan), "NaN"),
    "negative": ("fisher", NAME, -np.ones((ROWS, COLUMNS)), "below zero"),
    "not symmetric": ("gram", NAME, SQUARE + np.eye(COLUMNS, k=1), "not symmetric"),
    "indefinite": ("gram", NAME, SQUARE - 2 * np.eye(COLUMNS)[::-1], "semi-definite"),
    "no matrix": ("gram", "layer.bias", np.ones((1, 1)), "no inputs"),
    "giant": ("gram_sketch", NAME, np.ones((4096, COLUMNS)), "belongs"),
    "giant means": ("inputs", NAME, np.full(COLUMNS, 1e30), "beyond"),
    "unknown": ("hessian", NAME, np.ones((ROWS, COLUMNS)), "'hessian' is not known"),
}


@pytest.mark.parametrize("case", BAD)
def test_nothing_of_it_is_signed_or_kept(
    case: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By an honest program; the home is as it was."""
    kind, name, values, words = BAD[case]
    folder = tmp_path_factory.mktemp("one")
    fleet = Fleet.at(folder)
    home = fleet.init("ann")
    base = write_model(folder / "base", 1)
    fleet.call(home, "space_create", name="s", base=base, strategy="linear")
    stage = Stage(fleet, folder, home, "fisher")
    before = snapshot(home)
    with pytest.raises(BadInputError, match=words):
        stage.contribute("mine", 3, {name: values}, kind=kind)
    assert snapshot(home) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"loss": NaN}', "not finite"),
        ('{"loss": 1e999}', "not finite"),
        ('{"loss": 1' + "0" * 400 + "}", "not finite"),
        ('{"loss": true}', "not a number"),
        ('{"loss": 1, "loss": 2}', "twice"),
        ('{"luck": 1}', "means nothing"),
        ('{"samples": -1}', "below zero"),
        ("[1]", "JSON object"),
    ],
)
def test_numbers_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    """In a file that says it has some."""
    fleet = Fleet.at(tmp_path)
    home = fleet.init("ann")
    base = write_model(tmp_path / "base", 1)
    fleet.call(home, "space_create", name="s", base=base, strategy="linear")
    file, model = tmp_path / "n.json", write_model(tmp_path / "tune", 2, near=base)
    file.write_text(text)
    before = snapshot(home)
    with pytest.raises(BadInputError, match=words):
        fleet.call(home, "contribute", path=model, evidence=[f"scalar={file}"])
    assert snapshot(home) == before


# --- what an attacker signs by hand ------------------------------------------------------


FORGED = {
    "fisher": ("another layer", "NaN", "negative"),
    "regmean": ("not symmetric", "indefinite"),
}


def test_forged_evidence_is_named_and_can_be_left_out(stage: Stage) -> None:
    """Whose it is, and what is wrong; merges that do not read it go on."""
    mine = stage.contribute("mine", 3, None)
    for number, case in enumerate(FORGED[stage.strategy]):
        kind, name, values, words = BAD[case]
        fine = {(stage.kind, n): v for n, v in stage.honest(3).items()}
        stage.forge(mine, {**fine, (kind, name): values})
        with pytest.raises(FaultyContributionError, match=words) as caught:
            stage.merged(f"refused{number}")
        assert caught.value.content.hex() == mine
        assert repr(name) in str(caught.value)
        assert stage.merged(f"without{number}", without=[mine])
        assert stage.merged(f"linear{number}", strategy="linear")
        with stage.fleet.open(stage.home, write=False) as (_, spaces, _):
            (space,) = spaces.all()
            (seen,) = [v for v in spaces.view(space).visible if v.content.hex() == mine]
            records = spaces.opset(space).records
            (add,) = [add for add in seen.adds if _said(records[add]).evidence]
        stage.fleet.call(stage.home, "remove", id=add.hex())


def test_giant_claims_are_refused_by_their_shape(stage: Stage) -> None:
    """Before a byte is fetched for or read; the size is what the manifest declares."""
    mine = stage.contribute("mine", 3, None)
    kind = "fisher" if stage.strategy == "fisher" else "gram_sketch"
    shape = (1 << 19, COLUMNS)
    giant = TensorEntry(NAME, "F64", shape, BlobId(bytes(32)))
    stage.forge(mine, {(kind, NAME): giant})
    with pytest.raises((FaultyContributionError, ContentMissingError)):
        stage.merged("refused")
    listed = stage.fleet.call(stage.home, "status")["spaces"]
    assert isinstance(listed, list)
    assert listed[0]["missing_bytes"] == giant.size


def test_evidence_that_nobody_has_holds_up_who_reads_it(stage: Stage) -> None:
    """And nobody else: the tensors are here."""
    mine = stage.contribute("mine", 3, None)
    side = (ROWS, COLUMNS) if stage.kind == "fisher" else (COLUMNS, COLUMNS)
    absent = TensorEntry(NAME, "F64", side, blob_id_of(b"never sent"))
    stage.forge(mine, {(stage.kind, NAME): absent})
    with pytest.raises(ContentMissingError, match=mine[:12]):
        stage.merged("waits")
    assert stage.merged("linear", strategy="linear")
    assert stage.merged("without", without=[mine])


def test_kinds_from_the_future_mean_nothing(stage: Stage) -> None:
    """An author of a newer version is merged with, by what this version knows."""
    mine = stage.contribute("mine", 3, None)
    known = {(stage.kind, name): value for name, value in stage.honest(3).items()}
    stage.forge(mine, {**known, ("tomorrow", "nowhere"): [math.nan]})
    assert stage.merged("out")


def test_evidence_that_changed_its_mind_stays_out(stage: Stage, tmp_path: Path) -> None:
    """Of two adds of one model the same evidence counts everywhere, and is told."""
    mine = stage.contribute("mine", 3, stage.honest(3))
    file = tmp_path / "other.safetensors"
    save_file(dict(stage.honest(4)), file)
    said = stage.fleet.call(
        stage.home,
        "contribute",
        path=tmp_path / "mine",
        evidence=[f"{stage.kind}={file}"],
    )
    assert said["content"] == mine
    stage.merged("out")
    resolution = json.loads((tmp_path / "out" / "resolution.json").read_text())
    with stage.fleet.open(stage.home, write=False) as (_, spaces, _):
        (space,) = spaces.all()
        records = spaces.opset(space).records
        (seen,) = [v for v in spaces.view(space).visible if v.content.hex() == mine]
        lowest = _said(records[min(seen.adds)]).evidence
    (stated,) = [c for c in resolution["contributions"] if c["content"] == mine]
    assert stated["evidence"] == lowest.hex()
