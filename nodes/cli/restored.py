"""The command `store adopt`.

Owns its words for people. Does not own what it does (`operations.adopting`).
"""

import typer

from .executor import write
from .options import HomeOption, JsonOption
from .output import plain, short, show
from .render import Facts, several
from .settings import settings


def adopt(
    context: typer.Context, home: HomeOption = None, *, as_json: JsonOption = False
) -> None:
    """Go on with this home after it was restored or copied, without asking a peer.

    A restored home signs nothing in a space until a peer has told what was signed before:
    to use a number twice would convict its author. If no peer is left to ask, or another
    copy was in use and is gone for good, this says that this home is the one that counts.
    """
    chosen = settings(context, home, as_json=as_json)
    facts = write(chosen, "store_adopt", {})
    show(facts, _adopted, as_json=chosen.as_json)


def _adopted(facts: Facts) -> list[str]:
    found = several(facts["spaces"])
    names = ", ".join(f"{plain(s['name'])} ({short(s['id'])})" for s in found)
    return (
        [f"this home signs again in {names}"] if found else ["this home signs already"]
    )
