"""Which bans and revocations stand against whom, and have effect on them.

Owns that question for the verbs that show or change it. Does not own the answer for what
is merged (`crdtmerge.policy`), which this follows: they work on a strictly lower rank.
"""

from crdtmerge.bodies import RecordId
from crdtmerge.identity import AuthorId
from crdtmerge.orset import OpSet


def bans_of(opset: OpSet, author: AuthorId) -> list[RecordId]:
    """Return the bans that shut `author` out, sorted."""
    return sorted(
        key
        for key, ban in opset.view.bans.items()
        if ban.subject == "author" and ban.target == author and acts(opset, key, author)
    )


def revocations_of(opset: OpSet, author: AuthorId) -> list[RecordId]:
    """Return the revocations that hold `author` back, sorted."""
    return sorted(
        key
        for key, revoke in opset.view.revocations.items()
        if revoke.author == author and acts(opset, key, author)
    )


def acts(opset: OpSet, judgement: RecordId, author: AuthorId) -> bool:
    """Tell whether who made `judgement` is of higher rank than `author`."""
    ranks = opset.view.ranks
    maker = opset.records[judgement].author
    return author not in ranks or ranks[maker] > ranks[author]
