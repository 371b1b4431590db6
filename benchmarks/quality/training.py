"""The models that are merged: a base, fine-tunes of it by task, and contributors.

Owns how long and on what each is trained. Does not own the optimiser, which is the
demo's. All chance comes from generators that start from one seed: on one machine a run
repeats itself; on another the last bits of a *training* step may differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from benchmarks.quality.networks import Family, adapted, first_factors
from benchmarks.quality.tasks import HALVES, TASKS, Data
from nodes.demo.training import Samples, Schedule, Weights, train

CONTRIBUTORS: Final = 7
"""Honest fine-tunes on all digits; a scenario of five takes the first five."""

CHECKPOINTS: Final = 8
"""Equal stretches of one run on all digits, the model after each of which is kept."""


LORA_FASTER: Final = 10
"""By LoRA at ten times the rate, as is usual."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is trained: images of the base, and the schedules."""

    base_samples: int
    base: Schedule
    tuning: Schedule
    contributor: Schedule
    stretch: Schedule


FULL: Final = Effort(
    base_samples=80,
    base=Schedule(epochs=20, rate=1e-3),
    tuning=Schedule(epochs=10, rate=3e-4),
    contributor=Schedule(epochs=15, rate=1e-3),
    stretch=Schedule(epochs=1, rate=1e-3),
)
"""What the documents' figures are of. The base tells most digits but by no means all, so
that there is something to gain; contributors are tuned until little is left to gain."""


@dataclass(frozen=True, slots=True)
class Models:
    """One family, trained: `tasks` and `halves` as in `tasks`, `contributors` on all.

    A fine-tune of a task sees the tuning images of its digits, and again all images of the
    base. A contributor sees half of the tuning images, drawn at random for each. Of the
    run that `checkpoints` are of, each stretch starts Adam's moments anew.
    """

    family: Family
    base: Weights
    tasks: tuple[Weights, ...]
    halves: tuple[Weights, ...]
    contributors: tuple[Weights, ...]
    checkpoints: tuple[Weights, ...]


def train_models(
    family: Family,
    data: Data,
    effort: Effort,
    seed: int,
    tell: Callable[[str], None],
) -> Models:
    """Train the base and everything that is tuned from it."""
    network = family.network
    base = train(family.first_weights(seed), data.base, effort.base, seed, network)
    count = 0

    def tune(samples: Samples, schedule: Schedule = effort.tuning) -> Weights:
        nonlocal count
        count += 1
        tell(f"{family.name}: fine-tune {count}")
        return _tuned(family, base, samples, schedule, seed + count)

    tasks, halves = (
        tuple(tune(seen_by(group, place, data)) for place in range(count_of))
        for group, count_of in (("tasks", len(TASKS)), ("halves", len(HALVES)))
    )
    shares = [half_of(data.tuning, seed + i) for i in range(CONTRIBUTORS)]
    contributors = tuple(tune(share, effort.contributor) for share in shares)
    tell(f"{family.name}: checkpoints")
    checkpoints = _run(family, base, data.tuning, effort.stretch, seed)
    return Models(family, base, tasks, halves, contributors, checkpoints)


def _run(
    family: Family, base: Weights, samples: Samples, stretch: Schedule, seed: int
) -> tuple[Weights, ...]:
    """Return the checkpoints of one run at a constant rate."""
    found = [base]
    for place in range(CHECKPOINTS):
        found.append(_tuned(family, found[-1], samples, stretch, seed + place))
    return tuple(found[1:])


def _tuned(
    family: Family, start: Weights, samples: Samples, schedule: Schedule, seed: int
) -> Weights:
    """Return a fine-tune of all weights, or by LoRA."""
    network = family.network
    if not family.rank:
        return train(start, samples, schedule, seed, network)
    faster = Schedule(schedule.epochs, schedule.rate * LORA_FASTER)
    first = first_factors(start, family.rank, seed)
    factors = train(
        first, samples, faster, seed, lambda f, x: network(adapted(start, f), x)
    )
    return adapted(start, factors)


def seen_by(group: str, place: int, data: Data) -> Samples:
    """Return the images that a fine-tune of a group was tuned on."""
    parts = {"tasks": TASKS, "halves": HALVES}
    if group not in parts:
        return data.tuning
    return _with(data.tuning.of_classes(parts[group][place]), data.base)


def _with(samples: Samples, seen: Samples) -> Samples:
    """Return the samples of a task and those the base has seen, against forgetting."""
    return Samples(
        torch.cat([samples.images, seen.images]),
        torch.cat([samples.labels, seen.labels]),
    )


def half_of(samples: Samples, seed: int) -> Samples:
    """Return a random half of the images."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(samples.labels), generator=generator)
    kept = order[: len(order) // 2]
    return Samples(samples.images[kept], samples.labels[kept])
