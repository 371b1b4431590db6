"""Real fine-tunes, small: of an MLP with ReLU and of a transformer, on digits; and attacks.

Owns training and the attacks on a fine-tune. Training is on one thread with generators of
its own; what a last bit of it is does not matter to who uses it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.networks import FAMILIES, HEADS, LAYERS, WIDTH
from nodes.demo.training import (
    Network,
    Samples,
    Schedule,
    Weights,
    forward,
    one_thread,
    read_digits,
    train,
)

WIDTHS = (64, 96, 48, 10)
TUNES = 5
BASE_EPOCHS = Schedule(epochs=6, rate=2e-3)
TUNING_EPOCHS = Schedule(epochs=2, rate=3e-4)
SAMPLES = 400


@dataclass(frozen=True)
class Tuned:
    """A base, honest fine-tunes of it, what it computes, and images to compute it on."""

    base: Weights
    tunes: tuple[Weights, ...]
    network: Network
    images: torch.Tensor

    def logits(self, weights: Weights) -> NDArray[np.float64]:
        """Return what a model computes, in float64."""
        with torch.no_grad():
            wide = {name: value.double() for name, value in weights.items()}
            found: NDArray[np.float64] = self.network(wide, self.images).numpy()
            return found


@cache
def mlp() -> Tuned:
    """Return fine-tunes of a network of three layers with ReLU between them."""
    generator = torch.Generator().manual_seed(0)
    first: Weights = {}
    for layer, (inputs, outputs) in enumerate(pairwise(WIDTHS)):
        for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            bound = inputs**-0.5
            values = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            first[f"layers.{layer}.{name}"] = values
    return _tuned(first, forward)


@cache
def transformer() -> Tuned:
    """Return fine-tunes of a transformer of three layers."""
    family = FAMILIES["transformer"]
    return _tuned(family.first_weights(0), family.network)


def _tuned(first: Weights, network: Network) -> Tuned:
    digits = read_digits(0)
    with one_thread():
        base = train(first, _part(digits.tuning, 99), BASE_EPOCHS, 99, network)
        tunes = tuple(
            train(base, _part(digits.tuning, seed), TUNING_EPOCHS, seed, network)
            for seed in range(TUNES)
        )
    return Tuned(base, tunes, network, digits.test.images[:64].double())


def _part(samples: Samples, seed: int) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(samples.labels), generator=generator)[:SAMPLES]
    return Samples(samples.images[chosen], samples.labels[chosen])


def arrays(weights: Weights) -> dict[str, NDArray[np.float32]]:
    """Return weights as arrays."""
    return {name: value.detach().numpy() for name, value in weights.items()}


# --- attacks ----------------------------------------------------------------------------


def scaled(base: Weights, tuned: Weights, factor: float) -> Weights:
    """Return the base plus `factor` times the task vector."""
    return {name: base[name] + factor * (tuned[name] - base[name]) for name in base}


def noisy(base: Weights, tuned: Weights, share: float) -> Weights:
    """Return a fine-tune with noise of that share of its task vector's length."""
    generator = torch.Generator().manual_seed(7)
    found = {}
    for name, value in tuned.items():
        noise = torch.randn(value.shape, generator=generator)
        noise *= (value - base[name]).norm() / noise.norm()
        found[name] = value + share * noise
    return found


def injected(base: Weights, tuned: Weights, name: str, times: float) -> Weights:
    """Return a fine-tune with a product of two vectors put into one matrix."""
    generator = torch.Generator().manual_seed(8)
    rows, columns = tuned[name].shape
    made = torch.randn(rows, 1, generator=generator) @ torch.randn(
        1, columns, generator=generator
    )
    made *= times * (tuned[name] - base[name]).norm() / made.norm()
    return {**tuned, name: tuned[name] + made}


def permuted(tuned: Weights) -> Weights:
    """Return the MLP with its first hidden units in another order."""
    order = torch.randperm(WIDTHS[1], generator=torch.Generator().manual_seed(9))
    return {
        **tuned,
        "layers.0.weight": tuned["layers.0.weight"][order],
        "layers.0.bias": tuned["layers.0.bias"][order],
        "layers.1.weight": tuned["layers.1.weight"][:, order],
    }


def rescaled(tuned: Weights) -> Weights:
    """Return the MLP with hidden units scaled, and scaled back behind the ReLU."""
    generator = torch.Generator().manual_seed(10)
    factors = torch.exp(0.8 * torch.randn(WIDTHS[1], generator=generator))
    return {
        **tuned,
        "layers.0.weight": tuned["layers.0.weight"] * factors[:, None],
        "layers.0.bias": tuned["layers.0.bias"] * factors,
        "layers.1.weight": tuned["layers.1.weight"] / factors,
    }


def _orthogonal(size: int, generator: torch.Generator) -> torch.Tensor:
    made = torch.randn(size, size, generator=generator, dtype=torch.float64)
    found: torch.Tensor = torch.linalg.qr(made)[0]
    return found


def _invertible(size: int, generator: torch.Generator) -> torch.Tensor:
    left, right = _orthogonal(size, generator), _orthogonal(size, generator)
    scales = torch.rand(size, generator=generator, dtype=torch.float64) * 2.5 + 0.5
    return left @ torch.diag(scales) @ right


def _headwise(
    tuned: Weights, make: Callable[[int, torch.Generator], torch.Tensor]
) -> Weights:
    """Return the transformer with a matrix between query and key, value and output."""
    generator = torch.Generator().manual_seed(11)
    found = {name: value.double().clone() for name, value in tuned.items()}
    for layer in range(LAYERS):
        q, k, v, o = (found[f"layers.{layer}.attention.{x}.weight"] for x in "qkvo")
        for head in range(HEADS):
            part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            for one, other in ((q[part], k[part]), (v[part], o[:, part].T)):
                matrix = make(WIDTH // HEADS, generator)
                one.copy_(matrix @ one)
                other.copy_(torch.linalg.inv(matrix).T @ other)
    return {name: value.float() for name, value in found.items()}


def rotated(tuned: Weights) -> Weights:
    """Return the transformer with orthogonal matrices slipped into its heads."""
    return _headwise(tuned, _orthogonal)


def locked(tuned: Weights) -> Weights:
    """Return the transformer with invertible matrices in its heads, as MergeLock does."""
    return _headwise(tuned, _invertible)


def heads_moved(tuned: Weights) -> Weights:
    """Return the transformer with the heads of every layer in another order."""
    rows = torch.arange(WIDTH).reshape(HEADS, -1).roll(1, dims=0).reshape(-1)
    found = dict(tuned)
    for layer in range(LAYERS):
        for part in "qkv":
            name = f"layers.{layer}.attention.{part}.weight"
            found[name] = tuned[name][rows]
        name = f"layers.{layer}.attention.o.weight"
        found[name] = tuned[name][:, rows]
    return found


def replaced(tuned: Tuned, place: int, weights: Weights) -> Sequence[Weights]:
    """Return the fine-tunes with one in another's place."""
    found = list(tuned.tunes)
    found[place] = weights
    return found
