"""Taking up what is known of a plan's tasks: from a broken-off run, and from a memo.

Owns when known bytes are used: never unseen. Does not own what is remembered (`memo`), what
a broken-off run noted (`formats.journal`), nor which tasks there are (`plan`).

Bytes are hashed as they are copied, by plain reads: a file of the user's that is cut
meanwhile is no error then, and neither is one that is gone or another now. The tensor is
computed. (Sharing extents on disk in place of a copy needs offsets at multiples of the
disk's blocks, which tensors in these files do not have.)
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id, chunk_digests
from crdtmerge.formats.header import FileState
from crdtmerge.formats.journal import Journal, Noted
from crdtmerge.formats.shards import ModelLayout
from crdtmerge.formats.writer import ModelWriter
from crdtmerge.resolve.accumulators import PART_ITEMS
from crdtmerge.resolve.cost import ITEM_BYTES, NO_SUMS, Choice, Way
from crdtmerge.resolve.incremental import Increments, SumsStore
from crdtmerge.resolve.kept import ROWS_MAX, Last
from crdtmerge.resolve.memo import Known, Measures, Memo, Place
from crdtmerge.resolve.plan import Plan, Task
from crdtmerge.resolve.reading import TensorSource

READ_BYTES: Final = 8 * CHUNK_BYTES
"""How much is read, hashed and written at once."""


@dataclass(frozen=True, slots=True)
class Before:
    """What was known of a plan before it ran: outputs, measures, a broken-off run."""

    outputs: Mapping[bytes, tuple[Known, ...]] = field(default_factory=dict)
    measures: Mapping[bytes, Measures] = field(default_factory=dict)
    noted: Mapping[str, Noted] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        plan: Plan,
        memo: Memo | None,
        noted: Mapping[str, Noted],
        others: Iterable[bytes] = (),
    ) -> "Before":
        """Return what memo and journal know of the tasks of a plan, and of `others`."""
        if memo is None:
            return cls(noted=noted)
        emits = [task.key for task in plan.tasks if task.kind == "emit"] + [*others]
        maps = [task.key for task in plan.tasks if task.kind == "map"]
        found = memo.outputs(emits)
        outputs = {key: tuple(known) for key, known in found.items()}
        return cls(outputs, memo.measures(maps) if maps else {}, noted)

    def kept(self, task: Task) -> BlobId | None:
        """Return the digest that a broken-off run noted for this very task."""
        noted = self.noted.get(task.tensor)
        return noted.digest if noted and noted.task == task.key else None

    def places(self, key: bytes, size: int) -> Iterator[Known]:
        """Yield where the output of a task should lie, in files that look unchanged."""
        for known in self.outputs.get(key, ()):
            if known.place.size == size and known.place.is_there():
                yield known


@dataclass(slots=True)
class Tally:
    """What came of the tasks of one run, in tensors and bytes."""

    computed: int = 0
    computed_bytes: int = 0
    summed: int = 0
    reused: int = 0
    reused_bytes: int = 0
    kept: int = 0
    kept_bytes: int = 0
    tasks: int = 0


class Reuse:
    """The results of one run: those known before, and those to be remembered after it."""

    def __init__(
        self,
        before: Before,
        layout: ModelLayout,
        writer: ModelWriter,
        journal: Journal,
    ) -> None:
        """Put outputs to `writer`, noting them in `journal`."""
        self._before = before
        self._writer = writer
        self._journal = journal
        self._increments: Increments | None = None
        self._choice = NO_SUMS
        self._plan: Plan | None = None
        self._copied: set[str] = set()
        self._places = {
            name: (file, laid.offsets[name], laid.sizes[name])
            for file, laid in layout.files.items()
            for name in laid.sizes
        }
        self._lock = threading.Lock()
        self._outputs: dict[bytes, tuple[str, BlobId]] = {}
        self._measures: dict[bytes, Measures] = {}
        self.tally = Tally()

    def take(self, task: Task) -> BlobId | None:
        """Put a known output into place; None if there is none, or not any more."""
        return self._keep(task) or self._copy(task)

    def sum_up(
        self, plan: Plan, source: TensorSource, store: SumsStore, choice: Choice
    ) -> Increments:
        """Have outputs made of kept sums where the choice says so."""
        chosen = choice.tensors("begin", "go on")
        self._choice, self._plan = choice, plan
        self._increments = Increments(
            plan,
            source,
            self._writer,
            store,
            chosen=chosen,
            begun=choice.tensors("begin"),
            look_up=self._look_up,
        )
        return self._increments

    def made(self, task: Task) -> BlobId | None:
        """Return the digest of an output that was made of kept sums."""
        digest = self._increments.made(task) if self._increments else None
        if digest is not None and task.tensor not in self._copied:
            with self._lock:
                self.tally.summed += 1
        return digest

    def memory(self, task: Task) -> int:
        """Return what planes take while an output is made of them."""
        way = self._choice.ways.get(task.tensor, "compute")
        return memory_of_sums(self._plan, task, way) if self._plan else 0

    def _look_up(self, tensor: str, last: Last) -> BlobId | None:
        """Copy the last output of kept sums, which is to be that of `tensor` again."""
        size = self._places[tensor][2]
        for known in self._before.places(last.task, size):
            if known.digest == last.output and self.take_from(known, tensor):
                with self._lock:
                    self._copied.add(tensor)
                    self.tally.reused += 1
                    self.tally.reused_bytes += size
                return known.digest
        return None

    def measured(self, task: Task) -> Measures | None:
        """Return what a map came to before."""
        return self._before.measures.get(task.key)

    def note(self, task: Task, digest: BlobId) -> None:
        """Note an output that was made now."""
        with self._lock:
            if task.tensor not in self._copied:
                self.tally.computed += 1
                self.tally.computed_bytes += self._places[task.tensor][2]
                self.tally.tasks += 1
        self._remember(task, digest)
        self._journal.note(task.tensor, task.key, digest)

    def note_measures(self, task: Task, measures: Measures) -> None:
        """Note what a map came to."""
        with self._lock:
            self._measures[task.key] = measures
            self.tally.tasks += 1

    @property
    def measures(self) -> Mapping[bytes, Measures]:
        """What maps came to that were run now."""
        with self._lock:
            return dict(self._measures)

    def outputs(self, out: Path) -> Mapping[bytes, Known]:
        """Return what a memo should remember, once the files are in the folder `out`."""
        out = out.resolve()
        states = {file: _state(out / file) for file, _, _ in self._places.values()}
        found = {}
        for key, (name, digest) in self._outputs.items():
            file, offset, size = self._places[name]
            state = states[file]
            if state is not None:
                found[key] = Known(digest, Place(out / file, offset, size, state))
        return found

    def take_from(self, known: Known, tensor: str) -> BlobId | None:
        """Copy a known output to the place of `tensor`; None if its bytes differ."""
        place, chunks, done = known.place, [], 0
        for part in _read(place.path, place.offset, place.size):
            chunks += chunk_digests(part)
            self._writer.write(tensor, part, done)
            done += len(part)
        same = done == place.size and blob_id(done, chunks) == known.digest
        return known.digest if same else None

    def _keep(self, task: Task) -> BlobId | None:
        """Keep what a broken-off run wrote, if that is what it noted."""
        digest = self._before.kept(task)
        if digest is None:
            return None
        file, offset, size = self._places[task.tensor]
        if _digest(_read(self._writer.folder / file, offset, size), size) != digest:
            return None
        self._writer.keep(task.tensor)
        with self._lock:
            self.tally.kept += 1
            self.tally.kept_bytes += size
        self._remember(task, digest)
        return digest

    def _copy(self, task: Task) -> BlobId | None:
        size = self._places[task.tensor][2]
        for known in self._before.places(task.key, size):
            digest = self.take_from(known, task.tensor)
            if digest is not None:
                with self._lock:
                    self.tally.reused += 1
                    self.tally.reused_bytes += size
                self._remember(task, digest)
                self._journal.note(task.tensor, task.key, digest)
                return digest
        return None

    def _remember(self, task: Task, digest: BlobId) -> None:
        with self._lock:
            self._outputs[task.key] = (task.tensor, digest)


def memory_of_sums(plan: Plan, task: Task, way: Way) -> int:
    """Return a bound on what planes take while one output is made of them, in bytes.

    Those of one part are there as they were, as they come, as they will be, and packed.
    """
    if way == "compute":
        return 0
    items = min(plan.frames[task.tensor].entry.items, PART_ITEMS)
    return 4 * ITEM_BYTES * ROWS_MAX * items


def _read(path: Path, offset: int, size: int) -> Iterator[bytes]:
    """Yield bytes of a file; fewer than `size` if it is shorter or cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        end = offset + size
        while offset < end:
            try:
                data = _whole(file, min(READ_BYTES, end - offset), offset)
            except OSError:
                return
            if not data:
                return
            yield data
            offset += len(data)
    finally:
        os.close(file)


def _whole(file: int, length: int, offset: int) -> bytes:
    """Return so many bytes; a system call may give less than it was asked for.

    SUBTLE: parts must be whole chunks, but for the last one.
    """
    data = os.pread(file, length, offset)
    while len(data) < length:
        more = os.pread(file, length - len(data), offset + len(data))
        if not more:
            return b""
        data += more
    return data


def _digest(parts: Iterable[bytes], size: int) -> BlobId:
    chunks = [digest for part in parts for digest in chunk_digests(part)]
    return blob_id(size, chunks)


def _state(path: Path) -> FileState | None:
    try:
        return FileState.of(path.stat())
    except OSError:
        return None
