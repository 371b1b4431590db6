"""The verb `space leave`: ending one's own rights in a space, for good.

Owns what is said of it. Does not own what leaving means (`policy.chains`), nor when peers
cut off who left (`nodes.node`).
"""

from typing import Final

from crdtmerge.policy import Rank, View

from . import arguments as given
from .live import Answer, Arguments, Context, Tell
from .publishing import publish
from .selection import SHORT, choose_space

LOCAL: Final = "records and blobs of the space stay in this home"
STILL_IN: Final = (
    "your key {key} still has rights there: leave with it too, or let somebody of higher"
    " rank revoke it"
)
KEPT: Final = "what you contributed stays in the merge; ask a maintainer to remove it"
TOO_FEW: Final = (
    "owners that stay: {count}, and {needed} must sign: nobody can do any more what needs"
    " an owner"
)


def space_leave(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """End this author's key in a space; peers let its node in no more.

    Raises:
        NotAllowedError: it is the only owner's, or has no rights to end.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    with context.spaces.lock:
        record = publish(context, space, lambda r: r.leave())
        view = context.spaces.view(space)
    me = context.key.public
    others = [k for k in view.judged_with(me) if k != me and view.has_rights(k)]
    mine = [v for v in view.visible if me in v.authors]
    return {
        "space": space.hex(),
        "name": context.spaces.name(space),
        "author": me.hex(),
        "record": record.hex(),
        "contributions": [v.content.hex() for v in mine],
        "notes": [
            *([KEPT] if mine else []),
            *(STILL_IN.format(key=key.hex()[:SHORT]) for key in others),
            *_too_few(view),
            LOCAL,
        ],
    }


def _too_few(view: View) -> list[str]:
    """Return what to say if the owners that stay cannot act as one any more."""
    owners = {
        view.identity(key)[0]
        for key, rank in view.ranks.items()
        if rank is Rank.OWNER and view.has_rights(key)
    }
    needed = view.rules.threshold
    if len(owners) >= needed:
        return []
    return [TOO_FEW.format(count=len(owners), needed=needed)]
