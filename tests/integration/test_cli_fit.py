"""Configurations over models of several dtypes, or without some tensors, end to end."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nodes import cli
from tests.causal import llama, save

STRATEGIES = {
    "linear": "parameters: {weight: 1}",
    "ties": "parameters: {weight: 1, density: 0.5}",
    "task_arithmetic": "parameters: {weight: 0.7}",
    "model_stock": "",
}


def widened(folder: Path, to: Path, dtype: torch.dtype) -> Path:
    """Write a copy of a model in another dtype, exactly the same values."""
    to.mkdir()
    (to / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = load_file(folder / "model.safetensors")
    save_file({k: t.to(dtype) for k, t in tensors.items()}, to / "model.safetensors")
    return to


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in bfloat16 and fine-tunes near it, each in other dtypes too."""
    folder = tmp_path_factory.mktemp("models")
    base = save(folder / "base", llama(), 0, torch.bfloat16)
    ground = load_file(base / "model.safetensors")
    for seed, name in enumerate(("a", "b"), start=1):
        made = save(folder / name, llama(), seed, torch.bfloat16)
        tuned = load_file(made / "model.safetensors")
        near = {k: ground[k] + tuned[k] / 16 for k in tuned}
        save_file(near, made / "model.safetensors")
        widened(made, folder / f"{name}32", torch.float32)
    widened(folder / "b", folder / "b64", torch.float64)
    return folder


def merged(
    models: Path, tmp_path: Path, text: str, capsys: Any, *words: str
) -> tuple[int, Any]:
    """Merge; return the exit code, and what was said as JSON."""
    path = models / f"{tmp_path.name}.yml"
    path.write_text(text)
    capsys.readouterr()
    code = cli.run(["merge", str(path), str(tmp_path / "out"), "--json", *words])
    out, err = capsys.readouterr()
    return code, json.loads(out or err)


@pytest.mark.parametrize("method", STRATEGIES)
def test_how_models_are_saved_changes_no_bit_of_a_merge(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    """Two of three copies are in a wider dtype: the model digest is the same."""
    digests = set()
    for place, (a, b) in enumerate((("a", "b"), ("a32", "b"), ("a32", "b64"))):
        text = f"""merge_method: {method}
base_model: base
models: [{{model: {a}}}, {{model: {b}}}]
{STRATEGIES[method]}
"""
        here = tmp_path / str(place)
        here.mkdir()
        code, facts = merged(models, here, text, capsys)
        assert code == 0, facts
        digests.add(facts["model_digest"])
    assert len(digests) == 1


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_dtype_and_out_dtype_are_what_mergekit_users_expect(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    """Whatever `dtype` says, the mean is that of float64, in the dtype of the output."""
    text = f"""merge_method: linear
models: [{{model: a32}}, {{model: b}}]
parameters: {{weight: 0.5}}
dtype: float32
out_dtype: {asked}
"""
    code, facts = merged(models, tmp_path, text, capsys)
    assert code == 0, facts
    assert facts["notes"][0].startswith("dtype changes nothing beside out_dtype")
    found = load_file(tmp_path / "out" / "model.safetensors")
    one, two = (load_file(models / n / "model.safetensors") for n in ("a32", "b"))
    for name, tensor in found.items():
        mean = (one[name].double() + two[name].double()) / 2
        assert tensor.dtype == getattr(torch, asked)
        assert torch.equal(tensor, mean.to(tensor.dtype)), name
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == asked


@pytest.mark.parametrize("order", [("a32", "b"), ("b", "a32")])
def test_without_a_base_and_a_dtype_nothing_is_lost(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    order: tuple[str, str],
) -> None:
    """The output has the dtype that holds both, and loads as that."""
    from transformers import AutoModelForCausalLM

    listed = ", ".join(f"{{model: {name}}}" for name in order)
    text = f"merge_method: linear\nmodels: [{listed}]\nparameters: {{weight: 1}}"
    code, facts = merged(models, tmp_path, text, capsys)
    assert code == 0, facts
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert {t.dtype for t in found.values()} == {torch.float32}
    load: Any = AutoModelForCausalLM.from_pretrained
    model = load(tmp_path / "out", local_files_only=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, found[name]), name


def test_what_a_model_lacks_is_taken_from_the_base_if_asked(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused with the option's name; with it, the base stands in for what is missing."""
    part, gone = models / "part", "model.norm.weight"
    part.mkdir()
    (part / "config.json").write_bytes((models / "a" / "config.json").read_bytes())
    tensors = load_file(models / "a" / "model.safetensors")
    del tensors[gone]
    save_file(tensors, part / "model.safetensors")
    text = """merge_method: linear
base_model: base
models: [{model: part}, {model: b}]
parameters: {weight: 1}
"""
    code, said = merged(models, tmp_path, text, capsys)
    assert code == 3
    assert (
        f"model 'part': the model lacks 1 tensor ('{gone}')" in said["error"]["message"]
    )
    assert "--missing base" in said["error"]["hint"]
    code, facts = merged(models, tmp_path, text, capsys, "--missing", "base")
    assert code == 0, facts
    assert facts["recipe"]["extras"] == {"missing": "base"}
    # As in mergekit, a mean counts the base_model too.
    base, b = (load_file(models / n / "model.safetensors")[gone] for n in ("base", "b"))
    mean = (2 * base.double() + b.double()) / 3
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as found:
        assert torch.equal(found.get_tensor(gone), mean.to(torch.bfloat16))
    assert cli.run(["verify", str(tmp_path / "out")]) == 0


def test_without_a_base_model_nothing_stands_in(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said with the tensor's name, and what to name."""
    part, gone = models / "fewer", "model.norm.weight"
    widened(models / "a", part, torch.bfloat16)
    tensors = load_file(part / "model.safetensors")
    del tensors[gone]
    save_file(tensors, part / "model.safetensors")
    text = "merge_method: linear\nmodels: [{model: b}, {model: fewer}]"
    text += "\nparameters: {weight: 1}"
    code, said = merged(models, tmp_path, text, capsys, "--missing", "base")
    assert code == 3
    assert f"tensor '{gone}' is not in every model" in said["error"]["message"]
    assert not (tmp_path / "out").exists()
