"""How many bytes of one author's contributions are fetched without being asked for.

Owns which contributions are beyond that, and how large each counts. Does not own the number
(`quotas`), manifests (`spaces`), nor fetching (`choices`).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.bodies import Add, RecordId, SpaceId
from crdtmerge.digest import ContentId
from crdtmerge.identity import AuthorId
from crdtmerge.policy import Visible
from crdtmerge.record import Record

SIZES_MAX: Final = 1 << 16
"""Contributions whose size is remembered; then all are added up anew."""


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


@dataclass(slots=True)
class Sizes:
    """How large contributions are; several threads may ask."""

    _known: dict[Visible, int] = field(default_factory=dict)

    def declared(
        self,
        visible: Visible,
        records: Mapping[RecordId, Record],
        read: Callable[[Visible], int | None],
    ) -> int:
        """Return the size as signed, or as the manifest says, which `read` reads, if more.

        A manifest is as long as its author likes: its size is added up once.
        """
        size = self._known.get(visible)
        if size is None and (size := read(visible)) is not None:
            if len(self._known) >= SIZES_MAX:
                self._known.clear()
            self._known[visible] = size
        bodies = [records[add].body for add in visible.adds]
        signed = [
            b.content_bytes + b.manifest_bytes for b in bodies if isinstance(b, Add)
        ]
        return max([size or 0, *signed])


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
