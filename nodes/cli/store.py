"""The commands `store show`, `gc`, `quota`, `pin`, `unpin` and `fsck`.

Owns their options, and the patience with those who read the home. Does not own what they do
(`operations.storing`, `operations.examining`).
"""

import re
import time
from collections.abc import Mapping
from typing import Annotated, Final

import typer

from . import completion, render_store
from .contributions import AnywhereOption
from .executor import Answer, ask, read, with_node, write
from .options import HomeOption, JsonOption
from .output import show
from .render import several
from .settings import Settings, settings

ATTEMPTS: Final = 20
DAMAGED: Final = 8
"""The exit code where damage is left."""
PAUSE_S: Final = 0.2
"""How long a collection waits for readers: most are done within seconds."""

_DURATION: Final = re.compile(r"([0-9]{1,9})([smhdw]?)")
_UNIT_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

Contribution = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="Start of a contribution's id.",
        autocompletion=completion.contributions,
    ),
]


def show_store(
    context: typer.Context, home: HomeOption = None, *, as_json: JsonOption = False
) -> None:
    """Show what lies in the store: blobs, bytes, pins, what nothing needs, free space."""
    chosen = settings(context, home, as_json=as_json)
    facts = ask(chosen.home, "store_show", {})
    show(facts, render_store.stored, as_json=chosen.as_json)


def quota(
    context: typer.Context,
    limit: Annotated[
        str,
        typer.Argument(
            metavar="SIZE", help="As 200GB or 50GiB; `none` ends the limit."
        ),
    ],
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Limit how much of the disk the blobs of this home may take.

    Nothing goes because of it: what would pass the limit is not fetched or taken in, and
    waits until there is room. It holds for a running node at once.
    """
    from crdtmerge.sizes import size_of

    chosen = settings(context, home, as_json=as_json)
    asked = {"bytes": -1 if limit == "none" else size_of(limit)}
    facts = write(chosen, "store_quota", asked)
    show(facts, render_store.quota, as_json=chosen.as_json)


def gc(
    context: typer.Context,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go.")
    ] = False,
    grace: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long a blob must have been unneeded, as 7d, 12h, 30m or 0;"
            " 7 days if left out.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove blobs that nothing has needed for a while.

    Needed are the bases of the spaces, and what is visible, pinned or in use. A removed
    contribution may come back, so its blobs wait; the wait begins when a collection, or
    the running node, first sees that nothing needs them.
    """
    chosen = settings(context, home, as_json=as_json)
    asked = {"dry_run": dry_run, "grace": seconds(grace, "--grace")}
    facts = _patiently(chosen, asked)
    show(facts, render_store.collected, as_json=chosen.as_json)


def _patiently(chosen: Settings, asked: Mapping[str, object]) -> Answer:
    """Collect; while a reader is in the way wait a little, and add up what went."""
    facts = write(chosen, "store_gc", asked)
    for _ in range(ATTEMPTS):
        if not facts["in_the_way"]:
            break
        time.sleep(PAUSE_S)
        before, facts = facts, write(chosen, "store_gc", asked)
        facts["count"] = _number(before["count"]) + _number(facts["count"])
        facts["bytes"] = _number(before["bytes"]) + _number(facts["bytes"])
        facts["went"] = [*_listed(before["went"]), *_listed(facts["went"])]
    return facts


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def seconds(given: str | None, option: str) -> int | None:
    """Return a duration in seconds.

    Raises:
        typer.BadParameter: it is none.
    """
    if given is None:
        return None
    found = _DURATION.fullmatch(given.strip())
    if found is None:
        message = f"{given!r} is no duration: write 7d, 12h, 30m, 45s or 0"
        raise typer.BadParameter(message, param_hint=option)
    return int(found[1]) * _UNIT_S[found[2]]


def pin(
    context: typer.Context,
    given: Contribution,
    note: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; `store show` says it.")
    ] = None,
    space: AnywhereOption = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Keep a contribution's blobs on this machine, even once it is removed or banned."""
    chosen = settings(context, home, as_json=as_json)
    asked = {"id": given, "space": space, "note": note}
    show(write(chosen, "store_pin", asked), render_store.pin, as_json=chosen.as_json)


def unpin(
    context: typer.Context,
    given: Contribution,
    space: AnywhereOption = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Take a pin back: the blobs go once nothing else needs them."""
    chosen = settings(context, home, as_json=as_json)
    asked = {"id": given, "space": space}
    show(write(chosen, "store_unpin", asked), render_store.pin, as_json=chosen.as_json)


def fsck(
    context: typer.Context,
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Set aside what is damaged and have it anew: from files on this machine,"
            " else from peers. Only the chunks that are wrong are fetched.",
        ),
    ] = False,
    patience: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Give up once nothing has come for so long."
        ),
    ] = 60.0,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read all records and blobs, say what is damaged; exit code 8 if any damage is left.

    Where no node runs, one runs here for as long as a repair needs peers.
    """
    chosen = settings(context, home, as_json=as_json)
    facts = _examined(chosen, repair=repair, patience=patience)
    show(facts, render_store.examined, as_json=chosen.as_json)
    if not facts["sound"]:
        raise typer.Exit(DAMAGED)


def _examined(chosen: Settings, *, repair: bool, patience: float) -> Answer:
    """Check, and where asked repair from this machine and then from peers."""
    if not repair:
        return read(chosen.home, "store_fsck", {})
    facts = write(chosen, "store_fsck", {"repair": True})
    wanted = _listed(facts["wanted"])
    if not wanted:
        return facts
    asked = {"blobs": wanted, "patience": patience}
    waited = with_node(chosen, "store_await", asked)
    came = _listed(waited["here"])
    damaged = [
        {**found, "outcome": "repaired" if found["blob"] in came else found["outcome"]}
        for found in several(facts["damaged"])
    ]
    return {
        **facts,
        "damaged": damaged,
        "wanted": waited["missing"],
        "fetched_bytes": waited["fetched_bytes"],
        "sound": not facts["tables"]
        and all(found["outcome"] in {"repaired", "removed"} for found in damaged),
        "notes": waited["notes"],
    }
