"""The verbs about forks: who used a number twice, showing it, and lifting what follows.

Owns what is told of a fork. Does not own the proof (`crdtmerge.forks`), what follows from
it (`policy`), nor what a running node does by itself (`nodes.forks`).
"""

from typing import Final

from crdtmerge.bodies import RecordId
from crdtmerge.errors import NotFoundError
from crdtmerge.forks import Fork
from crdtmerge.identity import AuthorId
from crdtmerge.orset import OpSet
from crdtmerge.policy import View

from ..forks import fork_of
from . import arguments as given
from .approving import is_pending, notes_on
from .live import Answer, Arguments, Context, Tell
from .publishing import publish_all, publish_fork
from .selection import SHORT, choose_space, find_author

ONLY_SHOWN: Final = (
    "both records count here; `crdtmerge space revoke AUTHOR --keep RECORD` ends the"
    " author's rights, and lets one of them count"
)
CUT: Final = (
    "nothing from that number on counts; a person of higher rank lifts it with"
    " `crdtmerge space forks --lift AUTHOR`"
)
OURS: Final = (
    "this home may be a copy: stop every other home of this author for good; other nodes"
    " show the fork"
)
NOT_SHOWN: Final = "no record shows it yet: a running node, or --publish, does"
BACK: Final = "what it signed since has effect too, on both branches"


def space_forks(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Return who signed two records of one number in a space, and what follows."""
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    return _listing(context, context.spaces.opset(space))


def space_forks_publish(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Publish what no record shows yet, for others to see; never of this author itself.

    Raises:
        NotAllowedError: this author has no rights in the space.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    with context.spaces.lock:
        opset = context.spaces.opset(space)
        shown = {fork.place for fork in opset.view.forks}
        for author, pairs in sorted(opset.forked.items()):
            fork = fork_of(pairs[0])
            if author != context.key.public and fork.place not in shown:
                publish_fork(context, space, fork)
        after = context.spaces.opset(space)
    return _listing(context, after, len(after) - len(opset))


def space_forks_lift(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Let all that a forked author signed count again.

    Raises:
        NotFoundError: no author has such an id, or it is not quarantined.
        NotAllowedError: this author is not of higher rank.
    """
    space = choose_space(context.spaces, given.optional_text(asked, "space"))
    author = find_author(context.spaces.opset(space), given.text(asked, "author"))
    with context.spaces.lock:
        view = context.spaces.view(space)
        standing = [f for f in view.forks if f.author == author and not f.lifted]
        if author not in view.quarantined:
            message = f"author {author.hex()[:SHORT]} is not quarantined"
            raise NotFoundError(message, hint="`crdtmerge space forks` shows who is")
        makes = [lambda r, key=fork.record: r.lift(key) for fork in standing]
        records = publish_all(context, space, makes)
        after = context.spaces.view(space)
    still = author in after.quarantined
    return {
        "space": space.hex(),
        "author": author.hex(),
        "forks": [fork.record.hex() for fork in standing],
        "records": [record.hex() for record in records],
        "still_quarantined": still,
        "shown": len(after.visible) - len(view.visible),
        "pending": [r.hex() for r in records if is_pending(after, r)],
        "notes": [
            *([] if still else [BACK]),
            *(note for record in records for note in notes_on(after, record)),
        ],
    }


def _listing(context: Context, opset: OpSet, published: int = 0) -> Answer:
    forks = fork_facts(opset)
    me = context.key.public
    notes = []
    if any(fork["record"] is None for fork in forks):
        notes.append(NOT_SHOWN)
    if any(fork["author"] == me.hex() for fork in forks):
        notes.append(OURS)
    states = {fork["state"] for fork in forks}
    return {
        "space": opset.space.hex(),
        "name": opset.view.rules.name,
        "quarantine": opset.view.rules.quarantine,
        "forks": forks,
        "published": published,
        "notes": [
            *notes,
            *([CUT] if "quarantined" in states else []),
            *([ONLY_SHOWN] if "shown" in states else []),
        ],
    }


def fork_facts(opset: OpSet) -> list[Answer]:
    """Return the forks of a set as JSON: those that records show, and those in it."""
    view = opset.view
    records = {fork.place: fork.record for fork in view.forks}
    pairs = {
        (author, pair[0].record.author_seq): tuple(s.record.id for s in pair)
        for author, found in opset.forked.items()
        for pair in found
    }
    lifted = {fork.place for fork in view.forks if fork.lifted}
    return [
        {
            "author": place[0].hex(),
            "author_seq": place[1],
            "records": [
                key.hex()
                for key in _branches(opset, records.get(place)) or pairs[place]
            ],
            "record": records[place].hex() if place in records else None,
            "state": "lifted" if place in lifted else _state(view, place, records),
        }
        for place in sorted(records.keys() | pairs.keys())
    ]


def _branches(opset: OpSet, shown: RecordId | None) -> tuple[RecordId, ...]:
    body = opset.records[shown].body if shown else None
    branches = body.branches if isinstance(body, Fork) else ()
    return tuple(RecordId(branch.id) for branch in branches)


def _state(
    view: View,
    place: tuple[AuthorId, int],
    records: dict[tuple[AuthorId, int], RecordId],
) -> str:
    author, number = place
    if number >= view.quarantined.get(author, number + 1):
        return "quarantined"
    return "shown" if place in records else "noticed"


def forked_numbers(opset: OpSet) -> dict[AuthorId, list[int]]:
    """Return by author the numbers that it used twice, shown or not."""
    places = {fork.place for fork in opset.view.forks} | {
        (author, pair[0].record.author_seq)
        for author, found in opset.forked.items()
        for pair in found
    }
    numbers: dict[AuthorId, list[int]] = {}
    for author, number in sorted(places):
        numbers.setdefault(author, []).append(number)
    return numbers
