"""What a command prints: one JSON value or a few plain lines, and errors.

Owns stdout and stderr, shortened ids and exit codes. Does not own what is said of a space
or a model (`render`), nor progress (`progress`).

Notes and names come from other people: what is not printable is replaced, so that nobody
can send a terminal its commands.
"""

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, cast

import typer

from crdtmerge.errors import CrdtMergeError

SHORT: Final = 12
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

_FORMAT_WARNING: Final = warnings.formatwarning

# SUBTLE: typer carries its own copy of click or uses the installed one, by its version;
# its public BadParameter is a UsageError of whichever it is.
_USAGE_ERROR: Final = typer.BadParameter.__mro__[1]


class Interrupted(Exception):  # noqa: N818  nothing failed
    """Ctrl-C on its way through typer, which would forget what was noted of the work."""

    def __init__(self, error: KeyboardInterrupt) -> None:
        """Carry the interrupt."""
        super().__init__("interrupted")
        self.error = error


def short(digest: object) -> str:
    """Return the first characters of an id in hex, as people are shown it."""
    return str(digest)[:SHORT]


def plain(text: object) -> str:
    """Return `text` on one line, without what a terminal would obey."""
    line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table with columns as wide as they must be."""
    cells = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def say(lines: str | Iterable[str]) -> None:
    """Print lines for people, on stdout."""
    typer.echo(lines if isinstance(lines, str) else "\n".join(lines))


def warn(text: str) -> None:
    """Print a line beside the answer, on stderr."""
    typer.echo(f"note: {plain(text)}", err=True)


def warning_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Return a warning as it is printed: of ours the text alone, others as Python does."""
    if category.__module__.startswith("crdtmerge."):
        return f"warning: {plain(message)}\n"
    return _FORMAT_WARNING(message, category, filename, lineno, line)


def show(
    answer: Mapping[str, object],
    render: Callable[[Mapping[str, object]], Iterable[str]],
    *,
    as_json: bool,
) -> None:
    """Print a verb's answer, as JSON or for people; its notes go to stderr then."""
    if as_json:
        say_json(answer)
        return
    say(render(answer))
    notes = answer.get("notes")
    for note in notes if isinstance(notes, list) else ():
        warn(str(note))


def say_json(value: object) -> None:
    """Print the one JSON value of a command."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def report(error: BaseException, *, as_json: bool) -> int:
    """Print what went wrong, on stderr, and return the exit code."""
    if isinstance(error, Interrupted):
        error = error.error
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _report_interrupt(error, as_json=as_json)
    if isinstance(error, BrokenPipeError):
        return _nobody_reads()
    if isinstance(error, OSError):
        from ..store.disk import machine_error

        error = machine_error(error, str(error.filename or "this command"))
    if isinstance(error, CrdtMergeError):
        _print_error(error, as_json=as_json)
        return error.exit_code
    if isinstance(error, _USAGE_ERROR):
        return _report_usage(cast("typer.BadParameter", error), as_json=as_json)
    return _report_bug(error, as_json=as_json)


def _report_interrupt(error: BaseException, *, as_json: bool) -> int:
    """Say what becomes of the work, where that was noted."""
    notes = [plain(note) for note in getattr(error, "__notes__", ())]
    if as_json:
        _print_json("Interrupted", "interrupted", "; ".join(notes), INTERRUPTED)
        return INTERRUPTED
    for note in notes:
        typer.echo(f"hint: {note}", err=True)
    return INTERRUPTED


def _nobody_reads() -> int:
    """Let what is left of the output go nowhere, as `| head` wants it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return BROKEN_PIPE


def _print_error(error: CrdtMergeError, *, as_json: bool) -> None:
    kind = type(error).__name__
    if as_json:
        _print_json(kind, str(error), error.hint, error.exit_code)
        return
    typer.echo(f"error: {plain(error) or kind}", err=True)
    if error.hint:
        typer.echo(f"hint: {plain(error.hint)}", err=True)


def _report_usage(error: typer.BadParameter, *, as_json: bool) -> int:
    if as_json:
        hint = "see --help"
        _print_json("UsageError", error.format_message(), hint, error.exit_code)
    else:
        error.show()
    return error.exit_code


def _report_bug(error: BaseException, *, as_json: bool) -> int:
    message = f"this is a bug in crdtmerge: {type(error).__name__}: {error}"
    hint = "please report it with the traceback"
    if as_json:
        _print_json(type(error).__name__, message, hint, 1)
    else:
        traceback.print_exception(error)
        typer.echo(f"error: {plain(message)}\nhint: {hint}", err=True)
    return 1


def _print_json(kind: str, message: str, hint: str, exit_code: int) -> None:
    error = {"type": kind, "message": message, "hint": hint, "exit_code": exit_code}
    typer.echo(json.dumps({"error": error}, ensure_ascii=False), err=True)
