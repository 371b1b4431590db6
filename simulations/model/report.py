"""What the model found, in words and tables.

Owns the form of the report, as Markdown and as plain values. Does not own the figures.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from .calibration import NEWS, Calibration
from .check import Checked, Simulated
from .members import Line
from .prediction import Prediction
from .spread import BEAT, QUESTION, REPLY, RUMOUR

ASSUMED: Final = tuple(
    " ".join(one.split())
    for one in """
A random graph of streams, drawn once: each peer chooses 8 others, and all have met. That
neighbours are exchanged is in it as streams that begin anew between the same two.

No congestion: a message takes 5 to 80 ms, each as likely, whatever its size and whatever
else is under way; the processor answers at once.

All peers are alike: same periods (1 s, a tenth more or less), same delays, all honest, and
none of them fails or leaves.

Records come one at a time: each is said once all have the last, one to two periods later.
Feeds that are behind by then carry older records again, as they do.

Lost messages are lost each for itself, with equal chance. Streams lose none until they are
cut: this is what the sessions bear, and no network that they are made for.

A repair by trie takes one question and one answer. Repairs out of doubt do not begin; how
many would is counted, and said.

A message costs what it cost in the calibration: frames by kind, `Node.handle`, encoding
and decoding. TLS, gRPC and disks are not in it.

Memory and the cost of a newcomer grow in a straight line with the members.
""".strip().split("\n\n")
)
NAMES: Final = {
    "half": "rounds, half",
    "most": "rounds, 99 %",
    "all": "rounds, all",
    "slowest": "rounds, slowest",
    "streams": "streams",
    "messages": "messages",
    "bytes": "bytes",
}


@dataclass(frozen=True, slots=True)
class Report:
    """All that one run found; `about` names the machine and the commit, if it was told."""

    about: str
    command: str
    costs: Calibration
    checks: Sequence[Checked]
    members: Line
    predictions: Sequence[Prediction]
    sizes: Sequence[int]

    def facts(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "about": self.about,
            "command": self.command,
            "assumptions": list(ASSUMED),
            "calibration": asdict(self.costs),
            "check": [
                {
                    "model": asdict(one.model),
                    "simulated": asdict(one.simulated),
                    "errors": one.errors(),
                }
                for one in self.checks
            ],
            "members": {
                "measured": [asdict(held) for held in self.members.measured],
                "book_bytes": self.members.book,
                "predicted": [asdict(self.members.at(size)) for size in self.sizes],
            },
            "predictions": [asdict(one) for one in self.predictions],
        }

    def lines(self) -> list[str]:
        """Return the report as Markdown."""
        return [
            "# The model: gossip among more peers than a machine can run",
            "",
            f"Written by `{self.command}`. {self.about}".rstrip(),
            "",
            "Real node cores run to a thousand in one simulated world. For more there is",
            "a model of their rules, whose peers are rows of arrays: exchanges, feeds and",
            "rumours message by message. Below: what it says, how far it is from real",
            "cores where both can run, what it assumes, and what members cost a node.",
            "A round is a gossip period. Messages, bytes and processor are a node's for",
            "one record, beyond what idling takes.",
            "",
            "## What it says",
            "",
            *_predicted(self.predictions),
            "",
            *_idle(self.costs),
            "",
            "## How far it is off",
            "",
            "Real cores (`simulations.town`) on the same question. A part of each",
            "difference is chance: the standard error of the mean is said with `all`.",
            "What a record takes of cores is what is left once idling is taken away: with",
            "loss that is small beside both, and streams whose hello was lost do not idle",
            "steadily, so their messages and bytes are the less certain ones there.",
            "",
            *_checked(self.checks),
            "",
            *_worst(self.checks),
            "",
            "## What it assumes",
            "",
            *(f"* {one}" for one in ASSUMED),
            "",
            "## What members cost a node",
            "",
            *_members(self.members, self.sizes),
            "",
            "## What things cost",
            "",
            *_costs(self.costs),
        ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _predicted(predictions: Sequence[Prediction]) -> list[str]:
    head = (
        *("peers", "lost", "half", "99 %", "all", "slowest", "records", "streams"),
        *("messages", "bytes", "processor", "repairs left out"),
    )
    rows = [
        (
            f"{one.peers:,}",
            f"{one.loss:.0%}",
            f"{one.half:.2f}",
            f"{one.most:.2f}",
            f"{one.all:.2f}",
            f"{one.slowest:.2f}",
            str(one.records),
            f"{one.streams:.1f}",
            f"{one.messages:.2f}",
            f"{one.bytes:,.0f}",
            f"{one.seconds * 1000:.2f} ms",
            f"{one.doubted / one.peers / one.records:.2g} a node",
        )
        for one in predictions
    ]
    return _table(head, rows)


def _idle(costs: Calibration) -> list[str]:
    idle = costs.idle
    return [
        "Idling, a node and period, as measured and taken to be the same for all sizes:",
        (
            f"{idle.messages:.2f} messages, {idle.bytes:.0f} bytes,"
            f" {idle.seconds * 1000:.2f} ms of the processor."
        ),
    ]


def _checked(checks: Sequence[Checked]) -> list[str]:
    head = ("peers", "lost", "figure", "model", "real cores", "model is off by")
    rows: list[Sequence[str]] = []
    for one in checks:
        errors = one.errors()
        for name, words in NAMES.items():
            model, cores = getattr(one.model, name), getattr(one.simulated, name)
            rows.append(
                (
                    f"{one.model.peers:,}",
                    f"{one.model.loss:.0%}",
                    words,
                    _with_error(one.model, name, model),
                    _with_error(one.simulated, name, cores),
                    f"{errors[name]:+.0%}",
                )
            )
    return _table(head, rows)


def _with_error(source: Prediction | Simulated, name: str, value: float) -> str:
    said = f"{value:,.0f}" if name == "bytes" else f"{value:.2f}"
    return f"{said} ± {source.all_error:.2f}" if name == "all" else said


def _worst(checks: Sequence[Checked]) -> list[str]:
    """Say where the model is off the most, without loss and with it."""
    lines = []
    for lossy in (False, True):
        errors = [
            (abs(error), NAMES[name], one.model.peers, error)
            for one in checks
            if (one.model.loss > 0) == lossy
            for name, error in one.errors().items()
        ]
        if errors:
            _, what, peers, error = max(errors)
            where = "With loss" if lossy else "Without loss"
            lines.append(
                f"{where} it is off the most in {what} at {peers:,} peers: {error:+.0%}."
            )
    return lines


def _members(line: Line, sizes: Sequence[int]) -> list[str]:
    measured = {held.members for held in line.measured}
    rows = [
        (
            f"{held.members:,}",
            "measured" if held.members in measured else "straight line",
            f"{held.record_bytes / 2**20:,.1f} MiB",
            f"{held.memory / 2**20:,.1f} MiB",
            f"{held.next_seconds * 1000:,.0f} ms",
        )
        for held in (*line.measured, *map(line.at, sizes))
    ]
    head = ("members", "", "records", "memory of what they mean", "the next to join")
    return [
        *_table(head, rows),
        "",
        "Who is a member is known to every node, so memory and disk grow with all of",
        "them, and a newcomer costs each node a look at all: the table says where that",
        "ends. Records are one a member, in a space open to all, on a simulated disk under",
        (
            "the real store. The book of addresses is bounded:"
            f" {line.book / 2**20:.1f} MiB when full."
        ),
    ]


def _costs(costs: Calibration) -> list[str]:
    seconds = costs.seconds
    rows = [
        (
            kind,
            f"{costs.bytes[kind]:.0f}",
            f"{seconds[kind] * 1e6:.0f} µs" if kind in seconds else "-",
            f"{seconds[kind + NEWS] * 1e6:.0f} µs" if kind + NEWS in seconds else "-",
        )
        for kind in (BEAT, QUESTION, REPLY, RUMOUR)
    ]
    return [
        f"Measured on {costs.nodes} real cores while {costs.records} records spread:",
        "",
        *_table(("message", "bytes", "handling", "handling, with news"), rows),
        "",
        (
            f"A record is {costs.record_bytes:.0f} bytes more in a reply. A rumour brings"
            " its record and, before it, the chain of grants that this hangs on."
        ),
        (
            f"Encoding and decoding a message take {costs.frame_seconds * 1e6:.0f} µs"
            f" together, a tick {seconds['Ticked'] * 1e6:.0f} µs."
        ),
    ]
