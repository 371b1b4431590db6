"""The commands `store pack` and `store unpack`.

Owns their options. Does not own what they do (`operations.packing`).
"""

from typing import Annotated

import typer

from . import render_store
from .executor import write
from .options import HomeOption, JsonOption
from .output import show
from .settings import settings
from .store import seconds


def pack(
    context: typer.Context,
    *,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long no resolve must have used a tensor, as 7d, 12h, 30m or 0;"
            " 7 days if left out. One that was never used counts as unused.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only estimate, by a few chunks of each.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep tensors of contributions that no resolve used lately in fewer bytes.

    Each is encoded without loss, against the base where that helps, and stays readable; a
    resolve that reads it decodes it. Done only where a tenth or more is saved.
    """
    chosen = settings(context, home, as_json=as_json)
    asked = {"older_than": seconds(older_than, "--older-than"), "dry_run": dry_run}
    facts = write(chosen, "store_pack", asked)
    show(facts, render_store.packed, as_json=chosen.as_json)


def unpack(
    context: typer.Context, home: HomeOption = None, *, as_json: JsonOption = False
) -> None:
    """Give all packed tensors their raw bytes back, for resolves that are to be fast."""
    chosen = settings(context, home, as_json=as_json)
    facts = write(chosen, "store_unpack", {})
    show(facts, render_store.unpacked, as_json=chosen.as_json)
