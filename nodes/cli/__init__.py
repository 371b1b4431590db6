"""The command line: `crdtmerge`, nouns and verbs, `--json` everywhere.

Owns the entry point and the exit code. Does not own any verb (`operations`). Only typer
and the standard library are imported before a command is known, so that `--help` answers
at once.
"""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from .cut import tell_of_cut_files
from .output import report, warning_line


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing is raised."""
    try:
        from .app import build

        code = build()(arguments, prog_name="crdtmerge", standalone_mode=False)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as e:  # noqa: BLE001  the last line of defence
        return report(e, as_json=_wants_json(arguments))
    return code if isinstance(code, int) else 0


def _wants_json(arguments: Sequence[str]) -> bool:
    """Tell whether errors are wanted as JSON, even those of parsing the arguments."""
    before = list(arguments)
    if "--" in before:
        before = before[: before.index("--")]
    return "--json" in before and before[:1] != ["demo"]


def main() -> NoReturn:
    """Run the command that the process was started with."""
    # gRPC's own log lines (a refused handshake, say) are not for users; ours are.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    warnings.formatwarning = warning_line
    arguments = sys.argv[1:]
    tell_of_cut_files(as_json=_wants_json(arguments))
    sys.exit(run(arguments))
