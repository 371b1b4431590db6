"""Recipes and the log of records as people read them.

Owns the words and the order of words. Does not own the facts (`operations`), nor what all
renderers share (`render`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from . import render
from .output import plain, short, table
from .render import Facts, counted, several, size
from .render_check import details


def recipe_was_set(facts: Facts) -> list[str]:
    """Return the lines of `recipe set`."""
    verb = "set" if facts["new"] else "unchanged:"
    made = cast("Facts", facts["recipe"])
    return [
        f"{verb} recipe {render.recipe(made)}",
        *(f"  {line}" for line in details(made)),
        f"  merge id      {short(facts['merge_id'])}",
    ]


def recipe(facts: Facts) -> list[str]:
    """Return the lines of `recipe show`."""
    name = f"space {plain(facts['name'])} ({short(facts['space'])})"
    lines = [name]
    heads = several(facts["heads"])
    for head in heads:
        made = cast("Facts", head["recipe"])
        state = "" if len(heads) == 1 else " serves" if head["serves"] else " waits"
        by = f"record {short(head['record'])} by {short(head['author'])}{state}"
        lines += [f"recipe {render.recipe(made)}", f"  {by}"]
        lines += [f"  {line}" for line in details(made)]
    return lines if heads else [name, "no recipe yet: `crdtmerge recipe set` sets one"]


def log(facts: Facts) -> list[str]:
    """Return the lines of `log`, the newest last."""
    found, total = several(facts["records"]), cast("int", facts["total"])
    rows = [
        (
            short(record["record"]),
            short(record["author"]),
            record["kind"],
            record["state"],
            words_of(record),
        )
        for record in found
    ]
    before = total - len(found)
    head = [f"({before} records before these: --limit {total})"] if before else []
    return [*head, *table(("RECORD", "AUTHOR", "KIND", "NOW", "SAYS"), rows)]


def words_of(record: Facts) -> str:
    """Return what a record says in a few words; nothing if this version has none."""
    words, says = _WORDS.get(str(record["kind"])), cast("Facts", record["says"])
    if record["kind"] == "revoke" and says["author"] == record["author"]:
        return "leaves the space"
    return words(says) if words else ""


def _add(says: Facts) -> str:
    note = f" {says['note']!r}" if says["note"] else ""
    tags = "".join(f" #{tag}" for tag in cast("Sequence[str]", says.get("tags", ())))
    weight = f"{short(says['content'])} weight {says['weight']}"
    return f"{weight}, {size(says['bytes'])}{tags}{note}"


def _ids(key: str) -> Callable[[Facts], str]:
    def words(says: Facts) -> str:
        ids = cast("Sequence[str]", says[key])
        return " ".join(map(short, ids)) if ids else "nothing"

    return words


def _node(says: Facts) -> str:
    addresses = " ".join(cast("Sequence[str]", says["addresses"]))
    return f"{short(says['node'])} at {addresses or 'no address'}"


def _grant(says: Facts) -> str:
    cap, rank = says["weight_cap"], says["rank"]
    return f"{short(says['author'])} {rank}, weight up to {cap}"


def _evaluation(says: Facts) -> str:
    note = f" {says['note']!r}" if says["note"] else ""
    scored = f"{says['subject']} {short(says['target'])}: {says['metric']}"
    return f"{scored} {says['result']} on {says['data']}{note}"


_WORDS: Final[Mapping[str, Callable[[Facts], str]]] = {
    "genesis": lambda says: f"{says['name']} ({says['mode']})",
    "add": _add,
    "remove": _ids("adds"),
    "recipe": lambda says: render.recipe(cast("Facts", says["recipe"])),
    "grant": _grant,
    "revoke": lambda says: (
        f"{short(says['author'])}, accepting {_ids('accepted')(says)}"
    ),
    "ban": lambda says: f"{says['subject']} {short(says['target'])}",
    "fault": lambda says: (
        f"{short(says['content'])}, tensor {says['tensor']}: {says['reason']}"
    ),
    "fork": lambda says: (
        f"{short(says['author'])} signed two records of number {says['author_seq']}:"
        f" {_ids('records')(says)}"
    ),
    "lift": lambda says: short(says["target"]),
    "approve": lambda says: short(says["target"]),
    "successor": lambda says: f"{short(says['key'])} follows {short(says['of'])}",
    "node": _node,
    "epoch": lambda says: f"lists {counted(says['listed'], 'record')} as dead",
    "evaluation": _evaluation,
}
