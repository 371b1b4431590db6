"""The verb `space compact`: list what has no effect any more, so that everybody drops it.

Owns what is told of it. Does not own the choice (`crdtmerge.epochs`), nor what a list
brings about (`crdtmerge.policy`).
"""

from collections.abc import Sequence
from typing import Final

from crdtmerge.bodies import Epoch, RecordId, SpaceId
from crdtmerge.epochs import (
    Choice,
    check_unchanged,
    choose,
    epochs_of,
    mortal_among,
)
from crdtmerge.errors import ConflictError, NotFoundError
from crdtmerge.identity import SIGNATURE_BYTES
from crdtmerge.orset import OpSet
from crdtmerge.policy import NEEDED, View
from crdtmerge.record import SignedRecord

from ..compaction import Compactions
from . import arguments as given
from .approving import notes_on
from .live import Answer, Arguments, Context, Tell
from .publishing import replica
from .selection import choose_space

OLDER: Final = (
    "nodes of a version that does not know lists of dead records keep and pass on all"
    " records, and refuse to resolve until they are upgraded"
)
FOR_GOOD: Final = (
    "what is listed is gone for good: a judgement that is lifted later does not bring it"
    " back"
)


def space_compact(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """List the records of a space that have no effect any more.

    Signed only if the space means the same without them; with `dry_run` nothing is.

    Raises:
        NotAllowedError: this author is no owner.
        NotFoundError: there is nothing to list.
        ConflictError: the space changed meanwhile, or would change by it.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    dry_run = given.flag(asked, "dry_run")
    if not dry_run:
        replica(context, space).authority(NEEDED[Epoch])  # before any long work
        context.key.ready()
    opset = context.spaces.opset(space)
    tell({"work": "looking for records without effect", "done": 0, "total": 3})
    choice = choose(opset)
    lists = epochs_of(opset, choice.records)
    tell({"work": "looking for records without effect", "done": 1, "total": 3})
    check_unchanged(opset, lists)
    tell({"work": "looking for records without effect", "done": 2, "total": 3})
    before = {"records_before": len(opset), **_facts(opset, choice, lists)}
    made = [] if dry_run else _sign(context, space, opset, lists)
    tell({"work": "looking for records without effect", "done": 3, "total": 3})
    return {
        "space": space.hex(),
        "name": context.spaces.name(space),
        "dry_run": dry_run,
        **before,
        "lists": [signed.record.id.hex() for signed in made],
        "pending": any(_waits(context, space, s.record.id) for s in made),
        "notes": _notes(context, space, choice, made),
    }


def _sign(
    context: Context, space: SpaceId, opset: OpSet, lists: Sequence[Epoch]
) -> list[SignedRecord]:
    """Sign and publish `lists`, which were made for `opset`.

    What came meanwhile is no danger: a list holds only what no record that may still come
    gives any effect. But a judgement may have been made.
    """
    if not lists:
        raise NotFoundError(
            "there is nothing to compact: every record of the space still counts, or has"
            " to stay",
            hint="`crdtmerge space compact --dry-run` says what stays, and why",
        )
    with context.spaces.lock:
        now = context.spaces.opset(space)
        if _rights(now.view) != _rights(opset.view):
            raise ConflictError(
                "rights changed while records were looked at", hint="say it again"
            )
        made = replica(context, space).compact(lists)
        context.spaces.publish(space, made)
    return made


def _rights(view: View) -> tuple[object, ...]:
    """Return what must be as it was when the lists were made."""
    judged = view.bans.keys(), view.revocations.keys(), view.rightless
    return view.ranks, view.acts, view.chains, view.quarantined, *judged


def _facts(opset: OpSet, choice: Choice, lists: Sequence[Epoch]) -> Answer:
    """Return what would be listed, and what it saves."""
    chosen = choice.records
    records = (record for record in mortal_among(opset) if record.id in chosen)
    return {
        "listed": len(chosen),
        "removed_adds": len(choice.removed),
        "removes": len(choice.removes),
        "replaced_recipes": len(choice.replaced),
        "old_addresses": len(choice.renamed),
        "kept": dict(choice.kept),
        "list_count": len(lists),
        "freed_bytes": sum(len(r.data) + SIGNATURE_BYTES for r in records),
        "list_bytes": sum(len(run.ids) + 64 for body in lists for run in body.runs),
    }


def _waits(context: Context, space: SpaceId, record: RecordId) -> bool:
    return any(p.record == record for p in context.spaces.view(space).pending)


def _notes(
    context: Context, space: SpaceId, choice: Choice, made: Sequence[SignedRecord]
) -> list[str]:
    view = context.spaces.view(space)
    waits = [note for signed in made for note in notes_on(view, signed.record.id)]
    return [*waits, *([FOR_GOOD, OLDER] if choice.records else [])]


def compaction_facts(context: Context, space: SpaceId) -> Answer:
    """Return what was compacted in a space, and what of that this home held."""
    listing = context.spaces.opset(space).listing
    gone = Compactions(context.home.local).gone(space)
    return {
        "lists": len(listing.epochs),
        "listed": len(listing),
        "dropped": gone.records,
        "dropped_own": gone.own,
        "lost": [add.hex() for add in gone.lost],
    }
