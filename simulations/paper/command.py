"""`python -m simulations paper`: the paper's experiments, ours beside its figures.

    python -m simulations paper [--json] [--out DIR] [--tier 1 2 3] [--quick]
    python -m simulations paper --load FIGURES ... --out DIR

Progress goes to standard error, the report to standard output: Markdown, or with `--json`
all figures. With `--out` both are written to DIR, with the plots (extra `demo`).
`--quick` runs fewer nodes, orderings and strategies: it shows that all works, at other
sizes than the paper's. `--load` runs nothing, and writes the report of earlier figures: of
one run, or of several that ran a tier each.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from . import tier1, tier2, tier3
from .report import PLOTS, markdown
from .timing import Watch, commit, load, machine, processors, tell

QUICK_STRATEGIES: Final = ("linear", "ties", "dare_ties", "slerp", "pma", "passthrough")

Facts = dict[str, Any]


def main(argv: Sequence[str]) -> int:
    """Run what is asked for; return the exit status, 1 if a law does not hold."""
    asked, watch = _parser().parse_args(argv), Watch()
    if asked.load is not None:
        earlier = [json.loads(file.read_text()) for file in asked.load]
        return _shown(together(earlier), asked)
    run: Facts = {
        "command": _said(asked),
        "quick": asked.quick,
        "commit": commit(),
        "machine": machine(),
        "tiers": [],
    }
    facts: Facts = {"runs": [run]}
    for tier in dict.fromkeys(asked.tier):  # in the order asked for
        for found in _tier(tier, asked):
            facts[f"tier{tier}"] = found
            run |= {"seconds": round(watch.seconds, 1), "load_at_end": load()}
            run["tiers"] = [n for n in (1, 2, 3) if f"tier{n}" in facts]
            if asked.out is not None:  # what comes next may take long
                _write(asked.out, facts)
    return _shown(facts, asked)


def together(found: Sequence[Mapping[str, Any]]) -> Facts:
    """Return the figures of several runs, of each tier those of the last that has it."""
    runs: list[Facts] = []
    for facts in found:
        fresh = {tier for run in facts["runs"] for tier in run["tiers"]}
        kept = [
            run | {"tiers": [t for t in run["tiers"] if t not in fresh]} for run in runs
        ]
        runs = [run for run in kept if run["tiers"]] + facts["runs"]
    joined: Facts = {"runs": runs}
    for facts in found:
        joined |= {name: facts[name] for name in sorted(facts.keys() - {"runs"})}
    return joined


def _said(asked: argparse.Namespace) -> str:
    """Return the command that makes these figures, wherever they are written to."""
    words = ["python -m simulations paper --tier", *map(str, asked.tier)]
    words += ["--quick"] * asked.quick
    for name in ("processes", "orderings"):
        words += [f"--{name} {value}"] if (value := getattr(asked, name)) else []
    return " ".join(words)


def _shown(facts: Facts, asked: argparse.Namespace) -> int:
    """Print figures or report, and write them if asked to; return the exit status."""
    if asked.out is not None:
        _write(asked.out, facts)
    sys.stdout.write(_data(facts) if asked.json else markdown(facts))
    return 0 if all_hold(facts) else 1


def _data(facts: Facts) -> str:
    return json.dumps(facts, indent=1) + "\n"


def _tier(tier: int, asked: argparse.Namespace) -> Iterator[Facts]:
    """Yield the figures of one tier: at least once, and more of them each time."""
    quick, processes = asked.quick, asked.processes or processors()
    if tier == 1:
        only = QUICK_STRATEGIES if quick else ()
        yield tier1.run(only, processes, 2 if quick else tier1.ORDERS, tell)
    elif tier == 2:
        yield from tier2.run(quick=quick, say=tell)
    else:
        size = tier3.QUICK if quick else tier3.FULL
        yield tier3.run(size, processes, tell, asked.orderings)


def all_hold(facts: Mapping[str, Any]) -> bool:
    """Tell whether every law, layer and replica that was looked at is as it should be."""
    one, two, three = (facts.get(name) for name in ("tier1", "tier2", "tier3"))
    return all(
        (
            not one or one["phase2_passed"] == one["phase2_total"],
            not two or two["layer_checks_passed"] == two["layer_checks"],
            not three or three["distinct_models"] == 1,
            not three or three["partition"]["distinct_after"] == 1,
            not three or three["sweep"]["all_equal"] == three["sweep"]["strategies"],
            not three or all(row["distinct_models"] == 1 for row in three["faulty"]),
        )
    )


def _write(folder: Path, facts: Facts) -> None:
    """Write report, figures and plots."""
    from .plots import draw

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(markdown(facts))
    (folder / "figures.json").write_text(_data(facts))
    for name, (file, _) in PLOTS.items():
        found = facts.get(name)
        if isinstance(found, dict):
            (folder / file).write_bytes(draw(name, found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulations paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument("--out", type=Path, help="where report, plots and JSON go")
    parser.add_argument(
        "--load", type=Path, nargs="+", help="figures of earlier runs, put together"
    )
    parser.add_argument(
        "--tier", type=int, nargs="+", choices=(1, 2, 3), default=[1, 2, 3]
    )
    parser.add_argument("--quick", action="store_true", help="small, for a first look")
    parser.add_argument(
        "--orderings", type=int, default=0, help="of tier 3; the paper has 20"
    )
    parser.add_argument(
        "--processes", type=int, help="default: as many as there are processors"
    )
    return parser
