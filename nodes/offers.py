"""How many bytes of one author's contributions are fetched without being asked for.

Owns which contributions are beyond that. Does not own the number (`quotas`), how large a
contribution is (`spaces`), nor fetching (`choices`).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import ContentId
from crdtmerge.identity import AuthorId


@dataclass(frozen=True, slots=True)
class Offer:
    """One visible contribution, as its bytes count: all of them, whoever shares some.

    `here` if they are here, or somebody wants them here.
    """

    space: SpaceId
    content: ContentId
    authors: tuple[AuthorId, ...]
    size: int
    here: bool

    @property
    def place(self) -> tuple[SpaceId, ContentId]:
        """What it is known by."""
        return self.space, self.content


def beyond(
    offers: Iterable[Offer], limit: int, own: AuthorId | None
) -> frozenset[tuple[SpaceId, ContentId]]:
    """Return the contributions that are beyond the bytes of all their authors.

    What is here counts first, then the others by their ids, as long as they fit. Each
    counts for the author of it who has the most left; of `own` all fit.
    """
    used: Counter[AuthorId] = Counter()
    left: set[tuple[SpaceId, ContentId]] = set()
    for offer in sorted(offers, key=lambda o: (not o.here, o.place)):
        if own in offer.authors:
            continue
        author = min(offer.authors, key=lambda a: (used[a], a))
        if offer.here or not limit or used[author] + offer.size <= limit:
            used[author] += offer.size
        else:
            left.add(offer.place)
    return frozenset(left)
