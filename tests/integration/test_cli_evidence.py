"""`crdtmerge evidence compute`: from a model folder and data to files, and its refusals."""

import importlib.util
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from nodes import cli
from nodes.demo.training import WIDTHS, load_model, new_network, read_digits, save_model
from tests.adapters import bert
from tests.causal import llama, save, tokenizer

Compute = Callable[..., tuple[int, str, str]]


class Digits(nn.Module):
    """The demo's network as a module, with its tensors' names."""

    def __init__(self) -> None:
        super().__init__()
        sizes = itertools.pairwise(WIDTHS)
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        made: torch.Tensor = self.layers[-1](x)
        return made


def digits(folder: Path) -> nn.Module:
    """Make the network of a folder, as users do for `--module`."""
    made = Digits()
    made.load_state_dict(load_model(folder))
    return made


def wrong(_folder: Path) -> object:
    """Make no module."""
    return 3


@pytest.fixture
def compute(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Compute:
    """Run `evidence compute` to a new folder; return exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        out = tmp_path / f"evidence-{len(list(tmp_path.iterdir()))}"
        capsys.readouterr()
        line = ["evidence", "compute", *map(str, words), "--out", str(out)]
        code = cli.run(line)
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


@pytest.fixture
def mlp(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Write a model, its base and data."""
    for name, seed in (("base", 0), ("model", 1)):
        save_model(tmp_path / name, new_network(seed))
    samples = read_digits(0).tuning
    data = tmp_path / "data.npz"
    np.savez(data, x=samples.images[:20].numpy(), y=samples.labels[:20].numpy())
    return tmp_path / "model", tmp_path / "base", data


MADE = ("--module", f"{__name__}:digits")


def read(answer: str) -> tuple[dict[str, Any], dict[str, dict[str, torch.Tensor]]]:
    """Return what was printed, and the tensors of all files."""
    facts = json.loads(answer)
    files = {kind: Path(path) for kind, path in facts["files"].items()}
    assert {path.parent for path in files.values()} == {Path(facts["out"])}
    numbers = files.pop("scalar", None)
    if numbers is not None:
        assert json.loads(numbers.read_text()) == facts["scalars"]
    return facts, {kind: load_file(path) for kind, path in files.items()}


def test_of_the_digits_network(compute: Compute, mlp: tuple[Path, Path, Path]) -> None:
    """Files of each kind, named after tensors, with what NumPy comes to."""
    model, base, data = mlp
    kinds = "fisher,gram,inputs,outputs,snip,magnitude,fisher_base"
    code, out, err = compute(
        model, data, *MADE, "--base", base, "--kind", kinds,
        "--task", "classification", "--samples", 12, "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    facts, found = read(out)
    assert found.keys() == {*kinds.split(",")}
    assert facts["scalars"]["samples"] == 12
    weights = load_model(model)
    assert found["fisher"].keys() == weights.keys()
    for name, value in found["fisher"].items():
        assert value.shape == weights[name].shape
    with np.load(data) as opened:
        rows = opened["x"][:12].astype(float)
    np.testing.assert_allclose(
        found["gram"]["layers.0.weight"], rows.T @ rows / 12, atol=1e-6
    )
    np.testing.assert_allclose(
        found["magnitude"]["layers.0.weight"], rows.mean(axis=0), atol=1e-6
    )
    assert not torch.equal(found["magnitude"]["layers.2.weight"], torch.zeros(256))


def test_sketches_with_noise_repeat_by_their_seed(
    compute: Compute, mlp: tuple[Path, Path, Path]
) -> None:
    """In place of whole Gram matrices, which are not told."""
    model, _, data = mlp
    words = (model, data, *MADE, "--kind", "gram", "--sketch", 5, "--noise", 0.1)
    found = []
    for seed in (1, 1, 2):
        code, out, err = compute(*words, "--seed", seed, "--json")
        assert (code, err) == (0, "")
        found.append(read(out)[1])
    assert found[0].keys() == {"gram_sketch"}
    first, again, other = (one["gram_sketch"]["layers.1.weight"] for one in found)
    assert first.shape == (5, 512)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_moments_of_an_optimizer_need_no_data(
    compute: Compute, mlp: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Whole, or as sums of rows and columns with the rest whole."""
    model, _, _ = mlp
    made = digits(model)
    optimizer = torch.optim.Adam(made.parameters())
    for value in made.parameters():
        value.grad = torch.ones_like(value)
    optimizer.step()
    path = tmp_path / "optimizer.pt"
    torch.save(optimizer.state_dict(), path)
    words = (model, *MADE, "--kind", "adam", "--optimizer", path, "--json")
    whole = read(compute(*words)[1])[1]
    assert whole["adam"].keys() == load_model(model).keys()
    parts = read(compute(*words, "--factored")[1])[1]
    assert parts.keys() == {"adam", "adam_rows", "adam_columns"}
    assert parts["adam_columns"]["layers.0.weight"].shape == (64,)
    assert all(name.endswith("bias") for name in parts["adam"])


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Write texts of unequal lengths with labels."""
    lines = [("w1 w2 w3", 0), ("w4", 1), ("w5 w6 w7 w8 w9", 1)]
    path = tmp_path / "data.jsonl"
    path.write_text(
        "".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in lines)
    )
    return path


def test_of_a_transformer_that_tells_classes(
    compute: Compute, texts: Path, tmp_path: Path
) -> None:
    """Padding counts for nothing: one text at a time is the same as all at once."""
    folder = bert(tmp_path / "bert")
    made = tokenizer()
    made.pad_token = "<unk>"
    made.save_pretrained(folder)
    kinds = "fisher,gram,energy,outputs"
    found = []
    for batch in (1, 3):
        code, out, _ = compute(
            folder, texts, "--kind", kinds, "--task", "classification",
            "--batch", batch, "--json",
        )  # fmt: skip
        assert code == 0
        found.append(read(out)[1])
    names = load_file(folder / "model.safetensors").keys()
    one, three = found
    assert one.keys() == {*kinds.split(",")}
    query = "bert.encoder.layer.0.attention.self.query.weight"
    assert one["gram"][query].shape == (16, 16)
    assert "bert.embeddings.LayerNorm.weight" in one["energy"]
    assert "bert.embeddings.word_embeddings.weight" not in one["gram"]
    for kind, tensors in one.items():
        assert tensors.keys() <= names, kind
        for name, value in tensors.items():
            np.testing.assert_allclose(
                value, three[kind][name], rtol=1e-3, atol=1e-6, err_msg=name
            )


@pytest.mark.parametrize("tied", [False, True])
def test_of_a_language_model(
    compute: Compute, texts: Path, tmp_path: Path, tied: bool
) -> None:
    """Its own norms are seen; a tied head stands under the name in the files."""
    folder = save(tmp_path / "llama", llama(tied=tied), 0, torch.bfloat16)
    texts.write_text(texts.read_text().replace('"label"', '"other"'))
    code, out, _ = compute(
        folder, texts, "--kind", "fisher,gram,energy", "--task", "language",
        "--labels", "sampled", "--json",
    )  # fmt: skip
    assert code == 0
    facts, found = read(out)
    names = load_file(folder / "model.safetensors").keys()
    assert found["fisher"].keys() == names
    assert ("lm_head.weight" in found["gram"]) is not tied
    assert ("model.embed_tokens.weight" in found["gram"]) is tied
    assert len(found["energy"]) == 5
    assert facts["of"] == len(names)


def test_people_are_told_how_to_attach_it(
    compute: Compute, mlp: tuple[Path, Path, Path]
) -> None:
    """A line a kind, and the command."""
    model, _, data = mlp
    code, out, err = compute(model, data, *MADE, "--kind", "gram,energy")
    assert (code, err) == (0, "")
    assert "gram: 3 of 6 tensors" in out
    assert "energy: nothing in this model" in out
    assert "crdtmerge contribute MODEL --evidence gram=" in out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--kind", "hessian"), 3, "no kind 'hessian'"),
        (("--kind", "fisher"), 3, "gradients need a loss"),
        (("--kind", "adam"), 3, "checkpoint of the optimizer"),
        (("--kind", "magnitude"), 3, "of the base"),
        (("--kind", "gram", "--noise", "1"), 3, "--sketch"),
        (("--kind", "energy"), 3, "nothing of kind energy"),
        (("--kind", "gram", "--module", f"{__name__}:wrong"), 3, "no torch module"),
        (("--kind", "gram", "--module", "nothing:here"), 3, "nothing:here"),
        (("--kind", "gram", "--labels", "none"), 2, "given, sampled"),
        (("--kind", "gram", "--device", "nowhere"), 6, "nowhere"),
        (("--kind", "fisher", "--loss", "json:dumps"), 3, "json:dumps"),
    ],
)
def test_refusals_say_what_to_do(
    compute: Compute,
    mlp: tuple[Path, Path, Path],
    words: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    """And leave nothing behind."""
    model, _, data = mlp
    before = sorted(model.parent.iterdir())
    made = () if "--module" in words else MADE
    found, out, err = compute(model, data, *made, *words)
    assert (found, out) == (code, "")
    assert told in err
    assert sorted(model.parent.iterdir()) == before


def test_without_transformers_a_folder_of_its_own_says_so(
    compute: Compute,
    mlp: tuple[Path, Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the extra to install, and the way around it."""
    import sys

    model, _, data = mlp
    assert importlib.util.find_spec("transformers") is not None
    monkeypatch.setitem(sys.modules, "transformers", None)
    code, _, err = compute(model, data, "--kind", "gram")
    assert code == 6
    assert "crdtmerge[evidence]" in err
    assert "--module" in err
