"""The verb `log`: the records of a space in one order, and whether each has effect.

Owns the order. Does not own what records say (`saying`), nor what has effect (`states`).

Records carry no time, and replicas receive them in any order, so the log follows what
records name: its author's record before it, its grant, what it removes, replaces, accepts
or lifts, and what it shows to be a fork. A record stands after all it names, at the height
of the longest such chain; records of one height are sorted by id. Every replica with the
same set prints the same.
"""

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from typing import Final

from crdtmerge.bodies import Approve, Lift, RecipeChange, RecordId, Remove, Revoke
from crdtmerge.forks import Fork
from crdtmerge.record import Record

from . import arguments as given
from .live import Answer, Arguments, Context, Tell
from .saying import says
from .selection import choose_space
from .states import IN_EFFECT, States

LIMIT_DEFAULT: Final = 50


def log(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Return the last records of a space, the newest last."""
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    limit = given.count(asked, "limit", LIMIT_DEFAULT)
    opset = context.spaces.opset(space)
    ordered = order(opset.records)
    states = States(opset)
    return {
        "space": space.hex(),
        "name": context.spaces.name(space),
        "total": len(ordered),
        "records": [_record_facts(record, states) for record in ordered[-limit:]],
    }


def order(records: Mapping[RecordId, Record]) -> list[Record]:
    """Return the records, each after those that it names, by height and then by id."""
    names = {key: _named(record, records) for key, record in records.items()}
    heights: dict[RecordId, int] = {}
    for key in TopologicalSorter(names).static_order():
        heights[key] = 1 + max((heights[name] for name in names[key]), default=0)
    return [records[key] for key in sorted(records, key=lambda k: (heights[k], k))]


def _named(record: Record, records: Mapping[RecordId, Record]) -> set[RecordId]:
    """Return the records of the set that `record` names; ids are digests: no cycles."""
    match record.body:
        case Remove(adds=ids) | RecipeChange(replaces=ids) | Revoke(accepted=ids):
            others: Iterable[RecordId] = ids
        case Lift(target=target) | Approve(target=target):
            others = (target,)
        case Fork(branches=branches):
            others = tuple(RecordId(branch.id) for branch in branches)
        case _:
            others = ()
    named = {RecordId(record.prev), RecordId(record.auth), *others}
    return {key for key in named if key in records}


def _record_facts(record: Record, states: States) -> Answer:
    state = states.of(record)
    return {
        "record": record.id.hex(),
        "kind": record.kind,
        "author": record.author.hex(),
        "author_seq": record.author_seq,
        "prev": record.prev.hex() or None,
        "auth": record.auth.hex() or None,
        "says": says(record),
        "effect": state == IN_EFFECT,
        "state": state or "in effect",
    }
