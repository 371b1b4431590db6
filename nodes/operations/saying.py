"""What each kind of record says, as a JSON object.

Owns the names of the fields. Does not own what has effect (`states`), nor the words in
which people read it (`cli.render_records`).
"""

from collections.abc import Callable
from typing import Any, Final

from crdtmerge.bodies import (
    Add,
    Approve,
    Ban,
    Epoch,
    Evaluation,
    Genesis,
    Grant,
    Lift,
    NodeAddress,
    RecipeChange,
    Remove,
    Revoke,
    Successor,
    Unknown,
)
from crdtmerge.codec import format_decimal
from crdtmerge.faults import Fault, find
from crdtmerge.forks import Fork
from crdtmerge.policy import Rank
from crdtmerge.record import Record

from .live import Answer


def says(record: Record) -> Answer:
    """Return what a record says, as JSON."""
    return _SAYS[type(record.body)](record.body)


def _genesis(body: Genesis) -> Answer:
    return {
        "name": body.name,
        "mode": body.mode,
        "base": body.base.hex(),
        "owners": [owner.hex() for owner in body.owners],
        "threshold": body.threshold,
        "quarantine": body.quarantine,
    }


def _add(body: Add) -> Answer:
    return {
        "content": body.content.hex(),
        "weight": format_decimal(body.weight),
        "note": body.note,
        "tags": list(body.tags),
        "bytes": body.content_bytes,
    }


def _remove(body: Remove) -> Answer:
    return {"adds": [add.hex() for add in body.adds]}


def _recipe(body: RecipeChange) -> Answer:
    replaces = [old.hex() for old in body.replaces]
    return {"recipe": body.recipe.describe(), "replaces": replaces}


def _grant(body: Grant) -> Answer:
    return {
        "author": body.author.hex(),
        "rank": Rank(body.rank).name.lower(),
        "weight_cap": format_decimal(body.weight_cap),
        "records_max": body.records_max,
        "bytes_max": body.bytes_max,
    }


def _revoke(body: Revoke) -> Answer:
    accepted = [key.hex() for key in body.accepted]
    return {"author": body.author.hex(), "accepted": accepted}


def _ban(body: Ban) -> Answer:
    return {"subject": body.subject, "target": body.target.hex()}


def _lift(body: Lift) -> Answer:
    return {"target": body.target.hex()}


def _approve(body: Approve) -> Answer:
    return {"target": body.target.hex()}


def _successor(body: Successor) -> Answer:
    return {"of": body.of.hex(), "key": body.key.hex()}


def _node(body: NodeAddress) -> Answer:
    return {"node": body.node.hex(), "addresses": list(body.addresses)}


def _fault(body: Fault) -> Answer:
    finding = find(body)
    return {
        "content": body.content.hex(),
        "tensor": finding.tensor.name,
        "dtype": finding.tensor.dtype,
        "item": body.item,
        "reason": finding.reason,
    }


def _fork(body: Fork) -> Answer:
    return {
        "author": body.author.hex(),
        "author_seq": body.author_seq,
        "records": [branch.id.hex() for branch in body.branches],
    }


def _epoch(body: Epoch) -> Answer:
    authors = {run.author for run in body.runs}
    return {"listed": len(body), "authors": [key.hex() for key in sorted(authors)]}


def _evaluation(body: Evaluation) -> Answer:
    return {
        "subject": body.subject,
        "target": body.target.hex(),
        "metric": body.metric,
        "data": body.data,
        "result": format_decimal(body.result),
        "note": body.note,
    }


def _unknown(_body: Unknown) -> Answer:
    return {}


_SAYS: Final[dict[type, Callable[[Any], Answer]]] = {
    Genesis: _genesis,
    Add: _add,
    Remove: _remove,
    RecipeChange: _recipe,
    Grant: _grant,
    Revoke: _revoke,
    Ban: _ban,
    Lift: _lift,
    Approve: _approve,
    Successor: _successor,
    NodeAddress: _node,
    Fault: _fault,
    Fork: _fork,
    Epoch: _epoch,
    Evaluation: _evaluation,
    Unknown: _unknown,
}
