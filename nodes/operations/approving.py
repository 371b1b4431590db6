"""The verbs `space approve` and `space pending`: acts that several owners must sign.

Owns what is told of acts that wait, also by the verbs that make them. Does not own how
many owners it takes (`policy.council`).
"""

from crdtmerge.bodies import RecordId
from crdtmerge.identity import AuthorId
from crdtmerge.orset import OpSet
from crdtmerge.policy import Pending, Rank, View, council_of_owners

from . import arguments as given
from .live import Answer, Arguments, Context, Tell
from .publishing import publish
from .saying import says
from .selection import SHORT, choose_space, find_record


def space_approve(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Sign what another owner did, which takes effect once enough owners have.

    Raises:
        NotFoundError: no record of the space has such an id.
        NotAllowedError: it waits for nobody, this author signed it, or is no owner.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    act = find_record(context.spaces.opset(space), given.text(asked, "id"))
    with context.spaces.lock:
        before = context.spaces.view(space)
        record = publish(context, space, lambda r: r.approve(act))
        opset = context.spaces.opset(space)
    waits = _pending(opset.view, act)
    needed = _pending(before, act)
    assert needed is not None  # else it would have been refused
    return {
        "space": space.hex(),
        "record": record.hex(),
        "act": act.hex(),
        "kind": opset.records[act].kind,
        "by": opset.records[act].author.hex(),
        "says": says(opset.records[act]),
        "signed": len(waits.signers) if waits else needed.needed,
        "needed": needed.needed,
        "pending": waits is not None,
        "notes": notes_on(opset.view, act),
    }


def space_pending(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Return the acts of a space that wait for owners, and how many owners it takes."""
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    opset = context.spaces.opset(space)
    rules = opset.view.rules
    return {
        "space": space.hex(),
        "name": context.spaces.name(space),
        "owners": [opset.view.identity(owner)[-1].hex() for owner in rules.owners],
        "threshold": rules.threshold,
        "council": council_of_owners(rules),
        "pending": pending_facts(opset, context.key.public),
    }


def pending_facts(opset: OpSet, me: AuthorId) -> list[Answer]:
    """Return the acts that wait for owners, as JSON: who signed, who has not yet."""
    view = opset.view
    mine = view.identity(me)[0]
    owner = view.ranks.get(me) is Rank.OWNER
    return [
        {
            "record": act.record.hex(),
            "kind": opset.records[act.record].kind,
            "author": opset.records[act.record].author.hex(),
            "says": says(opset.records[act.record]),
            "signed": [view.identity(key)[-1].hex() for key in act.signers],
            "unsigned": [
                view.identity(key)[-1].hex()
                for key in view.rules.owners
                if key not in act.signers
            ],
            "needed": act.needed,
            "yours": owner and mine not in act.signers,
        }
        for act in view.pending
    ]


def notes_on(view: View, act: RecordId) -> list[str]:
    """Return what to say of an act that waits; nothing if it does not."""
    waits = _pending(view, act)
    if waits is None:
        return []
    signed = f"{len(waits.signers)} of {waits.needed} owners signed it: it waits"
    return [f"{signed} for `crdtmerge space approve {act.hex()[:SHORT]}` by others"]


def is_pending(view: View, act: RecordId) -> bool:
    """Tell whether an act waits for owners."""
    return _pending(view, act) is not None


def _pending(view: View, act: RecordId) -> Pending | None:
    return next((waits for waits in view.pending if waits.record == act), None)
