"""The plots of the report, as SVG: drawn without a display, equal for equal figures.

Owns the pictures. Does not own the figures. matplotlib is imported here alone, and only
when plots are asked for (extra `demo`).
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

Facts = Mapping[str, Any]

OURS: Final = "#2f78b0"
SHARED: Final = "#7fb2d9"
PAPER: Final = "#9aa5b1"
OTHERS: Final = ("#2f78b0", "#1b7f5c", "#c4433a", "#8a5fb0")
STYLE: Final[dict[Any, Any]] = {
    "font.size": 9,
    "svg.hashsalt": "paper",
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(name: str, found: Facts) -> bytes:
    """Return the plot of one tier: `tier1`, `tier2` or `tier3`."""
    with mpl.rc_context(mpl.rcParamsDefault):  # whatever this user has set
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        FigureCanvasSVG(figure)
        DRAWN[name](figure, found)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    # Trailing blanks are matplotlib's own, and of no use to anybody.
    lines = (line.rstrip() for line in file.getvalue().decode().splitlines())
    return ("\n".join(lines) + "\n").encode()


def _algebra(figure: Figure, found: Facts) -> None:
    axes, one = figure.subplots(), found["phase1"]
    laws = ("commutative", "associative", "idempotent", "all_three")
    rows = (
        ("paper, 26", one["paper"], PAPER),
        (
            f"of these ours, {one['same_as_the_paper']['of']}",
            one["same_as_the_paper"],
            SHARED,
        ),
        (f"our catalogue, {one['catalogue']['of']}", one["catalogue"], OURS),
    )
    for place, (label, counts, colour) in enumerate(rows):
        shares = [100 * counts[law] / max(1, counts["of"]) for law in laws]
        bars = axes.bar(
            [k + 0.27 * (place - 1) for k in range(len(laws))],
            shares,
            0.25,
            label=label,
            color=colour,
        )
        axes.bar_label(bars, [str(counts[law]) for law in laws])
    axes.set_xticks(range(len(laws)), [law.replace("_", " ") for law in laws])
    axes.set_ylabel("share of strategies, %")
    axes.set_title("Laws that strategies keep as raw binary operations")
    axes.legend(frameon=False)


def _layers(figure: Figure, found: Facts) -> None:
    axes = figure.subplots()
    for model, colour in zip(found["models"], OTHERS, strict=False):
        rows = sorted(model["strategies"], key=lambda row: row["strategy"])
        names = [row["strategy"].partition("/")[0] for row in rows]
        speeds = [row["input_gb_per_cpu_s"] for row in rows]
        axes.plot(names, speeds, "o", label=model["model"], color=colour)
    axes.set_yscale("log")
    axes.tick_params(axis="x", labelrotation=90, labelsize=7)
    axes.set_ylabel("GB of input a second of a processor")
    axes.set_title("Whole models, every tensor: what a resolve reads and merges")
    axes.grid(visible=True, axis="y", color="#e4e7eb")
    axes.legend(frameon=False)


def _replicas(figure: Figure, found: Facts) -> None:
    left, middle, right = figure.subplots(1, 3)
    rows = found["scaling"]["rows"]
    nodes = [row["nodes"] for row in rows]
    left.loglog(
        nodes, [row["gossip_cpu_ms"] for row in rows], "o-", color=OURS, label="ours"
    )
    theirs = found["scaling"]["paper_ms"]
    left.loglog(
        [int(n) for n in theirs], list(theirs.values()), "s", color=PAPER, label="paper"
    )
    left.set_xticks(nodes, [str(n) for n in nodes])
    left.minorticks_off()
    left.set_title("All-pairs gossip, ms of a processor")
    left.set_xlabel("nodes")
    left.legend(frameon=False)
    middle.hist(found["pushes_until_equal"], bins=10, color=OURS)
    middle.set_title(f"Pushes until {found['nodes']} are equal")
    middle.set_xlabel("of all pairs, by ordering")
    faulty = found["faulty"]
    counts = [row["nodes"] for row in faulty]
    right.plot(
        counts,
        [row["rounds_to_agree"] for row in faulty],
        "o-",
        color=OURS,
        label="ours",
    )
    best = [row["optimum_rounds"] for row in faulty]
    right.plot(counts, best, "--", color=PAPER, label="log2 n + ln n")
    right.set_title("Rounds to agree under faults")
    right.set_xlabel("nodes")
    right.set_ylim(bottom=0)
    right.legend(frameon=False)


DRAWN: Final[Mapping[str, Callable[[Figure, Facts], None]]] = {
    "tier1": _algebra,
    "tier2": _layers,
    "tier3": _replicas,
}
