"""The norms of task vectors: what a budget weighs, measured once and kept.

Owns the measuring, that a norm is a function of bytes alone, and whose fault it is when
there is none. Does not own which norms are needed (`budget`), the sum (`numerics`), nor
where norms are kept (`NormStore`).

A norm is the sum of the squares of a float32 task vector in float64 along the contract's
tree: equal on all machines. Nobody's word is taken for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from crdtmerge.changes import Change, Whole, task_vector_of
from crdtmerge.errors import ContractError, FaultyContributionError
from crdtmerge.formats.progress import Progress, Report
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.numerics import Data, Difference, inner_products, sum_of_squares
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.budget import Reading, account_of, check_budget, choose
from crdtmerge.resolve.ground import ON_BASE, Footing
from crdtmerge.resolve.memory import MEMORY_DEFAULT, task_bytes
from crdtmerge.resolve.plan import Plan, Task, Unread, make_plan
from crdtmerge.resolve.pool import Pool
from crdtmerge.resolve.reading import TensorReader, TensorSource
from crdtmerge.resolve.settings import Contribution

WORK: Final = "measuring norms"


class NormStore(Protocol):
    """Where norms are kept, by `Reading.key`; safe to call from threads."""

    def load(self, keys: Iterable[bytes]) -> Mapping[bytes, float]:
        """Return the norms that are kept of these."""

    def save(self, norms: Mapping[bytes, float]) -> None:
        """Keep these norms."""


@dataclass(frozen=True, slots=True)
class Measuring:
    """What it takes to measure: where bytes and norms lie, threads, who hears of it.

    `memory` is in bytes, beside what is mapped.
    """

    source: TensorSource
    store: NormStore
    executor: Executor | None = None
    threads: int = 1
    memory: int = MEMORY_DEFAULT
    report: Report | None = None


def unread_within(
    recipe: Recipe,
    base: Manifest,
    contributions: Sequence[Contribution],
    measuring: Measuring,
    footing: Footing = ON_BASE,
) -> Unread | None:
    """Return what the recipe's I/O budget leaves unread; None if it has no budget.

    Norms are asked for only where something must be left out; those that are not kept
    are measured, which reads all that is not kept once.

    Raises:
        BadInputError: the budget does not suffice for the base alone.
        FaultyContributionError: a contribution's tensor is no finite task vector.
        CrdtMergeError: whatever `make_plan` raises.
    """
    if not recipe.io_budget:
        return None
    whole = make_plan(recipe.without("io_budget"), base, contributions, footing)
    account = account_of(whole)
    check_budget(recipe.io_budget, account.floor)
    if account.total <= recipe.io_budget:
        return {}
    norms = measure(whole, account.readings, measuring)
    return choose(account, norms, recipe.io_budget)


def measure(
    plan: Plan, readings: Sequence[Reading], measuring: Measuring
) -> dict[bytes, float]:
    """Return the squared norm of each reading's task vector, by its key.

    Raises:
        FaultyContributionError: a tensor holds what is no finite task vector.
        CrdtMergeError: whatever reading raises.
    """
    norms = dict(measuring.store.load(reading.key for reading in readings))
    missing: dict[str, dict[bytes, Reading]] = {}
    for reading in readings:
        if reading.key not in norms:
            missing.setdefault(reading.entry.name, {})[reading.key] = reading
    tensors = _Tensors(plan, missing, measuring)
    todo = [t for t in plan.tasks if t.kind == "emit" and t.tensor in missing]
    pool = Pool(
        measuring.executor,
        measuring.threads,
        measuring.memory,
        partial(task_bytes, plan),
    )
    for found in pool.run(tensors.measure, todo, tensors.count):
        norms |= found
    return norms


class _Tensors:
    """Measures what is said of each tensor, keeps it at once, and counts."""

    def __init__(
        self,
        plan: Plan,
        missing: Mapping[str, Mapping[bytes, Reading]],
        measuring: Measuring,
    ) -> None:
        self._missing = missing
        self._measuring = measuring
        self._reader = TensorReader(plan, measuring.source)
        self._total = sum(map(self._size, missing))
        self._done = 0

    def measure(self, task: Task) -> dict[bytes, float]:
        """Return the norms that are missing of one tensor; its base is read once."""
        readings = self._missing[task.tensor].values()
        needs_base = any(isinstance(r.change, Whole) for r in readings)
        entry = self._reader.entry(task.tensor)
        base = self._reader.read(entry) if needs_base else None
        norms = {reading.key: self._norm(reading, base) for reading in readings}
        self._measuring.store.save(norms)
        return norms

    def count(self, task: Task) -> None:
        """Tell how much is measured."""
        self._done += self._size(task.tensor)
        if self._measuring.report:
            self._measuring.report(Progress(WORK, self._done, self._total))

    def _size(self, tensor: str) -> int:
        return sum(reading.change.size for reading in self._missing[tensor].values())

    def _norm(self, reading: Reading, base: Data | None) -> float:
        try:
            return squared_norm(reading.entry, reading.change, self._reader, base)
        except ContractError as e:
            raise FaultyContributionError(reading.contents[0], str(e)) from e


def squared_norm(
    entry: TensorEntry, change: Change, reader: TensorReader, base: Data | None
) -> float:
    """Return the sum of the squares of a float32 task vector, in float64 along the tree.

    Raises:
        ContractError: an item is no number, or beyond float32.
    """
    label = f"tensor {entry.name!r}"
    if isinstance(change, Whole):
        assert base is not None, "what is whole is told from the base"
        data = reader.read(change.entry)
        tau = Difference(data, base, change.entry.dtype, label, entry.dtype)
        return float(inner_products([tau], entry.items, range(1), 0)[0, 0, 0])
    return sum_of_squares(task_vector_of(change, reader.read, label))
