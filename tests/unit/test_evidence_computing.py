"""Evidence of small modules, against plain autograd, closed forms and NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from crdtmerge.errors import BadInputError
from nodes.evidence import TASKS, Batch, compute

CLASSES = TASKS["classification"]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def classes(count: int, of: int, seed: int = 1) -> torch.Tensor:
    """Return labels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(of, (count,), generator=generator)


def close(found: torch.Tensor, expected: object) -> None:
    """Hold the two together, to the last bits of a float32."""
    np.testing.assert_allclose(found.numpy(), np.asarray(expected), 1e-5, 1e-7)


def in_parts(x: torch.Tensor, y: torch.Tensor | None = None) -> list[Batch]:
    """Return samples as batches of two sizes."""
    cuts = (slice(0, 3), slice(3, None))
    if y is None:
        return [{"x": x[cut]} for cut in cuts]
    return [{"x": x[cut], "labels": y[cut]} for cut in cuts]


def test_of_a_linear_layer_moments_and_means_are_those_of_its_inputs() -> None:
    """Gram is X'X/n over all tokens of all batches; means are means."""
    model, x = nn.Linear(4, 3), drawn(7, 5, 4)
    found = compute(
        model,
        in_parts(x),
        None,
        ("gram", "inputs", "outputs", "magnitude"),
        base=model,
    ).tensors
    rows = x.reshape(-1, 4).double().numpy()
    close(found["gram"]["weight"], rows.T @ rows / 35)
    assert torch.equal(found["gram"]["weight"], found["gram"]["weight"].T)
    close(found["inputs"]["weight"], rows.mean(axis=0))
    close(found["magnitude"]["weight"], np.abs(rows).mean(axis=0))
    close(found["outputs"]["weight"], model(x).detach().reshape(-1, 3).mean(dim=0))
    assert found["gram"].keys() == {"weight"}


def test_of_a_logistic_regression_fisher_has_its_closed_form() -> None:
    """E[((p - onehot(y)) x')^2], and of SNIP the mean of |theta g|, not of the mean."""
    model, x, y = nn.Linear(4, 3), drawn(9, 4), classes(9, 3)
    found = compute(model, in_parts(x, y), CLASSES, ("fisher", "snip"))
    with torch.no_grad():
        odds = model(x).double().softmax(dim=1).numpy()
    error = odds - np.eye(3)[y.numpy()]
    slopes = error[:, :, None] * x.double().numpy()[:, None, :]
    weight = model.weight.detach().double().numpy()
    close(found.tensors["fisher"]["weight"], (slopes**2).mean(axis=0))
    close(found.tensors["fisher"]["bias"], (error**2).mean(axis=0))
    close(found.tensors["snip"]["weight"], np.abs(weight * slopes).mean(axis=0))
    right = odds[np.arange(9), y.numpy()]
    assert found.scalars["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    assert found.scalars["samples"] == 9


def test_labels_drawn_from_the_model_come_to_the_true_fisher() -> None:
    """E over the model's own odds, which the labels of the data have no part in."""
    model, x = nn.Linear(2, 2), drawn(1, 2).repeat(4000, 1)
    batches = [{"x": x, "labels": torch.zeros(4000, dtype=torch.long)}]
    drawing = torch.Generator().manual_seed(3)
    found = compute(model, batches, CLASSES, ["fisher"], sampled=drawing)
    with torch.no_grad():
        odds = model(x[:1]).double().softmax(dim=1).numpy()[0]
    expected = sum(odds[c] * (odds - np.eye(2)[c]) ** 2 for c in range(2))
    np.testing.assert_allclose(
        found.tensors["fisher"]["bias"].numpy(), expected, rtol=0.1
    )


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Conv2d(2, 3, (3, 2), stride=(2, 1), dilation=(1, 2)),
        nn.Conv2d(2, 3, 3, padding="same"),
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
        nn.Conv1d(2, 3, 3, stride=2, padding=1),
    ],
    ids=str,
)
def test_of_a_convolution_patches_are_the_inputs_of_its_rows(
    layer: nn.Conv1d | nn.Conv2d,
) -> None:
    """Mean outputs are W times mean patches plus bias, in the order of the weight."""
    x = drawn(5, 2, 6, 7) if isinstance(layer, nn.Conv2d) else drawn(5, 2, 9)
    found = compute(layer, in_parts(x), None, ("gram", "inputs", "outputs")).tensors
    with torch.no_grad():
        flat = layer.weight.double().flatten(1)
        made = layer.double()(x.double()).flatten(2).transpose(1, 2).reshape(-1, 3)
        assert layer.bias is not None
        plain = made - layer.bias
    means = flat @ found["inputs"]["weight"].double()
    close(found["outputs"]["weight"], made.mean(dim=0))
    close(means.float(), plain.mean(dim=0))
    gram = found["gram"]["weight"].double()
    close((flat @ gram @ flat.T).float(), plain.T @ plain / len(plain))


class Tokens(nn.Module):
    """Two layers and a norm over tokens; what is at the end is the embedding again."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.up = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the logits of all tokens."""
        del attention_mask
        made: torch.Tensor = self.head(self.norm(self.up(self.embed(input_ids))))
        return made


def test_padding_counts_for_nothing_and_tied_weights_stand_once() -> None:
    """Only tokens that the mask names are summed; the embedding's Gram is the head's."""
    model = Tokens()
    tokens = torch.tensor([[1, 2, 3], [4, 5, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    batch = {"input_ids": tokens, "attention_mask": mask}
    found = compute(
        model, [batch], TASKS["language"], ("gram", "energy", "fisher")
    ).tensors
    with torch.no_grad():
        rows = model.embed.weight[torch.tensor([1, 2, 3, 4, 5])].double()
        up = model.up.double()(rows)
        normal = torch.nn.functional.layer_norm(up, (4,))
        normed = model.norm.double()(up)
    close(found["gram"]["up.weight"], rows.T @ rows / 5)
    close(found["energy"]["norm.weight"], (normal**2).sum(dim=0))
    close(found["gram"]["embed.weight"], normed.T @ normed / 5)
    assert found["gram"].keys() == {"up.weight", "embed.weight"}
    assert "head.weight" not in found["fisher"]


class OwnRMSNorm(nn.Module):
    """A norm that is written out, as a Llama's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 0.0, 2.0]))
        self.variance_epsilon = 1e-5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised values, scaled."""
        mean = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(mean + self.variance_epsilon))


@pytest.mark.parametrize("norm", [OwnRMSNorm(), nn.RMSNorm(3, eps=1e-5)], ids=repr)
def test_energy_is_of_what_a_norm_scales(norm: nn.Module) -> None:
    """Not of its outputs: a scale of nought hides nothing. Hooks are gone afterwards."""
    x = drawn(6, 3)
    found = compute(norm, in_parts(x), None, ["energy"]).tensors
    wide = x.double().numpy()
    normal = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-5)
    close(found["energy"]["weight"], (normal**2).sum(axis=0))
    assert not norm._forward_pre_hooks


def test_the_model_is_left_as_it_was() -> None:
    """Modes, gradients, what asks for one, and values; dropout took no part."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 3)).train()
    model[2].eval()
    model[0].weight.requires_grad = False
    model[0].bias.grad = torch.ones(4)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    kinds = ("gram", "fisher")
    batches = in_parts(drawn(6, 4), classes(6, 3))
    first = compute(model, batches, CLASSES, kinds)
    again = compute(model, batches, CLASSES, kinds)
    assert [m.training for m in model] == [True, True, False]
    assert not model[0].weight.requires_grad
    assert model[0].weight.grad is None
    assert torch.equal(model[0].bias.grad, torch.ones(4))
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert "0.weight" in first.tensors["fisher"]
    for kind in kinds:
        for name, value in first.tensors[kind].items():
            assert torch.equal(value, again.tensors[kind][name])


def test_the_model_is_left_as_it_was_when_a_loss_fails() -> None:
    """Hooks, modes and torch's own functions are as before after an error."""
    model = nn.Sequential(OwnRMSNorm(), nn.Linear(3, 3)).train()

    def fails(module: nn.Module, batch: Batch) -> torch.Tensor:
        module(batch["x"])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compute(model, in_parts(drawn(6, 3)), fails, ("energy", "fisher"))
    assert model.training
    assert not model[0]._forward_pre_hooks


def test_what_is_of_the_base_is_computed_of_the_base() -> None:
    """On the contributor's data: the same as of the base alone."""
    model, base = nn.Linear(4, 3), nn.Linear(4, 3)
    batches = in_parts(drawn(6, 4), classes(6, 3))
    found = compute(
        model, batches, CLASSES, ("fisher", "fisher_base", "snip_base"), base=base
    )
    alone = compute(base, batches, CLASSES, ("fisher", "snip"))
    own = compute(model, batches, CLASSES, ["fisher"])
    for kind, of in (("fisher_base", "fisher"), ("snip_base", "snip")):
        close(found.tensors[kind]["weight"], alone.tensors[of]["weight"])
    close(found.tensors["fisher"]["weight"], own.tensors["fisher"]["weight"])
    assert found.scalars == own.scalars


def test_tensors_are_called_as_asked_and_others_left_out() -> None:
    """What the files do not have under any name is no evidence of them."""
    model = nn.Linear(4, 3)
    batches = in_parts(drawn(6, 4), classes(6, 3))
    found = compute(model, batches, CLASSES, ["fisher"], names={"weight": "a.b"})
    assert found.tensors["fisher"].keys() == {"a.b"}


@pytest.mark.parametrize(
    ("kinds", "loss", "batches", "told"),
    [
        (["adam"], CLASSES, [{"x": torch.ones(1, 4)}], "not computed from data"),
        (["fisher"], None, [{"x": torch.ones(1, 4)}], "need a loss"),
        (["fisher_base"], CLASSES, [{"x": torch.ones(1, 4)}], "needs the base"),
        (["fisher"], CLASSES, [{"x": torch.ones(1, 4)}], "has no labels"),
        (["gram"], None, [], "no samples"),
        (["gram"], None, [{"x": torch.full((1, 4), torch.inf)}], "not finite"),
    ],
)
def test_what_cannot_be_computed_is_refused(
    kinds: list[str], loss: object, batches: list[Batch], told: str
) -> None:
    """Each with its reason."""
    with pytest.raises(BadInputError, match=told):
        compute(nn.Linear(4, 3), batches, loss, kinds)  # type: ignore[arg-type]
