"""`python -m benchmarks budget`: what an I/O budget costs in accuracy, on real fine-tunes.

Owns which budgets, strategies and orders of choice are compared, and the tables. Does not
own training (`training`, `minilm`), nor the library's own choice
(`crdtmerge.resolve.budget`): the other orders stand here to show what it is worth.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, Final, TypeAlias

import numpy as np

from benchmarks.quality.merging import Bench, Memory, Refusal, Setting
from benchmarks.quality.networks import FAMILIES, Family
from benchmarks.quality.tasks import Data, read_data, score
from benchmarks.quality.training import FULL, Effort, train_models
from crdtmerge.numerics import sum_of_squares
from crdtmerge.resolve.budget import Account, Reading, account_of, choose
from crdtmerge.resolve.norms import Measuring, measure
from crdtmerge.resolve.plan import Plan, Unread
from nodes.demo.training import Weights, one_thread

SHARES: Final = (100, 75, 50, 25, 10)
"""Budgets, in % of the bytes of all task vectors; the base comes on top."""

DOUBLE: Final = "task_arithmetic 0.4"
"""Too long where everything is read, so orders are compared without it."""

SETTINGS: Final[Mapping[str, Setting]] = {
    "linear": Setting(),
    # Between the papers' 0.3 for eight tasks and the plain mean of ten; and its double,
    # for where half is read.
    "task_arithmetic 0.2": Setting({"lambda": "0.2"}),
    DOUBLE: Setting({"lambda": "0.4"}),
    "ties": Setting(),
}
"""By what a row is called: a strategy, and a word on its setting."""
SEEDS: Final = 3

Norms: TypeAlias = Mapping[bytes, float]
Key: TypeAlias = Callable[[Reading, float], float]
Row: TypeAlias = dict[str, Any]


class Kept:
    """Norms in memory: models of one bench are measured once."""

    def __init__(self) -> None:
        """Hold none yet."""
        self._held: dict[bytes, float] = {}

    def load(self, keys: Iterable[bytes]) -> dict[bytes, float]:
        """Return those that are held."""
        return {key: self._held[key] for key in keys if key in self._held}

    def save(self, norms: Norms) -> None:
        """Hold more."""
        self._held |= norms


def greedy(account: Account, norms: Norms, budget: int, *, key: Key) -> Unread:
    """Return what is left unread if the readings of the highest key are taken first."""
    left = budget - account.floor
    unread: dict[Any, set[str]] = {}
    ranked = sorted(
        account.readings,
        key=lambda r: (-key(r, norms[r.key]), r.entry.name, r.contents),
    )
    for reading in ranked:
        if reading.cost <= left:
            left -= reading.cost
            continue
        for content in reading.contents:
            unread.setdefault(content, set()).add(reading.entry.name)
    return {content: frozenset(names) for content, names in unread.items()}


def _brings(reading: Reading, norm: float) -> float:
    return reading.weight**2 * norm


def _relative(reading: Reading, norm: float, *, memory: Memory) -> float:
    base = np.frombuffer(memory.blobs[reading.entry.blob], "<f4")
    ground = sum_of_squares(base) or 1.0
    return _brings(reading, norm) / ground / reading.cost


def _at_random(reading: Reading, _norm: float) -> float:
    return Random(f"{reading.entry.name} {reading.contents[0].hex()}").random()


def orders(memory: Memory) -> dict[str, Callable[[Account, Norms, int], Unread]]:
    """Return the orders that are compared, the library's first."""
    return {
        "equal shares": choose,
        "norm per byte": partial(greedy, key=lambda r, n: _brings(r, n) / r.cost),
        "norm to base's": partial(greedy, key=partial(_relative, memory=memory)),
        "at random": partial(greedy, key=_at_random),
    }


def rows_of(
    bench: Bench,
    tuned: Sequence[Weights],
    measured: Callable[[Weights], float],
    only: Sequence[str] = (),
) -> Iterator[Row]:
    """Yield the accuracy of each strategy, order and budget on one group of models."""
    kept = Kept()
    for name, setting in SETTINGS.items():
        strategy = name.partition(" ")[0]
        whole: float | None = None
        for order, chosen in orders(bench.memory).items():
            if only and order not in only:
                continue
            for share in SHARES:
                row = {"strategy": name, "order": order, "share": share}
                if share == 100 and whole is not None:
                    yield row | {"accuracy": whole}
                    continue

                def unread(
                    plan: Plan,
                    share: int = share,
                    chosen: Callable[..., Unread] = chosen,
                ) -> Unread:
                    account = account_of(plan)
                    norms = measure(
                        plan, account.readings, Measuring(bench.memory, kept)
                    )
                    budget = Fraction(share, 100) * (account.total - account.floor)
                    return chosen(account, norms, account.floor + int(budget))

                found = bench.merge(strategy, setting, tuned, unread)
                assert not isinstance(found, Refusal), found
                accuracy = measured(found.weights)
                whole = accuracy if share == 100 else whole
                yield row | {"accuracy": accuracy, "digest": found.digest}


def digits(seed: int, effort: Effort = FULL) -> Iterator[Row]:
    """Yield the rows of one training of both families on digits."""
    with one_thread():
        data = read_data(seed, effort.base_samples)
        for name, family in FAMILIES.items():
            models = train_models(family, data, effort, seed, lambda _line: None)
            bench = Bench(models.base)

            measured = partial(_joint, family, data)
            groups = {"10 tasks": models.tasks, "7 of all": models.contributors}
            for group, tuned in groups.items():
                head = {"models": f"{name}, {group}", "seed": seed}
                yield from (head | row for row in rows_of(bench, tuned, measured))


def _joint(family: Family, data: Data, weights: Weights) -> float:
    return score(weights, family.network, data).joint


def main(argv: Sequence[str], effort: Effort = FULL) -> int:
    """Run what is asked for, print it, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks budget")
    add = parser.add_argument
    add("--json", type=Path, metavar="OUT", help="keep every row there")
    add("--load", type=Path, metavar="JSON", help="print a result; measure nothing")
    add("--seeds", type=int, default=SEEDS, help=f"trainings, default {SEEDS}")
    add("--minilm", action="store_true", help="fine-tunes of MiniLM too: minutes more")
    options = parser.parse_args(argv)
    if options.load:
        sys.stdout.write(render(json.loads(options.load.read_text())))
        return 0
    rows: list[Row] = []
    for seed in range(options.seeds):
        print(f"digits, seed {seed}", file=sys.stderr, flush=True)
        rows += digits(seed, effort)
    if options.minilm:
        from benchmarks.quality.minilm import minilm

        rows += minilm()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.stdout.write(render(rows))
    return 0


def render(rows: Sequence[Row]) -> str:
    """Return accuracies in % as tables: the library's choice, then orders compared."""
    ours = next(iter(orders(Memory())))
    heads = ["models", "strategy", *(f"{share}%" for share in SHARES)]
    lines = _markdown(heads, _cells(rows, ours))
    heads = ["order of choice", *(f"{share}%" for share in SHARES[1:])]
    return "\n".join([*lines, "", *_markdown(heads, _costs(rows))]) + "\n"


def _cells(rows: Sequence[Row], order: str) -> Iterator[list[str]]:
    mine = [row for row in rows if row["order"] == order]
    for models, strategy in dict.fromkeys((r["models"], r["strategy"]) for r in mine):
        found = _means(
            r for r in mine if (r["models"], r["strategy"]) == (models, strategy)
        )
        yield [models, strategy, *(f"{100 * found[share]:.1f}" for share in SHARES)]


def _costs(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Yield the mean points that each order loses, over all models and strategies."""
    told = [row for row in rows if row["strategy"] != DOUBLE]
    for order in dict.fromkeys(row["order"] for row in told):
        found = _means(row for row in told if row["order"] == order)
        lost = [100 * (found[share] - found[100]) for share in SHARES[1:]]
        yield [order, *(f"{points:+.1f}" for points in lost)]


def _means(rows: Iterator[Row]) -> dict[int, float]:
    by_share: dict[int, list[float]] = {}
    for row in rows:
        by_share.setdefault(row["share"], []).append(row["accuracy"])
    return {share: fmean(found) for share, found in by_share.items()}


def _markdown(heads: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    marks = ["---:" if "%" in head else "---" for head in heads]
    return ["| " + " | ".join(cells) + " |" for cells in (heads, marks, *rows)]
