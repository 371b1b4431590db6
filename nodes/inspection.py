"""Looking for what no merge can use, where the bytes of contributions come in.

Owns what is looked at, and which fault is shown then. Does not own the proof
(`crdtmerge.faults`), nor who signs it (`operations`).
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final, TypeVar

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId
from crdtmerge.errors import LocalError, MachineError
from crdtmerge.faults import Fault, first_not_finite, prove_item, prove_size
from crdtmerge.manifest import ITEM_BYTES, Manifest, TensorEntry
from crdtmerge.orset import OpSet

from .spaces import Spaces, Use
from .store.blobs import FileBlobs

LOOKS_MAX: Final = 64
"""Blobs of which is remembered what they are needed as, and which chunks came."""
UNSAID_MAX: Final = 1024
"""Contributions of which this node found a fault that it may not tell."""

K = TypeVar("K")
V = TypeVar("V")

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Look:
    """What a blob is needed as, in these sets."""

    sets: tuple[OpSet, ...]
    dtypes: frozenset[str]
    needed: bool

    def is_of(self, sets: Sequence[OpSet]) -> bool:
        same = len(sets) == len(self.sets)
        return same and all(a is b for a, b in zip(sets, self.sets, strict=True))


class Inspection:
    """Looks at verified bytes as they arrive. Safe for several threads."""

    def __init__(
        self,
        spaces: Spaces,
        blobs: FileBlobs,
        publish: Callable[[SpaceId, Fault], None],
    ) -> None:
        """Look with what `spaces` say of a blob; `publish` signs what is shown.

        It may refuse with a LocalError: then nothing more is said of that contribution
        until the set changes. That the disk failed is passed on.
        """
        self._spaces = spaces
        self._blobs = blobs
        self._publish = publish
        self._lock = Lock()
        self._looks: OrderedDict[BlobId, _Look] = OrderedDict()
        self._seen: OrderedDict[BlobId, int] = OrderedDict()
        self._unsaid: OrderedDict[tuple[SpaceId, bytes], OpSet] = OrderedDict()

    def arrived(self, blob: BlobId, index: int, data: bytes | memoryview) -> bool:
        """Look at a verified chunk; tell whether anybody needs its blob from now on."""
        look = self._look(blob)
        with self._lock:
            _keep(self._seen, blob, self._seen.get(blob, 0) | 1 << index, LOOKS_MAX)
        for dtype in sorted(look.dtypes):
            at = first_not_finite(dtype, data)
            if at is not None:
                item = index * (CHUNK_BYTES // ITEM_BYTES[dtype]) + at
                self._show_item(blob, dtype, item, data)
                look = self._look(blob)
        return look.needed

    def completed(self, blob: BlobId) -> None:
        """Look at what was not looked at of a blob that is here now: its size, and chunks.

        Of a download that was cut, some chunks came before this node was started.
        """
        with self._lock:
            seen = self._seen.pop(blob, 0)
        uses = self._spaces.uses(blob)
        if not uses:
            return  # a manifest, a file, or evidence
        size, chunks = self._blobs.chunk_list(blob)
        for use in uses:
            if use.tensor.size != size:
                self._say(use, lambda u: prove_size(u.manifest, u.tensor, size, chunks))
        for index in range(len(chunks)):
            if not seen >> index & 1:
                self.arrived(blob, index, self._blobs.read_chunk(blob, index))

    def _show_item(
        self, blob: BlobId, dtype: str, item: int, data: bytes | memoryview
    ) -> None:
        coming = self._blobs.resumable(blob)
        size, chunks = coming or self._blobs.chunk_list(blob)
        for use in self._spaces.uses(blob):
            # Of another size than declared it is faulty for that, once it is here.
            if use.tensor.dtype == dtype and use.tensor.size == size:
                self._say(
                    use, lambda u: prove_item(u.manifest, u.tensor, item, chunks, data)
                )

    def _say(self, use: Use, prove: Callable[[Use], Fault]) -> None:
        """Publish a fault of a contribution, unless one is known or we may not."""
        place = use.space, use.content
        with self._lock:
            known = self._spaces.opset(use.space)
            if self._unsaid.get(place) is known or use.content in known.view.faults:
                return
            try:
                self._publish(use.space, prove(use))
            except MachineError:
                raise
            except LocalError as e:
                _log.warning("a faulty contribution is not told of: %s", e)
                _keep(self._unsaid, place, known, UNSAID_MAX)

    def _look(self, blob: BlobId) -> _Look:
        """Return what the blob is needed as now; anew once a set has changed."""
        places = self._spaces.all()
        sets = tuple(self._spaces.opset(space) for space in places)
        with self._lock:
            look = self._looks.get(blob)
            if look is not None and look.is_of(sets):
                self._looks.move_to_end(blob)
                return look
        uses = self._spaces.uses(blob)
        needed = any(self._spaces.serves(space, blob) for space in places)
        look = _Look(sets, frozenset(use.tensor.dtype for use in uses), needed)
        with self._lock:
            _keep(self._looks, blob, look, LOOKS_MAX)
        return look


def _keep(kept: OrderedDict[K, V], key: K, value: V, limit: int) -> None:
    """Keep a value; who was kept longest ago makes room."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > limit:
        kept.popitem(last=False)


def search(
    blobs: FileBlobs,
    manifest: Manifest,
    tensor: TensorEntry,
    read: Callable[[int], None],
) -> Fault | None:
    """Read a tensor that is here, all of it verified; return what is wrong with it.

    `read` hears how many bytes of each chunk were read.

    Raises:
        ContentMissingError: it is not here.
        CorruptBlobError: it is damaged here.
    """
    size, chunks = blobs.chunk_list(tensor.blob)
    if size != tensor.size:
        return prove_size(manifest, tensor, size, chunks)
    for index in range(len(chunks)):
        data = blobs.read_chunk(tensor.blob, index)
        read(len(data))
        at = first_not_finite(tensor.dtype, data)
        if at is not None:
            item = index * (CHUNK_BYTES // ITEM_BYTES[tensor.dtype]) + at
            return prove_item(manifest, tensor, item, chunks, data)
    return None
