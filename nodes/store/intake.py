"""Bytes of the user's that come into a home: written as they are read, all or nothing.

Owns which of them are written (what is here already is not), that they are on the disk
before they count, and that one command's blobs appear together. Does not own reading the
user's files (`sources`), what is checked of them (`crdtmerge.formats`), nor the order of
names and rows (`naming`).

Syncs run on other threads while the next bytes are read and written. Between beginning
and `keep` the store says nothing of these blobs; what a crash leaves lies in the folder
that every start empties.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from crdtmerge.digest import (
    CHUNK_BYTES,
    BlobId,
    blob_id,
    blob_id_of,
    chunk_digest,
    chunk_digests,
)
from crdtmerge.errors import CrdtMergeError, MachineError, NoRoomError
from crdtmerge.formats.folder import changed
from crdtmerge.formats.header import FileState, StoredTensor

from .blobs import FileBlobs
from .disk import File, explained
from .leases import Lease
from .ranges import Stored
from .sources import Again

SYNC_THREADS: Final = 4
"""Small files wait for the disk's answer more than for its speed: several at once."""
SYNC_BYTES: Final = 64 << 20
"""Bytes of one file that are written before it is synced for the first time."""
UNSYNCED_BYTES_MAX: Final = 256 << 20
"""Bytes that may wait for the disk; then writing waits too. They are the system's memory,
not ours, and what others do on the machine should not wait behind more."""


class Syncing:
    """Files on their way to the disk; the first failure is told to whoever writes next."""

    def __init__(self, pool: Executor) -> None:
        """Sync on the threads of `pool`."""
        self._pool = pool
        self._under_way: deque[tuple[Future[None], int]] = deque()
        self._bytes = 0

    def begin(self, file: File, path: Path, size: int, *, last: bool) -> None:
        """Have a file synced, `size` more bytes of which were written; then closed.

        Raises:
            MachineError: an earlier sync failed.
        """
        self._under_way.append((self._pool.submit(_sync, file, path, last=last), size))
        self._bytes += size
        self._wait(UNSYNCED_BYTES_MAX)

    def finish(self) -> None:
        """Return once all is on the disk.

        Raises:
            MachineError: a sync failed.
        """
        self._wait(-1)

    def _wait(self, limit: int) -> None:
        while self._under_way and (self._bytes > limit or self._under_way[0][0].done()):
            future, size = self._under_way.popleft()
            self._bytes -= size
            future.result()

    def drop(self) -> None:
        """Return once no thread has a file any more, whatever became of it."""
        while self._under_way:
            self._under_way.popleft()[0].exception()


def _sync(file: File, path: Path, *, last: bool) -> None:
    try:
        with explained(f"syncing {path}"):
            file.sync()
    except NoRoomError as e:
        # Whatever the reason, a failed sync is final: never one to try again.
        raise MachineError(str(e), hint=e.hint) from e
    finally:
        if last:
            file.close()


class Writing:
    """A new file in the making; its bytes are synced as they grow."""

    def __init__(
        self, blobs: FileBlobs, syncing: Syncing, size: int, beside: int
    ) -> None:
        """Create it, if there is room for `size` bytes, `beside` what was written before.

        Raises:
            MachineError: there is not, or the disk refused.
        """
        blobs.reserve(size, beside=beside)
        self.path = blobs.temporary()
        self._syncing = syncing
        self._offset = self._synced = 0
        with explained(f"creating {self.path}"):
            self._file = blobs.disk.create(self.path)

    def write(self, data: bytes) -> None:
        """Write the next bytes.

        Raises:
            MachineError: the disk refused, now or while it synced what came before.
        """
        with explained(f"writing {self.path}"):
            self._file.write_at(self._offset, data)
        self._offset += len(data)
        if self._offset - self._synced >= SYNC_BYTES:
            self._sync(last=False)

    def end(self) -> None:
        """Have the rest synced, and the file closed."""
        self._sync(last=True)

    def _sync(self, *, last: bool) -> None:
        size, self._synced = self._offset - self._synced, self._offset
        self._syncing.begin(self._file, self.path, size, last=last)

    def close(self) -> None:
        """Close the file; no thread may be syncing it any more."""
        self._file.close()


class Intake:
    """What one command brings in; nothing of it is there before `keep`.

    For one thread. `fresh` are the blobs that nobody knew before; `new_bytes` counts those,
    and what took the place of wrong bytes. On all that it relies on, fresh or found here,
    it has a `lease`, which its user ends.
    """

    def __init__(
        self,
        blobs: FileBlobs,
        pool: Executor,
        *,
        reference: bool = False,
        moved: bool = False,
    ) -> None:
        """Bring bytes into `blobs`: a copy, or with `reference` only where they lie.

        `moved` says that references replace older ones of the same bytes. Files are
        synced on the threads of `pool`.
        """
        self.fresh: list[BlobId] = []
        self.lease = Lease(blobs.leases)
        self.new_bytes = 0
        self._written_bytes = 0
        self._blobs = blobs
        self.reference = reference
        self._moved = moved
        self._syncing = Syncing(pool)
        self._writings: list[Writing] = []
        self._kept: dict[BlobId, tuple[Writing, Stored]] = {}
        self._referenced: dict[BlobId, Stored] = {}
        self._states: dict[Path, FileState] = {}
        self._alike: dict[int, Mapping[bytes, list[BlobId]]] = {}

    def begin(self, tensor: StoredTensor, again: Again) -> "Taking":
        """Begin to take in a tensor; `again` reads bytes of it a second time."""
        if self.reference:
            return Referring(self, tensor)
        return Copying(self, tensor, again)

    def put(self, data: bytes) -> BlobId:
        """Take in a small blob that was made here, such as a manifest.

        Raises:
            MachineError: the disk refused.
        """
        blob = blob_id_of(data)
        if not self.has(blob):
            writing = self.new_file(len(data))
            writing.write(data)
            self.written(writing, len(data), chunk_digests(data))
        return blob

    def keep(self, wanted: Iterable[BlobId], beside: Iterable[BlobId] = ()) -> None:
        """Let the `wanted` blobs be there, durably and together; drop the others.

        Those `beside` them come too, and do not count in `new_bytes`.

        Raises:
            MachineError: the disk refused; none of them is there.
        """
        self._syncing.finish()
        counted = set(wanted)
        needed = sorted(counted.union(beside))
        self.lease.add(needed)
        moves = [self._kept[blob] for blob in needed if blob in self._kept]
        rows = [self._referenced[b] for b in needed if b in self._referenced]
        fresh = [
            s for s in (*(s for _, s in moves), *rows) if not self._blobs.has(s.blob)
        ]
        states = {stored.path: self._states[stored.path] for stored in rows}
        self._blobs.settle_all({w.path: s for w, s in moves}, rows, states)
        self.fresh += [s.blob for s in fresh]
        new = {s.blob: s.size for s in (*(s for _, s in moves), *fresh)}
        self.new_bytes += sum(size for blob, size in new.items() if blob in counted)
        self.drop()

    def drop(self) -> None:
        """Remove what was written and not kept; the store is as if it had never come."""
        self._syncing.drop()
        for writing in self._writings:
            writing.close()
            with suppress(OSError):  # the next start removes it
                self._blobs.disk.remove(writing.path)
        self._writings.clear()
        self._kept.clear()
        self._referenced.clear()

    # --- what the taking of one tensor needs ---------------------------------------------

    def new_file(self, size: int) -> Writing:
        """Return a file for a blob of `size` bytes."""
        writing = Writing(self._blobs, self._syncing, size, self._written_bytes)
        self._writings.append(writing)
        return writing

    def written(self, writing: Writing, size: int, chunks: Sequence[bytes]) -> BlobId:
        """Take note of a file that has all its bytes, and of their name."""
        writing.end()
        blob = blob_id(size, chunks)
        place = self._blobs.path_of(blob)
        self._written_bytes += size
        self._kept[blob] = (
            writing,
            Stored(blob, size, tuple(chunks), place, 0, referenced=False),
        )
        return blob

    def refer(self, tensor: StoredTensor, chunks: Sequence[bytes]) -> BlobId:
        """Take note of where a tensor lies, unless its bytes are here already."""
        blob = blob_id(tensor.size, chunks)
        if self._moved or not self.has(blob):
            path = tensor.path.resolve()
            place = Stored(
                blob, tensor.size, tuple(chunks), path, tensor.offset, referenced=True
            )
            self._referenced[blob], self._states[path] = place, tensor.state
        return blob

    def known(self, size: int, first: bytes) -> dict[BlobId, Sequence[bytes]]:
        """Return the blobs that are here and begin with this chunk, with their chunks."""
        if size not in self._alike:
            self._alike[size] = self._blobs.rows.alike(size)
        known: dict[BlobId, Sequence[bytes]] = {}
        for blob in self._alike[size].get(first, ()):
            with suppress(CrdtMergeError):  # its list is damaged: it is written anew
                known[blob] = self._blobs.chunk_list(blob)[1]
        for blob, (_, stored) in self._kept.items():
            if stored.size == size and stored.chunks[:1] == (first,):
                known[blob] = stored.chunks
        return known

    def has(self, blob: BlobId) -> bool:
        """Tell whether a blob need not be written: it came before, or is here and right."""
        self.lease.add([blob])
        return blob in self._kept or self._blobs.is_sound(blob)


class Taking(Protocol):
    """A tensor on its way in: its blocks in order, then its end."""

    def take(self, data: bytes, chunks: Sequence[bytes]) -> None:
        """Take in the next block, whole chunks with their digests."""

    def end(self) -> BlobId:
        """Return the name of all that was taken in."""


class Referring:
    """A tensor that stays where it is."""

    def __init__(self, intake: Intake, tensor: StoredTensor) -> None:
        """Begin with nothing."""
        self._intake = intake
        self._tensor = tensor
        self._chunks: list[bytes] = []

    def take(self, _data: bytes, chunks: Sequence[bytes]) -> None:
        """Take note of the next block."""
        self._chunks += chunks

    def end(self) -> BlobId:
        """Take note of where the tensor lies."""
        return self._intake.refer(self._tensor, self._chunks)


class Copying:
    """A tensor that is written, from the first block on that is new.

    As long as the chunks are those of blobs that are here, nothing is written: most often
    the tensor is one of them. If it turns out otherwise, what was passed over is read
    again, from the system's cache if it has room, and compared with its digests.
    """

    def __init__(self, intake: Intake, tensor: StoredTensor, again: Again) -> None:
        """Begin with nothing."""
        self._intake = intake
        self._tensor = tensor
        self._again = again
        self._chunks: list[bytes] = []
        self._like: dict[BlobId, Sequence[bytes]] | None = None
        self._writing: Writing | None = None

    def take(self, data: bytes, chunks: Sequence[bytes]) -> None:
        """Write the next block, unless all up to here may be a blob that is here.

        Raises:
            BadInputError: what was passed over is not as it was.
            MachineError: the disk refused.
        """
        if self._writing is None and not self._follows(chunks):
            self._writing = self._caught_up()
        if self._writing is not None:
            self._writing.write(data)
        self._chunks += chunks

    def end(self) -> BlobId:
        """Return the name of all that was written, or was found to be here and right."""
        if self._writing is None:
            blob = blob_id(self._tensor.size, self._chunks)
            if self._intake.has(blob):
                return blob
            self._writing = self._caught_up()
        return self._intake.written(self._writing, self._tensor.size, self._chunks)

    def _follows(self, chunks: Sequence[bytes]) -> bool:
        """Tell whether the tensor, with these chunks, may still be a known blob."""
        if self._like is None:
            self._like = self._intake.known(self._tensor.size, chunks[0])
        begin = len(self._chunks)
        self._like = {
            blob: known
            for blob, known in self._like.items()
            if list(known[begin : begin + len(chunks)]) == list(chunks)
        }
        return bool(self._like)

    def _caught_up(self) -> Writing:
        """Return a file with all that was passed over so far."""
        writing = self._intake.new_file(self._tensor.size)
        for index, digest in enumerate(self._chunks):
            start = index * CHUNK_BYTES
            length = min(CHUNK_BYTES, self._tensor.size - start)
            data = self._again(start, length)
            if chunk_digest(data) != digest:
                raise changed(self._tensor)
            writing.write(data)
        return writing
