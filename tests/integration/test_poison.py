"""The study of poison measures what it says: its attacks work, and its merges are real.

Runs the real harness on little training; the figures of `docs/poison.md` are those of
`python -m benchmarks poison`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.poison import attackers, command, trigger
from benchmarks.poison.settings import CONTRAST, ROBUST, SCENARIOS, words_of
from benchmarks.quality.training import FULL
from crdtmerge.strategies import find, make_recipe
from nodes.demo.training import Samples, Schedule, Weights

SHORT = replace(FULL, contributor=Schedule(epochs=5, rate=2e-3))
FEW = ("--family", "cnn", "--seeds", "1", "--jobs", "1")
ONLY = ("--only", "linear", "--only", "median", "--only", "krum")


def weights(seed: int) -> Weights:
    """Return a model of two tensors."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (5, 3), "b.bias": (4,)}
    return {n: torch.rand(s, generator=generator) for n, s in shapes.items()}


@pytest.mark.slow
def test_the_attacks_work_and_strategies_make_of_them_what_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each attack is a real one, and each scenario comes out as the documents say."""
    kept = tmp_path / "told.json"
    assert command.main([*FEW, *ONLY, "--json", str(kept)], SHORT) == 0
    printed = capsys.readouterr().out
    document: dict[str, Any] = json.loads(kept.read_text())
    (run,) = document["runs"]
    alone: dict[str, list[dict[str, Any]]] = {}
    for row in run["alone"]:
        alone.setdefault(row["who"], []).append(row)
    least = min(row["accuracy"] for row in alone["honest"])
    assert max(row["success"] for row in alone["honest"]) < 0.05
    # backdoored: hidden behind good accuracy; a pair: nothing to be seen at all
    for row in alone["backdoor"] + alone["near copies"]:
        assert row["success"] > 0.9
        assert row["accuracy"] > least - 0.05
    for row in alone["clean pair"]:
        assert row["success"] < 0.05
        assert row["accuracy"] > least - 0.05
    middle = max(row["from_mean"] for row in alone["honest"])
    assert all(row["from_mean"] < middle for row in alone["close"])
    merged = {(r["strategy"], r["scenario"], r["kind"]): r for r in run["merges"]}
    for scenario, kind in (
        ("1 of 8", "replacing"),
        ("2 of 8", "replacing"),
        ("2 of 8", "clean pair"),
    ):
        assert merged["linear", scenario, kind]["success"] > 0.5
        for name in ("median", "krum"):
            assert merged[name, scenario, kind]["success"] < 0.05
    for name in ("median", "krum"):
        assert merged[name, "8 of 15", "near copies"]["success"] > 0.9
    looked = {(r["scenario"], r["kind"]): r for r in run["inspected"]}
    for kind in ("scaled by -10", "replacing"):
        (found,) = looked["1 of 8", kind]["poisoned"]
        assert "far" in {finding["finding"] for finding in found}
    assert all(looked["5 of 12", "near copies"]["poisoned"])
    clean = merged["linear", "1 of 8", "nobody"]
    assert (
        clean["accuracy"] - merged["linear", "1 of 8", "scaled by -10"]["accuracy"]
        > 0.2
    )
    assert command.main(["--load", str(kept)]) == 0
    assert capsys.readouterr().out == printed
    cell = f"| {100 * clean['accuracy']:.1f} / {100 * clean['success']:.0f} ("
    assert f"| linear {cell}" in printed


def test_attackers_send_what_they_say() -> None:
    """Scaled ones add up to the backdoor, close ones stay close, copies are others."""
    base, tuned = weights(0), weights(1)
    near = attackers.near_copy(tuned, 3)
    assert 0 < attackers.distance(near, tuned) < 1e-3 * attackers.distance(base, tuned)
    held = attackers.within(tuned, base, 0.25)
    assert attackers.distance(held, base) == pytest.approx(0.25, rel=1e-5)
    assert attackers.within(tuned, base, 100.0) is tuned

    def network(
        model: Mapping[str, torch.Tensor], images: torch.Tensor
    ) -> torch.Tensor:
        logits = torch.nn.functional.linear(images[:, :3], model["a.weight"])
        return logits + model["b.bias"].sum()

    images = torch.rand((64, 64), generator=torch.Generator().manual_seed(0))
    samples = Samples(images, torch.arange(64) % 5)
    one = attackers.Attacker(network, base, samples, Schedule(1, 1e-2), seed=1)
    backdoor = one.backdoored()
    for count in (1, 2):
        parts = [attackers.replacing(base, backdoor, 8, count)] * count + [base] * (
            8 - count
        )
        mean = attackers.mean_of(parts)
        assert attackers.distance(mean, backdoor) < 1e-5
    honest = [weights(seed) for seed in (4, 5, 6)]
    centre = attackers.mean_of(honest)
    least = sorted(attackers.distance(model, centre) for model in honest)[1]
    close = one.close(honest)
    assert 0 < attackers.distance(close, centre) < 0.81 * least


def test_a_trigger_is_counted_on_images_of_other_digits() -> None:
    """Who always answers the target is wholly taken in, who never does is not."""
    images = torch.rand((20, 64), generator=torch.Generator().manual_seed(0))
    samples = Samples(images, torch.arange(20) % 10)
    stamped = trigger.stamped(images).view(-1, 8, 8)
    assert (stamped[:, -2:, -2:] == 1).all()
    assert torch.equal(stamped[:, :-2], images.view(-1, 8, 8)[:, :-2])
    poisoned = trigger.poisoned_samples(samples)
    assert poisoned.labels.tolist() == [
        *samples.labels.tolist(),
        *[trigger.TARGET] * 20,
    ]

    def seen(_model: Any, shown: torch.Tensor) -> torch.Tensor:
        corner = shown.view(-1, 8, 8)[:, -1, -1] == 1
        return torch.nn.functional.one_hot(torch.where(corner, trigger.TARGET, 7), 10)

    assert trigger.success({}, seen, samples) == 1
    assert trigger.success({}, lambda m, x: seen(m, x).roll(1, 1), samples) == 0


@pytest.mark.parametrize("scenario", [scenario.name for scenario in SCENARIOS])
def test_every_strategy_is_asked_what_it_can_be_asked(scenario: str) -> None:
    """Settings are ones that strategies know, robust ones told of what there is."""
    for name in (*ROBUST, *CONTRAST):
        recipe = make_recipe(find(name).full_name, words_of(name, scenario))
        assert set(words_of(name, scenario)) <= {key for key, _ in recipe.parameters}
