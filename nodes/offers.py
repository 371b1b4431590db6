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

    `sizes` are how large it is by each of its authors' word. `here` if the bytes are here,
    or somebody wants them here.
    """

    space: SpaceId
    content: ContentId
    sizes: Mapping[AuthorId, int]
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
    ) -> Mapping[AuthorId, int]:
        """Return the size as each author signed it, or as the manifest says if more.

        A manifest, which `read` reads, is as long as its author likes: its size is added
        up once.
        SUBTLE: of each author for itself. Anybody may add what another offers, and call it
        larger than all bytes that one author may have.
        """
        size = self._known.get(visible)
        if size is None and (size := read(visible)) is not None:
            if len(self._known) >= SIZES_MAX:
                self._known.clear()
            self._known[visible] = size
        sizes = dict.fromkeys(visible.authors, size or 0)
        for add in visible.adds:
            if (record := records.get(add)) is None:
                continue  # it went from the store meanwhile
            author, body = record.author, record.body
            if isinstance(body, Add):
                signed = body.content_bytes + body.manifest_bytes
                sizes[author] = max(sizes.get(author, 0), signed)
        return sizes


class Held:
    """The bytes of each author that are here, as contributions come and go."""

    __slots__ = ("_of", "looks", "used")

    def __init__(self) -> None:
        """Begin with none."""
        self.used: Counter[AuthorId] = Counter()
        self.looks = 0
        """How often it had been said, by then, that nothing is to be taken for granted."""
        self._of: dict[tuple[SpaceId, ContentId], tuple[AuthorId, int]] = {}

    def add(self, offer: Offer, own: AuthorId | None) -> None:
        """Count what is here now, for the author of it who has the most left with it."""
        self.drop(offer.place)
        if own in offer.sizes:
            return
        total, author = _least(offer, self.used)
        self._of[offer.place] = author, total - self.used[author]
        self.used[author] = total

    def drop(self, place: tuple[SpaceId, ContentId]) -> None:
        """Count it no more."""
        if (counted := self._of.pop(place, None)) is not None:
            author, size = counted
            self.used[author] -= size


def _least(offer: Offer, used: Mapping[AuthorId, int]) -> tuple[int, AuthorId]:
    """Return what the author of it who has the most left would have with it, and who."""
    return min((used.get(a, 0) + size, a) for a, size in offer.sizes.items())


def beyond(
    offers: Iterable[Offer],
    limit: int,
    own: AuthorId | None,
    before: Mapping[AuthorId, int] | None = None,
) -> frozenset[tuple[SpaceId, ContentId]]:
    """Return the contributions that are beyond the bytes of all their authors.

    What is here counts first, then the others by their ids, as long as they fit. Each
    counts for the author of it who has the most left with it; of `own` all fit. `before`
    is what else counts.
    """
    used = dict(before or {})
    left: set[tuple[SpaceId, ContentId]] = set()
    for offer in sorted(offers, key=lambda o: (not o.here, o.place)):
        if own in offer.sizes:
            continue
        total, author = _least(offer, used)
        if offer.here or not limit or total <= limit:
            used[author] = total
        else:
            left.add(offer.place)
    return frozenset(left)
