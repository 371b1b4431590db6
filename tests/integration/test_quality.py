"""The benchmarks of merged models measure what they say, and can see a bad merge.

Runs the real harness on little training; the figures of the documents are those of
`python -m benchmarks quality`.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.quality import budgets, command, study
from benchmarks.quality.merging import Bench, Merged, Refusal, Setting
from benchmarks.quality.poison import poisoned
from benchmarks.quality.tasks import TASKS, among, read_data
from benchmarks.quality.training import FULL
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Data
from crdtmerge.strategies import STRATEGIES, Inputs, Strategy
from nodes.demo.training import Schedule, Weights

SHORT = replace(
    FULL,
    tuning=Schedule(epochs=5, rate=1e-3),
    contributor=Schedule(epochs=5, rate=1e-3),
)
ORDER = "equal shares"
FEW = ("--family", "cnn", "--seeds", "1", "--jobs", "1", "--json")


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the document that was printed."""
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def weights(seed: int) -> Weights:
    """Return a model of two tensors."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.rand((5, 3), generator=generator),
        "b.bias": torch.rand((4,), generator=generator),
    }


def test_mean_gains_and_scaled_poison_ruins_it_but_not_the_median(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The harness sees that merging helps, and what a robust strategy is for."""
    which = ("--only", "linear", "--only", "median/1")
    assert command.main([*FEW, *which], SHORT) == 0
    document = told(capsys)
    (run,) = document["runs"]
    assert set(run["strategies"]) == {"linear/1", "median/1"}
    mean = run["groups"]["tasks"]["mean"]
    assert run["base"]["joint"] + 0.02 < mean["joint"]
    assert run["groups"]["tasks"]["best_single"]["joint"] < mean["joint"]
    assert run["strategies"]["linear/1"]["default"]["digest"] == mean["digest"]
    rows = {(r["strategy"], r["scenario"], r["kind"]): r for r in run["poison"]}
    for scenario in ("1 of 5", "2 of 7"):
        assert rows["linear", scenario, "scaled by -10"]["points"] < -20
        assert rows["median", scenario, "scaled by -10"]["points"] > -4
    row = document["summary"]["groups"]["tasks"]["median/1"]["cnn"]
    median = run["strategies"]["median/1"]["default"]
    assert row["points"] == pytest.approx(
        100 * (median["joint"] - mean["joint"]), abs=0.01
    )
    held = {row["strategy"]: row["held"] for row in document["summary"]["poison"]}
    assert held["linear"] is False
    kept = tmp_path / "told.json"
    kept.write_text(json.dumps(document))
    assert command.main(["--load", str(kept), "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert f"| median/1 | {100 * median['joint']:.1f} / " in printed
    assert "| linear | 2 of 7 | - |" in printed


@pytest.mark.slow
def test_every_strategy_has_figures_or_a_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the table is there; one that refuses, and one with a bug, stop no other."""

    def refuse(inputs: Inputs) -> Data:
        message = f"{inputs.tensor}: not like this"
        raise ContractError(message, hint="otherwise")

    def fail(_inputs: Inputs) -> Data:
        message = "a bug"
        raise ValueError(message)

    known = STRATEGIES["linear/1"]
    made = {
        "refusing/1": replace(known, name="refusing", emit=refuse),
        "failing/1": replace(known, name="failing", emit=fail),
    }
    table: dict[str, Strategy] = {**STRATEGIES, **made}
    monkeypatch.setattr(study, "STRATEGIES", table)
    # `make_recipe` asks the library's own table, which another test may not see changed.
    monkeypatch.setattr("crdtmerge.strategies.recipes.STRATEGIES", table)
    monkeypatch.setattr("crdtmerge.strategies.table.STRATEGIES", table)
    brief = replace(SHORT, tuning=Schedule(1, 1e-3), contributor=Schedule(1, 1e-3))
    assert command.main([*FEW, "--no-tuning", "--no-poison"], brief) == 1
    document = told(capsys)
    found = document["runs"][0]["strategies"]
    assert set(found) == set(table)
    assert all({"default", "refused", "failed"} & set(row) for row in found.values())
    assert "not like this; otherwise" in found["refusing/1"]["refused"]
    assert found["failing/1"]["failed"] == "ValueError: a bug"
    assert {"refusing/1", "failing/1"} <= set(document["summary"]["reasons"])


def test_merge_is_that_of_torch_to_a_rounding_and_own_settings_count() -> None:
    """The way through manifests and bytes loses nothing and mixes up no tensor."""
    base, tuned = weights(0), [weights(seed) for seed in (1, 2, 3)]
    bench = Bench(base)
    merged = bench.merge("linear/1", Setting(), tuned)
    assert isinstance(merged, Merged)
    for name, value in merged.weights.items():
        mean = sum(model[name].numpy().astype(np.float64) for model in tuned) / 3
        assert np.abs(value.numpy() - mean).max() < 1e-7
    shared = bench.merge("ties/1", Setting({"density": "0.5"}), tuned)
    own = bench.merge("ties/1", Setting({}, ({"density": "0.5"},) * 3), tuned)
    other = bench.merge("ties/1", Setting({}, ({"density": "1"},) * 3), tuned)
    assert isinstance(shared, Merged)
    assert isinstance(own, Merged)
    assert isinstance(other, Merged)
    assert shared.digest == own.digest != other.digest
    refused = bench.merge("ties/1", Setting({"t": "1"}), tuned)
    assert isinstance(refused, Refusal)
    assert not refused.is_bug


def test_sets_share_no_image_and_answers_are_counted() -> None:
    """Every image is in one set; accuracy among some digits leaves the others out."""
    data = read_data(0, 80)
    sets = (data.base, data.tuning, data.validation, data.test)
    assert sum(len(part.labels) for part in sets) == 1797
    assert len(data.base.labels) == 80
    assert sorted(digit for task in TASKS for digit in task) == sorted([*range(10)] * 3)
    logits = torch.tensor([[9.0, 1.0, 0.0], [9.0, 0.0, 1.0], [0.0, 1.0, 2.0]])
    labels = torch.tensor([1, 1, 0])
    assert among(logits, labels, (0, 1, 2)) == 0
    assert among(logits, labels, (1, 2)) == 0.5
    base, tuned = weights(0), weights(1)
    flipped = poisoned(base, tuned, -1.0)["a.weight"]
    assert torch.equal(
        base["a.weight"] - (tuned["a.weight"] - base["a.weight"]), flipped
    )


def test_budgets_are_compared_at_equal_bytes() -> None:
    """All orders agree where everything is read, and each keeps to its share."""
    base, tuned = weights(0), [weights(seed) for seed in (1, 2, 3, 4)]
    seen: dict[str, int] = {}

    def moved(merged: Weights) -> float:
        return float(sum((merged[name] - base[name]).abs().sum() for name in base))

    rows = list(budgets.rows_of(Bench(base), tuned, moved))
    for row in rows:
        seen[row["order"]] = seen.get(row["order"], 0) + 1
    assert set(seen.values()) == {len(budgets.SETTINGS) * len(budgets.SHARES)}
    for name in budgets.SETTINGS:
        mine = [row for row in rows if row["strategy"] == name]
        whole = {row["accuracy"] for row in mine if row["share"] == 100}
        assert len(whole) == 1
        # A tenth is 30 bytes: a bias of 16 or less, and no weight of 60.
        (least,) = {
            row["accuracy"]
            for row in mine
            if (row["share"], row["order"]) == (10, ORDER)
        }
        assert least < 0.4 * whole.pop()
    table = budgets.render([{"models": "m", **row} for row in rows])
    assert table.count("| m | ") == len(budgets.SETTINGS)
    assert f"| {ORDER} | " in table
