"""Records and views as JSON objects: the shapes that `--json` promises.

Owns the names of the fields. Does not own how people are shown them (`cli.render`).
"""

from collections.abc import Container
from itertools import groupby

from crdtmerge.bodies import SpaceId
from crdtmerge.codec import format_decimal
from crdtmerge.digest import ContentId
from crdtmerge.errors import ContentMissingError, FaultyContributionError
from crdtmerge.faults import Fault, find
from crdtmerge.identity import AuthorId
from crdtmerge.policy import View, Visible
from crdtmerge.record import Record

from ..anchor import forked
from ..spaces import Spaces
from .forking import fork_facts
from .live import Answer, Context
from .standing import in_effect, left


def space_facts(spaces: Spaces, space: SpaceId, author: AuthorId) -> Answer:
    """Return one space as JSON: its identity, roots, recipe, contributions and bans."""
    opset = spaces.opset(space)
    view = opset.view
    missing = spaces.missing(space)
    beyond = {content for where, content in spaces.beyond() if where == space}
    return {
        **identity_facts(view, space, author),
        "left": left(opset, author),
        "record_root": opset.root.hex(),
        "records": len(opset),
        "visible_root": view.visible_root.hex(),
        "merge_id": view.merge_id(view.recipe).hex() if view.recipe else None,
        "recipe": view.recipe.describe() if view.recipe else None,
        "recipe_conflict": len(view.recipe_heads) > 1,
        "contributions": _contributions(spaces, space, view, beyond),
        "banned": [
            {"subject": ban.subject, "target": ban.target.hex(), "record": key.hex()}
            for key, ban in sorted(view.bans.items())
            if in_effect(opset, key, ban)
        ],
        "faulty": [
            _fault_facts(opset.records[key]) for _, key in sorted(view.faults.items())
        ],
        "forks": fork_facts(opset),
        "quarantined": view.quarantined.get(author),
        "unknown_critical": list(view.unknown_critical),
        "pending": len(view.pending),
        "missing_blobs": len(missing),
        "missing_bytes": sum(missing.values()),
    }


def identity_facts(view: View, space: SpaceId, author: AuthorId) -> Answer:
    """Return what a space is, and what this author is in it."""
    rank = view.ranks.get(author)
    return {
        "id": space.hex(),
        "name": view.rules.name,
        "mode": view.rules.mode,
        "base": view.base.hex(),
        "rank": rank.name.lower() if rank is not None else None,
        "rightless": author in view.rightless,
    }


def _contributions(
    spaces: Spaces, space: SpaceId, view: View, beyond: Container[ContentId]
) -> list[Answer]:
    complete = spaces.progress(space)
    return [
        {
            **contribution_facts(
                visible, complete=complete.get(visible.content, False)
            ),
            "beyond_quota": visible.content in beyond,
            "evidence": evidence_facts(spaces, visible),
        }
        for visible in view.visible
    ]


def contribution_facts(visible: Visible, *, complete: bool) -> Answer:
    """Return one visible contribution as JSON."""
    return {
        "content": visible.content.hex(),
        "weight": format_decimal(visible.weight),
        "authors": [author.hex() for author in visible.authors],
        "notes": list(visible.notes),
        "tags": list(visible.tags),
        "complete": complete,
        "adds": [add.hex() for add in visible.adds],
    }


def evidence_facts(spaces: Spaces, visible: Visible) -> list[Answer] | None:
    """Return what a contribution attaches, by stored kind; None if that is not here."""
    if not visible.evidence:
        return []
    try:
        manifest = spaces.manifest(visible)
    except (ContentMissingError, FaultyContributionError):
        return None
    if manifest.evidence_digest != visible.evidence:
        return None
    found = []
    for kind, group in groupby(manifest.evidence, lambda entry: entry.kind):
        sizes = [entry.tensor.size for entry in group]
        found.append({"kind": kind, "tensors": len(sizes), "bytes": sum(sizes)})
    return found


def _fault_facts(shown: Record) -> Answer:
    """Return what a record shows of a contribution as JSON."""
    assert isinstance(shown.body, Fault)
    return {
        "content": shown.body.content.hex(),
        "reason": find(shown.body).sentence,
        "author": shown.author.hex(),
        "record": shown.id.hex(),
    }


def waiting_facts(context: Context, space: SpaceId) -> list[Answer]:
    """Return of whom records wait, as far as the running node knows of them."""
    held = context.live.waiting(space) if context.live else ()
    return [
        {"author": h.author.hex(), "records": h.records, "full": h.full} for h in held
    ]


def home_facts(context: Context) -> Answer:
    """Return who this home is."""
    return {
        "home": str(context.home.path),
        "author": context.home.author.public.hex(),
        "node": context.home.node.public.hex(),
        "encrypted": context.home.encrypted,
        "agent": context.home.author.in_agent,
    }


def doubt_facts(context: Context, space: SpaceId) -> Answer:
    """Return why this author may not sign in a space, and which numbers it used twice."""
    doubt = context.home.anchor.doubt(space)
    me = context.key.public
    records = context.spaces.opset(space).records.values()
    return {
        "doubt": doubt.name.lower() if doubt else None,
        "forked": forked(r.author_seq for r in records if r.author == me),
    }
