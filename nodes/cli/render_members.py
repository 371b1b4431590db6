"""Members, grants, revocations and lifted bans as people read them.

Owns the words and the order. Does not own the facts (`operations`), nor what all
renderers share (`render`).
"""

from collections.abc import Sequence
from typing import cast

from . import render_records
from .output import plain, short, table
from .render import Facts, counted, several, size


def members(facts: Facts) -> list[str]:
    """Return the lines of `space members`."""
    rows = [_member(member) for member in several(facts["members"])]
    head = ("AUTHOR", "RANK", "STATE", "SINCE", "LIMITS", "NODES", "CONTRIBUTIONS")
    name = f"space {plain(facts['name'])} ({short(facts['space'])})"
    return [name, *table(head, rows), *map(_waits, several(facts["pending"]))]


def pending(facts: Facts) -> list[str]:
    """Return the lines of `space pending`."""
    owners = counted(len(cast("Sequence[str]", facts["owners"])), "owner")
    name = f"space {plain(facts['name'])} ({short(facts['space'])})"
    rule = f"{owners}; {facts['threshold']} sign what an owner does,"
    rule += f" {facts['council']} what is done to one"
    waits = several(facts["pending"])
    return [f"{name}: {rule}", *(map(_waits, waits) if waits else ["nothing waits"])]


def _waits(facts: Facts) -> str:
    """Return the line of an act that waits for owners."""
    signed = " ".join(map(short, cast("Sequence[str]", facts["signed"]))) or "nobody"
    count = f"{len(cast('Sequence[str]', facts['signed']))} of {facts['needed']}"
    unsigned = " ".join(map(short, cast("Sequence[str]", facts["unsigned"])))
    approve = f"`crdtmerge space approve {short(facts['record'])}`"
    yours = f"; it waits for you: {approve}" if facts["yours"] else ""
    says = render_records.words_of(facts)
    act = f"{facts['kind']} {short(facts['record'])} ({says})"
    return f"waits: {act}: {count} owners signed: {signed}; not {unsigned}{yours}"


def approved(facts: Facts) -> list[str]:
    """Return the line of `space approve`."""
    act = f"{facts['kind']} {short(facts['act'])} by {short(facts['by'])}"
    if facts["pending"]:
        count = f"{facts['signed']} of {facts['needed']} owners"
        return [f"signed {act}: {count} have, so it waits"]
    return [f"signed {act}: it has effect"]


def _member(facts: Facts) -> tuple[str, ...]:
    judged = cast(
        "Sequence[str]", facts["banned_by"] or facts["revoked_by"] or facts["ended_by"]
    )
    state = f"{facts['state']} by {short(judged[0])}" if judged else str(facts["state"])
    if facts["forked"]:
        numbers = ", ".join(map(str, cast("Sequence[int]", facts["forked"])))
        state += f", forked at {numbers}"
    keys = cast("Sequence[str]", facts["keys"])
    if facts["author"] != keys[0]:
        state += f", follows {short(keys[keys.index(str(facts['author'])) - 1])}"
    return (
        short(facts["author"]) + (" (you)" if facts["you"] else ""),
        str(facts["rank"] or "-"),
        state,
        short(facts["since"] or "-"),
        limits(facts) if facts["since"] else "-",
        " ".join(map(short, cast("Sequence[str]", facts["nodes"]))) or "-",
        " ".join(map(short, cast("Sequence[str]", facts["contributions"]))) or "-",
    )


def forks(facts: Facts) -> list[str]:
    """Return the lines of `space forks`."""
    name = f"space {plain(facts['name'])} ({short(facts['space'])})"
    rule = "has no effect" if not facts["quarantine"] else "cuts off its author"
    rows = [
        (
            short(fork["author"]),
            str(fork["author_seq"]),
            str(fork["state"]),
            short(fork["record"] or "-"),
            " ".join(map(short, cast("Sequence[str]", fork["records"]))),
        )
        for fork in several(facts["forks"])
    ]
    if not rows:
        return [f"{name}: nobody signed two records of one number"]
    head = ("AUTHOR", "NUMBER", "STATE", "SHOWN BY", "RECORDS")
    count = counted(facts["published"], "proof")
    said = [f"published {count}"] if facts["published"] else []
    return [*said, f"{name}: here a fork {rule}", *table(head, rows)]


def unforked(facts: Facts) -> list[str]:
    """Return the line of `space forks --lift`."""
    author, shown = short(facts["author"]), counted(facts["shown"], "contribution")
    if facts["still_quarantined"]:
        return [f"lifted a fork of author {author}, which stays quarantined"]
    return [f"lifted the forks of author {author}: {shown} more in the merge"]


def left(facts: Facts) -> list[str]:
    """Return the line of `space leave`."""
    return [f"left space {plain(facts['name'])} ({short(facts['space'])})"]


def limits(facts: Facts) -> str:
    """Return the limits of a grant on one line."""
    cap, records = facts["weight_cap"], facts["records_max"]
    if facts["rank"] == "owner":
        return "none"
    return f"weight {cap}, {records} records, {size(facts['bytes_max'])}"


def granted(facts: Facts) -> list[str]:
    """Return the line of `space grant`."""
    verb = "granted" if facts["new"] else "unchanged:"
    verb = "proposed:" if facts["pending"] else verb
    return [f"{verb} {short(facts['author'])} {facts['rank']} ({limits(facts)})"]


def revoked(facts: Facts) -> list[str]:
    """Return the lines of `space revoke`."""
    author = short(facts["author"])
    if not facts["new"]:
        return [f"author {author} stays revoked"]
    if facts["pending"]:
        return [f"proposed to revoke author {author}"]
    kept = counted(facts["kept"], "record")
    hidden = counted(facts["hidden"], "contribution")
    fewer = f"{hidden} fewer in the merge"
    return [f"revoked author {author}: {kept} of it in effect still, {fewer}"]


def reinstated(facts: Facts) -> list[str]:
    """Return the line of `space revoke --lift`."""
    shown = counted(facts["shown"], "contribution")
    return [f"author {short(facts['author'])} has its rights back: {shown} more"]


def unbanned(facts: Facts) -> list[str]:
    """Return the line of `ban --lift`."""
    what = f"{facts['subject']} {short(facts['target'])}"
    if facts["still_banned"]:
        return [f"lifted a ban of {what}, which stays banned"]
    shown = counted(facts["shown"], "contribution")
    return [f"lifted the ban of {what}: {shown} more in the merge"]


def tickets_revoked(facts: Facts) -> list[str]:
    """Return the line of `space ticket --revoke`."""
    count = counted(facts["revoked"], "ticket")
    return [f"revoked {count} of space {plain(facts['name'])}; members stay members"]
