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

from immutables import Map

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import ContentMissingError, FaultyContributionError
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.policy import Changes, Visible, manifest_sizes
from crdtmerge.resolve.settings import Contribution

from .batches import join_sizes
from .choices import Part
from .manifests import Known, Manifests
from .offers import Offer, Sizes, beyond
from .sets import Sets
from .store.base import BlobStore

WANTED_MAX: Final = 1024
"""Blobs of one contribution that are looked for at a time."""


@dataclass(frozen=True, slots=True)
class Use:
    """A tensor of a visible contribution."""

    space: SpaceId
    content: ContentId
    manifest: Manifest
    tensor: TensorEntry


Lack = tuple[Visible, dict[BlobId, int]]
"""A contribution, and a part of what it lacks: nothing, if what came is faulty."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was here of the contributions of a space when somebody looked last."""

    changes: Changes = field(default_factory=Changes)
    whole: Map[ContentId, Visible] = field(default_factory=Map)
    doubtful: Mapping[ContentId, Lack] = field(default_factory=dict)
    """Those that are not whole."""


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
    _looking: Lock = field(default_factory=Lock, init=False)
    _looks: int = field(default=0, init=False)
    _seen: dict[SpaceId, Seen] = field(default_factory=dict, init=False)
    _manifests: Manifests = field(init=False)

    def __post_init__(self) -> None:
        """Read the sets, and know no manifest yet."""
        Sets.__post_init__(self)  # not super(): a class with slots is made twice
        self._manifests = Manifests(self.blobs)

    def manifest(self, visible: Visible) -> Manifest:
        """Return the manifest of a visible contribution.

        Raises:
            ContentMissingError: none of its manifests has arrived.
            FaultyContributionError: those that arrived are not what their adds say.
        """
        return self._known(visible).manifest

    def _known(self, visible: Visible) -> Known:
        arrived = [(b, s) for b, s in visible.manifests if self.blobs.has(b)]
        for blob, size in arrived:
            found = self._manifests.read(blob, size)
            if found is not None and found.content == visible.content:
                return found
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

        SUBTLE: another thread may be in the middle of `parts`, and have seen them.
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
        return [
            Contribution(v.content, v.weight, self.manifest(v), v.authors, tags=v.tags)
            for v in visible
        ]

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
        """Return what to fetch next: of each visible contribution, a bounded part."""
        lacking = self._survey(space)
        beyond = self._beyond() if lacking else frozenset()
        return [
            Part(visible.authors, part, (space, visible.content) in beyond)
            for visible, part in lacking
        ]

    def _survey(self, space: SpaceId) -> list[Lack]:
        """Return of each contribution that is not whole a part of what it lacks.

        The node asks this after every batch of records. What was whole stays whole unless
        the contribution changed, and a manifest, which may be as long as its author likes,
        is gone through again only once a part has come.
        """
        shown = self.view(space).shown
        with self._looking:
            looks, before = self._looks, self._seen.get(space, Seen())
        changed = shown.changes.since(before.changes)
        if changed is None:  # nobody can tell: look at all
            changed, before = frozenset(shown.elements), replace(before, whole=Map())
        whole, doubtful = before.whole.mutate(), dict[ContentId, Lack]()
        for content in sorted(changed | before.doubtful.keys()):
            whole.pop(content, None)
            visible = shown.elements.get(content)
            part = self._part(visible, before) if visible else None
            if visible and not part and part is not None:
                whole[content] = visible
            elif visible:
                doubtful[content] = visible, part or {}
        with self._looking:
            if looks == self._looks:
                self._seen[space] = Seen(shown.changes, whole.finish(), doubtful)
        return [lack for lack in doubtful.values() if lack[1]]

    def _is_whole(self, space: SpaceId, visible: Visible) -> bool:
        """Tell whether all of a contribution was here when somebody looked."""
        whole = self._seen.get(space, Seen()).whole
        return whole.get(visible.content) == visible

    def beyond(self) -> frozenset[tuple[SpaceId, ContentId]]:
        """Return the contributions, of all spaces, that the bytes of an author keep out."""
        for space in self.all() if self.author_bytes else ():
            self._survey(space)
        return self._beyond()

    def _beyond(self) -> frozenset[tuple[SpaceId, ContentId]]:
        """Return the same by what is known to be whole."""
        if not self.author_bytes:
            return frozenset()
        offered = [
            (space, visible, self._sizes.declared(visible, records, self._size))
            for space in self.all()
            for records in [self.opset(space).records]
            for visible in self.view(space).visible
        ]
        total = sum(max(sizes.values(), default=0) for _, _, sizes in offered)
        if total <= self.author_bytes:
            return frozenset()  # the usual case, and this is asked at each look
        pinned, offers = self.pinned(), list[Offer]()
        for space, visible, sizes in offered:
            whole = self._is_whole(space, visible)
            here = whole or (space, visible.content) in pinned
            offers.append(Offer(space, visible.content, sizes, here))
        return beyond(offers, self.author_bytes, self.author)

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

    def manifests(self, space: SpaceId) -> frozenset[BlobId]:
        """Return the blobs that are named as manifests of visible contributions."""
        visible = self.view(space).visible
        return frozenset(blob for v in visible for blob, _ in v.manifests)

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
            return self._known(visible).blobs
        except ContentMissingError:
            # SUBTLE: every one that is not here, not the first alone: that one may have
            # arrived and be another's manifest, and an honest add stands behind it.
            absent = self.blobs.missing(blob for blob, _ in visible.manifests)
            sizes = manifest_sizes([visible])
            return {blob: sizes[blob] for blob in absent}
        except FaultyContributionError:
            return {}

    def progress(self, space: SpaceId) -> Mapping[bytes, bool]:
        """Tell for each visible content id whether all its bytes are here."""
        complete: dict[bytes, bool] = {}
        for visible in self.view(space).visible:
            try:
                blobs = self._known(visible).blobs
                complete[visible.content] = not self.blobs.missing(blobs)
            except (ContentMissingError, FaultyContributionError):
                complete[visible.content] = False
        return complete
