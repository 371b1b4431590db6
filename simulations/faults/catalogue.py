"""The forty kinds of faults, numbered.

Owns their numbers, names and words, and how often each may be asked for. The numbers are
those of docs/faults.md and never change their meaning. Does not own what a fault does: that
is where it strikes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Area: TypeAlias = Literal["network", "download", "process", "disk", "member"]
Per: TypeAlias = Literal[
    "message", "dial", "stream", "link, a round", "round", "machine, a round"
]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind: `storm` is its chance in a storm, `per` what it is drawn for."""

    number: int
    name: str
    area: Area
    per: Per
    storm: float
    words: str


_FORTY: Final = (
    Fault(1, "loss", "network", "message", 0.3, "A message never arrives."),
    Fault(2, "duplicate", "network", "message", 0.1, "A message comes twice."),
    Fault(
        3, "reorder", "network", "message", 0.2, "A message is overtaken by later ones."
    ),
    Fault(
        4,
        "tail",
        "network",
        "message",
        0.01,
        "A message takes many times as long as most.",
    ),
    Fault(
        5,
        "corrupt",
        "network",
        "message",
        0.005,
        "Bits of a frame flip; the link ends, as TLS ends it.",
    ),
    Fault(
        6,
        "throttle",
        "network",
        "link, a round",
        0.05,
        "A link carries few bytes a second for some time.",
    ),
    Fault(
        7,
        "half_open",
        "network",
        "link, a round",
        0.03,
        "A link carries nothing more one way, and nobody is told.",
    ),
    Fault(8, "refuse", "network", "dial", 0.1, "A dial or a fetch fails."),
    Fault(9, "cut", "network", "link, a round", 0.05, "A link is cut."),
    Fault(
        10,
        "flap",
        "network",
        "link, a round",
        0.03,
        "Two machines lose their link again and again for some time.",
    ),
    Fault(
        11,
        "partition",
        "network",
        "round",
        0.06,
        "The network falls apart in two; it heals after some time.",
    ),
    Fault(
        12,
        "one_way",
        "network",
        "round",
        0.04,
        "Some machines reach none of the others, who reach them.",
    ),
    Fault(
        13,
        "bridge",
        "network",
        "round",
        0.04,
        "Two islands have but one machine in common.",
    ),
    Fault(
        14,
        "isolate",
        "network",
        "machine, a round",
        0.01,
        "A machine reaches nobody for some time.",
    ),
    Fault(
        15,
        "cut_stream",
        "download",
        "stream",
        0.1,
        "A stream of a blob ends before its last chunk.",
    ),
    Fault(
        16,
        "stalled_stream",
        "download",
        "stream",
        0.05,
        "A stream of a blob sends nothing more, and does not end.",
    ),
    Fault(
        17, "bad_chunk", "download", "stream", 0.05, "A chunk comes with other bytes."
    ),
    Fault(
        18,
        "crash",
        "process",
        "machine, a round",
        0.03,
        "A process is killed between two inputs; it comes back with its disk.",
    ),
    Fault(
        19,
        "crash_amid",
        "process",
        "machine, a round",
        0.02,
        "A process is killed amid the effects of one input.",
    ),
    Fault(
        20,
        "pause",
        "process",
        "machine, a round",
        0.03,
        "A process stands still amid the effects of one input, and goes on later.",
    ),
    Fault(
        21,
        "restart_loop",
        "process",
        "machine, a round",
        0.01,
        "A process is killed again soon after each of several starts.",
    ),
    Fault(
        22,
        "upgrade",
        "process",
        "machine, a round",
        0.02,
        "A process ends and comes back as another version.",
    ),
    Fault(
        23,
        "clock_ahead",
        "process",
        "machine, a round",
        0.02,
        "The clock of a machine jumps ahead.",
    ),
    Fault(
        24,
        "clock_back",
        "process",
        "machine, a round",
        0.02,
        "The clock of a machine jumps back.",
    ),
    Fault(
        25,
        "power_loss",
        "disk",
        "machine, a round",
        0.03,
        "The power goes amid writes; what was not synced is lost, or comes in any order.",
    ),
    Fault(
        26,
        "torn_write",
        "disk",
        "machine, a round",
        0.02,
        "The power goes amid a write, of which some sectors are on the disk.",
    ),
    Fault(
        27,
        "misdirected",
        "disk",
        "machine, a round",
        0.01,
        "A write lands in another place of its file.",
    ),
    Fault(
        28,
        "bit_flip",
        "disk",
        "machine, a round",
        0.01,
        "A bit of what lies on the disk flips.",
    ),
    Fault(
        29,
        "no_space",
        "disk",
        "machine, a round",
        0.02,
        "The disk is full for some time.",
    ),
    Fault(
        30, "io_error", "disk", "machine, a round", 0.02, "A call of the disk fails."
    ),
    Fault(
        31,
        "failed_sync",
        "disk",
        "machine, a round",
        0.02,
        "A sync fails; what it should have brought to the disk is lost.",
    ),
    Fault(
        32,
        "backup",
        "disk",
        "machine, a round",
        0.01,
        "A machine is put back to an older copy of its disk.",
    ),
    Fault(
        33,
        "wipe",
        "disk",
        "machine, a round",
        0.01,
        "A machine loses all that is on its disk.",
    ),
    Fault(
        34,
        "forge",
        "member",
        "round",
        0.05,
        "A member sends records that nobody signed, or that it may not make.",
    ),
    Fault(
        35,
        "equivocate",
        "member",
        "round",
        0.05,
        "A member signs two records of one number, and shows each to others.",
    ),
    Fault(
        36,
        "replay",
        "member",
        "round",
        0.05,
        "A member sends again what it sent or heard long ago.",
    ),
    Fault(
        37, "lie_size", "member", "round", 0.05, "A member lies about counts and sizes."
    ),
    Fault(
        38,
        "stall",
        "member",
        "round",
        0.05,
        "A member answers nothing for some time, and keeps its links.",
    ),
    Fault(39, "flood", "member", "round", 0.05, "A member says and asks without end."),
    Fault(
        40,
        "eclipse",
        "member",
        "round",
        0.05,
        "Members crowd around one machine and tell it of nobody else.",
    ),
)

FAULTS: Final[Mapping[str, Fault]] = {fault.name: fault for fault in _FORTY}
"""All kinds by name, in the order of their numbers."""
