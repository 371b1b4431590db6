"""`python -m benchmarks COMMAND`: one line a command. Owns no measurement."""

import sys
from collections.abc import Callable, Sequence
from typing import Final

from benchmarks import crowd, increment, ingest, meaning, numerics
from benchmarks.cluster import connections, fairness, processes
from benchmarks.gossip import command as gossip
from benchmarks.portability import command as portability
from benchmarks.portability import simulated
from benchmarks.reconcile import command as reconcile
from benchmarks.resolve import command as resolve
from benchmarks.scale import command as scale
from benchmarks.transfer import command as transfer


def _quality(argv: Sequence[str]) -> int:
    """Measure merged models; the others start without torch, so it is imported late."""
    from benchmarks.quality import command

    return command.main(argv)


def _budget(argv: Sequence[str]) -> int:
    """Measure merged models under I/O budgets, with torch too."""
    from benchmarks.quality import budgets

    return budgets.main(argv)


def _encodings(argv: Sequence[str]) -> int:
    """Measure encodings of real fine-tunes, for which torch is imported late too."""
    from benchmarks.encodings import command

    return command.main(argv)


def _poison(argv: Sequence[str]) -> int:
    """Measure merges with backdoored contributions among them, with torch too."""
    from benchmarks.poison import command

    return command.main(argv)


def _inspect(argv: Sequence[str]) -> int:
    """Measure what `inspect` finds of real fine-tunes, with torch too."""
    from benchmarks.inspecting import command

    return command.main(argv)


def _spectral(argv: Sequence[str]) -> int:
    """Measure merges by singular values, beside torch."""
    from benchmarks.spectral import command

    return command.main(argv)


COMMANDS: Final[dict[str, Callable[[Sequence[str]], int | None]]] = {
    "budget": _budget,
    "connections": connections.main,
    "crowd": crowd.main,
    "encodings": _encodings,
    "fairness": fairness.main,
    "gossip": gossip.main,
    "increment": increment.main,
    "ingest": ingest.main,
    "inspect": _inspect,
    "meaning": meaning.main,
    "numerics": numerics.main,
    "poison": _poison,
    "portability": portability.main,
    "processes": processes.main,
    "quality": _quality,
    "reconcile": reconcile.main,
    "resolve": resolve.main,
    "scale": scale.main,
    "simulated": simulated.main,
    "spectral": _spectral,
    "transfer": transfer.main,
}


def main(argv: Sequence[str]) -> int:
    """Run the command that the first word names; return its exit status."""
    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]](argv[1:]) or 0
    known = " | ".join(sorted(COMMANDS))
    print(f"usage: python -m benchmarks {known} [--help]", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
