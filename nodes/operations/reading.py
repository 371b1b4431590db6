"""The verbs that change nothing: whoami, the list of spaces, status.

Owns what they answer. Does not own how it looks (`cli.render`).
"""

from ..store.references import REMEDY
from ..upkeep.references import changed_files
from . import arguments as given
from .agreeing import agreement_facts
from .compacting import compaction_facts
from .facts import doubt_facts, home_facts, identity_facts, space_facts, waiting_facts
from .live import Answer, Arguments, Context, Tell
from .selection import choose_space


def whoami(context: Context, _asked: Arguments, _tell: Tell) -> Answer:
    """Return this home's author and node."""
    return home_facts(context)


def space_list(context: Context, _asked: Arguments, _tell: Tell) -> Answer:
    """Return the spaces of this home, by name."""
    author = context.key.public
    spaces = [
        {
            **identity_facts(view, space, author),
            "contributions": len(view.visible),
        }
        for space in context.spaces.all()
        for view in [context.spaces.view(space)]
    ]
    return {"spaces": sorted(spaces, key=lambda s: (str(s["name"]), str(s["id"])))}


def status(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Return where everything stands: peers, roots, contributions, what is missing."""
    wanted = given.optional_text(asked, "space")
    chosen = context.spaces.all()
    if wanted is not None:
        chosen = [choose_space(context.spaces, wanted)]
    live = context.live
    return {
        **home_facts(context),
        "running": live is not None,
        "addresses": list(live.addresses) if live else [],
        "join_addresses": list(live.join_addresses) if live else [],
        "peers": _peers(context),
        "changed_files": [
            {"path": str(path), "fate": fate, "blobs": count, "hint": REMEDY}
            for path, fate, count in changed_files(context.home)
        ],
        "upkeep": live.upkeep() if live else None,
        "spaces": [
            {
                **space_facts(context.spaces, space, context.key.public),
                **doubt_facts(context, space),
                "attested": agreement_facts(context, space),
                "waiting": waiting_facts(context, space),
                "compacted": compaction_facts(context, space),
            }
            for space in chosen
        ],
    }


def _peers(context: Context) -> list[Answer]:
    """Return the other nodes of our spaces, and which of them are connected."""
    addresses = dict(context.spaces.addresses())
    addresses.pop(context.home.node.public, None)
    connected = set(context.live.connected()) if context.live else set()
    return [
        {
            "node": node.hex(),
            "addresses": list(addresses.get(node, ())),
            "connected": node in connected,
        }
        for node in sorted(addresses.keys() | connected)
    ]
