"""Poisoned contributors: what they send, and what each strategy makes of it.

Owns the attacks and their scenarios. Does not own the contributors' training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from benchmarks.quality.merging import Bench, Refusal, Setting
from benchmarks.quality.settings import CONTRAST, ROBUST
from benchmarks.quality.training import Models
from crdtmerge.strategies import STRATEGIES, find
from nodes.demo.training import Weights

Measure: TypeAlias = Callable[[Weights], float]

POINTS_MAX: Final = 2.0
"""Points below the clean merge at which a poisoned one still counts as held."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """How many contribute, and how many of them are poisoned: the last ones."""

    poisoned: int
    models: int

    @property
    def name(self) -> str:
        """Name it as the tables do."""
        return f"{self.poisoned} of {self.models}"


SCENARIOS: Final = (Scenario(1, 5), Scenario(2, 7))

KINDS: Final = {"flipped": -1.0, "scaled by 10": 10.0, "scaled by -10": -10.0}
"""What a poisoned contributor multiplies its task vector with."""


def poisoned(base: Weights, tuned: Weights, factor: float) -> Weights:
    """Return the base plus `factor` times what was tuned."""
    return {name: base[name] + factor * (tuned[name] - base[name]) for name in base}


def poison_rows(
    bench: Bench, models: Models, measure: Measure, only: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return one row a strategy, scenario and kind of poison."""
    names = [name for name in (*ROBUST, *CONTRAST) if not only or name in only]
    rows: list[dict[str, Any]] = []
    for name in names:
        for scenario in SCENARIOS:
            rows += _rows(bench, models, measure, name, scenario)
    return rows


def _rows(
    bench: Bench, models: Models, measure: Measure, name: str, scenario: Scenario
) -> list[dict[str, Any]]:
    words = ROBUST.get(name, {}).get(scenario.name, {})
    head = {
        "strategy": name,
        "scenario": scenario.name,
        "parameters": dict(words),
        "robust": name in ROBUST,
    }
    if not any(strategy.name == name for strategy in STRATEGIES.values()):
        return [{**head, "refused": "this version has no such strategy"}]
    honest = models.contributors[: scenario.models]
    full_name = find(name).full_name
    clean = bench.merge(full_name, Setting(words), honest)
    if isinstance(clean, Refusal):
        return [{**head, "failed" if clean.is_bug else "refused": clean.reason}]
    before = measure(clean.weights)
    rows = []
    for kind, factor in KINDS.items():
        kept = scenario.models - scenario.poisoned
        bad = [poisoned(models.base, tuned, factor) for tuned in honest[kept:]]
        merged = bench.merge(full_name, Setting(words), [*honest[:kept], *bad])
        row = {**head, "kind": kind, "clean": before, "clean_digest": clean.digest}
        if isinstance(merged, Refusal):
            row["failed" if merged.is_bug else "refused"] = merged.reason
        else:
            after = measure(merged.weights)
            row |= {"poisoned": after, "digest": merged.digest}
            row["points"] = round(100 * (after - before), 2)
        rows.append(row)
    return rows
