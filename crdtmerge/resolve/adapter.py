"""Resolving to an adapter that PEFT loads, without reading the base.

Owns which plan an adapter has, factoring its merged task vectors, and what its folder
holds. Does not own the merge (`plan`, `execute`), the factoring's arithmetic
(`numerics`), nor names on disk (`formats.adapter_output`).

The same strategy merges the task vectors of the contributions, standing on zeros; what
comes out is written as the best pair of factors of the rank asked for. So any strategy
that moves with the base can end as an adapter, not only averages.
"""

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from crdtmerge.changes import Change, LowRank
from crdtmerge.digest import blob_id_of
from crdtmerge.errors import BadInputError
from crdtmerge.formats.adapter import CONFIG_FILE, WEIGHTS_FILE
from crdtmerge.formats.adapter_config import RANK_MAX
from crdtmerge.formats.adapter_output import Layout, Slot, lay_out_adapter
from crdtmerge.formats.folder import RESOLUTION_FILE
from crdtmerge.formats.output import OutputFolder
from crdtmerge.formats.progress import Report
from crdtmerge.formats.writer import ModelWriter
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.numerics import low_rank_factors, philox_key, sum_of_squares
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.execute import Bytes, TensorSink, TensorSource, execute
from crdtmerge.resolve.plan import Contribution, Plan, make_plan
from crdtmerge.resolve.resolution import Resolution, make_resolution

RANK_DEFAULT: Final = 16
"""The rank where no contribution has one: all are deltas."""

SKETCH: Final = "adapter/1"
"""Names the draw of random matrices; another way to factor is another version."""


@dataclass(frozen=True, slots=True)
class AdapterPlan:
    """A plan over task vectors, and where what it makes goes."""

    plan: Plan
    layout: Layout

    @property
    def outputs(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Name, dtype and shape of each tensor of the adapter, by name."""
        factors = [part for slot in self.layout.slots for part in (slot.a, slot.b)]
        kept = {name: (dtype, shape) for name, dtype, shape in self.plan.outputs}
        whole = [(new, *kept[name]) for name, new in self.layout.whole.items()]
        return sorted([*factors, *whole])


@dataclass(slots=True)
class _Factoring:
    """A sink that factors merged task vectors, and passes the factors on."""

    adapter: AdapterPlan
    sink: TensorSink
    slots: Mapping[str, Slot] = field(init=False)
    entries: list[TensorEntry] = field(default_factory=list)
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slots = {slot.target: slot for slot in self.adapter.layout.slots}

    def write(self, name: str, data: Bytes) -> None:
        """Factor one merged task vector, or keep one whole tensor."""
        slot = self.slots.get(name)
        if slot is None:
            whole = {n: (d, s) for n, d, s in self.adapter.plan.outputs}
            self._pass((self.adapter.layout.whole[name], *whole[name]), data)
            return
        tau = np.frombuffer(data, "<f4")
        sides = (
            (slot.columns, slot.rows) if slot.transposed else (slot.rows, slot.columns)
        )
        matrix = tau.reshape(sides)
        key = philox_key(blob_id_of(data), SKETCH, b"", name)
        b, a, sigma = low_rank_factors(
            matrix.T if slot.transposed else matrix, slot.rank, key
        )
        self._pass(slot.a, a.astype("<f4").tobytes())
        self._pass(slot.b, b.astype("<f4").tobytes())
        self.errors[name] = (sum_of_squares(tau), math.fsum(sigma * sigma))

    def _pass(self, part: tuple[str, str, tuple[int, ...]], data: Bytes) -> None:
        self.sink.write(part[0], data)
        self.entries.append(TensorEntry(*part, blob_id_of(data)))

    @property
    def relative_error(self) -> float:
        """What the rank left out, as a share of the merged task vector's norm."""
        whole = math.fsum(total for total, _ in self.errors.values())
        kept = math.fsum(part for _, part in self.errors.values())
        return math.sqrt(max(whole - kept, 0.0) / whole) if whole else 0.0


def plan_adapter(
    recipe: Recipe,
    base: Manifest,
    contributions: Iterable[Contribution],
    rank: int | None,
) -> AdapterPlan:
    """Return the plan of an adapter; without a `rank`, the largest of any pair.

    Raises:
        BadInputError: the rank is out of bounds, or something that a contribution
            changes cannot stand in an adapter, which is named.
        CrdtMergeError: whatever `make_plan` raises.
    """
    plan = make_plan(recipe, base, contributions, ground="zero")
    pairs = [
        c for found in plan.changes for c in found.values() if isinstance(c, LowRank)
    ]
    if rank is None:
        rank = max((pair.rank for pair in pairs), default=RANK_DEFAULT)
    if not 1 <= rank <= RANK_MAX:
        raise BadInputError(f"rank {rank} is not 1 to {RANK_MAX}")
    usual = "fan_in" if any(p.layer == "fan_in" for p in pairs) else "linear"
    zero = [f.entry for f in plan.frames.values() if f.ground == "zero"]
    whole = [name for name, frame in plan.frames.items() if frame.ground == "none"]
    layout = lay_out_adapter(
        [(entry, _layer(entry.name, plan.changes, usual)) for entry in zero],
        whole,
        [entry.name for entry in base.tensors],
        rank,
    )
    return AdapterPlan(plan, layout)


def _layer(name: str, changes: Iterable[Mapping[str, Change]], usual: str) -> str:
    """Return how a layer keeps its weight, as the contributions' pairs say.

    Raises:
        BadInputError: two pairs say otherwise of one square weight.
    """
    said = [found[name] for found in changes if name in found]
    kept = {change.layer for change in said if isinstance(change, LowRank)}
    if len(kept) > 1:
        message = f"adapters disagree whether {name!r} is kept as (in, out)"
        raise BadInputError(
            message, hint="one of their configs is wrong: see --without"
        )
    return kept.pop() if kept else usual


def execute_adapter(
    adapter: AdapterPlan,
    source: TensorSource,
    sink: TensorSink,
    *,
    executor: Executor | None = None,
    threads: int = 1,
    report: Report | None = None,
) -> tuple[list[TensorEntry], float]:
    """Compute an adapter; return its tensors by name, and its relative error.

    Raises:
        CrdtMergeError: whatever `execute` raises.
    """
    factoring = _Factoring(adapter, sink)
    execute(
        adapter.plan,
        source,
        factoring,
        executor=executor,
        threads=threads,
        report=report,
    )
    entries = sorted(factoring.entries, key=lambda entry: entry.name)
    return entries, factoring.relative_error


def resolve_adapter(
    *,
    adapter: AdapterPlan,
    source: TensorSource,
    out: Path,
    space: bytes,
    merge_id: bytes,
    visible_root: bytes,
    executor: Executor | None = None,
    threads: int = 1,
    report: Report | None = None,
    overwrite: bool = False,
    fsync: bool = False,
) -> tuple[Resolution, float]:
    """Write a merged adapter to the folder `out`; return how it came about, and its error.

    If anything fails, `out` is as it was.

    Raises:
        ConflictError: something is in the way at `out`.
        MachineError: the disk is full or refuses.
        CrdtMergeError: whatever `execute` raises.
    """
    with OutputFolder(out, overwrite=overwrite, fsync=fsync) as folder:
        with ModelWriter(folder / WEIGHTS_FILE, adapter.outputs) as writer:
            entries, error = execute_adapter(
                adapter,
                source,
                writer,
                executor=executor,
                threads=threads,
                report=report,
            )
        resolution = make_resolution(
            adapter.plan,
            entries,
            space=space,
            merge_id=merge_id,
            visible_root=visible_root,
            adapter_rank=adapter.layout.rank,
        )
        (folder / CONFIG_FILE).write_bytes(adapter.layout.config)
        (folder / RESOLUTION_FILE).write_bytes(resolution.to_json().encode())
    return resolution, error
