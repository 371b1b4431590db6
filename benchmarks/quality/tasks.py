"""The data: scikit-learn's digits, how they are split, and what the tasks are.

Owns the split, the tasks and what is measured on them. Does not own networks nor training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nodes.demo.training import PIXEL_MAX, Network, Samples, Weights

CLASSES: Final = 10
SIDE: Final = 8
TEST_SHARE: Final = 0.4
VALIDATION_SHARE: Final = 0.2

TASKS: Final = tuple(
    tuple(sorted((first + step) % CLASSES for step in (0, 1, 3)))
    for first in range(CLASSES)
)
"""Ten tasks of three digits each; every digit is in three tasks."""

HALVES: Final = ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
"""Two tasks that have no digit in common, for strategies that merge two models only."""


@dataclass(frozen=True, slots=True)
class Data:
    """Four sets that share no image, each with every digit in proportion.

    The base is trained on `base`, fine-tunes on `tuning`; settings are chosen on
    `validation`, and what is reported was measured on `test`, which chooses nothing.
    """

    base: Samples
    tuning: Samples
    validation: Samples
    test: Samples


@dataclass(frozen=True, slots=True)
class Score:
    """How well a model tells digits, as shares of images.

    `joint`: all test images, with all ten digits to choose from. `tasks`: the mean over
    the tasks of the accuracy on the images of that task, with its digits to choose from.
    `validation` is `joint` on the validation set.
    """

    joint: float
    tasks: float
    validation: float


def read_data(seed: int, base_samples: int) -> Data:
    """Return the digits, split by `seed`."""
    images, labels = load_digits(return_X_y=True)
    images = (images / PIXEL_MAX).astype("float32")
    sets: list[Samples] = []
    for size in (TEST_SHARE, VALIDATION_SHARE, base_samples):
        images, taken, labels, shown = train_test_split(
            images, labels, test_size=size, stratify=labels, random_state=seed
        )
        sets.append(Samples(torch.from_numpy(taken), torch.from_numpy(shown)))
    tuning = Samples(torch.from_numpy(images), torch.from_numpy(labels))
    test, validation, base = sets
    return Data(base, tuning, validation, test)


@torch.no_grad()
def score(weights: Weights, network: Network, data: Data) -> Score:
    """Measure a model on the test set, and on the validation set."""
    logits = network(weights, data.test.images)
    shares = [among(logits, data.test.labels, task) for task in TASKS]
    checked = network(weights, data.validation.images)
    return Score(
        joint=among(logits, data.test.labels, range(CLASSES)),
        tasks=sum(shares) / len(shares),
        validation=among(checked, data.validation.labels, range(CLASSES)),
    )


def among(logits: torch.Tensor, labels: torch.Tensor, classes: Sequence[int]) -> float:
    """Return the accuracy on the images of `classes`, which alone may be answered."""
    answers = torch.tensor(list(classes))
    kept = torch.isin(labels, answers)
    guesses = answers[logits[kept][:, answers].argmax(dim=1)]
    return (guesses == labels[kept]).double().mean().item()
