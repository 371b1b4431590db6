"""One family at one seed: every strategy on what it can merge, default and tuned.

Owns what is run and what is told of it. Does not own training, poison (`poison`), nor
figures over several seeds (`summary`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from benchmarks.quality.evidence import Attached, attach
from benchmarks.quality.merging import Bench, Merged, Refusal, Setting
from benchmarks.quality.networks import FAMILIES, STUDIED, Family
from benchmarks.quality.poison import poison_rows
from benchmarks.quality.settings import NEEDS, Group, Need, grid
from benchmarks.quality.tasks import TASKS, Data, Score, among, read_data, score
from benchmarks.quality.training import FULL, Effort, Models, seen_by, train_models
from crdtmerge.strategies import STRATEGIES, Strategy
from nodes.demo.training import Weights, one_thread

Told: TypeAlias = dict[str, Any]
"""A part of the JSON document."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one process does. An empty `only` means every strategy."""

    family: str
    seed: int
    only: tuple[str, ...] = ()
    with_poison: bool = True
    with_tuning: bool = True
    effort: Effort = FULL


def run(job: Job, tell: Callable[[str], None]) -> Told:
    """Train, merge and measure; return the run as the document has it."""
    start = time.perf_counter()
    with one_thread():
        data = read_data(job.seed, job.effort.base_samples)
        family = STUDIED[job.family]
        models = train_models(family, data, job.effort, job.seed, tell)
        trained = time.perf_counter()
        study = _Study(family, data, models)
        told: Told = {
            "family": job.family,
            "seed": job.seed,
            "parameters": sum(value.numel() for value in models.base.values()),
            "training_s": round(trained - start, 1),
            "test_images": len(data.test.labels),
            "base": study.told_input(models.base),
            "groups": {name: study.group(name) for name in study.groups},
            "own_task": study.own_task(),
            "strategies": {},
        }
        for name, strategy in STRATEGIES.items():
            if job.only and not {name, strategy.name} & set(job.only):
                continue
            tell(f"{job.family}: {name}")
            told["strategies"][name] = study.strategy(strategy, tune=job.with_tuning)
        told["poison"] = []
        if job.with_poison and job.family in FAMILIES:
            tell(f"{job.family}: poison")
            told["poison"] = poison_rows(
                study.bench, models, lambda w: study.score(w).joint, job.only
            )
        told["seconds"] = round(time.perf_counter() - start, 1)
    return told


class _Study:
    """The models of one run and how they are measured."""

    def __init__(self, family: Family, data: Data, models: Models) -> None:
        self._family = family
        self._data = data
        self._models = models
        self.bench = Bench(models.base)
        self.groups: Mapping[Group, Sequence[Weights]] = {
            "tasks": models.tasks,
            "halves": models.halves,
            "checkpoints": models.checkpoints,
        }
        self._attached: dict[Group, Sequence[Attached]] = {}

    def attached(self, name: Group) -> Sequence[Attached]:
        """Return the evidence of a group's models, computed when it is first asked for."""
        if name not in self._attached:
            self._attached[name] = attach(
                self._family.network,
                self._models.base,
                self.groups[name],
                lambda place: seen_by(name, place, self._data),
                self._data,
            )
        return self._attached[name]

    def score(self, weights: Weights) -> Score:
        """Measure a model."""
        return score(weights, self._family.network, self._data)

    def told_input(self, weights: Weights) -> Told:
        """Tell of a model that was trained; its content id says which bytes it has."""
        return {**asdict(self.score(weights)), "content": self.bench.content(weights)}

    def group(self, name: Group) -> Told:
        """Tell what is merged: all models, the best by validation, and their mean."""
        models = [self.told_input(weights) for weights in self.groups[name]]
        best = max(models, key=lambda model: float(model["validation"]))
        mean = self._merge("linear/1", Setting(), name)
        return {"models": models, "best_single": best, "mean": mean}

    def own_task(self) -> float:
        """Return the mean accuracy of the fine-tunes, each on its own task."""
        test, network = self._data.test, self._family.network
        shares = [
            among(network(weights, test.images), test.labels, task)
            for weights, task in zip(self._models.tasks, TASKS, strict=True)
        ]
        return sum(shares) / len(shares)

    def strategy(self, strategy: Strategy, *, tune: bool) -> Told:
        """Tell how a strategy does, or why it does not."""
        need = NEEDS.get(strategy.name, Need())
        told = self._default(strategy, need, need.group)
        if "refused" in told and strategy.name not in NEEDS:
            other = self._default(strategy, need, "halves")
            if "refused" not in other and "failed" not in other:
                told = {**other, "refused_tasks": told["refused"]}
        if tune and "default" in told:
            told |= self._tuned(strategy, need, told)
        return told

    def _default(self, strategy: Strategy, need: Need, group: Group) -> Told:
        setting = need.setting(len(self.groups[group]))
        found = self._merge(strategy.full_name, setting, group)
        if "refused" in found or "failed" in found:
            return {"group": group, **found}
        return {"group": group, "default": found}

    def _tuned(self, strategy: Strategy, need: Need, told: Told) -> Told:
        """Choose among the grid on the validation set; the default wins a draw."""
        group: Group = told["group"]
        tried = [
            self._merge(strategy.full_name, setting, group)
            for setting in grid(strategy, need, len(self.groups[group]))
        ]
        made = [told["default"], *(found for found in tried if "digest" in found)]
        if not tried:
            return {"tuned": None, "grid": []}
        best = max(made, key=lambda found: float(found["validation"]))
        return {"tuned": best, "grid": tried}

    def _merge(self, strategy: str, setting: Setting, group: Group) -> Told:
        """Merge a group and measure, or tell why there is no model."""
        found = self.bench.merge(
            strategy,
            setting,
            self.groups[group],
            attached=lambda: self.attached(group),
        )
        return setting.told() | outcome(found, lambda w: asdict(self.score(w)))


def outcome(found: Merged | Refusal, measure: Callable[[Weights], Told]) -> Told:
    """Tell of a merged model, or why there is none: `refused`, or `failed` for a bug."""
    if isinstance(found, Refusal):
        return {"failed" if found.is_bug else "refused": found.reason}
    told = {"digest": found.digest, "seconds": round(found.seconds, 4)}
    return measure(found.weights) | told
