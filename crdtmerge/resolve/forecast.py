"""What a resolve will read, compute, take up and write, told before it runs.

Owns these numbers. Does not own the choices behind them: what is known (`reuse`), where
sums are used (`cost`), what a task reads (`reading`, `summing`). The run makes the same
choices from the same sources, so its counts are these, unless what was known turns out to
be damaged.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crdtmerge.formats.shards import ModelLayout
from crdtmerge.resolve.cost import Choice
from crdtmerge.resolve.counting import Read
from crdtmerge.resolve.memory import task_bytes
from crdtmerge.resolve.plan import Plan, Task
from crdtmerge.resolve.reading import Reads, TensorReader, TensorSource, reads_of
from crdtmerge.resolve.reuse import Before, Tally, memory_of_sums
from crdtmerge.resolve.summing import TensorSums


@dataclass(slots=True)
class Forecast:
    """What a run will come to; `sums_written` is the most that it may be.

    `places` are the folders that known outputs are copied from, with their bytes. `reads`
    are of tensors alone: what is copied or kept is read too (`tally`).
    """

    tally: Tally = field(default_factory=Tally)
    reads: Read = field(default_factory=Read)
    sums_read: int = 0
    sums_written: int = 0
    places: Mapping[Path, int] = field(default_factory=dict)
    memory: int = 0
    memory_tensor: str = ""


def forecast(
    plan: Plan,
    source: TensorSource,
    layout: ModelLayout,
    before: Before,
    choice: Choice,
) -> Forecast:
    """Return what resolving a plan will come to; no tensor is read."""
    return _Forecasting(plan, source, layout, before, choice).run()


class _Forecasting:
    """One forecast under way."""

    def __init__(
        self,
        plan: Plan,
        source: TensorSource,
        layout: ModelLayout,
        before: Before,
        choice: Choice,
    ) -> None:
        self._plan, self._before, self._choice = plan, before, choice
        self._reader = TensorReader(plan, source)
        self._sizes = {
            name: size
            for laid in layout.files.values()
            for name, size in laid.sizes.items()
        }
        self._found = Forecast()
        self._places: Counter[Path] = Counter()
        self._reads: list[Reads] = []

    def run(self) -> Forecast:
        emits = [task for task in self._plan.tasks if task.kind == "emit"]
        left = [task for task in emits if not self._taken(task)]
        for task in left:
            self._make(task)
        if any(task.needs for task in left):
            for task in self._plan.tasks:
                if task.kind == "map" and task.key not in self._before.measures:
                    self._reads.append(reads_of(self._plan, task.tensor))
                    self._found.tally.tasks += 1
        base = {entry.blob for entry in self._plan.base.tensors}
        sizes = [0, 0]
        for reads in self._reads:
            for blob, size in reads:
                sizes[blob not in base] += size
        self._found.reads = Read(*sizes)
        self._found.places = dict(self._places)
        return self._found

    def _taken(self, task: Task) -> bool:
        """Tell whether an output is known, and count it."""
        size, tally = self._sizes[task.tensor], self._found.tally
        if self._before.kept(task) is not None:
            tally.kept += 1
            tally.kept_bytes += size
            return True
        return self._copied(task.key, size)

    def _copied(self, key: bytes, size: int) -> bool:
        known = next(self._before.places(key, size), None)
        if known is None:
            return False
        self._found.tally.reused += 1
        self._found.tally.reused_bytes += size
        self._places[known.place.path.parent] += size
        return True

    def _make(self, task: Task) -> None:
        """Count what making one output takes."""
        name, found = task.tensor, self._found
        way = self._choice.ways.get(name, "compute")
        if way == "go on" and self._goes_on(name):
            return
        if way == "begin":
            tensor = TensorSums(self._plan, name, self._reader)
            self._reads.append(tensor.reads(None))
            rows, items = tensor.rows, self._plan.frames[name].entry.items
            found.sums_written += 8 * rows * items
        if way == "compute":
            self._reads.append(reads_of(self._plan, name))
        else:
            found.tally.summed += 1
        found.tally.computed += 1
        found.tally.tasks += 1
        found.tally.computed_bytes += self._sizes[name]
        memory = task_bytes(self._plan, task) + memory_of_sums(self._plan, task, way)
        if memory > found.memory:
            found.memory, found.memory_tensor = memory, name

    def _goes_on(self, name: str) -> bool:
        """Count what going on with kept sums reads; tell whether the output is known."""
        kept = self._choice.kept[name]
        tensor = TensorSums(self._plan, name, self._reader)
        if tensor.is_idle(kept.sums):
            sums, _ = tensor.gone_on(kept.sums)
            if (
                sums is not None
                and tensor.ends_alike(kept.sums, sums, kept.last)
                and self._copied(kept.last.task, self._sizes[name])
            ):
                return True
        else:
            rows, items = kept.sums.shape
            self._found.sums_written += 8 * rows * items
        self._reads.append(tensor.reads(kept.sums))
        self._found.sums_read += kept.size
        return False
