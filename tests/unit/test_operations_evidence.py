"""Evidence in a home: which of several adds counts, what is fetched of it, and archives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import BadInputError, ContentMissingError
from crdtmerge.policy import Visible
from nodes.spaces import Spaces
from tests.archives import Shared
from tests.homes import SHAPES, snapshot, write_model


def fishers(path: Path, seed: int) -> Path:
    """Write a file of importances."""
    generator = np.random.default_rng(seed)
    squares: Mapping[str, Any] = {
        name: generator.standard_normal(shape).astype(np.float32) ** 2
        for name, shape in SHAPES.items()
    }
    save_file(dict(squares), path)
    return path


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    """Give a space that merges by importances to one of two homes."""
    made = Shared.at(tmp_path)
    made.fleet.call(
        made.ann, "recipe_set", strategy="fisher", params={"lacking": "leave_out"}
    )
    return made


def contribute(shared: Shared, number: int, evidence: int | None) -> dict[str, Any]:
    """Contribute a model of ann's, with importances of a seed."""
    model = write_model(shared.folder / f"tune{number}", number, near=shared.base)
    words = []
    if evidence is not None:
        file = fishers(shared.folder / f"f{evidence}.safetensors", evidence)
        words.append(f"fisher={file}")
    return dict(shared.fleet.call(shared.ann, "contribute", path=model, evidence=words))


def seen(spaces: Spaces, content: str) -> tuple[SpaceId, Visible]:
    """Return how a contribution counts."""
    (space,) = spaces.all()
    visible = spaces.view(space).visible
    (found,) = [item for item in visible if item.content.hex() == content]
    return space, found


@pytest.mark.parametrize("first", [None, 5])
def test_evidence_counts_whoever_came_first(shared: Shared, first: int | None) -> None:
    """Of an add with and one without, whichever has the lower id."""
    second = 5 if first is None else None
    firsts = []
    for number in range(10, 16):
        content = contribute(shared, number, first)["content"]
        assert contribute(shared, number, second)["content"] == content
        with shared.fleet.open(shared.ann, write=False) as (_, spaces, _):
            _, visible = seen(spaces, content)
            known = spaces.contribution(visible)
            assert visible.evidence
            assert known.manifest.evidence_digest == visible.evidence
            lowest = visible.manifests[0]
            firsts.append(spaces.arrived(*lowest))
    attaching = {bool(known and known.manifest.evidence) for known in firsts}
    assert attaching == {True, False}, "both orders are tried"


def test_the_same_evidence_again_is_no_second_add(shared: Shared) -> None:
    """Other evidence is one, and the author is told which counts."""
    first = contribute(shared, 10, 5)
    assert not contribute(shared, 10, 5)["new"]
    other = contribute(shared, 10, 6)
    assert other["new"]
    with shared.fleet.open(shared.ann, write=False) as (_, spaces, _):
        _, visible = seen(spaces, first["content"])
        mine = spaces.arrived(*visible.manifests[-1])
        assert mine is not None
    told = any("other evidence" in note for note in other["notes"])
    counts = visible.adds[0].hex()
    assert counts in {first["record"], other["record"]}
    assert told == (counts == first["record"])


def test_what_counts_is_fetched_though_tensors_are_here(shared: Shared) -> None:
    """The manifest of it too, if another one of the same model came before."""
    content = contribute(shared, 10, None)["content"]
    contribute(shared, 10, 5)
    shared.fleet.admit(shared.ann, shared.ben, shared.base, "contributor")
    with (
        shared.fleet.open(shared.ann, write=False) as (home, theirs, _),
        shared.fleet.open(shared.ben) as (here, spaces, _),
    ):
        space, visible = seen(spaces, content)
        by_evidence = {
            bool(known.manifest.evidence): (blob, known)
            for blob, size in visible.manifests
            if (known := theirs.arrived(blob, size))
        }
        assert spaces.lacking(space, visible).keys() == {
            b for b, _ in visible.manifests
        }
        for blob in (by_evidence[False][0], *by_evidence[False][1].blobs):
            size, _ = home.blobs.chunk_list(blob)
            here.blobs.put(bytes(home.blobs.read(blob, size)))
        spaces.look_again()
        assert spaces.lacking(space, visible).keys() == {by_evidence[True][0]}
        assert not spaces.progress(space)[visible.content]
        blob, known = by_evidence[True]
        here.blobs.put(known.manifest.encode())
        spaces.look_again()
        evidence = {entry.tensor.blob for entry in known.manifest.evidence}
        assert spaces.lacking(space, visible).keys() == evidence
    with pytest.raises(ContentMissingError):
        shared.resolved(shared.ben)


def test_an_archive_brings_evidence(shared: Shared) -> None:
    """Who imports it makes the same model."""
    contribute(shared, 10, 5)
    shared.export()
    taken = shared.import_(base=write_model(shared.folder / "copy", 0))
    assert taken["complete"] == 3
    mine, theirs = shared.resolved(shared.ann), shared.resolved(shared.ben)
    assert mine == theirs
    assert b'"evidence"' in mine["resolution.json"]


def test_an_older_model_is_recomputed_with_the_evidence_of_then(shared: Shared) -> None:
    """Its resolution says which; what counts today is other evidence."""
    contribute(shared, 12, 7)
    then = contribute(shared, 10, 5)
    out = shared.folder / "then"
    shared.fleet.call(shared.ann, "resolve", out=out)
    shared.fleet.call(shared.ann, "remove", id=then["record"])
    contribute(shared, 10, 6)
    now = shared.resolved(shared.ann)
    assert (out / "model.safetensors").read_bytes() != now["model.safetensors"]
    answer = shared.fleet.call(shared.ann, "verify", dir=out)
    assert answer["recomputed"]


def test_nothing_that_is_kept_needs_collection(shared: Shared) -> None:
    """Evidence that counts is needed; what a refused command brought goes again."""
    contribute(shared, 10, 5)
    before = snapshot(shared.ann)
    bad = shared.folder / "bad.safetensors"
    save_file({"layer.weight": -np.ones((17, 5), np.float32)}, bad)
    model = write_model(shared.folder / "tune11", 11, near=shared.base)
    with pytest.raises(BadInputError, match="below zero"):
        shared.fleet.call(
            shared.ann, "contribute", path=model, evidence=[f"fisher={bad}"]
        )
    assert snapshot(shared.ann) == before
    shared.fleet.call(shared.ann, "store_gc")
    assert shared.resolved(shared.ann)
