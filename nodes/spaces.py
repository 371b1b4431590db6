"""The spaces that a node hosts: their sets, and the contents that these name, in blobs.

Owns what of a visible contribution is here, what is lacking, and what is wanted next. Does
not own the sets themselves (`sets`), how manifests are read and kept (`manifests`), how
many bytes of an author may come (`offers`), nor how they come (`choices`, `fetching`).
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from threading import Lock
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import ContentMissingError, FaultyContributionError
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.policy import Shown, Visible, manifest_sizes
from crdtmerge.resolve.settings import Contribution

from .batches import join_sizes
from .choices import Part
from .looking import Lack, Seen
from .manifests import Known, Manifests
from .offers import Held, Offer, Sizes, beyond
from .sets import Sets
from .store.base import BlobStore

WANTED_MAX: Final = 1024
"""Blobs of one contribution that are looked for at a time."""
RECORDS_MAX: Final = 4096
"""Records of a space that one look reads to find what is shown, if that is not known."""
OFFERS_MAX: Final = 4096
"""Contributions, of all spaces, of which each look adds up the bytes anew."""


@dataclass(frozen=True, slots=True)
class Use:
    """A tensor of a visible contribution."""

    space: SpaceId
    content: ContentId
    manifest: Manifest
    tensor: TensorEntry


@dataclass(slots=True)
class Spaces(Sets):
    """Every space of one home."""

    blobs: BlobStore
    author_bytes: int = field(default=0, kw_only=True)
    """Bytes of one author's contributions that come unasked; 0 is without limit."""
    pinned: Callable[[], Container[tuple[SpaceId, ContentId]]] = field(
        default=frozenset, kw_only=True
    )
    """The contributions that the user wants here, whatever they take."""
    _sizes: Sizes = field(default_factory=Sizes, init=False)
    _held: Held = field(default_factory=Held, init=False)
    _surveying: Lock = field(default_factory=Lock, init=False)
    """Held while somebody looks."""
    _looking: Lock = field(default_factory=Lock, init=False)
    """Held while what was seen is taken or put back, and nothing else is waited for."""
    _looks: int = field(default=0, init=False)
    _seen: dict[SpaceId, Seen] = field(default_factory=dict, init=False)
    _manifests: Manifests = field(init=False)

    def __post_init__(self) -> None:
        """Read the sets, and know no manifest yet."""
        Sets.__post_init__(self)  # not super(): a class with slots is made twice
        self._manifests = Manifests(self.blobs)

    def manifest(self, visible: Visible) -> Manifest:
        """Return the manifest of a visible contribution; it may lack its evidence.

        Raises:
            ContentMissingError: none of its manifests has arrived.
            FaultyContributionError: those that arrived are not what their adds say.
        """
        return self._known(visible).manifest

    def _known(self, visible: Visible) -> Known:
        """Return the manifest with the evidence that counts; else any that has arrived."""
        arrived = [(b, s) for b, s in visible.manifests if self.blobs.has(b)]
        other = None
        for blob, size in arrived:
            found = self._manifests.read(blob, size)
            if found is not None and found.content == visible.content:
                if found.evidence == visible.evidence:
                    return found
                other = other or found
        if other is not None:
            return other
        if len(arrived) == len(visible.manifests):
            raise FaultyContributionError(
                visible.content, "its manifest is not the one that was signed"
            )
        raise ContentMissingError(
            f"the manifest of contribution {visible.content.hex()[:12]} has not arrived"
        )

    def arrived(self, blob: BlobId, size: int) -> Known | None:
        """Return the manifest that lies in a blob, if it is here, whole and well-formed."""
        try:
            return self._manifests.read(blob, size) if self.blobs.has(blob) else None
        except ContentMissingError:  # it went meanwhile, or its file is gone
            return None

    def look_again(self) -> None:
        """Take nothing for granted of what is here: blobs were lost, or forgotten.

        SUBTLE: another thread may be in the middle of `parts`, and have seen them. It is
        not waited for: who calls may hold what that one waits for.
        """
        with self._looking:
            self._looks += 1
            self._seen.clear()

    def contributions(self, visible: Iterable[Visible]) -> list[Contribution]:
        """Return the visible contributions as layer 2 sees them.

        Raises:
            ContentMissingError: a manifest has not arrived.
            FaultyContributionError: a manifest is not what its add says.
        """
        return [self.contribution(v) for v in visible]

    def contribution(self, visible: Visible) -> Contribution:
        """Return one; raises as `contributions` does."""
        return Contribution(
            visible.content,
            visible.weight,
            self.manifest(visible),
            visible.authors,
            tags=visible.tags,
            evidence=visible.evidence,
        )

    def missing(self, space: SpaceId) -> dict[BlobId, int]:
        """Return the blobs that visible contributions need and we lack, with sizes.

        Tensors are known only once their manifest is here. Where two manifests give one
        blob two sizes, the larger is named: it is an upper bound, and the bytes that
        come prove the true one.
        """
        missing: dict[BlobId, int] = {}
        for visible in self.view(space).visible:
            join_sizes(missing, self.lacking(space, visible))
        return missing

    def lacking(self, space: SpaceId, visible: Visible) -> dict[BlobId, int]:
        """Return what one contribution needs and we lack, with sizes."""
        if self._is_whole(space, visible):
            return {}
        needed = self._needed(visible)
        return {blob: needed[blob] for blob in self.blobs.missing(needed)}

    def size(self, visible: Visible) -> int:
        """Return how many bytes one contribution has, as far as that is known here."""
        return sum(self._needed(visible).values())

    def parts(self, space: SpaceId) -> list[Part]:
        """Return what to fetch next: of some visible contributions, a bounded part each.

        Of all, where not more than `LOOKS_MAX` lack something; else of others each time.
        """
        lacking, _ = self._survey(space)
        beyond = self._beyond(space, lacking) if lacking else frozenset()
        return [
            Part(
                visible.authors,
                part,
                (space, visible.content) in beyond,
                frozenset(blob for blob, _ in visible.manifests),
            )
            for visible, part in lacking
        ]

    def read_on(self, space: SpaceId) -> bool:
        """Read some more records to find what is shown; tell whether it is known now."""
        return self._shown(space, RECORDS_MAX)[1]

    def _shown(self, space: SpaceId, most: int = 0) -> tuple[Shown, bool]:
        """Return what is known to be shown, and whether it is all there is."""
        return self.opset(space).meaning.shown_by(most)

    def _survey(self, space: SpaceId) -> tuple[list[Lack], bool]:
        """Return of contributions that are not whole a part of what they lack.

        And whether each contribution was looked at. The node asks this after every batch
        of records, and does nothing else meanwhile: so it is of bounded length, whatever
        the space holds. What was whole stays whole unless the contribution changed, and a
        manifest, which may be as long as its author likes, is gone through again only once
        a part has come.
        """
        with self._surveying:
            shown, complete = self._shown(space, RECORDS_MAX)
            with self._looking:
                looks, seen = self._looks, self._seen.get(space) or Seen()
            held = Held() if looks != self._held.looks else self._held
            for content in seen.hear(shown):
                held.drop((space, content))
            # what is shown by some records alone may be removed by the next ones
            lacking = self._look(space, shown, seen, held) if complete else []
            with self._looking:
                if looks == self._looks:
                    self._seen[space], self._held = seen, held
                    held.looks = looks
            return lacking, complete and not seen.has_news

    def _look(self, space: SpaceId, shown: Shown, seen: Seen, held: Held) -> list[Lack]:
        """Look at what comes next, and return what lacks something."""
        doubtful: dict[ContentId, Lack] = {}
        for visible in seen.next(shown):
            lack = seen.note(visible, self._part(visible, seen))
            if lack is not None:
                doubtful[visible.content] = lack
            else:
                offer = self._offer(space, visible)
                held.add(offer, self.author)
        seen.doubtful = doubtful
        return [lack for lack in doubtful.values() if lack[1]]

    def _is_whole(self, space: SpaceId, visible: Visible) -> bool:
        """Tell whether all of a contribution was here when somebody looked."""
        seen = self._seen.get(space)
        return seen is not None and seen.whole.get(visible.content) == visible

    def beyond(self) -> frozenset[tuple[SpaceId, ContentId]]:
        """Return the contributions, of all spaces, that the bytes of an author keep out.

        It looks at all there is, so it is not for the thread in which the node works.
        """
        if not self.author_bytes:
            return frozenset()
        for space in self.all():
            while not self._survey(space)[1]:
                pass
        return self._beyond_of_all()

    def _beyond(
        self, space: SpaceId, lacking: Iterable[Lack]
    ) -> frozenset[tuple[SpaceId, ContentId]]:
        """Return the contributions that bytes keep out, as far as they are in `lacking`.

        By all contributions, if they are few. Of many by what is whole, and by these: what
        waits for its turn counts for nothing.
        """
        if not self.author_bytes:
            return frozenset()
        if (
            sum(len(self._shown(known)[0].elements) for known in self.all())
            <= OFFERS_MAX
        ):
            return self._beyond_of_all()
        pinned = self.pinned()
        offers = [self._offer(space, visible) for visible, _ in lacking]
        offers = [replace(o, here=o.place in pinned) for o in offers]
        return beyond(offers, self.author_bytes, self.author, self._held.used)

    def _beyond_of_all(self) -> frozenset[tuple[SpaceId, ContentId]]:
        """Return the contributions that bytes keep out, by what is known to be whole."""
        offers = [
            self._offer(space, visible)
            for space in self.all()
            for visible in self._shown(space)[0].elements.values()
        ]
        total = sum(max(offer.sizes.values(), default=0) for offer in offers)
        if total <= self.author_bytes:
            return frozenset()  # the usual case, and this is asked at each look
        pinned = self.pinned()
        offers = [replace(o, here=o.here or o.place in pinned) for o in offers]
        return beyond(offers, self.author_bytes, self.author)

    def _offer(self, space: SpaceId, visible: Visible) -> Offer:
        """Return a contribution as its bytes count."""
        records = self.opset(space).records
        sizes = self._sizes.declared(visible, records, self._size)
        here = self._is_whole(space, visible)
        return Offer(space, visible.content, sizes, here)

    def _size(self, visible: Visible) -> int | None:
        """Return how large a contribution is by its manifest, if that is here.

        Asked of all at each look: of a thousand that have yet to come, none is raised for.
        """
        if not any(self.blobs.has(blob) for blob, _ in visible.manifests):
            return None
        try:
            return sum(self._known(visible).blobs.values())
        except (ContentMissingError, FaultyContributionError):
            return None

    def _part(self, visible: Visible, before: Seen) -> dict[BlobId, int] | None:
        """Return up to `WANTED_MAX` blobs that a contribution lacks; None if it is faulty.

        What is left of the last part comes first.
        """
        known, last = before.doubtful.get(visible.content, (visible, {}))
        last = last if known == visible else {}
        if left := self.blobs.missing(last):
            return {blob: last[blob] for blob in left}
        needed = self._needed(visible)
        if not needed:
            return None
        lacking = (blob for blob in needed if not self.blobs.has(blob))
        return {blob: needed[blob] for blob in islice(lacking, WANTED_MAX)}

    def serves(self, space: SpaceId, blob: BlobId) -> bool:
        """Tell whether a visible contribution of `space` needs the blob.

        A home holds the contents of all its spaces: who is a member of one may fetch
        what belongs to that one, and nothing else.
        """
        visible = self.view(space).visible
        if any(blob == named for v in visible for named, _ in v.manifests):
            return True
        return any(blob in self._named(v) for v in visible)

    def uses(self, blob: BlobId) -> list[Use]:
        """Return the tensors of visible contributions, in any space, of these bytes."""
        return [
            Use(space, visible.content, known.manifest, tensor)
            for space in self.all()
            for visible in self.view(space).visible
            if blob in self._named(visible)
            for known in [self._known(visible)]
            for tensor in known.manifest.tensors
            if tensor.blob == blob
        ]

    def _named(self, visible: Visible) -> Mapping[BlobId, int]:
        try:
            return self._known(visible).blobs
        except (ContentMissingError, FaultyContributionError):
            return {}

    def _needed(self, visible: Visible) -> dict[BlobId, int]:
        try:
            known = self._known(visible)
        except ContentMissingError:
            return self._absent(visible)
        except FaultyContributionError:
            return {}
        if known.evidence == visible.evidence or not visible.evidence:
            return known.blobs
        return {**self._absent(visible), **known.blobs}

    def _absent(self, visible: Visible) -> dict[BlobId, int]:
        """Return the manifests that are not here.

        SUBTLE: every one, not the first alone: that one may have arrived and be another's
        manifest, or have other evidence, and an honest add stands behind it.
        """
        absent = self.blobs.missing(blob for blob, _ in visible.manifests)
        sizes = manifest_sizes([visible])
        return {blob: sizes[blob] for blob in absent}

    def progress(self, space: SpaceId) -> Mapping[bytes, bool]:
        """Tell for each visible content id whether all its bytes are here."""
        complete: dict[bytes, bool] = {}
        for visible in self.view(space).visible:
            try:
                self._known(visible)
                needed = self._needed(visible)
                complete[visible.content] = not self.blobs.missing(needed)
            except (ContentMissingError, FaultyContributionError):
                complete[visible.content] = False
        return complete
