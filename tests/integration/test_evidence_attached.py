"""Evidence from one member's command line to every member's merge, over real gRPC."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.homes import SHAPES, Fleet, write_model
from tests.integration.processes import Cluster, running

NAMES = ("ann", "ben")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two members of a space that merges by Fisher matrices, both nodes running."""
    with running(tmp_path) as members:
        base = write_model(tmp_path / "base", 1)
        fleet = Fleet.at(tmp_path)
        for name in NAMES:
            fleet.init(name)
        create = ("space", "create", "friends", "--base", str(base))
        members.run("ann", *create, "--strategy", "fisher")
        members.start("ann")
        ticket = members.run("ann", "space", "ticket")["ticket"]
        members.run("ben", "space", "join", ticket, "--base", str(base))
        members.start("ben")
        yield members


def fisher(folder: Path, seed: int, factor: float = 1.0) -> Path:
    """Write what `evidence compute` would: importances, and numbers."""
    generator = np.random.default_rng(seed)
    folder.mkdir()
    squares = {
        name: np.asarray(factor * generator.standard_normal(shape) ** 2)
        for name, shape in SHAPES.items()
    }
    save_file(squares, folder / "fisher.safetensors")
    (folder / "scalars.json").write_text(json.dumps({"loss": 0.5, "samples": 8}))
    return folder


def test_members_merge_with_what_one_attached(cluster: Cluster, tmp_path: Path) -> None:
    """It is fetched with the model, gives equal bytes on both, and others than without."""
    contents = []
    for number, name in enumerate(NAMES):
        model = write_model(tmp_path / f"tune{number}", number, near=tmp_path / "base")
        found = fisher(tmp_path / f"evidence{number}", number)
        what = (f"fisher={found / 'fisher.safetensors'}", str(found))[number]
        said = cluster.run(name, "contribute", str(model), "--evidence", what)
        assert said["evidence"] == [["fisher"], ["fisher", "scalar"]][number]
        contents.append(said["content"])
    spaces = cluster.wait(NAMES, lambda space: len(space["contributions"]) == 2)
    listed = {c["content"]: c["evidence"] for c in spaces[0]["contributions"]}
    fishers = {"kind": "fisher", "tensors": 3, "bytes": 8 * (17 * 5 + 5 + 3 * 5)}
    assert listed[contents[0]] == [fishers]
    assert listed[contents[1]] == [
        fishers,
        {"kind": "scalar", "tensors": 2, "bytes": 16},
    ]
    assert spaces[0]["contributions"] == spaces[1]["contributions"]

    folders = [cluster.resolved(n, "out", 1 + i) for i, n in enumerate(NAMES)]
    assert folders[0] == folders[1]
    said = json.loads(folders[0]["resolution.json"])
    assert all(len(c["evidence"]) == 64 for c in said["contributions"])
    for name in NAMES:
        assert cluster.run(name, "verify", str(tmp_path / f"{name}-out"))["recomputed"]

    plain = str(tmp_path / "plain")
    cluster.run("ben", "resolve", "--strategy", "linear", "--out", plain)
    mean = load_file(tmp_path / "plain" / "model.safetensors")
    merged = load_file(tmp_path / "ben-out" / "model.safetensors")
    for name in SHAPES:
        assert not np.array_equal(mean[name], merged[name])


@pytest.mark.slow
def test_an_author_can_attach_it_later(cluster: Cluster, tmp_path: Path) -> None:
    """The merge has another name then; other evidence does not take its place unseen."""
    model = str(write_model(tmp_path / "tune", 2, near=tmp_path / "base"))
    bare = cluster.run("ann", "contribute", model)
    (before, _) = cluster.wait(NAMES, lambda space: len(space["contributions"]) == 1)
    attach = ("contribute", model, "--evidence")
    first = cluster.run("ann", *attach, str(fisher(tmp_path / "first", 1)))
    assert first["content"] == bare["content"]
    assert first["new"]
    assert not cluster.run("ann", *attach, str(tmp_path / "first"))["new"]
    after = cluster.wait(NAMES, lambda s: bool(s["contributions"][0]["evidence"]))
    assert {space["merge_id"] for space in after}.isdisjoint({before["merge_id"]})
    assert after[0]["merge_id"] == after[1]["merge_id"]
    out = [cluster.resolved(n, "out", 1 + i) for i, n in enumerate(NAMES)]
    assert out[0] == out[1]
