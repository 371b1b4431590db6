"""The command `node quotas`, and the option of `node run` that goes with it.

Owns how quotas are written on a command line and shown. Does not own what they mean
(`nodes.quotas`), nor where they are kept (`operations.limiting`).
"""

from collections.abc import Iterable
from typing import Annotated, Final, TypeAlias, cast

import typer

from .executor import ask, write
from .options import HomeOption, JsonOption
from .output import show, table
from .render import Facts, several, size
from .settings import settings

QuotaOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--quota",
        metavar="NAME=VALUE",
        help="A quota for this run alone; repeat for more. `node quotas` lists them.",
        show_default=False,
    ),
]
NO_LIMIT: Final = "no limit"


def node_quotas(
    context: typer.Context,
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=VALUE...",
            help="As author-bytes=2TB or peer-records=500; 0 is no limit, `default` goes"
            " back.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show or set what one peer, and one author, may use of this machine.

    Quotas only delay: who sends more than its share is read from more slowly, records
    beyond an author's share are taken later, and contributions beyond its bytes are
    fetched once they are asked for. Others do not wait for that. New values hold for a
    running node at once.
    """
    chosen = settings(context, home, as_json=as_json)
    if given:
        facts = write(chosen, "node_quotas", {"set": pairs(given, "NAME=VALUE")})
    else:
        facts = ask(chosen.home, "node_quotas", {})
    show(facts, _lines, as_json=chosen.as_json)


def pairs(given: Iterable[str] | None, hint: str = "--quota") -> dict[str, str]:
    """Return what texts of the form NAME=VALUE say.

    Raises:
        typer.BadParameter: one has no `=`, or a name stands twice.
    """
    found: dict[str, str] = {}
    for item in given or ():
        name, equals, value = (part.strip() for part in item.partition("="))
        if not (name and equals and value) or name in found:
            raise typer.BadParameter(
                f"{item!r} is not NAME=VALUE, once for each name", param_hint=hint
            )
        found[name] = value
    return found


def _lines(facts: Facts) -> list[str]:
    rows = []
    for quota in several(facts["quotas"]):
        default = quota["value"] == quota["default"]
        value = _value(quota, "value")
        rows.append((quota["name"], value, "" if default else "set", quota["meaning"]))
    return table(("QUOTA", "LIMIT", "", "WHAT"), rows)


def _value(quota: Facts, field: str) -> str:
    value = cast("float", quota[field])
    if not value:
        return NO_LIMIT
    text = size(value) if quota["unit"] == "bytes" else f"{value:.12g}"
    return text if quota["total"] else f"{text}/s"
