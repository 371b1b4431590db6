"""The commands `space create`, `space join`, `space ticket` and `space list`.

Owns their options. Does not own what they do (`operations.membership`).
"""

import sys
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from . import completion, render, render_members
from .executor import read, write
from .options import HomeOption, JsonOption, ParamOption, SpaceOption, pairs
from .output import show
from .settings import settings

TICKET_READ_MAX: Final = 1 << 16
"""Characters read from stdin: more than any ticket has."""

BaseOption: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--base",
        metavar="DIR",
        help="Your copy of the base model; it stays where it is.",
    ),
]


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What people call the space.")],
    base: BaseOption,
    *,
    strategy: Annotated[
        str,
        typer.Option(
            help="How it is merged; see `crdtmerge strategies`.",
            autocompletion=completion.strategies,
        ),
    ] = "linear",
    param: ParamOption = None,
    mode: Annotated[
        str, typer.Option(help="members (a ticket is needed) or open.")
    ] = "members",
    owner: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Who owns it beside you, as `whoami` prints it; repeat for more.",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        int,
        typer.Option(
            metavar="K",
            min=1,
            help="How many owners must sign what an owner does: one alone acts as a"
            " maintainer then. It holds for good.",
        ),
    ] = 1,
    quarantine: Annotated[
        bool,
        typer.Option(
            "--quarantine",
            help="Cut off an author that signs two records of one number, from there on."
            " It holds for good, and against owners too.",
        ),
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Found a space around a base model; you are its owner."""
    chosen = settings(context, home, as_json=as_json)
    asked = {
        "name": name,
        "base": str(base.absolute()),
        "strategy": strategy,
        "params": pairs(param),
        "mode": mode,
        "owners": list(owner or ()),
        "threshold": threshold,
        "quarantine": quarantine,
    }
    show(
        write(chosen, "space_create", asked),
        render.founded,
        as_json=chosen.as_json,
    )


def join(
    context: typer.Context,
    ticket: Annotated[
        str, typer.Argument(help="As `space ticket` printed it; - reads it from stdin.")
    ],
    base: BaseOption,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Enter the space of a ticket with your own copy of its base."""
    chosen = settings(context, home, as_json=as_json)
    text = sys.stdin.read(TICKET_READ_MAX) if ticket == "-" else ticket
    asked = {"ticket": text, "base": str(base.absolute())}
    show(write(chosen, "space_join", asked), render.joined, as_json=chosen.as_json)


def ticket(
    context: typer.Context,
    revoke: Annotated[
        str | None,
        typer.Option(
            "--revoke",
            metavar="TICKET|all",
            help="Let nobody in any more with this ticket of this home, or with any.",
            show_default=False,
        ),
    ] = None,
    space: SpaceOption = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print a ticket that lets somebody join; hand it out in private."""
    chosen = settings(context, home, as_json=as_json)
    if revoke is not None:
        asked = {"ticket": revoke, "space": space}
        facts = write(chosen, "space_ticket_revoke", asked)
        show(facts, render_members.tickets_revoked, as_json=chosen.as_json)
        return
    facts = write(chosen, "space_ticket", {"space": space})
    show(facts, render.ticket, as_json=chosen.as_json)


def listing(
    context: typer.Context, home: HomeOption = None, *, as_json: JsonOption = False
) -> None:
    """List the spaces of this home."""
    chosen = settings(context, home, as_json=as_json)
    show(read(chosen.home, "space_list", {}), render.spaces, as_json=chosen.as_json)
