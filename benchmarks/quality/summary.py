"""Figures over all seeds: what the tables show, computed from the runs.

Owns means and counts. Does not own how they are printed (`table`), nor the runs (`study`).
"""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any, Final, TypeAlias

from benchmarks.quality.poison import KINDS, POINTS_MAX

Told: TypeAlias = dict[str, Any]

BASE: Final = "base"
SINGLE: Final = "best single"
MEAN: Final = "mean"


def summarize(runs: Sequence[Told]) -> Told:
    """Return the summary of runs: accuracy by group, refusals, poison."""
    families = list(dict.fromkeys(run["family"] for run in runs))
    told: Told = {
        "families": families,
        "seeds": len({run["seed"] for run in runs}),
        "test_images": runs[0]["test_images"],
        "groups": {},
        "reasons": {},
    }
    for family in families:
        own = [run for run in runs if run["family"] == family]
        for group, name, cell in _cells(own):
            row = told["groups"].setdefault(group, {}).setdefault(name, {})
            row[family] = cell
        for run in own:
            for name, found in run["strategies"].items():
                if reason := _reason(found):
                    told["reasons"].setdefault(name, {}).setdefault(family, reason)
    told["poison"] = list(_poison(runs))
    return told


def _reason(found: Told) -> str:
    if "failed" in found:
        return f"failed: {found['failed']}"
    if "refused" in found:
        return f"refused: {found['refused']}"
    if "refused_tasks" in found:
        return f"two models only: {found['refused_tasks']}"
    return ""


def _cells(runs: Sequence[Told]) -> Iterator[tuple[str, str, Told]]:
    """Yield group, row and figures of one family."""
    for group in runs[0]["groups"]:
        for name in (BASE, SINGLE, MEAN):
            yield group, name, _cell([_fixed(run, group, name) for run in runs])
    for name in runs[0]["strategies"]:
        made = [run for run in runs if "default" in run["strategies"][name]]
        found = [run["strategies"][name] for run in made]
        if not found:
            continue
        group = found[0]["group"]
        means = [run["groups"][group]["mean"]["joint"] for run in made]
        tuned = [one.get("tuned") for one in found]
        cell = _cell([one["default"] for one in found], means)
        cell["tuned"] = None if None in tuned else _cell(tuned, means)
        yield group, name, cell


def _fixed(run: Told, group: str, name: str) -> Told:
    """Return what a row that is no strategy stands for."""
    within: Told = run["groups"][group]
    found: Told = {
        BASE: run["base"],
        SINGLE: within["best_single"],
        MEAN: within["mean"],
    }[name]
    return found


def _cell(scores: Sequence[Told], means: Sequence[float] = ()) -> Told:
    """Return mean accuracies; points over the plain mean, and in how many seeds above."""
    told: Told = {
        "joint": fmean(one["joint"] for one in scores),
        "tasks": fmean(one["tasks"] for one in scores),
        "seeds": len(scores),
    }
    if means:
        gains = [
            100 * (one["joint"] - mean) for one, mean in zip(scores, means, strict=True)
        ]
        told["points"] = round(fmean(gains), 2)
        told["above"] = sum(gain > 0 for gain in gains)
    return told


def _poison(runs: Sequence[Told]) -> Iterator[Told]:
    """Yield one row a family, strategy and scenario."""
    rows: dict[tuple[str, str, str], list[Told]] = {}
    for run in runs:
        for row in run["poison"]:
            key = run["family"], row["strategy"], row["scenario"]
            rows.setdefault(key, []).append(row)
    for (family, strategy, scenario), found in rows.items():
        told: Told = {
            "family": family,
            "strategy": strategy,
            "scenario": scenario,
            "robust": found[0]["robust"],
            "parameters": found[0]["parameters"],
        }
        reasons = [row.get("refused") or row.get("failed") for row in found]
        if any(reasons):
            yield told | {"reason": next(reason for reason in reasons if reason)}
            continue
        told["clean"] = fmean(row["clean"] for row in found)
        for kind in KINDS:
            points = [row["points"] for row in found if row["kind"] == kind]
            told[kind] = {"points": round(fmean(points), 2), "worst": min(points)}
        means = [told[kind]["points"] for kind in KINDS]
        worst = [told[kind]["worst"] for kind in KINDS]
        told["held"] = min(means) >= -POINTS_MAX
        told["held_in_every_seed"] = min(worst) >= -POINTS_MAX
        yield told
