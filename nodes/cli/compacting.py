"""The command `space compact`.

Owns its options. Does not own what it does (`operations.compacting`).
"""

from typing import Annotated

import typer

from . import render_compacting
from .executor import read, write
from .options import HomeOption, JsonOption, SpaceOption
from .output import show
from .settings import settings


def compact(
    context: typer.Context,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Sign nothing: say what could go, and what stays and why."
        ),
    ] = False,
    *,
    space: SpaceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the records that have no effect any more, so that every node drops them.

    Contributions that were removed, and the removes; replaced recipes; addresses that were
    said anew. What is merged does not change. For owners; what is gone does not come back.
    """
    chosen = settings(context, home, as_json=as_json)
    asked = {"dry_run": dry_run, "space": space}
    if dry_run:
        facts = read(chosen.home, "space_compact", asked)
    else:
        facts = write(chosen, "space_compact", asked)
    show(facts, render_compacting.compacted, as_json=chosen.as_json)
