"""Resolving again at the cost of what changed: sums are kept, and gone on with.

Owns which tensors have a task to run, and what becomes of what was kept. Does not own
what goes into and out of sums (`summing`), the sums (`accumulators`), their form (`kept`),
nor where they lie (`SumsStore`).

A tensor whose task has the key of the one that made the output at hand costs nothing: no
blob is read and no task runs. Else the contributions that left or came are read, and the
base where task vectors or the end need it; none that stayed. The bytes are those of
`execute`. Kept sums are derived data: those that are damaged, or were made for another
recipe or base, are dropped with a reason and made afresh.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, Protocol

from crdtmerge.digest import BlobId
from crdtmerge.errors import BadInputError, DamagedStateError, UpgradeNeededError
from crdtmerge.formats.progress import Report
from crdtmerge.numerics import Data
from crdtmerge.resolve import kept
from crdtmerge.resolve.accumulators import Accumulator
from crdtmerge.resolve.execute import TensorSink, reporter, write_made
from crdtmerge.resolve.plan import Plan, Task
from crdtmerge.resolve.pool import Pool
from crdtmerge.resolve.reading import TensorReader, TensorSource
from crdtmerge.resolve.summing import TensorSums
from crdtmerge.strategies.table import SUMS

FIRST: Final = "no sums were kept"


class SumsStore(Protocol):
    """Where kept sums lie, by tensor; safe to call from threads.

    Nothing that it returns is trusted. Whoever can write to it can change merged bytes
    unseen, so it lies where only the user can write.
    """

    def load(self, tensor: str) -> Data | None:
        """Return what was kept for a tensor, None if nothing was."""

    def save(self, tensor: str, pieces: Iterable[Data]) -> None:
        """Keep these bytes, one piece after another, in place of what was kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a resolve came to.

    `digests` are those of all output tensors, as `execute` returns them. `written` are
    the tensors that the sink was given: of the others the caller holds the bytes.
    `afresh` tells why sums were made from all contributions.
    """

    digests: Mapping[str, BlobId]
    written: tuple[str, ...]
    afresh: Mapping[str, str]


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


def resolve_incrementally(
    plan: Plan,
    source: TensorSource,
    sink: TensorSink,
    store: SumsStore,
    *,
    held: Mapping[str, BlobId] | None = None,
    executor: Executor | None = None,
    threads: int = 1,
    report: Report | None = None,
) -> Outcome:
    """Compute the model of `plan`, going on with the sums in `store`.

    `held` are the digests of the output tensors that the caller has already, from an
    earlier resolve: such a tensor is not written again if it is to be the same.

    Raises:
        BadInputError: the sums of this plan cannot be kept (`why_not`).
        CrdtMergeError: whatever `execute` raises; the store then holds, for each tensor,
            what it held before or what it should hold now.
    """
    if reason := why_not(plan):
        hint = (
            "resolve it whole; linear, task_arithmetic, ties and breadcrumbs can be kept,"
            " and dare and della with the seed scope `contribution`"
        )
        raise BadInputError(reason, hint=hint)
    run = _Run(plan, TensorReader(plan, source), sink, store, held or {})
    emits = [task for task in plan.tasks if task.kind == "emit"]
    count = reporter(plan, "merging", emits, report)
    done = Pool(executor, threads).run(run.emit, emits, count)
    found = {task.tensor: made for task, made in zip(emits, done, strict=True)}
    return Outcome(
        {name: made.digest for name, made in found.items()},
        tuple(name for name, made in found.items() if made.written),
        {name: made.afresh for name, made in found.items() if made.afresh},
    )


@dataclass(frozen=True, slots=True)
class _Made:
    """What one task came to."""

    digest: BlobId
    written: bool = False
    afresh: str = ""


@dataclass(frozen=True, slots=True)
class _Run:
    """One resolve: what its tasks share."""

    plan: Plan
    reader: TensorReader
    sink: TensorSink
    store: SumsStore
    held: Mapping[str, BlobId]

    def emit(self, task: Task) -> _Made:
        """Make one output tensor, unless the caller has it."""
        if self.plan.frames[task.tensor].is_merged:
            return self._merge(task)
        entry = self.plan.frames[task.tensor].entry
        if self.held.get(task.tensor) == entry.blob:
            return _Made(entry.blob)
        data = self.reader.read(entry)
        return _Made(self._write(task, data), written=True)

    def _merge(self, task: Task) -> _Made:
        found, reason = self._load(task)
        if found and self._has(task, found.last) and found.last.task == task.key:
            return _Made(found.last.output)
        tensor = TensorSums(self.plan, task.tensor, self.reader)
        old: Accumulator | None = None
        if found:
            old, reason = tensor.verified(found)
        sums: Accumulator | None = None
        if old is not None:
            sums, reason = tensor.gone_on(old)
        if sums is None:
            sums, old = tensor.afresh(), None
        same = bool(found and old and tensor.ends_alike(old, sums, found.last))
        if found and same and self._has(task, found.last):
            made, written = found.last.output, False
        else:
            made, written = self._write(task, tensor.finish(sums)), True
        last = kept.Last(task.key, tensor.output_dtype, made)
        self.store.save(task.tensor, kept.to_bytes(sums, last))
        return _Made(made, written, reason)

    def _write(self, task: Task, data: Data) -> BlobId:
        return write_made(self.sink, task.tensor, data)

    def _has(self, task: Task, last: kept.Last) -> bool:
        """Tell whether the caller holds the last output."""
        return self.held.get(task.tensor) == last.output

    def _load(self, task: Task) -> tuple[kept.Kept | None, str]:
        """Return what was kept, or why nothing can be used of it."""
        data = self.store.load(task.tensor)
        if data is None:
            return None, FIRST
        try:
            return kept.from_bytes(data), ""
        except (DamagedStateError, UpgradeNeededError) as e:
            return None, str(e)
