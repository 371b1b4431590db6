"""What runs came to, as it is printed: facts for JSON, and lines for people.

Owns the form. Does not own the options (`cli`), nor what is in it (`outcome`, `hunting`).
"""

import os
import platform
from collections.abc import Iterator, Mapping
from typing import Final

from nodes.cli.output import plain, table
from simulations.hunting.hunt import Findings, Hunt
from simulations.hunting.shrinking import Search

from .checkout import commit
from .faults import FAULTS
from .outcome import Outcome
from .runs import ALL

STRIKES_SHOWN_MAX: Final = 40
"""Strikes that people are shown; JSON has all."""
_DIGESTS: Final = (
    "record_root",
    "visible_root",
    "merge_id",
    "model_digest",
    "log_digest",
)


def outcome_lines(outcome: Outcome) -> list[str]:
    """Return what one run came to, a fact a line."""
    facts = outcome.facts()
    said = " ".join(f"{name} {value:g}" for name, value in outcome.faults.items())
    settled = outcome.settled
    after = f"records after {settled.record_rounds:.3f} rounds"
    return _aligned(
        [
            ("seed", f"{outcome.seed}, {outcome.nodes} nodes"),
            ("faults", said),
            ("work", f"{outcome.records} records, {outcome.visible} visible"),
            ("messages", f"{outcome.messages}, {outcome.message_bytes} bytes"),
            ("injected", _counts(outcome.injected)),
            ("cut off", f"{outcome.cut_off} messages"),
            ("crashes", outcome.crashes),
            ("agreed", f"{after}, all after {settled.rounds:.3f}"),
            *((name.replace("_", " "), facts[name] or "-") for name in _DIGESTS),
        ]
    )


def findings_facts(plan: Hunt, findings: Findings) -> dict[str, object]:
    """Return what `--json` prints of a hunt."""
    return {
        "command": _command(plan),
        "story": [run.story for run in plan.first],
        "nodes": plan.first[0].nodes,
        "seed": plan.first[0].seed,
        "commit": commit(),
        "jobs": plan.jobs,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processors": os.cpu_count() or 1,
        "interrupted": findings.interrupted,
        "wall_seconds": round(findings.wall_s, 3),
        "events_per_second": round(_speed(findings)),
        **findings.tally.facts(),
        "least": _least_facts(findings, findings.search) if findings.search else None,
    }


def _command(plan: Hunt) -> str:
    """Return the words that do a hunt again, but for what ended it."""
    words = plan.first[0].command
    if len(plan.first) > 1:
        words = words.replace(plan.first[0].story, ALL, 1)
    seeds = "--until-failure" if plan.seeds is None else f"--seeds {plan.seeds}"
    return f"crdtmerge simulate {words} {seeds}"


def _least_facts(findings: Findings, search: Search) -> dict[str, object]:
    least = search.least
    return {
        **least.facts(),
        "repeats": findings.repeats,
        "runs": search.done,
        "whole": search.whole,
        "strikes": [
            {
                "number": FAULTS[strike.name].number,
                "name": strike.name,
                "hit": strike.hit,
                "seconds": strike.time,
                "subject": list(strike.subject),
            }
            for strike in least.strikes
        ],
        "trace": least.trace,
    }


def findings_lines(plan: Hunt, findings: Findings) -> list[str]:
    """Return what a hunt found, for people."""
    tally = findings.tally
    facts = tally.facts()
    rounds = facts["rounds"]
    assert isinstance(rounds, Mapping)
    lacking = [name for name in FAULTS if not tally.injected[name]]
    seeds = f"from seed {plan.first[0].seed}" + ", interrupted" * findings.interrupted
    speed = (
        f"{tally.events} in {findings.wall_s:.1f} s: {_speed(findings):.0f} a second"
    )
    settled = " / ".join(f"{rounds[name]:g}" for name in ("p50", "p99", "max"))
    lines = _aligned(
        [
            ("runs", f"{tally.runs} {seeds}; {tally.failed} failed"),
            ("events", f"{speed}, {plan.jobs} processes"),
            ("injected", _counts(tally.injected)),
            ("not injected", ", ".join(lacking) or "-"),
            ("rounds", f"{settled} until all agreed: half, 99 of 100, most"),
            ("digest", tally.digest),
        ]
    )
    lines += [f"FAILED  {f.command}: {plain(f.message)}" for f in tally.failures]
    if tally.failed > len(tally.failures):
        lines.append(f"FAILED  {tally.failed - len(tally.failures)} more")
    if findings.search is not None:
        lines += ["", *_least_lines(findings, findings.search)]
    return lines


def _least_lines(findings: Findings, search: Search) -> Iterator[str]:
    """Yield how the failure comes again, and what it takes."""
    least = search.least
    enough = "" if search.whole else "; more runs may find less (--shrink)"
    yield f"The least that fails so, of {search.done} runs{enough}:"
    yield f"  {plain(least.message)}"
    yield f"  crdtmerge simulate {least.command}"
    again = (
        "the same log came again" if findings.repeats else "its log did NOT come again"
    )
    yield f"  commit {commit()}, log {least.log_digest}, {least.events} events; {again}"
    yield from (f"  {line}" for line in _strike_lines(search))
    yield ""
    yield from least.trace.rstrip().splitlines()


def _strike_lines(search: Search) -> list[str]:
    strikes = search.least.strikes
    if not strikes:
        return ["no fault struck"]
    rows = [
        (
            FAULTS[strike.name].number,
            strike.name,
            strike.hit,
            f"{strike.time:.3f}",
            " ".join(map(str, strike.subject)) or "-",
        )
        for strike in strikes[:STRIKES_SHOWN_MAX]
    ]
    lines = table(("FAULT", "NAME", "HIT", "SECOND", "OF"), rows)
    more = len(strikes) - len(rows)
    return [*lines, f"and {more} more"] if more else lines


def _speed(findings: Findings) -> float:
    return findings.tally.events / findings.wall_s if findings.wall_s else 0.0


def _counts(injected: Mapping[str, int]) -> str:
    told = ((name, injected.get(name)) for name in FAULTS)
    return ", ".join(f"{name} {count}" for name, count in told if count) or "-"


def _aligned(rows: list[tuple[str, object]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {value}" for name, value in rows]
