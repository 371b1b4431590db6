"""The two networks that are merged: a small CNN and a small transformer, as functions.

Owns their shapes, their first weights, how they compute, and low-rank changes of them
(LoRA). Does not own training (`training`) nor data (`tasks`). Names carry layer numbers, as
those of real models do, so that strategies which look at layers have something to look at.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch.nn.functional import conv2d, gelu, layer_norm, linear, max_pool2d, relu

from benchmarks.quality.tasks import CLASSES, SIDE
from nodes.demo.training import Network, Weights

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

CNN_CHANNELS: Final = (16, 32)
CNN_DENSE: Final = 64
WIDTH: Final = 32
HEADS: Final = 4
MLP_WIDTH: Final = 64
LAYERS: Final = 3
_MATRIX: Final = 2


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of network: its name, the shapes of its weights, and its function.

    With a `rank`, fine-tunes change its matrices by products of that rank, no more.
    """

    name: str
    shapes: Shapes
    network: Network
    rank: int = 0

    def first_weights(self, seed: int) -> Weights:
        """Return random weights, uniform within 1/sqrt(inputs); norms start at 1 and 0."""
        generator = torch.Generator().manual_seed(seed)
        weights: Weights = {}
        for name, shape in self.shapes.items():
            if "norm" in name:
                weights[name] = torch.full(shape, float(name.endswith("weight")))
                continue
            inputs = self.shapes[name.replace("bias", "weight")][1:]
            bound = math.prod(inputs) ** -0.5
            values = torch.empty(shape)
            weights[name] = values.uniform_(-bound, bound, generator=generator)
        return weights


def _cnn_shapes() -> Shapes:
    first, second = CNN_CHANNELS
    pooled = second * (SIDE // 2) ** 2
    return {
        "layers.0.conv.weight": (first, 1, 3, 3),
        "layers.0.conv.bias": (first,),
        "layers.1.conv.weight": (second, first, 3, 3),
        "layers.1.conv.bias": (second,),
        "layers.2.dense.weight": (CNN_DENSE, pooled),
        "layers.2.dense.bias": (CNN_DENSE,),
        "head.weight": (CLASSES, CNN_DENSE),
        "head.bias": (CLASSES,),
    }


def _cnn(weights: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Return the logits: two convolutions, a pool, a dense layer and a head."""

    def take(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    values = images.view(-1, 1, SIDE, SIDE)
    for layer in range(2):
        values = relu(conv2d(values, *take(f"layers.{layer}.conv"), padding=1))
    values = max_pool2d(values, 2).flatten(1)
    return linear(relu(linear(values, *take("layers.2.dense"))), *take("head"))


def _transformer_shapes() -> Shapes:
    shapes: dict[str, tuple[int, ...]] = {
        "embed.weight": (WIDTH, SIDE),
        "embed.bias": (WIDTH,),
        "positions": (SIDE, WIDTH),
    }
    for layer in range(LAYERS):
        at = f"layers.{layer}"
        for part in "qkvo":
            shapes[f"{at}.attention.{part}.weight"] = (WIDTH, WIDTH)
        shapes[f"{at}.mlp.up.weight"] = (MLP_WIDTH, WIDTH)
        shapes[f"{at}.mlp.up.bias"] = (MLP_WIDTH,)
        shapes[f"{at}.mlp.down.weight"] = (WIDTH, MLP_WIDTH)
        shapes[f"{at}.mlp.down.bias"] = (WIDTH,)
        for part in ("attention_norm", "mlp_norm"):
            shapes[f"{at}.{part}.weight"] = shapes[f"{at}.{part}.bias"] = (WIDTH,)
    shapes["norm.weight"] = shapes["norm.bias"] = (WIDTH,)
    return shapes | {"head.weight": (CLASSES, WIDTH), "head.bias": (CLASSES,)}


def _transformer(
    weights: Mapping[str, torch.Tensor], images: torch.Tensor
) -> torch.Tensor:
    """Return the logits: the rows of an image are the tokens; norms come first."""

    def norm(values: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return layer_norm(values, (WIDTH,), weight, bias)

    rows = images.view(-1, SIDE, SIDE)
    values = linear(rows, weights["embed.weight"], weights["embed.bias"])
    values = values + weights["positions"]
    for layer in range(LAYERS):
        at = f"layers.{layer}"
        values = values + _attend(weights, norm(values, f"{at}.attention_norm"), at)
        up = norm(values, f"{at}.mlp_norm")
        up = linear(up, weights[f"{at}.mlp.up.weight"], weights[f"{at}.mlp.up.bias"])
        down = weights[f"{at}.mlp.down.weight"], weights[f"{at}.mlp.down.bias"]
        values = values + linear(gelu(up), *down)
    pooled = norm(values, "norm").mean(dim=1)
    return linear(pooled, weights["head.weight"], weights["head.bias"])


def _attend(
    weights: Mapping[str, torch.Tensor], values: torch.Tensor, at: str
) -> torch.Tensor:
    """Return what the heads of one layer add; every token sees every other."""

    def heads(part: str) -> torch.Tensor:
        found = linear(values, weights[f"{at}.attention.{part}.weight"])
        return found.view(-1, SIDE, HEADS, WIDTH // HEADS).transpose(1, 2)

    scores = heads("q") @ heads("k").transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
    seen = (scores.softmax(dim=-1) @ heads("v")).transpose(1, 2).flatten(2)
    return linear(seen, weights[f"{at}.attention.o.weight"])


def first_factors(base: Weights, rank: int, seed: int) -> Weights:
    """Return factors of a change of every matrix, (rows, rank) zero, (rank, columns) not.

    As LoRA begins (Hu et al. 2021, arXiv:2106.09685): the change is zero, its slope is not.
    """
    generator = torch.Generator().manual_seed(seed)
    found: Weights = {}
    for name, value in base.items():
        if name.endswith("weight") and value.dim() == _MATRIX:
            rows, columns = value.shape
            found[f"{name}.b"] = torch.zeros(rows, rank)
            inner = torch.randn(rank, columns, generator=generator)
            found[f"{name}.a"] = inner / columns**0.5
    return found


def adapted(base: Weights, factors: Mapping[str, torch.Tensor]) -> Weights:
    """Return the base with the products of the factors added."""
    names = [name.removesuffix(".b") for name in factors if name.endswith(".b")]
    moved = {n: base[n] + factors[f"{n}.b"] @ factors[f"{n}.a"] for n in names}
    return {**base, **moved}


FAMILIES: Final[Mapping[str, Family]] = {
    "cnn": Family("cnn", _cnn_shapes(), _cnn),
    "transformer": Family("transformer", _transformer_shapes(), _transformer),
}

LORA_RANK: Final = 4

STUDIED: Final[Mapping[str, Family]] = {
    **FAMILIES,
    "lora": Family("lora", _transformer_shapes(), _transformer, LORA_RANK),
}
"""With the transformer's fine-tunes by LoRA, which start from the same base."""
