"""The command `audit`.

Owns its options, and that a peer is asked in the node before anything is computed here.
Does not own what it does (`operations.auditing`).
"""

from pathlib import Path
from typing import Annotated, Final

import typer

from . import completion, executor
from .doctor import BackendOption, use
from .options import HomeOption, JsonOption, PassphraseFileOption, SpaceOption
from .output import show
from .render_audit import audited
from .settings import settings

WRONG: Final = 8
"""The exit code where a tensor is not what it should be, as of damage."""


def audit(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="A folder that `resolve` wrote, anywhere."
        ),
    ] = None,
    *,
    peer: Annotated[
        str | None,
        typer.Option(
            metavar="NODE",
            help="Audit what a node attests, without its bytes: start of its id.",
            show_default=False,
            autocompletion=completion.nodes,
        ),
    ] = None,
    share: Annotated[
        str, typer.Option(metavar="PERCENT", help="How many of the tensors, at random.")
    ] = "10%",
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Choose the tensors as an audit did that printed this seed.",
            show_default=False,
        ),
    ] = None,
    space: SpaceOption = None,
    backend: BackendOption = None,
    home: HomeOption = None,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute a random part of somebody's model again; exit code 8 if it differs.

    Digests of the bytes are compared with those that the contributions here make. What a
    node attests is asked of it; where this home resolved the same state, tensors in which
    both differ come first, and both are held against what is recomputed.
    """
    chosen = settings(context, home, as_json=as_json, passphrase_file=passphrase_file)
    if (folder is None) == (peer is None):
        raise typer.BadParameter("give a DIR, or a node with --peer: one of them")
    asked: dict[str, object] = {"share": share, "seed": seed}
    use(backend)
    if folder is not None:
        asked["dir"] = str(folder.absolute())
    else:
        named = {"space": space, "node": peer}
        asked["peer"] = executor.with_node(chosen, "attested_tensors", named)
    facts = executor.read(chosen.home, "audit", asked)
    show(facts, audited, as_json=chosen.as_json)
    if not facts["ok"]:
        raise typer.Exit(WRONG)
