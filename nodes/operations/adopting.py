"""The verb `store_adopt`: this home goes on, whatever copies of it there were.

Owns what the user is told of that. Does not own the doubts that it ends (`nodes.anchor`).
"""

from .facts import doubt_facts
from .live import Answer, Arguments, Context, Tell

ALONE = (
    "what this author signed elsewhere, and no peer has told, may now be signed twice:"
    " be sure that no other copy of this home is used again"
)
NOTHING = "there was no doubt: nothing changed"


def store_adopt(context: Context, _asked: Arguments, _tell: Tell) -> Answer:
    """Let this author sign again in every space, as the user takes it on.

    Raises:
        MachineError: the disk refused.
    """
    spaces, ended = context.spaces, context.home.anchor.adopt()
    found = [
        {
            "id": space.hex(),
            "name": spaces.name(space),
            "forked": doubt_facts(context, space)["forked"],
        }
        for space in ended
        if space in spaces.all()
    ]
    return {"spaces": found, "notes": [ALONE if ended else NOTHING]}
