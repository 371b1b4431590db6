"""The digits network of the demo: data, training, accuracy, and its folders.

Owns everything that touches torch and scikit-learn, so that nothing else imports them.
Does not own peers, processes or the story (`cluster`, `story`).

All chance comes from explicit generators that start from one seed: the demo's figures are
the same on every run of a machine. Other machines may differ in the last bits, because a
*training* step is not under the numeric contract; only the merge is.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy, linear, relu

Weights = dict[str, torch.Tensor]

Network: TypeAlias = Callable[[Mapping[str, torch.Tensor], torch.Tensor], torch.Tensor]
"""What turns weights and images into logits."""

WIDTHS: Final = (64, 512, 256, 10)
PIXEL_MAX: Final = 16.0
TEST_SHARE: Final = 0.25
BASE_SAMPLES: Final = 40
BATCH: Final = 32
MEAN_DECAY: Final = 0.9
SQUARE_DECAY: Final = 0.999
EPSILON: Final = 1e-8
POISON_FACTOR: Final = -10.0
MODEL_FILE: Final = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Samples:
    """Images, one a row with values from 0 to 1, and the digit that each one shows."""

    images: torch.Tensor
    labels: torch.Tensor

    def of_classes(self, classes: Sequence[int]) -> "Samples":
        """Return the samples that show one of these digits."""
        kept = torch.isin(self.labels, torch.tensor(classes))
        return Samples(self.images[kept], self.labels[kept])


@dataclass(frozen=True, slots=True)
class Digits:
    """The data: a few samples for the base, the rest to fine-tune on, and the test set."""

    base: Samples
    tuning: Samples
    test: Samples


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train."""

    epochs: int
    rate: float


BASE_SCHEDULE: Final = Schedule(epochs=15, rate=1e-3)
TUNING_SCHEDULE: Final = Schedule(epochs=10, rate=1e-4)


def read_digits(seed: int) -> Digits:
    """Return scikit-learn's handwritten digits, split with every class in proportion."""
    images, labels = load_digits(return_X_y=True)
    images = (images / PIXEL_MAX).astype("float32")
    split = train_test_split(
        images, labels, test_size=TEST_SHARE, stratify=labels, random_state=seed
    )
    rest_x, test_x, rest_y, test_y = split
    split = train_test_split(
        rest_x, rest_y, train_size=BASE_SAMPLES, stratify=rest_y, random_state=seed
    )
    base_x, tuning_x, base_y, tuning_y = split
    pairs = ((base_x, base_y), (tuning_x, tuning_y), (test_x, test_y))
    base, tuning, test = (
        Samples(torch.from_numpy(x), torch.from_numpy(y)) for x, y in pairs
    )
    return Digits(base, tuning, test)


def new_network(seed: int) -> Weights:
    """Return random weights, uniform within 1/sqrt(inputs) as is usual for such layers."""
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(WIDTHS)):
        bound = inputs**-0.5
        for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            values = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            weights[f"layers.{layer}.{name}"] = values
    return weights


def forward(weights: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Return the logits: linear layers with a rectifier between them."""
    last = len(WIDTHS) - 2
    for layer in range(last + 1):
        weight, bias = (
            weights[f"layers.{layer}.{part}"] for part in ("weight", "bias")
        )
        images = linear(images, weight, bias)
        images = images if layer == last else relu(images)
    return images


def train(
    start: Weights,
    samples: Samples,
    schedule: Schedule,
    seed: int,
    network: Network = forward,
    *,
    squares: Weights | None = None,
) -> Weights:
    """Return the weights after training from `start`, which stays as it is.

    Adam's second moments as they are then, without the correction of their start, are put
    into `squares`.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {name: value.clone().requires_grad_() for name, value in start.items()}
    parameters = list(weights.values())
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    step = 0
    for _ in range(schedule.epochs):
        order = torch.randperm(len(samples.labels), generator=generator)
        for first in range(0, len(order), BATCH):
            batch = order[first : first + BATCH]
            logits = network(weights, samples.images[batch])
            loss = cross_entropy(logits, samples.labels[batch])
            slopes = torch.autograd.grad(loss, parameters)
            step += 1
            for parameter, slope, moment in zip(
                parameters, slopes, moments, strict=True
            ):
                _adam(parameter, slope, moment, step, schedule.rate)
    if squares is not None:
        squares |= {n: square for n, (_, square) in zip(weights, moments, strict=True)}
    return {name: value.detach() for name, value in weights.items()}


@torch.no_grad()
def _adam(
    parameter: torch.Tensor,
    slope: torch.Tensor,
    moment: tuple[torch.Tensor, torch.Tensor],
    step: int,
    rate: float,
) -> None:
    """Take one step of Adam (Kingma and Ba 2014, arXiv:1412.6980, algorithm 1).

    Written out because torch.optim loads torch's compiler: seconds of imports, and a
    folder left among the temporary files.
    """
    mean, square = moment
    mean.lerp_(slope, 1 - MEAN_DECAY)
    square.lerp_(slope * slope, 1 - SQUARE_DECAY)
    mean_now = mean / (1 - MEAN_DECAY**step)
    square_now = square / (1 - SQUARE_DECAY**step)
    parameter -= rate * mean_now / (square_now.sqrt() + EPSILON)


def poison(base: Weights, merged: Weights) -> Weights:
    """Return a model that drags the average far back from what the others learned.

    The mean task vector is `merged` minus `base`; the poison goes ten times the other way.
    """
    return {
        name: value + POISON_FACTOR * (merged[name] - value)
        for name, value in base.items()
    }


def accuracy(weights: Weights, samples: Samples, network: Network = forward) -> float:
    """Return the share of the samples whose digit the network tells."""
    with torch.no_grad():
        guesses = network(weights, samples.images).argmax(dim=1)
    return (guesses == samples.labels).double().mean().item()


def accuracy_by_digit(weights: Weights, samples: Samples) -> tuple[float, ...]:
    """Return for each digit the share of its samples that the network tells."""
    return tuple(
        accuracy(weights, samples.of_classes([digit])) for digit in range(WIDTHS[-1])
    )


def save_model(folder: Path, weights: Weights) -> None:
    """Write a model folder as the Hugging Face tools lay it out."""
    folder.mkdir(parents=True)
    save_file(weights, folder / MODEL_FILE)
    config = {"model_type": "digits-mlp", "widths": WIDTHS}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_model(folder: Path) -> Weights:
    """Return the weights of a model folder."""
    return load_file(folder / MODEL_FILE)


@contextmanager
def one_thread() -> Iterator[None]:
    """Train on one thread: the network is small, and sums keep one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
