"""Resolving again at the cost of what changed: sums are kept, and gone on with.

Owns how an output is made of kept sums, and what becomes of these. Does not own what goes
into and out of sums (`summing`), the sums (`accumulators`), their form (`kept`), when they
are worth it (`cost`), nor where they lie (`SumsStore`).

The contributions that left or came are read, and the base where task vectors or the end
need it; none that stayed. Planes come from the old file and go to the new one part by
part, and so does the output; its bytes are those of `execute`. Kept sums are derived data:
those that are damaged, or were made for another recipe or base, are dropped with a reason
and made afresh. A disk that takes no sums is no error.
"""

import threading
from collections.abc import Callable, Container
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from crdtmerge.digest import BlobId, blob_id, chunk_digests
from crdtmerge.errors import DamagedStateError, MachineError, UpgradeNeededError
from crdtmerge.numerics import Data
from crdtmerge.resolve import kept
from crdtmerge.resolve.accumulators import Accumulator, parts_of
from crdtmerge.resolve.execute import TensorSink
from crdtmerge.resolve.plan import Plan, Task
from crdtmerge.resolve.reading import TensorReader, TensorSource
from crdtmerge.resolve.summing import TensorSums
from crdtmerge.strategies.table import SUMS

FIRST: Final = "no sums were kept"
BEGUN: Final = "they are begun: no kept ones would move fewer bytes"


class SumsFile(Protocol):
    """Planes on their way to a store."""

    def write(self, data: Data) -> None:
        """Keep more bytes of the planes."""

    def finish(self, header: bytes) -> None:
        """Put planes and header in place of those that there were."""


class SumsStore(Protocol):
    """Where kept sums lie, by tensor; safe to call from threads.

    Nothing that it returns is trusted. Whoever can write to it can change merged bytes
    unseen, so it lies where only the user can write.
    """

    def load(self, tensor: str) -> tuple[Data, Data] | None:
        """Return header and planes that were kept for a tensor, None if none were."""

    def keep(self, tensor: str, header: bytes) -> None:
        """Put a header in place of the one that there was; the planes stay."""

    def replacing(self, tensor: str) -> AbstractContextManager[SumsFile]:
        """Lend a file for new planes; what is not finished is as if it never was."""


Lookup = Callable[[str, kept.Last], BlobId | None]
"""Gives the sink the last output for a tensor, if its bytes are still somewhere."""


def why_not(plan: Plan) -> str:
    """Return why a plan's sums cannot be kept; empty if they can."""
    name, recipe = plan.strategy.full_name, plan.recipe
    if name not in SUMS:
        return f"{name} is no sum that takes one contribution by itself"
    if plan.strategy.draws and recipe.seed_scope == "set":
        return (
            f"{name} draws its masks by the set: when one contribution comes or goes,"
            " those of all others change"
        )
    if recipe.pre or recipe.post:
        return "its recipe has steps before or after the strategy"
    if any(f.ground == "none" and f.exponent is None for f in plan.frames.values()):
        return "without a base the grid of the sums hangs on the set"
    return ""


@dataclass(slots=True)
class Moved:
    """Bytes of planes that were read and written."""

    read: int = 0
    written: int = 0


class Increments:
    """Makes outputs of kept sums, and keeps the sums; safe to use from threads.

    `afresh` tells why sums were made from all contributions, `unkept` why they were not
    kept.
    """

    def __init__(
        self,
        plan: Plan,
        source: TensorSource,
        sink: TensorSink,
        store: SumsStore,
        *,
        chosen: Container[str] | None = None,
        begun: Container[str] = (),
        look_up: Lookup = lambda _tensor, _last: None,
    ) -> None:
        """Make the outputs of the `chosen` tensors; None are all that are merged.

        For those `begun` the sums that were kept are passed over, and new ones made.
        """
        self._plan = plan
        self._reader = TensorReader(plan, source)
        self._sink = sink
        self._store = store
        self._chosen = chosen
        self._begun = begun
        self._look_up = look_up
        self._lock = threading.Lock()
        self.afresh: dict[str, str] = {}
        self.unkept: dict[str, str] = {}
        self.moved = Moved()

    def made(self, task: Task) -> BlobId | None:
        """Make the output of a task; None where it is not for sums to make."""
        name = task.tensor
        if not self._plan.frames[name].is_merged:
            return None
        if self._chosen is not None and name not in self._chosen:
            return None
        tensor = TensorSums(self._plan, name, self._reader)
        found, old, reason = self._load(tensor, name)
        sums: Accumulator | None = None
        if old is not None:
            sums, reason = tensor.gone_on(old)
        if found is not None and old is not None and sums is not None:
            if tensor.ends_alike(old, sums, found.last):
                digest = self._look_up(name, found.last)
                if digest is not None:
                    last = kept.Last(task.key, tensor.output_dtype, digest)
                    self._keep(name, sums, last, found.packed)
                    return digest
            try:
                found.verify()
            except DamagedStateError as e:
                sums, reason = None, str(e)
            with self._lock:
                self.moved.read += found.size
        if sums is None:
            self.afresh[name] = reason
            sums, old = tensor.afresh(), None
        if found is not None and old is not None and old.part is sums.part:
            digest = self._write(tensor, name, sums, None)
            last = kept.Last(task.key, tensor.output_dtype, digest)
            self._keep(name, sums, last, found.packed)
            return digest
        return self._replace(task, tensor, sums)

    def _load(
        self, tensor: TensorSums, name: str
    ) -> tuple[kept.Kept | None, Accumulator | None, str]:
        if name in self._begun:
            return None, None, BEGUN
        return load_sums(self._store, tensor, name)

    def _replace(self, task: Task, tensor: TensorSums, sums: Accumulator) -> BlobId:
        """Write the output and the planes that it is made of."""
        with self._store.replacing(task.tensor) as file:
            saving = _Saving(file)
            packing = kept.Packing(sums.grid, saving.write)
            digest = self._write(tensor, task.tensor, sums, packing)
            last = kept.Last(task.key, tensor.output_dtype, digest)
            saving.finish(kept.header_of(sums, last, packing.packed))
            with self._lock:
                self.moved.written += packing.size
                if saving.refused:
                    self.unkept[task.tensor] = saving.refused
        return digest

    def _write(
        self,
        tensor: TensorSums,
        name: str,
        sums: Accumulator,
        packing: kept.Packing | None,
    ) -> BlobId:
        """Write the output of sums, part by part; return its digest."""
        finish, chunks, done = tensor.finishing(sums), list[bytes](), 0
        for part in parts_of(sums.shape[1]):
            planes = sums.part(part)
            data = finish(planes, part)
            chunks += chunk_digests(data)
            self._sink.write(name, data, done)
            done += len(data)
            if packing:
                packing.add(planes)
        return blob_id(done, chunks)

    def _keep(
        self, name: str, sums: Accumulator, last: kept.Last, packed: kept.Packed
    ) -> None:
        """Keep who is in the sums; the planes are those that there were."""
        try:
            self._store.keep(name, kept.header_of(sums, last, packed))
        except MachineError as e:
            with self._lock:
                self.unkept[name] = str(e)


def load_sums(
    store: SumsStore, tensor: TensorSums, name: str
) -> tuple[kept.Kept | None, Accumulator | None, str]:
    """Return what was kept, its sums if they fit the tensor, and why they do not."""
    try:
        data = store.load(name)
        if data is None:
            return None, None, FIRST
        found = kept.from_bytes(*data)
    except (DamagedStateError, UpgradeNeededError, MachineError) as e:
        return None, None, str(e)
    sums, reason = tensor.fitting(found)
    return found, sums, reason


class _Saving:
    """Passes planes on to a file until that is refused; then they are not kept."""

    def __init__(self, file: SumsFile) -> None:
        self._file = file
        self.refused = ""

    def write(self, data: Data) -> None:
        if not self.refused:
            self._try(lambda: self._file.write(data))

    def finish(self, header: bytes) -> None:
        if not self.refused:
            self._try(lambda: self._file.finish(header))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except MachineError as e:
            self.refused = str(e)
