"""Fine-tunes of MiniLM, merged under I/O budgets: a real model, and a search task.

Owns how many fine-tunes there are, on what, and how a merged one is measured. Does not own
the base and its text (`benchmarks.encodings.bases`), nor what is merged (`budgets`).

Each fine-tune sees a part of the names and documentations of the standard library. A model
is measured on pairs that none has seen: of how many names is the nearest documentation
their own.
"""

import copy
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from random import Random
from typing import Any, Final

import torch

from benchmarks.encodings.bases import Base, Pair, find_base, pairs
from benchmarks.encodings.training import embed, train, weights_of
from benchmarks.quality.budgets import rows_of
from benchmarks.quality.merging import Bench
from nodes.demo.training import Weights, one_thread

TUNES: Final = 3
STEPS: Final = 60
RATE: Final = 5e-5
PROBES: Final = 300
BATCH: Final = 100
ORDERS: Final = ("equal shares", "norm per byte")
"""Fewer than on digits: each model is measured for seconds."""


def minilm() -> Iterator[dict[str, Any]]:
    """Yield the accuracy of each strategy, order and budget."""
    with one_thread():
        base = find_base(None)
        text = pairs()
        Random(0).shuffle(text)
        probes, rest = text[:PROBES], text[PROBES:]
        tuned = []
        for place in range(TUNES):
            _tell(f"MiniLM: fine-tune {place + 1}")
            tuned.append(_tuned(base, rest[place::TUNES], place))
        ground = dict(weights_of(base.model))
        singles = ", ".join(f"{100 * nearest(base, probes, w):.1f}" for w in tuned)
        _tell(f"base {100 * nearest(base, probes, ground):.1f}%, fine-tunes {singles}%")
        head = {"models": f"MiniLM, {TUNES} of parts", "seed": 0}
        measured = partial(nearest, base, probes)
        for row in rows_of(Bench(ground), tuned, measured, ORDERS):
            _tell(str(row))
            yield head | row


def _tuned(base: Base, text: Sequence[Pair], seed: int) -> Weights:
    model = copy.deepcopy(base.model)
    train(model, base, text, rate=RATE, steps=STEPS, seed=seed)
    return dict(weights_of(model))


@torch.no_grad()
def nearest(base: Base, probes: Sequence[Pair], weights: Weights) -> float:
    """Return the share of names whose nearest documentation is their own."""
    model = copy.deepcopy(base.model)
    model.load_state_dict({**model.state_dict(), **weights})
    model.eval()
    names, said = (
        torch.cat(
            [
                embed(model, base, [pair[side] for pair in probes[at : at + BATCH]])
                for at in range(0, len(probes), BATCH)
            ]
        )
        for side in (0, 1)
    )
    found = (names @ said.T).argmax(dim=1)
    return (found == torch.arange(len(probes))).double().mean().item()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
