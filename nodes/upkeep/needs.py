"""Which blobs are needed, and what for.

Owns the one answer to that question. Does not own what happens to the others
(`collecting`), nor which contributions are visible (`crdtmerge.policy`).

Needed are: the base of each space; every manifest and all blobs of each contribution that
is visible or pinned; what a needed blob is packed against; and what is in use now. A
manifest that has not arrived, or is damaged, may need anything: which these are is a part
of the answer.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from crdtmerge.bodies import Add, SpaceId
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    MalformedManifestError,
)
from crdtmerge.manifest import decode_manifest

from ..home import Home
from ..spaces import Spaces
from ..store.marks import Pin

REASONS_MAX: Final = 16
"""How many needs of one blob are named; a layer that nobody changed has very many."""

Kind = Literal["base", "contribution", "pin", "lease", "delta"]


@dataclass(frozen=True, slots=True)
class Need:
    """One reason why a blob is needed.

    `id` is that of the contribution, or of the blob that is packed against this one.
    """

    kind: Kind
    space: SpaceId | None = None
    id: bytes = b""


Stamp = tuple[object, ...]


@dataclass(slots=True)
class Needs:
    """What is needed, as it was at one moment; `stamp` tells one moment from another."""

    stamp: Stamp
    reasons: dict[BlobId, list[Need]] = field(default_factory=dict)
    unknown: set[BlobId] = field(default_factory=set)
    """Manifests that count and cannot be read now: what they need is not known."""
    absent: frozenset[BlobId] = frozenset()
    """Those of them that are not here at all."""

    def add(self, blobs: Iterable[BlobId], need: Need) -> None:
        """Note that `blobs` are needed."""
        for blob in blobs:
            known = self.reasons.setdefault(blob, [])
            if len(known) < REASONS_MAX and need not in known:
                known.append(need)

    def why(self, blob: BlobId) -> Sequence[Need]:
        """Return what a blob is needed for, a bounded number of reasons, sorted."""
        found = self.reasons.get(blob, ())
        return sorted(found, key=lambda n: (n.kind, n.space or b"", n.id))

    def __contains__(self, blob: BlobId) -> bool:
        """Tell whether anything needs the blob."""
        return blob in self.reasons


def find_needs(
    home: Home, spaces: Spaces, breathe: Callable[[], object] = lambda: None
) -> Needs:
    """Return what is needed now, and what for; `breathe` is called again and again.

    Of very many contributions that takes minutes: what it raises ends that.

    Raises:
        MachineError: the store cannot be read.
    """
    # SUBTLE: leases first. One that ends before the sets are read has made its blobs
    # needed by then; one that begins after this is seen when something is to go.
    leased, pins = home.blobs.leases.held(), home.marks.pins()
    for space in spaces.all():
        while not spaces.read_on(space):
            breathe()
    with spaces.lock:
        needs = Needs(stamp(home, spaces))
        views = {space: spaces.view(space) for space in spaces.all()}
    needs.add(leased, Need("lease"))
    for space, view in views.items():
        _add_base(needs, home, space)
        for visible in view.visible:
            breathe()
            need = Need("contribution", space, visible.content)
            _add_contents(needs, spaces, need, visible.manifests)
    for pin in pins:
        need = Need("pin", pin.space, pin.content)
        _add_contents(needs, spaces, need, _offered(spaces, pin))
    for packed, base in home.blobs.rows.against().items():
        if packed in needs:
            needs.add([base], Need("delta", id=packed))
    needs.absent = frozenset(home.blobs.missing(needs.unknown))
    return needs


def stamp(home: Home, spaces: Spaces) -> Stamp:
    """Return what changes whenever the needs of contributions, bases or pins may have."""
    known = spaces.all()
    return (
        *((space, spaces.opset(space).root) for space in known),
        *((space, home.local.base(space)) for space in known),
        *home.marks.pins(),
    )


def _add_base(needs: Needs, home: Home, space: SpaceId) -> None:
    facts = home.local.base(space)
    if facts is None:
        return
    need = Need("base", space)
    needs.add([facts.manifest], need)
    try:
        size, _ = home.blobs.chunk_list(facts.manifest)
        data = bytes(home.blobs.read(facts.manifest, size))
        needs.add(decode_manifest(data).blobs(), need)
    except (ContentMissingError, CorruptBlobError, MalformedManifestError):
        needs.unknown.add(facts.manifest)


def _add_contents(
    needs: Needs, spaces: Spaces, need: Need, manifests: Sequence[tuple[BlobId, int]]
) -> None:
    """Add the manifests of a contribution, and what those that are here name.

    Any of them that fits tells the tensors; others may name other files and evidence.
    """
    needs.add((blob for blob, _ in manifests), need)
    fitting = [
        known
        for blob, size in manifests
        if (known := spaces.arrived(blob, size)) and known.content == need.id
    ]
    for known in fitting:
        needs.add(known.blobs, need)
    if not fitting:
        needs.unknown.update(blob for blob, _ in manifests)


def _offered(spaces: Spaces, pin: Pin) -> list[tuple[BlobId, int]]:
    """Return the manifests of a pinned contribution, of all adds there ever were."""
    if pin.space not in spaces.all():
        return []
    return list(dict.fromkeys(_adds(spaces, pin.space, pin.content)))


def _adds(
    spaces: Spaces, space: SpaceId, content: ContentId
) -> Iterator[tuple[BlobId, int]]:
    records = spaces.opset(space).records
    for _, record in sorted(records.items()):
        body = record.body
        if isinstance(body, Add) and body.content == content:
            yield body.manifest, body.manifest_bytes
