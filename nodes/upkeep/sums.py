"""Kept sums in a home: a folder a space, and when it goes.

Owns where the folders lie and which are of no use any more. Does not own what is in them
(`crdtmerge.resolve.kept`), nor when sums are kept (`nodes.operations.keeping`).

A file beside the sums says for which recipe they were made; it is touched with each use.
All of it is derived data: whatever goes is made afresh.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.formats.sums import SumsFolder
from crdtmerge.recipe import Recipe

from ..store.disk import PRIVATE_FOLDER, explained

SUMS_FOLDER: Final = "sums"
RECIPE_FILE: Final = "recipe"


@dataclass(frozen=True, slots=True)
class SpaceSums:
    """The kept sums of one space; `why` they may go, empty if they stay."""

    path: Path
    count: int
    size: int
    why: str


def folder_of(home: Path, space: SpaceId) -> Path:
    """Return where the sums of a space lie."""
    return home / SUMS_FOLDER / space.hex()


def begin(home: Path, space: SpaceId, recipe: Recipe) -> Path:
    """Return the folder for sums of this recipe; those of another one go.

    Raises:
        MachineError: the disk refuses.
    """
    path = folder_of(home, space)
    with explained(f"using {path}"):
        path.parent.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
        note = path / RECIPE_FILE
        text = recipe.digest.hex()
        if note.is_file() and note.read_text(errors="replace") != text:
            _clear(path)
        note.write_text(text)
        note.chmod(0o600)
    return path


def found_sums(
    home: Path, recipes: Mapping[SpaceId, Recipe | None], now: int, grace: int
) -> Iterator[SpaceSums]:
    """Yield the kept sums of each space; `recipes` are those of the spaces at hand."""
    folder = home / SUMS_FOLDER
    wanted = {space.hex(): recipe for space, recipe in recipes.items()}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        files = [file for file in path.iterdir() if file.name != RECIPE_FILE]
        sizes = [_size(file) for file in files]
        yield SpaceSums(
            path, len(files) // 2, sum(sizes), _why(path, wanted, now, grace)
        )


def drop(sums: SpaceSums) -> bool:
    """Remove the kept sums of a space, unless a resolve uses them; tell whether."""
    try:
        with SumsFolder(sums.path):
            shutil.rmtree(sums.path, ignore_errors=True)
    except BlockingIOError:
        return False
    return True


def _why(path: Path, wanted: Mapping[str, Recipe | None], now: int, grace: int) -> str:
    if path.name not in wanted:
        return "their space is not here any more"
    recipe = wanted[path.name]
    note = path / RECIPE_FILE
    try:
        text, used = note.read_text(errors="replace"), note.stat().st_mtime
    except OSError:
        return "nothing says what they were made for"
    if recipe is not None and recipe.digest.hex() != text:
        return "the space has another recipe now"
    return "they were not used for long" if now - used >= grace else ""


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0


def _clear(path: Path) -> None:
    """Remove what lies in a folder, which nobody else uses."""
    try:
        with SumsFolder(path):
            for file in path.iterdir():
                file.unlink()
    except BlockingIOError:
        return
