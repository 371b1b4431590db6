"""The commands `peers add`, `peers remove`, `peers list`, `fetch` and `wait`.

Owns their options. Does not own what they do (`operations.peers`, `bringing`,
`converging`).
"""

from typing import Annotated, TypeAlias

import typer

from . import completion, render_peers
from .executor import ask, with_node, write
from .options import HomeOption, JsonOption, SpaceOption
from .output import show
from .settings import settings

NodeArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="NODE",
        help="A node's key, or the start of one; `peers list` has them.",
        autocompletion=completion.nodes,
    ),
]


def add(
    context: typer.Context,
    node: NodeArgument,
    addresses: Annotated[
        list[str], typer.Argument(metavar="HOST:PORT", help="Where it listens.")
    ],
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Say where a member's node listens; kept on this machine, and tried at once."""
    chosen = settings(context, home, as_json=as_json)
    asked = {"node": node, "addresses": list(addresses)}
    facts = write(chosen, "peers_add", asked)
    show(facts, render_peers.added, as_json=chosen.as_json)


def remove(
    context: typer.Context,
    node: NodeArgument,
    addresses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="HOST:PORT",
            help="Which to forget; all, if left out.",
            show_default=False,
        ),
    ] = None,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Forget addresses that `peers add` keeps."""
    chosen = settings(context, home, as_json=as_json)
    asked = {"node": node, "addresses": list(addresses or ())}
    facts = write(chosen, "peers_remove", asked)
    show(facts, render_peers.removed, as_json=chosen.as_json)


def listing(
    context: typer.Context, home: HomeOption = None, *, as_json: JsonOption = False
) -> None:
    """List the nodes of our spaces, their addresses and where those come from."""
    chosen = settings(context, home, as_json=as_json)
    facts = ask(chosen.home, "peers_list", {})
    show(facts, render_peers.peers, as_json=chosen.as_json)


def fetch(
    context: typer.Context,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID",
            help="Starts of contributions' ids; all that are visible, if left out.",
            show_default=False,
            autocompletion=completion.contributions,
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="SPACE",
            help="Name or id prefix; all spaces if left out.",
            show_default=False,
            autocompletion=completion.spaces,
        ),
    ] = None,
    patience: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Give up once nothing has come for so long."
        ),
    ] = 60.0,
    home: HomeOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Bring the missing bytes of contributions here; return once they are whole.

    Without IDs a peer of each space is first asked what there is. Where no node runs, one
    runs here for as long as it takes.
    """
    chosen = settings(context, home, as_json=as_json)
    asked = {"ids": list(ids or ()), "space": space, "patience": patience}
    facts = with_node(chosen, "fetch", asked)
    show(facts, render_peers.fetched, as_json=chosen.as_json)


def wait(
    context: typer.Context,
    *,
    converged: Annotated[
        bool,
        typer.Option("--converged", help="Wait until this home and its peers agree."),
    ] = False,
    peers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="How many peers must agree at least; 1 if the space has other nodes.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Fail after so long; wait for ever if left out.",
            show_default=False,
        ),
    ] = None,
    space: SpaceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Wait until this home and its peers agree, then print the roots.

    Converged means: no byte that the space's contributions need is missing here, and every
    connected peer of the space, N of them at least, has reported since the command began,
    and last reported the record root of this home. What such a peer knew at that moment is
    then here. It says nothing of nodes that are not connected, nor of bytes that a peer is
    still fetching. Where no node runs, one runs here meanwhile.
    """
    if not converged:
        raise typer.BadParameter("say what to wait for", param_hint="--converged")
    chosen = settings(context, home, as_json=as_json)
    asked = {"space": space, "peers": peers, "timeout": timeout}
    facts = with_node(chosen, "wait", asked)
    show(facts, render_peers.converged, as_json=chosen.as_json)
