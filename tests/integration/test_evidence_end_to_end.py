"""What `evidence compute` writes is what `contribute --evidence` takes, all kinds of it."""

import json
from pathlib import Path

import pytest
import torch

from tests.adapters import bert
from tests.causal import tokenizer
from tests.homes import Fleet
from tests.integration.test_cli_evidence import MADE, Compute, compute, digits, mlp

__all__ = ["compute", "mlp"]


def contributed(folder: Path, base: Path, model: Path, *evidence: str) -> list[str]:
    """Contribute a model with evidence in a new home; return the kinds that it has."""
    folder.mkdir()
    fleet = Fleet.at(folder)
    home = fleet.init("ann")
    fleet.call(home, "space_create", name="s", base=base, strategy="linear")
    said = fleet.call(home, "contribute", path=model, evidence=list(evidence))
    kinds = said["evidence"]
    assert isinstance(kinds, list)
    return kinds


def out_of(answer: str) -> Path:
    """Return the folder that was written."""
    return Path(json.loads(answer)["out"])


def test_a_small_network(
    compute: Compute, mlp: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Gradients, features, numbers."""
    model, base, data = mlp
    kinds = "fisher,gram,inputs,outputs,snip,magnitude,fisher_base,snip_base"
    code, out, err = compute(
        model, data, *MADE, "--base", base, "--kind", kinds,
        "--task", "classification", "--samples", 12, "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    found = contributed(tmp_path / "home", base, model, str(out_of(out)))
    assert found == sorted([*kinds.split(","), "scalar"])


@pytest.mark.parametrize("factored", [False, True])
def test_moments_of_an_optimizer(
    compute: Compute, mlp: tuple[Path, Path, Path], tmp_path: Path, factored: bool
) -> None:
    """Whole and as sums."""
    model, base, _ = mlp
    network = digits(model)
    optimizer = torch.optim.Adam(network.parameters())
    for value in network.parameters():
        value.grad = torch.randn_like(value)
    optimizer.step()
    path = tmp_path / "optimizer.pt"
    torch.save(optimizer.state_dict(), path)
    words = (model, *MADE, "--kind", "adam", "--optimizer", path, "--json")
    code, out, _ = compute(*words, *(["--factored"] if factored else []))
    assert code == 0
    found = contributed(tmp_path / "home", base, model, str(out_of(out)))
    assert found == (["adam", "adam_columns", "adam_rows"] if factored else ["adam"])


@pytest.mark.parametrize("sketched", [(), ("--sketch", 3, "--noise", 0.1)])
def test_a_transformer(
    compute: Compute, tmp_path: Path, sketched: tuple[object, ...]
) -> None:
    """Gram matrices of few samples, norms, embeddings; one file of several."""
    folder = bert(tmp_path / "bert")
    made = tokenizer()
    made.pad_token = "<unk>"
    made.save_pretrained(folder)
    lines = [("w1 w2 w3", 0), ("w4", 1), ("w5 w6 w7 w8 w9", 1)]
    data = tmp_path / "data.jsonl"
    data.write_text(
        "".join(json.dumps({"text": t, "label": n}) + "\n" for t, n in lines)
    )
    code, out, _ = compute(
        folder, data, "--kind", "fisher,gram,energy,outputs",
        "--task", "classification", *sketched, "--json",
    )  # fmt: skip
    assert code == 0
    form = "gram_sketch" if sketched else "gram"
    whole = contributed(tmp_path / "all", folder, folder, str(out_of(out)))
    assert whole == sorted(["energy", "fisher", form, "outputs", "scalar"])
    file = f"{form}={out_of(out) / f'{form}.safetensors'}"
    assert contributed(tmp_path / "one", folder, folder, file) == [form]
