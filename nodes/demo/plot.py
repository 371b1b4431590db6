"""The plot of the demo's report: every model's accuracy, overall and digit by digit.

Owns the picture. Does not own the figures in it (`report`). Drawn without a display, by
settings of its own, so equal figures give equal bytes on one version of matplotlib.
"""

import io
from collections.abc import Sequence
from typing import Any, Final

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from .report import Outcome, Row

SIZE_INCHES: Final = (11.5, 5.4)
DOTS_PER_INCH: Final = 150
INK: Final = "#1f2933"
QUIET: Final = "#6b7785"
NEUTRAL: Final = "#9aa5b1"
TUNED: Final = "#7fb2d9"
GOOD: Final = "#1b7f5c"
BAD: Final = "#c4433a"
SHADES: Final = ("#f7f9fb", "#cfe3f1", "#7fb2d9", "#2f78b0", "#123f66")
LIGHT_ABOVE: Final = 0.55
"""From this accuracy on, a cell is so dark that its number is written in white."""


def draw(outcome: Outcome) -> bytes:
    """Return the plot as a PNG."""
    rows = outcome.rows
    with mpl.rc_context(mpl.rcParamsDefault):  # whatever this user has set
        mpl.rcParams.update({"font.size": 10, "text.color": INK})
        figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH, facecolor="white")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        figure.subplots_adjust(left=0.2, right=0.98, top=0.81, bottom=0.06, wspace=0.06)
        _title(figure, outcome)
        _bars(left, rows, outcome)
        _digits(right, rows)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _title(figure: Figure, outcome: Outcome) -> None:
    figure.text(
        0.02, 0.93, "Who tells which digits", fontsize=16, fontweight="bold", color=INK
    )
    text = (
        f"Share of {outcome.test_images} handwritten digits, not trained on, that each"
        " model tells right. Every fine-tune saw only some of the ten."
    )
    figure.text(0.02, 0.882, text, color=QUIET)


def _bars(axes: Any, rows: Sequence[Row], outcome: Outcome) -> None:
    """Draw one bar a model, and a line at the merge to compare with."""
    places = range(len(rows))
    colors = _colors(len(rows))
    axes.barh(places, [row.share for row in rows], color=colors, height=0.68)
    merged = outcome.accuracy.merged
    axes.axvline(merged, color=GOOD, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    for place, row, color in zip(places, rows, colors, strict=True):
        axes.text(
            row.share - 0.015,
            place,
            f"{row.share:.1%}",
            va="center",
            ha="right",
            fontweight="bold",
            color=INK if color in {NEUTRAL, TUNED} else "white",
        )
    axes.set_yticks(places, [_short(row.label) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75], ["0", "25", "50", "75%"])
    _strip(axes)
    axes.set_title("all ten digits", loc="left", fontsize=11, color=QUIET)


def _digits(axes: Any, rows: Sequence[Row]) -> None:
    """Draw one cell for each model and digit, its rows in line with the bars."""
    shades = LinearSegmentedColormap.from_list("accuracy", list(SHADES))
    shares = [list(row.by_digit) for row in rows]
    axes.imshow(shares, cmap=shades, vmin=0, vmax=1, aspect="auto")
    for place, row in enumerate(rows):
        for digit, share in enumerate(row.by_digit):
            axes.text(
                digit,
                place,
                f"{100 * share:.0f}",
                va="center",
                ha="center",
                color="white" if share > LIGHT_ABOVE else INK,
            )
    count = len(rows[0].by_digit)
    axes.set_xticks(range(count), [str(digit) for digit in range(count)])
    axes.set_yticks([])
    # White lines between the cells.
    axes.set_xticks([edge - 0.5 for edge in range(1, count)], minor=True)
    axes.set_yticks([edge - 0.5 for edge in range(1, len(rows))], minor=True)
    axes.grid(which="minor", color="white", linewidth=2.5)
    _strip(axes)
    axes.set_title("each digit, in percent", loc="left", fontsize=11, color=QUIET)


def _colors(count: int) -> list[str]:
    """Return a colour for each row: base, fine-tunes, merged, poisoned, after the ban."""
    return [NEUTRAL, *[TUNED] * (count - 4), GOOD, BAD, GOOD]


def _short(label: str) -> str:
    """Return a label on two lines if it has something in brackets."""
    return label.replace(" (", "\n(")


def _strip(axes: Any) -> None:
    """Leave nothing around a plot that says nothing."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(which="both", length=0, labelcolor=INK)
