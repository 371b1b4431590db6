"""Options that many commands share, and what they come to.

Owns `--home`, `--json`, `--passphrase-file`, `--space` and `k=v` pairs. Does not own any
command.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

HOME_VARIABLE = "CRDTMERGE_HOME"


def _spaces(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the names of spaces; `completion` takes its home from here, so it is late."""
    from .completion import spaces

    return spaces(ctx, incomplete)


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
        autocompletion=_spaces,
    ),
]
ParamOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="K=V",
        help="A parameter of the strategy; repeat for more.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for one command: the home, and the form of the output."""

    given: Path | None
    as_json: bool
    passphrase_file: Path | None = None

    @property
    def home(self) -> Path:
        """The home: as given, or the default of this system."""
        if self.given is not None:
            return self.given.expanduser().absolute()
        from ..home import default_home

        return default_home().absolute()


def settings(
    context: typer.Context,
    home: Path | None = None,
    *,
    as_json: bool = False,
    passphrase_file: Path | None = None,
) -> Settings:
    """Return the settings of a command; its own options win over the program's."""
    outer = context.find_object(Settings) or Settings(None, as_json=False)
    return Settings(
        home or outer.given,
        as_json or outer.as_json,
        passphrase_file or outer.passphrase_file,
    )


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
