"""Options that many commands share.

Owns `--home`, `--json`, `--passphrase-file`, `--space`, `--missing` and `k=v` pairs. Does
not own what they come to (`settings`), nor any command.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from . import completion

HOME_VARIABLE = "CRDTMERGE_HOME"


HomeOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help=f"Home of this node; else {HOME_VARIABLE}, else the user's data folder.",
        show_default=False,
    ),
]
PassphraseFileOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="Private file with the passphrase of the keys; see `crdtmerge passphrase -h`.",
        show_default=False,
    ),
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON value and nothing else.")
]
SpaceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="SPACE",
        help="Name or id prefix; not needed in a home with one space.",
        show_default=False,
        autocompletion=completion.spaces,
    ),
]
ParamOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="K=V",
        help="A parameter of the strategy, or STEP.K=V of a step; repeat for more.",
        show_default=False,
    ),
]

MissingOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--missing",
        metavar="refuse|base",
        help="What is done about a whole model that lacks tensors of the base: base"
        " leaves these as they are in the base; refuse if left out.",
        show_default=False,
        autocompletion=completion.missing,
    ),
]


def pairs(given: Iterable[str] | None) -> dict[str, str]:
    """Return the mapping that `k=v` texts are.

    Raises:
        typer.BadParameter: one has no `=`, or a name stands twice.
    """
    found: dict[str, str] = {}
    for item in given or ():
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(
                f"{item!r} is not of the form K=V", param_hint="--param"
            )
        if name.strip() in found:
            raise typer.BadParameter(
                f"{name.strip()!r} is given twice", param_hint="--param"
            )
        found[name.strip()] = value.strip()
    return found
