"""The command `whoami`, and those that run a node or the demo.

Owns their options. Does not own `init` (`secrecy`), the node (`service`) or the demo.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from . import render
from .control import node_health as ask_health
from .executor import ask, read
from .options import HomeOption, JsonOption, PassphraseFileOption
from .output import say, say_json, short, show
from .quotas import QuotaOption, pairs
from .settings import settings

LOOPBACK: Final = "127.0.0.1:0"
MB: Final = 1_000_000
WILDCARDS: Final = ("0.0.0.0", "[::]")  # noqa: S104  told apart, not listened on


def whoami(
    context: typer.Context, home: HomeOption = None, *, as_json: JsonOption = False
) -> None:
    """Print this home's author id and node id."""
    chosen = settings(context, home, as_json=as_json)
    facts = read(chosen.home, "whoami", {})
    show(facts, render.home, as_json=chosen.as_json)


ListenOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help=f"Where peers reach this node; first {LOOPBACK}, then as last time.",
        show_default=False,
    ),
]
JoinListenOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Where those with a ticket reach it; the default is as for --listen.",
        show_default=False,
    ),
]
AdvertiseOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HOST",
        help="The host that peers are told, without a port; needed behind 0.0.0.0."
        " First the one it listens on, then as last time; '' forgets it.",
        show_default=False,
    ),
]
ScrubRateOption: TypeAlias = Annotated[
    float,
    typer.Option(
        metavar="MB/S",
        min=0,
        max=100_000,
        help="How fast all blobs are read again in the background, to find damage and"
        " repair it; 0 turns it off.",
    ),
]
CollectOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--collect/--no-collect",
        help="Remove what nothing has needed for 7 days, as `store gc` does.",
    ),
]
PeersOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A list of nodes to try in this run, one a line: KEY HOST:PORT.",
        show_default=False,
    ),
]
MdnsOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--mdns/--no-mdns",
        help="Announce this node on the local network and find members there;"
        " strangers see that a node is here, and not whose.",
    ),
]
RateOption: TypeAlias = Annotated[str, typer.Option(metavar="RATE")]


def node_run(
    context: typer.Context,
    listen: ListenOption = None,
    join_listen: JoinListenOption = None,
    advertise: AdvertiseOption = None,
    home: HomeOption = None,
    *,
    scrub_rate: ScrubRateOption = 8.0,
    collect: CollectOption = True,
    download_limit: RateOption = "0",
    upload_limit: RateOption = "0",
    peer_download_limit: RateOption = "0",
    peer_upload_limit: RateOption = "0",
    quota: QuotaOption = None,
    peers: PeersOption = None,
    mdns: MdnsOption = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a node: gossip, fetch what is visible, serve; until Ctrl-C.

    If the keys are encrypted, it takes their passphrase at the start. The limits are those
    of contents, such as 100MB/s or 20MiB/s, in all and of each peer; 0 is no limit.
    """
    from ..finding import Finding, read_list
    from ..operations.limiting import read as read_quotas
    from ..operations.limiting import with_settings
    from ..service import run_node
    from ..traffic import Limits, rate_of
    from ..upkeep.keeping import Upkeep
    from .passphrases import present

    chosen = settings(context, home, as_json=as_json, passphrase_file=passphrase_file)
    where = _where(chosen.home, listen, join_listen, advertise)
    ask_for = present(chosen.passphrase_file)
    limits = Limits(
        rate_of(download_limit),
        rate_of(upload_limit),
        rate_of(peer_download_limit),
        rate_of(peer_upload_limit),
    )
    own_quotas, _ = read_quotas(pairs(quota))
    with_settings(own_quotas)  # refused before the home is opened
    finding = Finding(read_list(peers) if peers else {}, mdns)
    run_node(
        chosen.home,
        listen=where["listen"],
        join_listen=where["join_listen"],
        advertise=where["advertise"],
        ready=partial(_say_ready, as_json=chosen.as_json),
        ask=ask_for,
        upkeep=Upkeep(scrub_rate * MB, collects=collect),
        limits=limits,
        own_quotas=own_quotas,
        finding=finding,
    )


def _where(
    home: Path, listen: str | None, join_listen: str | None, advertise: str | None
) -> dict[str, str]:
    """Return where a node is to listen and what to advertise: as asked, else as before."""
    asked = {
        "listen": _address(listen, "--listen"),
        "join_listen": _address(join_listen, "--join-listen"),
        "advertise": _host(advertise),
    }
    given = {key: value for key, value in asked.items() if value is not None}
    where = _remembered(home) | given
    _require_host(where)
    return where


def _say_ready(facts: Mapping[str, object], *, as_json: bool) -> None:
    """Say where the node listens, once it does."""
    if as_json:
        print(json.dumps(facts), flush=True)  # noqa: T201  one line: it is awaited
    else:
        where = " ".join(str(a) for a in _several(facts["addresses"]))
        say(f"node {short(facts['node'])} listens on {where}; Ctrl-C stops it")


def node_metrics(
    context: typer.Context, home: HomeOption = None, *, as_json: JsonOption = False
) -> None:
    """Print what the running node counts, as Prometheus reads it.

    Nothing listens for it: a scraper's textfile collector can be fed with this output.
    """
    chosen = settings(context, home, as_json=as_json)
    facts = ask(chosen.home, "node_metrics", {})
    if chosen.as_json:
        say_json({"metrics": facts["metrics"]})
    else:
        say(str(facts["text"]).rstrip("\n"))


def node_health(
    context: typer.Context,
    home: HomeOption = None,
    *,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.1, help="How long the node may take."),
    ] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Tell whether the running node does its work: exit code 0, else 5.

    For scripts and the probes of containers; those that speak grpc.health.v1 can ask at
    the control socket themselves.
    """
    chosen = settings(context, home, as_json=as_json)
    parts = ask_health(chosen.home, timeout)
    if chosen.as_json:
        say_json({"serving": True, "parts": [part for part in parts if part]})
    else:
        say("the node does its work")


def _several(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]


def _address(given: str | None, option: str) -> str | None:
    """Return HOST:PORT as given; port 0 asks the system for a free one."""
    if given is None:
        return None
    host, _, port = given.rpartition(":")
    if _is_host(host) and port.isascii() and port.isdigit() and int(port) < 1 << 16:
        return given
    message = f"{given!r} is not HOST:PORT; an IPv6 address stands in brackets"
    raise typer.BadParameter(message, param_hint=option)


def _host(given: str | None) -> str | None:
    """Return the host to advertise as it was given; empty forgets the last one."""
    if not given or (_is_host(given) and given not in WILDCARDS):
        return given
    message = f"{given!r} is no host that peers can call; leave the port out"
    raise typer.BadParameter(message, param_hint="--advertise")


def _is_host(text: str) -> bool:
    """Tell whether `text` can stand before `:PORT`, so that the port is told apart."""
    from crdtmerge.bodies import is_address

    bracketed = text.startswith("[") and text.endswith("]")
    return is_address(f"{text}:1") and (bracketed or ":" not in text)


def _require_host(where: Mapping[str, str]) -> None:
    """Refuse to tell peers an address that is every machine's own."""
    from crdtmerge.errors import BadInputError

    hosts = [where[key].rpartition(":")[0] for key in ("listen", "join_listen")]
    if not where["advertise"] and set(hosts) & set(WILDCARDS):
        raise BadInputError(
            "this node would tell its peers 0.0.0.0, where nobody reaches it",
            hint="give --advertise HOST: the name or address of this machine",
        )


def _remembered(home: Path) -> dict[str, str]:
    """Return where a node listened, and what it advertised, when it last ran here."""
    from ..home import open_home

    first = {"listen": LOOPBACK, "join_listen": LOOPBACK, "advertise": ""}
    with open_home(home, write=False) as opened:
        found = {key: opened.local.get_value(key) for key in first}
    return {key: v.decode() if (v := found[key]) else first[key] for key in first}


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
