"""Every form of model, through the commands: the same model gives the same bytes."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from crdtmerge.formats import survey
from nodes import cli

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TIED = {"model_type": "small", "tie_word_embeddings": True}
MERGE = (
    "merge_method: task_arithmetic\nbase_model: {base}\n"
    "models: [{{model: {one}, parameters: {{weight: 1}}}}]\n"
)

Tensors = dict[str, torch.Tensor]


def tensors(seed: int) -> Tensors:
    """Return a small tied model, without its head."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        EMBED: (40, 6),
        "model.layers.0.weight": (6, 6),
        "model.norm.weight": (6,),
    }
    return {
        name: (torch.randn(shape, generator=generator) / 8).to(torch.bfloat16)
        for name, shape in shapes.items()
    }


def tied(found: Tensors) -> Tensors:
    """Return a model with its head, which is the embedding itself."""
    return {**found, HEAD: found[EMBED]}


def save(folder: Path, found: Tensors, form: str, config: object = TIED) -> Path:
    """Write a model as `safetensors`, as a `bin` file, or as `shards` of such."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if form == "safetensors":
        whole = {name: tensor.clone() for name, tensor in found.items()}
        save_file(whole, folder / "model.safetensors")
    elif form == "bin":
        torch.save(found, folder / "pytorch_model.bin")
    else:
        placed = {name: f"pytorch_model-{i}.bin" for i, name in enumerate(found)}
        for name, shard in placed.items():
            torch.save({name: found[name]}, folder / shard)
        index = {"metadata": {}, "weight_map": placed}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


@dataclass
class Desk:
    """A folder with a home; commands run in it."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, *words: object) -> tuple[int, Mapping[str, Any]]:
        """Run one command; return its exit code and what `--json` says."""
        self.capsys.readouterr()
        code = cli.run([*(str(word) for word in words), "--json"])
        found = self.capsys.readouterr()
        facts: dict[str, Any] = json.loads(found.out if code == 0 else found.err)
        return code, facts

    def done(self, *words: object) -> Mapping[str, Any]:
        """Run a command that must succeed."""
        code, facts = self.run(*words)
        assert code == 0, facts
        return facts

    def refused(self, *words: object) -> str:
        """Run a command that must find bad input; return the message."""
        code, facts = self.run(*words)
        assert code == 3
        assert facts["error"]["hint"]
        return str(facts["error"]["message"])

    def merged(self, base: Path, one: Path, out: str) -> Mapping[str, Any]:
        """Merge one model into a base by a configuration of mergekit."""
        config = self.folder / "merge.yml"
        config.write_text(MERGE.format(base=base.name, one=one.name))
        return self.done("merge", config, self.folder / out)


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    monkeypatch.setenv("CRDTMERGE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    desk = Desk(tmp_path, capsys)
    desk.done("init", "--no-passphrase")
    return desk


@pytest.mark.parametrize("form", ["bin", "shards"])
def test_pytorch_files_are_the_same_model(desk: Desk, form: str) -> None:
    """A space founded on, and fed with, pickles is that of the safetensors folders."""
    base = save(desk.folder / "base", tensors(0), "safetensors")
    old = save(desk.folder / "old", tensors(0), form)
    one = save(desk.folder / "one", tensors(1), form)
    same = save(desk.folder / "same", tensors(1), "safetensors")
    found = desk.done("space", "create", "s", "--base", old, "--strategy", "linear")
    twin = desk.done("space", "create", "t", "--base", base, "--strategy", "linear")
    assert found["base"] == twin["base"]
    first = desk.done("contribute", one, "--space", "s", "--reference")
    again = desk.done("contribute", same, "--space", "s")
    assert (first["new"], again["new"]) == (True, False)
    assert again["new_bytes"] == 0, "its bytes are found where the pickle has them"
    desk.done("resolve", "--out", desk.folder / "out", "--space", "s")
    merged = load_file(desk.folder / "out" / "model.safetensors")
    for name, tensor in tensors(1).items():
        assert torch.equal(merged[name], tensor)
    config = json.loads((desk.folder / "out" / "config.json").read_text())
    assert config["tie_word_embeddings"] is True, (
        "what stands beside a pickle goes along"
    )
    desk.done("verify", desk.folder / "out")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_file_by_itself_is_a_model(desk: Desk, name: str) -> None:
    """Wherever a folder is read, and in a configuration, a file of weights will do."""
    form = "bin" if name.endswith("bin") else "safetensors"
    files = []
    for seed, stem in enumerate(("base", "one")):
        folder = save(desk.folder / f"{stem}-folder", tensors(seed), form)
        files.append((folder / name).rename(desk.folder / (stem + Path(name).suffix)))
        shutil.rmtree(folder)
    base, one = files
    desk.merged(base, one, "merged")
    desk.done("space", "create", "s", "--base", base, "--strategy", "linear")
    desk.done("contribute", one)
    desk.done("resolve", "--out", desk.folder / "resolved")
    for out in ("merged", "resolved"):
        merged = load_file(desk.folder / out / "model.safetensors")
        assert torch.equal(merged[EMBED], tensors(1)[EMBED])


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_a_head_that_is_the_embedding_loses_nothing(desk: Desk, form: str) -> None:
    """The base ties its head, the fine-tune's file has it: a note, and the same model."""
    base = save(desk.folder / "base", tensors(0), "safetensors")
    once = save(desk.folder / "once", tensors(1), "safetensors")
    twice = save(desk.folder / "twice", tied(tensors(1)), form)
    desk.done("space", "create", "s", "--base", base)
    plain, noted = desk.done("contribute", once), desk.done("contribute", twice)
    assert noted["content"] == plain["content"]
    assert not noted["new"]
    note = f"{HEAD} is left out: it is {EMBED}, to which the base ties it"
    assert note in noted["notes"]
    assert f"model 'twice': {note}" in desk.merged(base, twice, "a")["notes"]
    desk.merged(base, once, "b")
    digests = [
        json.loads((desk.folder / out / "resolution.json").read_text())["model_digest"]
        for out in "ab"
    ]
    assert digests[0] == digests[1]


def test_a_head_trained_apart_is_refused(desk: Desk) -> None:
    """Where the base has no place for it, nothing is dropped in silence."""
    base = save(desk.folder / "base", tensors(0), "safetensors")
    own = {**tensors(1), HEAD: tensors(2)[EMBED]}
    one = save(desk.folder / "one", own, "safetensors")
    desk.done("space", "create", "s", "--base", base)
    assert f"'{HEAD}'" in desk.refused("contribute", one)
    config = desk.folder / "merge.yml"
    config.write_text(MERGE.format(base="base", one="one"))
    assert "trained apart" in desk.refused("merge", config, desk.folder / "out")
    assert not (desk.folder / "out").exists()


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_a_head_that_the_base_has_is_the_embedding(desk: Desk, form: str) -> None:
    """A fine-tune whose config ties it moves head and embedding alike."""
    apart = {**tensors(0), HEAD: tensors(3)[EMBED]}
    base = save(desk.folder / "base", apart, form)
    one = save(desk.folder / "one", tensors(1), form)
    note = f"{HEAD} is {EMBED}, to which it is tied: the files have it once"
    assert f"model 'one': {note}" in desk.merged(base, one, "merged")["notes"]
    desk.done("space", "create", "s", "--base", base, "--strategy", "linear")
    assert note in desk.done("contribute", one)["notes"]
    desk.done("resolve", "--out", desk.folder / "resolved")
    for out in ("merged", "resolved"):
        merged = load_file(desk.folder / out / "model.safetensors")
        assert torch.equal(merged[HEAD], tensors(1)[EMBED])


@pytest.mark.parametrize("founded", ["once", "twice"])
def test_a_base_is_the_same_with_its_head_and_without(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, founded: str
) -> None:
    """The other copy, which holds the tied head once more or less, does as the base."""
    save(desk.folder / "once", tensors(0), "safetensors")
    save(desk.folder / "twice", tied(tensors(0)), "bin")
    other = {"once": "twice", "twice": "once"}[founded]
    desk.done("space", "create", "s", "--base", desk.folder / founded)
    one = save(desk.folder / "one", tensors(1), "safetensors")
    desk.done("contribute", one)
    merged = desk.done("resolve", "--out", desk.folder / "a")
    desk.done("space", "export", "s", desk.folder / "s.tar")
    monkeypatch.setenv("CRDTMERGE_HOME", str(desk.folder / "guest"))
    desk.done("init", "--no-passphrase")
    stranger = save(desk.folder / "stranger", tensors(2), "safetensors")
    code, facts = desk.run("space", "import", desk.folder / "s.tar", "--base", stranger)
    assert (code, facts["error"]["type"]) == (3, "BaseMismatchError")
    told = desk.done(
        "space", "import", desk.folder / "s.tar", "--base", desk.folder / other
    )
    assert (
        f"tied tensors count as the base of the space has them: {HEAD}" in told["notes"]
    )
    here = desk.done("resolve", "--out", desk.folder / "b")
    assert here["model_digest"] == merged["model_digest"]


def test_gguf_is_refused_with_the_way_around_it(desk: Desk) -> None:
    """Alone in a folder, or given by name."""
    folder = desk.folder / "quantised"
    folder.mkdir()
    (folder / "q8.gguf").write_bytes(b"GGUF" + bytes(60))
    for place in (folder, folder / "q8.gguf"):
        message = desk.refused("space", "create", "s", "--base", place)
        assert "q8.gguf is a GGUF file" in message


@pytest.mark.parametrize("normalise", ["true", "false"])
def test_weights_that_sum_to_zero_are_refused_before_a_tensor_is_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, normalise: str
) -> None:
    """Nothing was hashed and nothing written; where sums are not divided, zero is one."""
    for seed, name in enumerate(("one", "two")):
        save(desk.folder / name, tensors(seed), "safetensors")
    config = desk.folder / "merge.yml"
    config.write_text(
        f"merge_method: linear\nparameters: {{normalize: {normalise}}}\nmodels:\n"
        "- {model: one, parameters: {weight: 1}}\n"
        "- {model: two, parameters: {weight: -1}}\n"
    )
    if normalise == "false":
        desk.done("merge", config, desk.folder / "out")
        return

    def unread(_: object) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(survey, "read_chunks", unread)
    before = sorted(desk.folder.rglob("*"))
    assert "weights sum to zero" in desk.refused("merge", config, desk.folder / "out")
    assert sorted(desk.folder.rglob("*")) == before
