"""Honest fine-tunes in groups: trained, or loaded from where they were kept.

Owns which groups there are. Does not own training (`benchmarks.quality`, `encodings`).
A file holds the base and its groups by name.
"""

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import torch

from benchmarks.encodings.bases import find_base, pairs
from benchmarks.encodings.training import train, weights_of
from benchmarks.quality.networks import FAMILIES
from benchmarks.quality.tasks import read_data
from benchmarks.quality.training import FULL, train_models
from nodes.demo.training import (
    BASE_SCHEDULE,
    TUNING_SCHEDULE,
    Samples,
    Weights,
    new_network,
    one_thread,
    read_digits,
)
from nodes.demo.training import train as tune

KINDS: Final = ("contributors", "tasks", "halves", "checkpoints")
RATES: Final = (5e-5, 5e-5, 5e-5, 2e-5, 1e-4, 5e-5, 5e-5, 3e-5)
"""Of fine-tunes of MiniLM: people do not train alike."""

STEPS: Final = 60
MLP_TUNES: Final = 8
PROBES: Final = 300


@dataclass(frozen=True, slots=True)
class Honest:
    """Fine-tunes of one base that nobody tampered with."""

    family: str
    kind: str
    seed: int
    base: Weights
    tunes: Sequence[Weights]


def groups(seeds: int, folder: Path, *, with_minilm: bool) -> Iterator[Honest]:
    """Yield every group; what is not in `folder` is trained and kept there."""
    for family in FAMILIES:
        for seed in range(seeds):
            found = _digits(family, seed, folder)
            for kind in KINDS:
                yield Honest(family, kind, seed, found["base"], found[kind])
    for seed in range(seeds):
        base, tunes = _mlp(seed, folder)
        yield Honest("mlp", "contributors", seed, base, tunes)
    if with_minilm:
        base, tunes = _minilm(folder)
        yield Honest("minilm", "contributors", 0, base, tunes)


def _digits(family: str, seed: int, folder: Path) -> dict[str, Any]:
    path = folder / f"digits-{family}-{seed}.pt"
    if not path.exists():
        data = read_data(seed, FULL.base_samples)
        with one_thread():
            made = train_models(FAMILIES[family], data, FULL, seed, _tell)
        kept = {kind: list(getattr(made, kind)) for kind in KINDS}
        torch.save({"base": made.base, **kept}, path)
    found: dict[str, Any] = torch.load(path)
    return found


def _mlp(seed: int, folder: Path) -> tuple[Weights, list[Weights]]:
    """Return fine-tunes of the demo's network, each on a half of the images."""
    path = folder / f"mlp-{seed}.pt"
    if not path.exists():
        digits = read_digits(seed)
        with one_thread():
            base = tune(new_network(seed), digits.base, BASE_SCHEDULE, seed)
            tunes = [
                tune(base, _half(digits.tuning, at), TUNING_SCHEDULE, at)
                for at in range(100 * seed, 100 * seed + MLP_TUNES)
            ]
        torch.save({"base": base, "contributors": tunes}, path)
    found: dict[str, Any] = torch.load(path)
    return found["base"], found["contributors"]


def _half(samples: Samples, seed: int) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(samples.labels), generator=generator)
    kept = order[: len(order) // 2]
    return Samples(samples.images[kept], samples.labels[kept])


def _minilm(folder: Path) -> tuple[Weights, list[Weights]]:
    base = find_base(None)
    text = pairs()
    Random(0).shuffle(text)
    tunes = []
    for place, rate in enumerate(RATES):
        path = folder / f"minilm-{place}.pt"
        if not path.exists():
            _tell(f"MiniLM: fine-tune {place + 1}")
            model = copy.deepcopy(base.model)
            part = text[PROBES:][place :: len(RATES)]
            with one_thread():
                train(model, base, part, rate=rate, steps=STEPS, seed=place)
            torch.save(weights_of(model), path)
        tunes.append(torch.load(path))
    return weights_of(base.model), tunes


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
