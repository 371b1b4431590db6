"""The folder in which the demo leaves its report.

Owns which files there are, and that nothing but an earlier report is ever replaced. Does
not own what stands in them (`page`, `plot`, `report`).
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from crdtmerge.errors import ConflictError, MachineError

from . import page
from .report import Outcome, as_json

MARK: Final = "crdtmerge demo 1"
"""Stands in figures.json; only a folder that bears it is replaced."""
FIGURES_FILE: Final = "figures.json"
RESOLUTIONS: Final = "resolutions"
SUMS_FILE: Final = f"{RESOLUTIONS}/SHA256SUMS"
PLOT_FILE: Final = "accuracy.png"
NAMES: Final = {"README.md", "accuracy.csv", FIGURES_FILE, PLOT_FILE, RESOLUTIONS}
FIGURES_BYTES_MAX: Final = 1 << 20
HINT: Final = "give another folder with --out"


def check_way(out: Path) -> None:
    """Refuse a place where something lies that is no earlier report.

    Raises:
        ConflictError: it does.
        MachineError: the folder cannot be read.
    """
    try:
        found = sorted(item.name for item in out.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError as e:
        raise ConflictError(f"{out} is not a folder", hint=HINT) from e
    except OSError as e:
        raise MachineError(f"cannot use {out}: {e.strerror}") from e
    if found and not _is_report(out):
        message = f"{out} is not empty, and no earlier report of the demo"
        raise ConflictError(message, hint=HINT)
    if strange := [name for name in found if name not in NAMES]:
        message = f"{out} holds {strange[0]!r}, which no report of the demo does"
        raise ConflictError(message, hint=f"move it away, or {HINT}")


def files(outcome: Outcome, plot: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every file of the report."""
    resolutions = list(_resolutions(outcome))
    yield from resolutions
    start = len(RESOLUTIONS) + 1
    listed = page.sums((name[start:], data) for name, data in resolutions)
    yield SUMS_FILE, listed.encode()
    yield "accuracy.csv", page.accuracy_csv(outcome).encode()
    yield PLOT_FILE, plot
    yield FIGURES_FILE, (json.dumps(_figures(outcome), indent=2) + "\n").encode()
    yield "README.md", page.index(outcome).encode()


def write(out: Path, outcome: Outcome, plot: bytes) -> None:
    """Write the report to `out`, whole or not at all; an earlier one is replaced.

    Raises:
        ConflictError: something else came to lie there meanwhile.
        MachineError: the disk refuses.
    """
    out = out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(out) as scratch:
            new = scratch / "new"
            for name, data in files(outcome, plot):
                path = new / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            check_way(out)
            if out.exists():
                out.rename(scratch / "old")
            new.rename(out)
    except OSError as e:
        raise MachineError(f"cannot write {out}: {e.strerror}") from e


@contextlib.contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """Lend a hidden folder beside `out`; what was moved out of the way is put back."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield scratch
    finally:
        if not out.exists() and (scratch / "old").exists():
            (scratch / "old").rename(out)
        shutil.rmtree(scratch, ignore_errors=True)


def _is_report(out: Path) -> bool:
    """Tell whether an earlier demo wrote this folder."""
    try:
        with (out / FIGURES_FILE).open("rb") as file:
            said = json.loads(file.read(FIGURES_BYTES_MAX))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("report") == MARK


def _resolutions(outcome: Outcome) -> Iterator[tuple[str, bytes]]:
    """Yield what each peer wrote at each stage."""
    for stage_name, stage in outcome.stages:
        folder = stage_name.replace(" ", "-")
        for peer, data in zip(outcome.names, stage.resolutions, strict=True):
            yield f"{RESOLUTIONS}/{folder}/{peer}.json", data


def _figures(outcome: Outcome) -> dict[str, object]:
    """Return all figures: those of `--json`, then what the report adds."""
    return {
        "report": MARK,
        **as_json(outcome),
        "test_images": outcome.test_images,
        "models": [
            {"model": row.label, "all": row.share, "by_digit": list(row.by_digit)}
            for row in outcome.rows
        ],
        "stages": [
            {
                "stage": name,
                "model_digests": dict(zip(outcome.names, stage.digests, strict=True)),
            }
            for name, stage in outcome.stages
        ],
    }
