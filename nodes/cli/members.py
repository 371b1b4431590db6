"""The commands `space grant`, `space revoke`, `space members` and what owners share.

Owns their options. Does not own what they do (`granting`, `revoking`, `forking`,
`approving` and `members` of `operations`).
"""

from typing import Annotated, TypeAlias

import typer

from . import completion, render_members
from .executor import read, write
from .options import HomeOption, JsonOption, SpaceOption
from .output import show
from .settings import settings

AuthorArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="AUTHOR",
        help="An author's key, or the start of one.",
        autocompletion=completion.authors,
    ),
]


def grant(
    context: typer.Context,
    author: Annotated[
        str,
        typer.Argument(
            metavar="AUTHOR",
            help="An author's key, as `whoami` prints it; the start of one known here.",
            autocompletion=completion.authors,
        ),
    ],
    *,
    rank: Annotated[
        str, typer.Option(metavar="RANK", help="reader, contributor or maintainer.")
    ],
    weight_cap: Annotated[
        str | None,
        typer.Option(
            metavar="W",
            help="What a contribution may weigh at most, 0 to 1000; 1 if left out.",
            show_default=False,
        ),
    ] = None,
    records: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How many records the author may sign; a million if left out.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--bytes",
            metavar="SIZE",
            help="How large one contribution may be, such as 20GiB or 500MB.",
            show_default=False,
        ),
    ] = None,
    space: SpaceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an author a rank in a space; a grant only ever raises.

    A rank below your own, with limits up to yours. A ticket makes contributors by itself.
    """
    chosen = settings(context, home, as_json=as_json)
    asked = {
        "author": author,
        "rank": rank,
        "weight_cap": weight_cap,
        "records": records,
        "bytes": size,
        "space": space,
    }
    facts = write(chosen, "space_grant", asked)
    show(facts, render_members.granted, as_json=chosen.as_json)


def revoke(
    context: typer.Context,
    author: AuthorArgument,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RECORD",
            help="The last record that stays in effect, with all before it; repeat if"
            " the author forked. All that is here, if left out; `log` lists them.",
            show_default=False,
        ),
    ] = None,
    *,
    from_start: Annotated[
        bool,
        typer.Option("--from-start", help="Nothing of the author stays in effect."),
    ] = False,
    lift: Annotated[
        bool,
        typer.Option(
            "--lift",
            help="The other way: give the author its rights back, and records.",
        ),
    ] = False,
    space: SpaceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an author's rights: what it contributed stays, anything new is without effect."""
    chosen = settings(context, home, as_json=as_json)
    if lift and (keep or from_start):
        raise typer.BadParameter("it lifts all that was revoked", param_hint="--lift")
    if lift:
        asked: dict[str, object] = {"author": author, "space": space}
        facts = write(chosen, "space_revoke_lift", asked)
        show(facts, render_members.reinstated, as_json=chosen.as_json)
        return
    asked = {
        "author": author,
        "keep": list(keep or ()),
        "from_start": from_start,
        "space": space,
    }
    facts = write(chosen, "space_revoke", asked)
    show(facts, render_members.revoked, as_json=chosen.as_json)


def leave(
    context: typer.Context,
    space: SpaceOption = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Leave a space for good: peers let this home's node in no more.

    What you contributed stays. Your key has no rights there from then on, and nobody can
    give it any; another key may be let in.
    """
    chosen = settings(context, home, as_json=as_json)
    facts = write(chosen, "space_leave", {"space": space})
    show(facts, render_members.left, as_json=chosen.as_json)


def forks(
    context: typer.Context,
    publish: Annotated[
        bool,
        typer.Option("--publish", help="Show the others what no record shows yet."),
    ] = False,
    lift: Annotated[
        str | None,
        typer.Option(
            "--lift",
            metavar="AUTHOR",
            help="Let what a quarantined author of lower rank signed count again.",
            show_default=False,
            autocompletion=completion.authors,
        ),
    ] = None,
    *,
    space: SpaceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the authors that signed two records of one number, and what follows from it.

    An author does so by breaking the rules, or because its home was restored or copied.
    """
    chosen = settings(context, home, as_json=as_json)
    if lift is not None and publish:
        raise typer.BadParameter("either show forks or lift one", param_hint="--lift")
    if lift is not None:
        asked = {"author": lift, "space": space}
        facts = write(chosen, "space_forks_lift", asked)
        show(facts, render_members.unforked, as_json=chosen.as_json)
        return
    if publish:
        facts = write(chosen, "space_forks_publish", {"space": space})
    else:
        facts = read(chosen.home, "space_forks", {"space": space})
    show(facts, render_members.forks, as_json=chosen.as_json)


def members(
    context: typer.Context,
    space: SpaceOption = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the authors of a space: ranks, limits, nodes, contributions."""
    chosen = settings(context, home, as_json=as_json)
    facts = read(chosen.home, "space_members", {"space": space})
    show(facts, render_members.members, as_json=chosen.as_json)


def approve(
    context: typer.Context,
    act: Annotated[
        str,
        typer.Argument(
            metavar="RECORD", help="What to sign, as `space pending` has it."
        ),
    ],
    *,
    space: SpaceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign what another owner did: it takes effect once enough owners have."""
    chosen = settings(context, home, as_json=as_json)
    facts = write(chosen, "space_approve", {"id": act, "space": space})
    show(facts, render_members.approved, as_json=chosen.as_json)


def pending(
    context: typer.Context,
    space: SpaceOption = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List what waits for owners: who signed it, and how many must."""
    chosen = settings(context, home, as_json=as_json)
    facts = read(chosen.home, "space_pending", {"space": space})
    show(facts, render_members.pending, as_json=chosen.as_json)
