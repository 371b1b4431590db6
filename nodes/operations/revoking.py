"""The verbs `space revoke` and `space revoke --lift`: taking rights away, giving them back.

Owns which records a revocation accepts, and what is said when there is nothing to do. Does
not own on whom it works (`policy`, `replica`), nor bans (`banning`).
"""

from typing import Final

from crdtmerge.bodies import IDS_MAX, RecordId
from crdtmerge.errors import BadInputError, NotAllowedError, NotFoundError
from crdtmerge.identity import AuthorId
from crdtmerge.policy import View
from crdtmerge.replica import Replica

from . import arguments as given
from .approving import is_pending, notes_on
from .live import Answer, Arguments, Context, Tell
from .membership import OPEN_SPACE
from .publishing import publish, publish_all, replica
from .selection import SHORT, choose_space, find_author, find_record_of
from .standing import bans_of

REVOKED_ALREADY: Final = "its rights were revoked already, with no more accepted"
STILL_BANNED: Final = "it is banned too: `crdtmerge ban --lift` lets it in again"
BACK: Final = "what it signed since the revocation has effect too"


def space_revoke(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """End an author's rights; what this home has seen of it stays in effect.

    `keep` names the last records that are accepted instead; `from_start` accepts none.

    Raises:
        BadInputError: `keep` and `from_start` contradict each other.
        NotFoundError: no author, or no record of it, has such an id; or it has no rights.
        NotAllowedError: it is oneself, or of a rank that is not lower.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    author = find_author(context.spaces.opset(space), given.text(asked, "author"))
    if author == context.key.public:
        raise NotAllowedError("you cannot revoke your own rights")
    with context.spaces.lock:
        current = replica(context, space)
        keys = current.opset.view.judged_with(author)
        if author not in current.opset.view.ranks:
            message = f"author {author.hex()[:SHORT]} has no rights in this space"
            raise NotFoundError(message, hint="`crdtmerge ban` keeps it out for good")
        accepted = _accepted(current, author, asked)
        signed = current.revoke(author, accepted)
        before, after = current.opset.view, current.opset.insert([signed]).view
        new = (
            author not in before.rightless
            or after.effective - {signed.record.id} != before.effective
            or is_pending(after, signed.record.id)
        )
        if new:
            publish(context, space, lambda _: signed)
    said = [one for key in keys for one in current.opset.signed.of_author(key)]
    return {
        "space": space.hex(),
        "author": author.hex(),
        "record": signed.record.id.hex() if new else None,
        "new": new,
        "accepted": [key.hex() for key in sorted(set(accepted))],
        "kept": sum(one.record.id in after.effective for one in said),
        "hidden": len(before.visible) - len(after.visible),
        "pending": is_pending(after, signed.record.id),
        "notes": [
            *_revoke_remarks(before, new=new),
            *(notes_on(after, signed.record.id) if new else []),
        ],
    }


def _accepted(current: Replica, author: AuthorId, asked: Arguments) -> list[RecordId]:
    """Return the last records of `author` that a revocation accepts."""
    keep, from_start = given.texts(asked, "keep"), given.flag(asked, "from_start")
    if keep and from_start:
        raise BadInputError("either some records are kept, or none: not both")
    if keep:
        return [find_record_of(current.opset, author, text) for text in keep]
    heads = [] if from_start else list(current.last_records(author))
    if current.opset.view.follows(current.key.public, author):
        own = (
            current.opset.records
        )  # of a key before one's own: no other's are at stake
        heads = [head for head in heads if own[head].author == author]
    if len(heads) > IDS_MAX:
        message = f"the records of this author end in {len(heads)} forks"
        hint = f"name up to {IDS_MAX} of them with --keep, or none with --from-start"
        raise BadInputError(message, hint=hint)
    return heads


def _revoke_remarks(view: View, *, new: bool) -> list[str]:
    if not new:
        return [REVOKED_ALREADY]
    return [OPEN_SPACE] if view.rules.mode == "open" else []


def space_revoke_lift(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Give a revoked author its rights back, with all that it said meanwhile.

    Raises:
        NotFoundError: no author has such an id, or its rights were not revoked.
        NotAllowedError: an author of higher rank revoked them.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    author = find_author(context.spaces.opset(space), given.text(asked, "author"))
    with context.spaces.lock:
        view = context.spaces.view(space)
        standing = sorted(
            k
            for k, b in view.revocations.items()
            if author in view.judged_with(b.author)
        )
        if not standing:
            message = f"the rights of author {author.hex()[:SHORT]} are not revoked"
            raise NotFoundError(
                message, hint="`crdtmerge space members` shows whose are"
            )
        makes = [lambda r, key=key: r.lift(key) for key in standing]
        records = publish_all(context, space, makes)
        opset = context.spaces.opset(space)
    return {
        "space": space.hex(),
        "author": author.hex(),
        "revocations": [key.hex() for key in standing],
        "records": [record.hex() for record in records],
        "shown": len(opset.view.visible) - len(view.visible),
        "pending": [r.hex() for r in records if is_pending(opset.view, r)],
        "notes": [
            STILL_BANNED if bans_of(opset, author) else BACK,
            *(note for record in records for note in notes_on(opset.view, record)),
        ],
    }
