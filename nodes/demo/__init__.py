"""The demo: four peers on this machine merge a small real network, and ban a poison.

Owns `run_demo`: its folders, its output and its exit code. Does not own the story
(`story`), the peers (`peers`), their processes (`processes`), the network (`training`),
what must hold at the end (`report`), nor the report that stays (`folder`, `page`, `plot`).

torch, scikit-learn and matplotlib are imported here alone, and only when the demo runs.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import typer

from crdtmerge.errors import BadInputError, ConflictError, MachineError

from . import folder
from .peers import DemoError
from .report import Outcome, as_json, broken_promises, table

PACKAGES: Final = ("torch", "sklearn", "matplotlib")
INSTALL_HINT: Final = "pip install 'crdtmerge[demo]'"

_say: Final = typer.echo


def run_demo(
    json_path: Path | None = None,
    *,
    out: Path | None = None,
    keep: Path | None = None,
) -> int:
    """Run the demo, print what it found, and return the exit code.

    The code is 0 if everything that the demo promises came true, else 1. `out` receives
    the report and `json_path` the figures. All files of the peers live in a temporary
    folder, removed at the end, or in `keep`, which stays.

    Raises:
        BadInputError: a package is not installed, or `json_path` has no folder.
        ConflictError: `keep` is there already and not an empty folder, or at `out` lies
            something that is no earlier report.
        MachineError: a folder, the report or the figures cannot be written.
    """
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise BadInputError(f"there is no folder {json_path.absolute().parent}")
    if out is not None:
        folder.check_way(out)
    _say("Loading torch, scikit-learn and matplotlib ...")
    try:
        from . import plot, story
    except ImportError as e:
        if (e.name or "").partition(".")[0] not in PACKAGES:
            raise  # not a matter of what is installed
        message = (
            f"the demo trains a network and needs {e.name}, which is not installed"
        )
        raise BadInputError(message, hint=INSTALL_HINT) from e
    with _workplace(keep) as place:
        try:
            outcome = story.tell(place, _say)
        except DemoError as e:
            _say(f"The demo failed: {e}")
            return 1
    if json_path is not None:
        _write(json_path, outcome)
    if out is not None:
        folder.write(out, outcome, plot.draw(outcome))
    return _conclude(outcome, out)


@contextmanager
def _workplace(keep: Path | None) -> Iterator[Path]:
    """Lend the folder in which everything happens."""
    if keep is None:
        # SUBTLE: the name is short because sockets' paths may have only 104 characters.
        with tempfile.TemporaryDirectory(prefix="crdt-") as place:
            yield Path(place).resolve()
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        empty = not any(keep.iterdir())
    except FileExistsError as e:
        raise ConflictError(f"{keep} is not a folder") from e
    except OSError as e:
        raise MachineError(f"cannot use {keep}: {e.strerror}") from e
    if not empty:
        raise ConflictError(f"{keep} is not empty", hint="give a new folder")
    try:
        yield keep.resolve()
    finally:
        _say(f"Everything is kept in {keep}.")


def _write(path: Path, outcome: Outcome) -> None:
    try:
        path.write_text(json.dumps(as_json(outcome), indent=2) + "\n", "utf-8")
    except OSError as e:
        raise MachineError(f"cannot write {path}: {e.strerror}") from e


def _conclude(outcome: Outcome, out: Path | None) -> int:
    """Print the table, the verdict and where the report lies; return the exit code."""
    _say("")
    for line in table(outcome):
        _say(line)
    _say("")
    broken = list(broken_promises(outcome))
    for sentence in broken:
        _say(f"Broken promise: {sentence}.")
    if not broken:
        _say(
            "The merge beats every single fine-tune; the peers agree byte for byte; and"
            "\nthe bytes after the ban are the bytes before the poison."
        )
    if out is not None:
        _say(
            f"\nThe report is in {out}: begin with README.md, or look at accuracy.png."
        )
    return 1 if broken else 0
