"""The command `log`.

Owns its options. Does not own the order or the words (`operations.history`).
"""

from typing import Annotated

import typer

from . import render_records
from .executor import read
from .options import HomeOption, JsonOption, SpaceOption
from .output import show
from .settings import settings


def log(
    context: typer.Context,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            help="The last so many records; 50 if left out.",
            show_default=False,
        ),
    ] = None,
    space: SpaceOption = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the records of a space, what each says, and whether it has effect now.

    Records carry no time. Each stands after all that it names: its author's record before
    it, its grant, what it removes, replaces or lifts. Those at one height of this order
    are sorted by id, so every home with the same records prints the same, the newest last.
    """
    chosen = settings(context, home, as_json=as_json)
    facts = read(chosen.home, "log", {"space": space, "limit": limit})
    show(facts, render_records.log, as_json=chosen.as_json)
