"""Peers, fetching and convergence as people read them.

Owns the words and the order. Does not own the facts (`operations`), nor what all
renderers share (`render`).
"""

from collections.abc import Sequence
from typing import cast

from .output import plain, short, table
from .render import Facts, counted, several, size


def peers(facts: Facts) -> list[str]:
    """Return the lines of `peers list`: one a known address."""
    found = several(facts["peers"])
    if not found:
        return ["no other node is known yet"]
    rows = [
        row for peer in found for row in _peer(peer, running=bool(facts["running"]))
    ]
    lines = table(("NODE", "AUTHOR", "CONNECTED", "ADDRESS", "FROM", "DIALLED"), rows)
    return [*lines, *(line for peer in found for line in _problem(peer))]


def _problem(facts: Facts) -> list[str]:
    if "problem" not in facts:
        return []
    what, then = plain(facts["problem"]), plain(facts["hint"])
    return [f"node {short(facts['node'])}: {what}; {then}"]


def _peer(facts: Facts, *, running: bool) -> list[tuple[str, ...]]:
    authors = " ".join(map(short, cast("Sequence[str]", facts["authors"]))) or "-"
    connected = "yes" if facts["connected"] else "no" if running else "no node runs"
    first = (short(facts["node"]), authors, connected)
    places = [
        (
            str(place["address"]),
            ", ".join(cast("Sequence[str]", place["from"])),
            _dialled(place),
        )
        for place in several(facts["addresses"])
    ] or [("none known", "-", "-")]
    return [(*(first if i == 0 else ("", "", "")), *p) for i, p in enumerate(places)]


def _dialled(place: Facts) -> str:
    """Return in words what came of dialling an address."""
    if place["failures"]:
        return f"failed {place['failures']} times"
    return "worked" if place["successes"] else "-"


def added(facts: Facts) -> list[str]:
    """Return the line of `peers add`."""
    addresses = " ".join(cast("Sequence[str]", facts["addresses"]))
    return [f"node {short(facts['node'])} is tried at {plain(addresses)}"]


def removed(facts: Facts) -> list[str]:
    """Return the line of `peers remove`."""
    gone = " ".join(cast("Sequence[str]", facts["removed"]))
    return [f"node {short(facts['node'])} is tried no more at {plain(gone)}"]


def fetched(facts: Facts) -> list[str]:
    """Return the line of `fetch`."""
    count = len(cast("Sequence[str]", facts["contributions"]))
    are = "is" if count == 1 else "are"
    amount = size(facts["fetched_bytes"])
    return [f"{counted(count, 'contribution')} {are} here whole ({amount} fetched)"]


def converged(facts: Facts) -> list[str]:
    """Return the lines of `wait --converged`."""
    name = f"space {plain(facts['name'])} ({short(facts['space'])})"
    away = len(cast("Sequence[str]", facts["not_connected"]))
    others = f", {counted(away, 'node')} not connected" if away else ""
    agree = counted(facts["agree"], "peer")
    verb = "agrees" if facts["agree"] == 1 else "agree"
    return [
        f"{name} has converged: {agree} {verb}{others}",
        f"  record root   {facts['record_root']}",
        f"  visible root  {facts['visible_root']}",
        f"  merge id      {facts['merge_id'] or '-'}",
    ]


def reach(facts: Facts) -> list[str]:
    """Return the lines of `doctor` on whether peers reach this node."""
    announced = cast("Sequence[str]", facts["announced"])
    lines = [f"this node says that it listens at {plain(' '.join(announced)) or '-'}"]
    rows = [row for peer in several(facts["asked"]) for row in _tried(peer)]
    if rows:
        lines += table(("PEER", "SEES US AT", "ADDRESS", "FOUND"), rows)
    return [*lines, *map(plain, cast("Sequence[str]", facts["advice"]))]


def _tried(facts: Facts) -> list[tuple[str, ...]]:
    peer = short(facts["node"])
    if not facts["answered"]:
        return [(peer, "-", "-", "it did not answer in time")]
    seen = plain(facts["seen_from"]) or "it was dialled"
    if not several(facts["found"]):
        return [
            (peer, seen, "-", f"tries again in {facts['wait_s']} s at the earliest")
        ]
    return [
        (peer, seen, plain(found["address"]), plain(found["words"]))
        for found in several(facts["found"])
    ]
