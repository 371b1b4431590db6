"""The report: Markdown, of which every number is one of the figures of one run.

Owns the words and the tables of tiers 1 and 2 (those of 3: `report_replicas`). Does not
own the figures, nor plots (`plots`). What was not run is named; where ours and the paper's
differ, the report says why.
"""

from collections.abc import Sequence
from typing import Final

from .report_replicas import Facts, table, tier3

MIB: Final = 1 << 20
BUSY: Final = 2
"""From so many waiting processes a core on, times of the clock are not worth much."""
PLOTS: Final = {
    "tier1": ("algebra.svg", "Laws kept as raw operations"),
    "tier2": ("layers.svg", "Input read and merged a second of a processor"),
    "tier3": ("replicas.svg", "Pushes until all are equal, and rounds under faults"),
}
"""By part of the figures: the file of its plot, and what it shows."""


def markdown(facts: Facts) -> str:
    """Return the whole report."""
    lines = [*_head(facts)]
    for name, part in (("tier1", _tier1), ("tier2", _tier2), ("tier3", tier3)):
        if name in facts:
            lines += ["", *part(facts[name])]
            file, what = PLOTS[name]
            lines += ["", f"![{what}]({file})"]
    return "\n".join(lines) + "\n"


def _head(facts: Facts) -> list[str]:
    runs = facts["runs"]
    many = "one run" if len(runs) == 1 else f"{len(runs)} runs"
    return [
        "# The paper's experiments, ours beside them",
        "",
        (
            "*Conflict-Free Replicated Data Types for Neural Network Model Merging: A"
            " Two-Layer Architecture Enabling CRDT-Compliant Model Merging Across 26"
            " Strategies*, its three tiers as it defines them, and beyond: by bytes, with"
            " removals, over real messages, every layer at full resolution, under faults."
            " Nothing is extrapolated; what was not run is not counted. All numbers are of"
            f" {many}, whose figures lie beside this ([figures.json](figures.json))."
        ),
        *(line for run in runs for line in _run(run)),
    ]


def _run(run: Facts) -> list[str]:
    """Return what one run was: where, when, and what else the machine did meanwhile."""
    machine = run["machine"]
    loads = machine["load_at_begin"], run["load_at_end"]
    tiers = ", ".join(map(str, run["tiers"]))
    seen = (
        f"Tier {tiers}: commit {run['commit']}, {machine['date']} UTC, {run['seconds']} s;"
        f" {machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB,"
        f" {machine['system']}, Python {machine['python']}, NumPy {machine['numpy']}."
    )
    if max(loads) > machine["cores"] * BUSY:
        seen += (
            f" **The machine was busy with other work** (a load of {loads[0]} at the begin,"
            f" {loads[1]} at the end, on {machine['cores']} cores): seconds of the clock"
            " are far above what they are on a free one, seconds of processors somewhat."
        )
    small = (
        ["", "**Small sizes (`--quick`): not the paper's.**"] if run["quick"] else []
    )
    return ["", "```sh", run["command"], "```", "", seen, *small]


# --- tier 1 -------------------------------------------------------------------------------


def _tier1(found: Facts) -> list[str]:
    one = found["phase1"]
    passed, total = found["phase2_passed"], found["phase2_total"]
    theirs = found["phase2_paper"]
    joins = sum(row["joins"] for row in found["phase2"])
    compared = sum(row["comparisons"] for row in found["phase2"])
    counts = [("paper", one["paper"]), ("of these, ours", one["same_as_the_paper"])]
    counts.append(("our catalogue", one["catalogue"]))
    laws = ("commutative", "associative", "idempotent", "all_three")
    return [
        "## Tier 1: algebra on 4x4 tensors",
        "",
        (
            "Phase 1, raw: the strategy on two float64 tensors of seed 42, known by their"
            " place alone, within 1e-5."
        ),
        "",
        *table(
            ("", "commutative", "associative", "idempotent", "all three", "of"),
            [(name, *(row[law] for law in laws), row["of"]) for name, row in counts],
        ),
        "",
        *_why(one),
        "",
        *table(
            ("strategy", "paper's", "comm.", "assoc.", "idem.", "note"),
            [_raw_row(row) for row in one["rows"]],
        ),
        "",
        (
            f"Phase 2, both layers, by **byte equality**: **{passed} of {total}** (four laws"
            f" of {found['strategies']} strategies; the paper {theirs[0]} of {theirs[1]})."
            f" {joins} joins, each of replicas made anew of bytes, over frames that were"
            f" serialised and parsed; {compared} comparisons of signed records, roots, what"
            " counts, and merged bytes. The histories hold adds, removes and re-adds: a model"
            " removed by one while another adds it stays, one removed by all that added it"
            " goes. Joins that forget their own side, ignore the peer's removes, keep none, or"
            " lose contents are caught by the same audit (`tests/paper/test_laws.py`)."
        ),
        "",
        *_not_run("Of the paper's 26, not run", found["not_run"], "strategy"),
    ]


def _why(one: Facts) -> list[str]:
    rows = one["rows"]

    def named(law: str, *, kept: bool) -> str:
        chosen = [r["strategy"] for r in rows if r[law] is kept]
        return ", ".join(name.partition("/")[0] for name in chosen) or "none"

    refused = [r["strategy"].partition("/")[0] for r in rows if r["refused"]]
    return [
        (
            "Where counts differ from the paper's, it is by which strategies there are and what"
            " they are:"
        ),
        "",
        (
            f"* not commutative here: {named('commutative', kept=False)}. Random masks are"
            " drawn by place, orders go by place, or one place is another role. The rest treat"
            " places alike, as their formulas do;"
        ),
        (
            f"* associative here: {named('associative', kept=True)}. A sum of task vectors is;"
            " so is what takes one of its arguments whole. A mean of a mean is not the mean;"
        ),
        (
            f"* not idempotent here: {named('idempotent', kept=False)}. They add task vectors,"
            " trim them, or draw: of two equal models they do not make that model;"
        ),
        f"* no binary operation at all, and not counted: {', '.join(refused) or 'none'}.",
        "",
        "None keeps all three, here as in the paper: that is what the second layer is for.",
    ]


def _raw_row(row: Facts) -> tuple[object, ...]:
    laws = (row[law] for law in ("commutative", "associative", "idempotent"))
    said = ("-" if kept is None else "yes" if kept else "no" for kept in laws)
    return (row["strategy"], ", ".join(row["paper"]), *said, row["refused"])


def _not_run(title: str, rows: Sequence[Facts], key: str) -> list[str]:
    if not rows:
        return [f"{title}: none."]
    whys: dict[str, list[str]] = {}
    for row in rows:
        whys.setdefault(row["why"], []).append(row[key])
    said = "; ".join(f"{', '.join(names)} ({why})" for why, names in whys.items())
    return [f"{title}: {said}."]


# --- tier 2 -------------------------------------------------------------------------------


def _tier2(found: Facts) -> list[str]:
    theirs, lines = found["paper"], list[str]()
    for model in found["models"]:
        lines += ["", *_model(model)]
    return [
        "## Tier 2: whole models, every tensor",
        "",
        (
            f"**{found['layer_checks_passed']} of {found['layer_checks']} layer checks** by"
            f" bytes, in {found['strategy_tests']} strategy tests, every tensor at full"
            f" resolution ({found['seconds']} s with the making of the models). The paper:"
            f" {theirs['layer_checks']} checks in {theirs['strategy_tests']} tests, from"
            f" {theirs['read']}."
        ),
        "",
        (
            "A test is one strategy on one model: the same three contributions joined in"
            " another way (swapped, grouped otherwise, taken twice), resolved from its own"
            " records by a plan of its own, in the order in which they arrived; a layer check"
            " is one output tensor of it whose digest is that of the reference. Seconds are"
            " of the quickest resolve, base and three fine-tunes read, output hashed and not"
            " written."
        ),
        *lines,
        "",
        *_not_run("Not run", found["not_run"], "what"),
    ]


HEAD: Final = (
    "strategy",
    "laws",
    "layers equal",
    "unlike the base",
    "seconds",
    "of processors",
    "GB a second of these",
)


def _model(model: Facts) -> list[str]:
    refused = _not_run("Refused", model["refused"], "strategy")
    rows = [
        (
            row["strategy"],
            f"{sum(row['laws'].values())} of {len(row['laws'])}",
            f"{row['layers_equal']} of {row['layer_checks']}",
            row["tensors_unlike_the_base"],
            row["seconds"],
            row["cpu_s"],
            row["input_gb_per_cpu_s"],
        )
        for row in model["strategies"]
    ]
    return [
        f"### {model['model']}",
        "",
        (
            f"{model['configuration']}; {model['parameters'] / 1e6:.1f} M parameters in"
            f" {model['tensors']} tensors, {', '.join(model['dtype'])},"
            f" {model['bytes_each'] / 1e9:.2f} GB on disk each, base and"
            f" {model['fine_tunes']} fine-tunes. Memory of the process: at most"
            f" {model['peak_anonymous_bytes'] / MIB:.0f} MiB of its own,"
            f" {model['peak_resident_bytes'] / MIB:.0f} MiB resident with the files that it"
            " maps."
        ),
        "",
        *table(
            HEAD,
            rows,
        ),
        *(["", *refused] if model["refused"] else []),
    ]
