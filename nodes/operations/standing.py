"""Which bans and revocations stand against whom, and have effect on them.

Owns that question for the verbs that show or change it. Does not own the answer for what
is merged (`crdtmerge.policy`), which this follows: they work on a strictly lower rank.
"""

from crdtmerge.bodies import Ban, RecordId
from crdtmerge.identity import AuthorId
from crdtmerge.orset import OpSet


def bans_of(opset: OpSet, author: AuthorId) -> list[RecordId]:
    """Return the bans that shut `author` out, sorted."""
    return sorted(
        key
        for key, ban in opset.view.bans.items()
        if ban.subject == "author"
        and ban.target in opset.view.identity(author)
        and acts(opset, key, author)
    )


def revocations_of(opset: OpSet, author: AuthorId) -> list[RecordId]:
    """Return the revocations that hold `author` back, sorted."""
    return sorted(
        key
        for key, revoke in opset.view.revocations.items()
        if revoke.author in opset.view.identity(author) and acts(opset, key, author)
    )


def acts(opset: OpSet, judgement: RecordId, author: AuthorId) -> bool:
    """Tell whether `judgement` is acted with a higher rank than that of `author`."""
    view = opset.view
    acted = view.acting(opset.records[judgement])
    return author not in view.ranks or acted > view.ranks[author]


def in_effect(opset: OpSet, key: RecordId, ban: Ban) -> bool:
    """Tell whether a ban that stands keeps its target out.

    That of an author does not while it waits for owners, or if its rank is too low.
    """
    return ban.subject == "content" or acts(opset, key, AuthorId(ban.target))


def left(opset: OpSet, author: AuthorId) -> bool:
    """Tell whether `author` left by its own word."""
    records = opset.records
    return any(records[key].author == author for key in endings_of(opset, author))


def endings_of(opset: OpSet, author: AuthorId) -> list[RecordId]:
    """Return by which records later keys of `author` ended this one, sorted."""
    endings = opset.view.endings.items()
    return sorted(key for key, revoke in endings if revoke.author == author)
