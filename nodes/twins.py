"""What a tensor may be encoded against on the wire: the same tensor of the base.

Owns finding it. Does not own encodings, nor when they pay (`crdtmerge.sync.thrift`).

SUBTLE: a peer names the blob that it has, and is never believed further than that: what is
not the twin in a space that both share is not used. Who could choose would get any blob of
this home, as the difference to one that it knows.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import CrdtMergeError
from crdtmerge.manifest import ITEM_BYTES, Manifest, TensorEntry

from .spaces import Spaces

TWINS_MAX: Final = 1 << 16
"""Tensors whose twin is remembered."""


@dataclass(frozen=True, slots=True)
class Twin:
    """How wide the items of a tensor are, and the base's tensor beside it, if here."""

    width: int
    against: BlobId | None


class Twins:
    """The twins of the tensors of one home. Safe for several threads."""

    def __init__(
        self,
        spaces: Spaces,
        base: Callable[[SpaceId], Manifest | None],
        has: Callable[[BlobId], bool],
    ) -> None:
        """`base` returns the manifest of a space's base, `has` whether a blob is here."""
        self._spaces = spaces
        self._base = base
        self._has = has
        self._lock = Lock()
        self._bases: dict[SpaceId, Mapping[str, TensorEntry]] = {}
        self._found: OrderedDict[tuple[SpaceId, BlobId], Twin | None] = OrderedDict()

    def of(self, space: SpaceId, blob: BlobId) -> Twin | None:
        """Return the twin of a blob that is a tensor in `space`; None for others."""
        place = space, blob
        with self._lock:
            if place in self._found:
                self._found.move_to_end(place)
                return self._found[place]
        theirs = self._entries(space)
        twin = self._find(space, blob, theirs)
        with self._lock:
            if theirs:  # else it may have a twin once the base is here
                self._found[place] = twin
            if len(self._found) > TWINS_MAX:
                self._found.popitem(last=False)
        return twin

    def _entries(self, space: SpaceId) -> Mapping[str, TensorEntry]:
        """Return the tensors of the base of a space; none if it cannot be read here."""
        with self._lock:
            if space in self._bases:
                return self._bases[space]
        base = None
        with suppress(CrdtMergeError):
            base = self._base(space)
        if base is None:
            return {}
        found = {entry.name: entry for entry in base.tensors}
        with self._lock:
            return self._bases.setdefault(space, found)

    def _find(
        self, space: SpaceId, blob: BlobId, theirs: Mapping[str, TensorEntry]
    ) -> Twin | None:
        uses = [use for use in self._spaces.uses(blob) if use.space == space]
        if not uses:
            return None
        entry = uses[0].tensor
        width = ITEM_BYTES[entry.dtype]
        twin = theirs.get(entry.name) if uses[0].manifest.kind == "full" else None
        if twin is None or (twin.dtype, twin.shape) != (entry.dtype, entry.shape):
            return Twin(width, None)
        return Twin(width, twin.blob if self._has(twin.blob) else None)
