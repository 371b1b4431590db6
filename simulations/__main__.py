"""`python -m simulations COMMAND`: one line a command. Owns no experiment.

Beside the commands of `crdtmerge simulate`, which everybody has who installed it: these
are long runs that print figures, and need files and a timer.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

COMMANDS: Final[dict[str, str]] = {
    "model": ".model.command",
    "paper": ".paper.command",
    "real": ".real.command",
    "sabotage": ".sabotage",
}
"""By name, the module whose `main(argv)` runs it, relative to this package.

It returns its exit status, and is imported once it is asked for.
"""


def main(argv: Sequence[str]) -> int:
    """Run the command that the first word names; return its exit status."""
    if argv and argv[0] in COMMANDS:
        module = import_module(COMMANDS[argv[0]], __package__)
        return int(module.main(argv[1:]) or 0)
    known = " | ".join(sorted(COMMANDS))
    sys.stderr.write(f"usage: python -m simulations {known} [--help]\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
