"""The verbs `ban` and `ban --lift`: what is kept out of the merge, and let in again.

Owns what is said when there is nothing to do. Does not own whose ban works on whom
(`policy`, `replica`), nor revocations (`granting`).
"""

from typing import Final

from crdtmerge.bodies import RecordId
from crdtmerge.errors import NotAllowedError
from crdtmerge.policy import View

from . import arguments as given
from .approving import is_pending, notes_on
from .live import Answer, Arguments, Context, Tell
from .membership import OPEN_SPACE
from .publishing import publish, publish_all
from .selection import Named, find_bannable, find_banned

BANNED_ALREADY: Final = "it is banned already"
PROPOSED_ALREADY: Final = "an owner said so already: who did not may approve it"
STILL_BANNED: Final = "another ban of it stands"
BACK: Final = "what it signed while it was banned has effect too"


def ban(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Keep a content or an author out, whatever is added; a second ban says nothing.

    Raises:
        NotFoundError: no content or author of the space has such an id.
        NotAllowedError: this author's rank does not suffice.
    """
    named = find_bannable(
        context.spaces,
        given.text(asked, "id"),
        given.optional_text(asked, "space"),
    )
    space = named.space
    subject = "author" if named.kind == "author" else "content"
    with context.spaces.lock:
        view = context.spaces.view(space)
        standing = [k for k, b in view.bans.items() if b.target == named.id]
        if named.id in view.identity(context.key.public):
            raise NotAllowedError("you cannot ban yourself")
        record = (
            min(standing)
            if standing
            else publish(context, space, lambda r: r.ban(subject, named.id))
        )
        after = context.spaces.view(space)
    waits = is_pending(after, record)
    said_already = PROPOSED_ALREADY if waits else BANNED_ALREADY
    return {
        "space": space.hex(),
        "subject": subject,
        "target": named.id.hex(),
        "record": record.hex(),
        "new": not standing,
        "hidden": len(view.visible) - len(after.visible),
        "pending": waits,
        "notes": [
            *([said_already] if standing else _ban_remarks(after, subject)),
            *notes_on(after, record),
        ],
    }


def _ban_remarks(view: View, subject: str) -> list[str]:
    open_ = view.rules.mode == "open"
    return [OPEN_SPACE] if subject == "author" and open_ else []


def ban_lift(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Lift every ban of a content or an author, or the one ban that is named.

    Raises:
        NotFoundError: no ban that stands has such an id or target.
        NotAllowedError: this author's rank does not suffice for all of them.
    """
    named = find_banned(
        context.spaces,
        given.text(asked, "id"),
        given.optional_text(asked, "space"),
    )
    space = named.space
    with context.spaces.lock:
        view = context.spaces.view(space)
        bans = _standing(view, named)
        makes = [lambda r, key=key: r.lift(key) for key in bans]
        records = publish_all(context, space, makes)
        after = context.spaces.view(space)
    lifted = view.bans[bans[0]]
    still = any(ban.target == lifted.target for ban in after.bans.values())
    return {
        "space": space.hex(),
        "subject": lifted.subject,
        "target": lifted.target.hex(),
        "bans": [key.hex() for key in bans],
        "records": [record.hex() for record in records],
        "still_banned": still,
        "shown": len(after.visible) - len(view.visible),
        "pending": [r.hex() for r in records if is_pending(after, r)],
        "notes": [
            *_lift_remarks(lifted.subject, still=still),
            *(note for record in records for note in notes_on(after, record)),
        ],
    }


def _standing(view: View, named: Named) -> list[RecordId]:
    """Return the bans that are meant: one by its id, or all of one target."""
    return sorted(
        key
        for key, ban in view.bans.items()
        if named.id == (key if named.kind == "record" else ban.target)
    )


def _lift_remarks(subject: str, *, still: bool) -> list[str]:
    if still:
        return [STILL_BANNED]
    return [BACK] if subject == "author" else []
