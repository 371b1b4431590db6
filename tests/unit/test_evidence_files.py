"""Sketches, moments of optimizers, and data: against NumPy, and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from crdtmerge.errors import BadInputError, ConflictError, NotFoundError
from nodes.evidence.loading import attribute, load_data
from nodes.evidence.moments import factored, read_moments
from nodes.evidence.sketches import noisy, sketch
from nodes.evidence.writing import write


def gram(size: int, rank: int) -> torch.Tensor:
    """Return a Gram matrix."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(rank, size, generator=generator, dtype=torch.float64)
    return (rows.T @ rows).float()


def test_a_sketch_is_the_best_of_its_rank() -> None:
    """S'S has the largest eigenpairs, the largest first; of all of them it is G."""
    whole = gram(6, 6)
    values, vectors = np.linalg.eigh(whole.double().numpy())
    best = (vectors[:, -2:] * values[-2:]) @ vectors[:, -2:].T
    factor = sketch(whole, 2).double().numpy()
    assert factor.shape == (2, 6)
    np.testing.assert_allclose(factor.T @ factor, best, atol=1e-4)
    lengths = (factor**2).sum(axis=1)
    np.testing.assert_allclose(lengths, values[::-1][:2], rtol=1e-5)
    full = sketch(whole, 9).double().numpy()
    assert full.shape == (6, 6)
    np.testing.assert_allclose(full.T @ full, whole.numpy(), atol=1e-4)


def test_noise_on_a_sketch_has_the_asked_size_and_seed() -> None:
    """In units of the sketch's own; the same seed is the same noise."""
    factor = sketch(gram(80, 80), 40)
    first, again, other = (
        noisy(factor, 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    share = (first - factor).square().mean().sqrt() / factor.square().mean().sqrt()
    assert float(share) == pytest.approx(0.5, rel=0.05)


class Normed(nn.Module):
    """What a Trainer sorts: a matrix, a bias, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.up = nn.Linear(4, 3)


def stepped(model: nn.Module, groups: Sequence[Sequence[nn.Parameter]]) -> object:
    """Return the state of Adam after one step, as it is saved."""
    optimizer = torch.optim.Adam([{"params": list(group)} for group in groups])
    for value in model.parameters():
        value.grad = torch.randn(value.shape)
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("sorted_by", ["model", "trainer"])
def test_moments_find_their_tensors(tmp_path: Path, sorted_by: str) -> None:
    """In the model's order, and in that of a Trainer: each is 1e-3 g^2 of its own."""
    model = Normed()
    groups: list[list[nn.Parameter]] = [[*model.parameters()]]
    if sorted_by == "trainer":
        named = dict(model.named_parameters())
        kept = ("norm.weight", "norm.bias", "up.bias")
        groups = [[named["up.weight"]], [named[name] for name in kept]]
    torch.save(stepped(model, groups), tmp_path / "optimizer.pt")
    parameters = dict(model.named_parameters())
    found = read_moments(tmp_path / "optimizer.pt", parameters)
    assert found.keys() == parameters.keys()
    for name, value in parameters.items():
        assert value.grad is not None
        np.testing.assert_allclose(found[name], 1e-3 * value.grad**2, rtol=1e-4)


def test_moments_of_another_model_are_refused(tmp_path: Path) -> None:
    """Shapes tell; and so does what is no checkpoint at all."""
    path = tmp_path / "optimizer.pt"
    other = nn.Linear(5, 2)
    torch.save(stepped(other, [list(other.parameters())]), path)
    with pytest.raises(BadInputError, match="do not fit"):
        read_moments(path, dict(Normed().named_parameters()))
    torch.save({"step": 3}, path)
    with pytest.raises(BadInputError, match="no optimizer"):
        read_moments(path, {})
    path.write_bytes(b"no checkpoint")
    with pytest.raises(BadInputError, match="cannot read it safely"):
        read_moments(path, {})
    with pytest.raises(NotFoundError):
        read_moments(tmp_path / "none.pt", {})


def test_factored_moments_are_sums_of_rows_and_columns() -> None:
    """Of matrices and convolutions; of one dimension there are none."""
    generator = torch.Generator().manual_seed(0)
    moments = {
        "a": torch.rand(3, 4, generator=generator),
        "b": torch.rand(2, 3, 2, 2, generator=generator),
        "c": torch.rand(5, generator=generator),
    }
    rows, columns = factored(moments)
    assert rows.keys() == columns.keys() == {"a", "b"}
    flat = moments["b"].reshape(2, 12)
    np.testing.assert_allclose(rows["b"], flat.sum(dim=1), rtol=1e-6)
    np.testing.assert_allclose(columns["b"], flat.sum(dim=0), rtol=1e-6)


def test_arrays_come_in_batches_and_no_more_than_asked(tmp_path: Path) -> None:
    """`y` are the labels; the last batch is what is left."""
    path = tmp_path / "data.npz"
    np.savez(path, x=np.arange(10).reshape(5, 2), y=np.arange(5))
    data = load_data(path, tmp_path, {}, 3)
    batches = list(data.batches(2, "cpu"))
    assert data.count == 3
    assert [len(batch["x"]) for batch in batches] == [2, 1]
    assert batches[1]["labels"].tolist() == [2]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "1,2", "not known by its name"),
        ("a.npz", "no zip", "a.npz"),
        ("a.safetensors", "x", "a.safetensors"),
        ("a.jsonl", "{", "line 1: no JSON"),
        ("a.jsonl", json.dumps({"label": 1}), "line 1: it has no text"),
    ],
)
def test_data_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    """With the file, and the line where there are lines."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(BadInputError, match=told):
        load_data(path, tmp_path, {}, None)


def test_arrays_of_unequal_counts_are_refused(tmp_path: Path) -> None:
    """As are labels alone."""
    path = tmp_path / "data.npz"
    np.savez(path, x=np.zeros((5, 2)), y=np.zeros(4))
    with pytest.raises(BadInputError, match="equally many"):
        load_data(path, tmp_path, {}, None)
    np.savez(path, y=np.zeros(4))
    with pytest.raises(BadInputError, match="nothing in it but labels"):
        load_data(path, tmp_path, {}, None)


@pytest.mark.parametrize("told", ["json", "json:", "no.such:thing", "json:nothing"])
def test_what_is_no_function_is_refused(told: str) -> None:
    """Whatever is wrong with it."""
    with pytest.raises(BadInputError, match=told):
        attribute(told)


def test_a_folder_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt leaves nothing, and what is there is not replaced."""

    def interrupted(*_given: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "evidence"
    tensors = {"gram": {"a": torch.ones(2, 2)}}
    monkeypatch.setattr("nodes.evidence.writing.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(out, tensors, {})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    files = write(out, tensors, {"loss": 0.5})
    assert files.keys() == {"gram", "scalar"}
    assert json.loads(files["scalar"].read_text()) == {"loss": 0.5}
    with pytest.raises(ConflictError, match="exists"):
        write(out, tensors, {})
