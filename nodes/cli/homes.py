"""The command `whoami`, and those that run a node or the demo.

Owns their options. Does not own `init` (`secrecy`), the node (`runtime`) or the demo.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from . import render
from .executor import read
from .options import HomeOption, JsonOption, PassphraseFileOption, settings
from .output import say, short, show

LOOPBACK: Final = "127.0.0.1:0"


def whoami(
    context: typer.Context, home: HomeOption = None, *, as_json: JsonOption = False
) -> None:
    """Print this home's author id and node id."""
    chosen = settings(context, home, as_json=as_json)
    facts = read(chosen.home, "whoami", {})
    show(facts, render.home, as_json=chosen.as_json)


def node_run(
    context: typer.Context,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help=f"Where peers reach this node; first {LOOPBACK}, then as last time.",
            show_default=False,
        ),
    ] = None,
    join_listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where those with a ticket reach it; the default is as for --listen.",
            show_default=False,
        ),
    ] = None,
    advertise: Annotated[
        str,
        typer.Option(
            metavar="HOST", help="The host that peers are told; needed behind 0.0.0.0."
        ),
    ] = "",
    home: HomeOption = None,
    *,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a node: gossip, fetch what is visible, serve; until Ctrl-C.

    If the keys are encrypted, it takes their passphrase at the start.
    """
    from crdtmerge.bodies import is_address

    from ..runtime import run_node
    from .passphrases import present

    chosen = settings(context, home, as_json=as_json, passphrase_file=passphrase_file)

    def ready(facts: Mapping[str, object]) -> None:
        if chosen.as_json:
            print(json.dumps(facts), flush=True)  # noqa: T201  one line: it is awaited
        else:
            where = " ".join(str(a) for a in _several(facts["addresses"]))
            say(f"node {short(facts['node'])} listens on {where}; Ctrl-C stops it")

    if advertise and not is_address(f"{advertise}:1"):
        raise typer.BadParameter(f"{advertise!r} is no host", param_hint="--advertise")
    remembered = _remembered(chosen.home)
    run_node(
        chosen.home,
        listen=_address(listen, "--listen") or remembered["listen"],
        join_listen=_address(join_listen, "--join-listen") or remembered["join_listen"],
        advertise=advertise,
        ready=ready,
        ask=present(chosen.passphrase_file),
    )


def _several(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]


def _address(given: str | None, option: str) -> str | None:
    """Return HOST:PORT as given; port 0 asks the system for a free one."""
    if given is None:
        return None
    host, _, port = given.rpartition(":")
    if host and port.isascii() and port.isdigit() and int(port) < 1 << 16:
        return given
    raise typer.BadParameter(f"{given!r} is not HOST:PORT", param_hint=option)


def _remembered(home: Path) -> dict[str, str]:
    """Return where a node listened when it last ran on this home."""
    from ..home import open_home

    with open_home(home, write=False) as opened:
        found = {key: opened.local.get_value(key) for key in ("listen", "join_listen")}
    return {key: value.decode() if value else LOOPBACK for key, value in found.items()}


def demo(
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Where the report goes; replaces an earlier one only."
        ),
    ] = Path("crdtmerge-demo"),
    json_path: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="OUT", help="Also write the numbers to OUT as JSON."
        ),
    ] = None,
) -> None:
    """Let four peers on this machine merge, and ban a poison; leave a report."""
    from ..demo import run_demo

    figures = json_path.absolute() if json_path else None
    raise typer.Exit(run_demo(figures, out=out.absolute()))
