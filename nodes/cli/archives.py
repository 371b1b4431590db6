"""The commands `space export` and `space import`.

Owns their options. Does not own what they do (`operations.exporting`, `importing`).
"""

from pathlib import Path
from typing import Annotated

import typer

from . import completion, render_archives
from .executor import read, write
from .options import HomeOption, JsonOption
from .output import show
from .settings import settings


def export(
    context: typer.Context,
    space: Annotated[
        str,
        typer.Argument(
            metavar="SPACE",
            help="Name or id prefix.",
            autocompletion=completion.spaces,
        ),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")],
    *,
    without_contents: Annotated[
        bool,
        typer.Option("--without-contents", help="Records alone, without any bytes."),
    ] = False,
    with_base: Annotated[
        bool,
        typer.Option(
            "--with-base", help="The base too, with what lies beside its weights."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is there already.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a space to one file: all records, and the bytes of what is in the merge.

    The file is a plain tar. It holds what every member of the space may know, and no key,
    ticket, or address but those that members announced. All of it is verified on the way.
    """
    chosen = settings(context, home, as_json=as_json)
    asked = {
        "space": space,
        "file": str(file.absolute()),
        "without_contents": without_contents,
        "with_base": with_base,
        "force": force,
    }
    facts = read(chosen.home, "space_export", asked)
    show(facts, render_archives.exported, as_json=chosen.as_json)


def import_(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="As `space export` wrote it.")
    ],
    *,
    base: Annotated[
        Path | None,
        typer.Option(
            "--base",
            metavar="DIR",
            help="Your copy of the base; or, if it is in the file, a new folder for it.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in a space from a file, as if its members had sent it.

    Every record, and every byte that is taken in, is verified; if anything is wrong,
    nothing is kept. What is here already is passed over. The file gives no rights: you
    can resolve, and to contribute you need a ticket of the space.
    """
    chosen = settings(context, home, as_json=as_json)
    asked = {
        "file": str(file.absolute()),
        "base": str(base.absolute()) if base else None,
    }
    facts = write(chosen, "space_import", asked)
    show(facts, render_archives.imported, as_json=chosen.as_json)
