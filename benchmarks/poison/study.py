"""One family at one seed: honest models, attackers, and every merge of both.

Owns what is trained, merged and measured. Does not own the attacks (`attackers`), nor
figures over several seeds (`table`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.poison.attackers import (
    Attacker,
    distance,
    mean_of,
    near_copy,
    replacing,
)
from benchmarks.poison.inspected import inspections
from benchmarks.poison.settings import (
    BACKDOOR,
    CLEAN,
    CLOSE,
    CONTRAST,
    COPIES,
    FACTORS,
    HONEST,
    PAIR,
    REPLACING,
    ROBUST,
    SCENARIOS,
    Scenario,
    words_of,
)
from benchmarks.poison.trigger import success
from benchmarks.quality.merging import Bench, Refusal, Setting
from benchmarks.quality.networks import FAMILIES, Family
from benchmarks.quality.poison import poisoned
from benchmarks.quality.tasks import Data, read_data
from benchmarks.quality.training import FULL, Effort, half_of
from crdtmerge.strategies import find
from nodes.demo.training import Weights, accuracy, one_thread, train

Told: TypeAlias = dict[str, Any]
"""A part of the JSON document."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one process does. An empty `only` means every strategy of the tables."""

    family: str
    seed: int
    only: tuple[str, ...] = ()
    effort: Effort = FULL


@dataclass(frozen=True, slots=True)
class Cast:
    """One family, trained: who is honest, and what attackers send in each scenario."""

    family: Family
    data: Data
    base: Weights
    honest: tuple[Weights, ...]
    sent: Mapping[tuple[str, str], tuple[Weights, ...]]

    def models(self, scenario: Scenario, kind: str) -> tuple[Weights, ...]:
        """Return all that is merged."""
        if kind == CLEAN:
            return self.honest[: scenario.models]
        return (*self.honest[: scenario.honest], *self.sent[scenario.name, kind])

    def measured(self, weights: Weights) -> Told:
        """Tell how well a model does, and how often the trigger works."""
        network, test = self.family.network, self.data.test
        return {
            "accuracy": accuracy(weights, test, network),
            "success": success(weights, network, test),
        }


def run(job: Job, tell: Callable[[str], None]) -> Told:
    """Train, merge and measure; return the run as the document has it."""
    start = time.perf_counter()
    with one_thread():
        cast = trained(job, tell)
        done = time.perf_counter()
        tell(f"{job.family}: merging")
        return {
            "family": job.family,
            "seed": job.seed,
            "test_images": len(cast.data.test.labels),
            "alone": list(_alone(cast)),
            "merges": list(_merges(cast, job.only)),
            "inspected": list(_inspected(cast)),
            "training_s": round(done - start, 1),
            "seconds": round(time.perf_counter() - start, 1),
        }


def trained(job: Job, tell: Callable[[str], None]) -> Cast:
    """Train the base, the honest contributors and the attackers of every scenario."""
    effort, seed, family = job.effort, job.seed, FAMILIES[job.family]
    data, network = read_data(seed, effort.base_samples), family.network
    tell(f"{job.family}: honest contributors")
    base = train(family.first_weights(seed), data.base, effort.base, seed, network)
    honest = tuple(
        train(
            base, half_of(data.tuning, seed + i), effort.contributor, seed + i, network
        )
        for i in range(HONEST)
    )
    attackers = [
        Attacker(
            network, base, half_of(data.tuning, number), effort.contributor, number
        )
        for number in (seed + 100, seed + 200)
    ]
    tell(f"{job.family}: backdoors")
    crew = [(one, one.backdoored()) for one in attackers]
    sent = {}
    for scenario in SCENARIOS:
        for kind in scenario.kinds:
            if kind != CLEAN:
                tell(f"{job.family}: {kind}, {scenario.name}")
                made = _sent(kind, scenario, base, honest, crew)
                sent[scenario.name, kind] = made
    return Cast(family, data, base, honest, sent)


def _sent(
    kind: str,
    scenario: Scenario,
    base: Weights,
    honest: Sequence[Weights],
    crew: Sequence[tuple[Attacker, Weights]],
) -> tuple[Weights, ...]:
    """Return what the attackers of one kind contribute; they see all honest models.

    `crew` are the attackers, each with what it trained by itself.
    """
    seen, left = honest[: scenario.honest], honest[scenario.honest : scenario.models]
    mine = [one for one, _ in crew[: scenario.poisoned]]
    bad = [backdoor for _, backdoor in crew[: scenario.poisoned]]
    if kind in FACTORS:
        return tuple(poisoned(base, tuned, FACTORS[kind]) for tuned in left)
    if kind == BACKDOOR:
        return tuple(bad)
    if kind == REPLACING:
        return tuple(replacing(base, one, scenario.models, len(bad)) for one in bad)
    if kind == CLOSE:
        return tuple(one.close(seen) for one in mine)
    if kind == PAIR:
        return mine[0].pair(seen)
    assert kind == COPIES, kind
    first = bad[0]
    return (first, *(near_copy(first, n) for n in range(1, scenario.poisoned)))


def _alone(cast: Cast) -> Iterator[Told]:
    """Tell of each model by itself; distances are to the base and to the honest mean."""
    centre = mean_of(cast.honest)
    models = [("base", "", cast.base), ("mean", "", centre)]
    models += [("honest", "", model) for model in cast.honest]
    for (scenario, kind), sent in cast.sent.items():
        models += [(kind, scenario, model) for model in sent]
    for who, scenario, model in models:
        yield {
            "who": who,
            "scenario": scenario,
            **cast.measured(model),
            "from_base": distance(model, cast.base),
            "from_mean": distance(model, centre),
        }


def _merges(cast: Cast, only: Sequence[str]) -> Iterator[Told]:
    """Merge by every strategy in every scenario, through the library."""
    bench = Bench(cast.base)
    for name in (*ROBUST, *CONTRAST):
        if only and name not in only:
            continue
        for scenario in SCENARIOS:
            words = words_of(name, scenario.name)
            for kind in scenario.kinds:
                head = {
                    "strategy": name,
                    "scenario": scenario.name,
                    "kind": kind,
                    "parameters": dict(words),
                }
                models = cast.models(scenario, kind)
                made = bench.merge(find(name).full_name, Setting(words), models)
                if isinstance(made, Refusal):
                    yield {**head, "failed" if made.is_bug else "refused": made.reason}
                    continue
                yield {**head, **cast.measured(made.weights), "digest": made.digest}


def _inspected(cast: Cast) -> Iterator[Told]:
    """Tell what is found of honest and of poisoned ones, each scenario a space."""
    bench = Bench(cast.base)
    for scenario in SCENARIOS:
        for kind in scenario.kinds:
            found = list(inspections(bench, cast.models(scenario, kind)))
            honest = scenario.models if kind == CLEAN else scenario.honest
            yield {
                "scenario": scenario.name,
                "kind": kind,
                "honest": found[:honest],
                "poisoned": found[honest:],
            }
