"""Cold storage: tensors that no resolve used lately are kept in fewer bytes.

Owns which blobs are cold, and what each is encoded against. Does not own how a blob is
packed (`store.packing`), nor encodings (`crdtmerge.encodings`).

Cold are the tensors of visible contributions that lie in the home and that no resolve used
for a while; one that was never used is cold from the start. Tensors of bases stay raw: each
resolve reads them, and others are encoded against them.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    FaultyContributionError,
    MalformedManifestError,
)
from crdtmerge.manifest import ITEM_BYTES, Manifest, TensorEntry, decode_manifest
from crdtmerge.policy import Visible

from ..home import Home
from ..spaces import Spaces
from ..store.packing import Order

OLDER_S: Final = 7 * 24 * 3600
"""How long no resolve must have used a tensor, where the user says nothing."""
BYTES_MIN: Final = 1 << 16
"""Smaller tensors stay raw: there are many of them in few bytes."""


def cold(home: Home, spaces: Spaces, now: int, older: int) -> list[Order]:
    """Return what may be packed: raw, ours, and unused for `older` seconds; sorted.

    Raises:
        MachineError: the store cannot be read.
    """
    with spaces.lock:
        views = {space: spaces.view(space).visible for space in spaces.all()}
    own = {
        holding.blob: holding.used
        for holding in home.blobs.holdings()
        if holding.form == "own" and holding.size >= BYTES_MIN
    }
    bases = {space: base for space in views if (base := base_manifest(home, space))}
    kept = {entry.blob for base in bases.values() for entry in base.tensors}
    orders: dict[BlobId, Order] = {}
    for space, visible in views.items():
        for order in _orders(spaces, visible, bases.get(space)):
            unused = order.blob in own and now - own[order.blob] >= older
            if unused and order.blob not in kept:
                orders.setdefault(order.blob, order)
    return sorted(orders.values(), key=lambda order: order.blob)


def base_manifest(home: Home, space: SpaceId) -> Manifest | None:
    """Return the manifest of a space's base, if it can be read here."""
    facts = home.local.base(space)
    if facts is None:
        return None
    with suppress(ContentMissingError, CorruptBlobError, MalformedManifestError):
        size, _ = home.blobs.chunk_list(facts.manifest)
        return decode_manifest(bytes(home.blobs.read(facts.manifest, size)))
    return None


def _orders(
    spaces: Spaces, visible: tuple[Visible, ...], base: Manifest | None
) -> Iterator[Order]:
    """Yield the tensors of contributions, with the base's beside those of whole models."""
    theirs = {entry.name: entry for entry in base.tensors} if base else {}
    for contribution in visible:
        with suppress(ContentMissingError, FaultyContributionError):
            manifest = spaces.manifest(contribution)
            for entry in manifest.tensors:
                twin = theirs.get(entry.name) if manifest.kind == "full" else None
                yield _order(entry, twin)


def _order(entry: TensorEntry, twin: TensorEntry | None) -> Order:
    alike = twin is not None and (twin.dtype, twin.shape) == (entry.dtype, entry.shape)
    against = twin.blob if twin is not None and alike else None
    return Order(entry.blob, ITEM_BYTES[entry.dtype], against)
