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
from typing import Final

import numpy as np

from crdtmerge.changes import LowRank
from crdtmerge.digest import ContentId, blob_id_of
from crdtmerge.errors import BadInputError
from crdtmerge.formats.adapter import CONFIG_FILE, WEIGHTS_FILE
from crdtmerge.formats.adapter_config import RANK_MAX
from crdtmerge.formats.adapter_output import Layout, Slot, lay_out_adapter
from crdtmerge.formats.progress import Report
from crdtmerge.formats.shards import lay_out_file
from crdtmerge.layers import LINEAR, Layers, layers_of
from crdtmerge.manifest import ITEM_BYTES, Manifest, TensorEntry
from crdtmerge.numerics import Data, low_rank_factors, philox_key, sum_of_squares
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.card import Origins
from crdtmerge.resolve.execute import TensorSink, execute
from crdtmerge.resolve.ground import Footing
from crdtmerge.resolve.memory import MEMORY_DEFAULT
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.plan import Plan, Unread, make_plan
from crdtmerge.resolve.reading import TensorSource
from crdtmerge.resolve.resolution import Adapted, Resolution, make_resolution
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import Score

RANK_DEFAULT: Final = 16
"""The rank where no contribution has one: all are deltas."""
RANK_DEFAULT_MAX: Final = 128
"""A larger rank must be asked for: one contribution could make it costly for all."""

SKETCH: Final = "adapter/1"
"""Names the draw of random matrices; another way to factor is another version."""


@dataclass(frozen=True, slots=True)
class AdapterPlan:
    """A plan over task vectors, and where what it makes goes."""

    plan: Plan
    layout: Layout

    @property
    def adapted(self) -> Adapted:
        """What a resolution says of it beside the tensors."""
        return Adapted(self.layout.rank, blob_id_of(self.layout.config))

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
    sizes: Mapping[str, int] = field(init=False)
    entries: list[TensorEntry] = field(default_factory=list)
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    parts: dict[str, bytearray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slots = {slot.target: slot for slot in self.adapter.layout.slots}
        self.sizes = {
            name: math.prod(shape) * ITEM_BYTES[dtype]
            for name, dtype, shape in self.adapter.plan.outputs
        }

    def write(self, name: str, data: Data, offset: int = 0) -> None:
        """Take a part of a merged task vector, or of a tensor that is kept whole."""
        found = self.parts.setdefault(name, bytearray())
        assert len(found) == offset, f"{name} comes out of order"
        found += data
        if len(found) == self.sizes[name]:
            del self.parts[name]
            self._take(name, memoryview(found))

    def _take(self, name: str, data: Data) -> None:
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

    def _pass(self, part: tuple[str, str, tuple[int, ...]], data: Data) -> None:
        self.sink.write(part[0], data)
        self.entries.append(TensorEntry(*part, blob_id_of(data)))

    @property
    def relative_error(self) -> float:
        """What the rank left out, as a share of the merged task vector's norm."""
        whole = math.fsum(total for total, _ in self.errors.values())
        kept = math.fsum(part for _, part in self.errors.values())
        return math.sqrt(max(whole - kept, 0.0) / whole) if whole else 0.0


def on_zeros(exponents: Mapping[str, int]) -> Footing:
    """Return what an adapter stands on; `exponents` are those of the base's tensors."""
    return Footing("zero", exponents)


def plan_adapter(
    recipe: Recipe,
    base: Manifest,
    contributions: Iterable[Contribution],
    rank: int | None,
    exponents: Mapping[str, int],
    *,
    unread: Unread | None = None,
    scores: Iterable[Score] = (),
) -> AdapterPlan:
    """Return the plan of an adapter; without a `rank`, the largest of any pair.

    `exponents` are those of the base's float tensors: the grid and the headroom are the
    base's own, though its bytes are not read. `unread` and `scores` are as in `make_plan`.

    Raises:
        BadInputError: the rank is out of bounds, or something that a contribution
            changes cannot stand in an adapter, which is named.
        CrdtMergeError: whatever `make_plan` raises.
    """
    footing = on_zeros(exponents)
    plan = make_plan(recipe, base, contributions, footing, unread, scores=scores)
    pairs = [
        c for found in plan.changes for c in found.values() if isinstance(c, LowRank)
    ]
    if rank is None:
        largest = max((pair.useful_rank for pair in pairs), default=RANK_DEFAULT)
        rank = min(largest, RANK_DEFAULT_MAX)
    if not 1 <= rank <= RANK_MAX:
        raise BadInputError(f"rank {rank} is not 1 to {RANK_MAX}")
    kept = _Kept(plan, layers_of(base))
    zero = [f.entry for f in plan.frames.values() if f.ground == "zero"]
    whole = [name for name, frame in plan.frames.items() if frame.ground == "none"]
    layout = lay_out_adapter(
        [(entry, kept.layer(entry)) for entry in zero],
        whole,
        [entry.name for entry in base.tensors],
        rank,
    )
    return AdapterPlan(plan, layout)


@dataclass(frozen=True, slots=True)
class _Kept:
    """How layers keep their weights: as the pairs say, else as the base's shapes tell."""

    plan: Plan
    layers: Layers

    def layer(self, entry: TensorEntry) -> str:
        """Return how the layer of a weight keeps it.

        Raises:
            BadInputError: two contributions disagree, or nothing tells.
        """
        name = entry.name
        said: dict[str, ContentId] = {}
        for item, found in zip(self.plan.contributions, self.plan.changes, strict=True):
            change = found.get(name)
            if isinstance(change, LowRank):
                said.setdefault(change.layer, item.content)
        if len(said) > 1:
            who = " and ".join(content.hex()[:12] for content in sorted(said.values()))
            message = f"contributions {who} disagree on how {name!r} is kept"
            hint = "one of their configs is wrong: leave it out with --without"
            raise BadInputError(message, hint=hint)
        square = len(entry.shape) == 2 and entry.shape[0] == entry.shape[1]
        known = self.layers.like(name) if square else self.layers.of(name)
        if not said and known is None and len(entry.shape) == 2:
            message = f"only a delta changes {name!r}: nothing tells which layer it is"
            raise BadInputError(message, hint="resolve the whole model instead")
        return next(iter(said), known or LINEAR)


def execute_adapter(
    adapter: AdapterPlan,
    source: TensorSource,
    sink: TensorSink,
    *,
    executor: Executor | None = None,
    threads: int = 1,
    memory: int = MEMORY_DEFAULT,
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
        memory=memory,
        report=report,
    )
    entries = sorted(factoring.entries, key=lambda entry: entry.name)
    return entries, factoring.relative_error


def resolve_adapter(
    *,
    adapter: AdapterPlan,
    source: TensorSource,
    output: Output,
    space: bytes,
    merge_id: bytes,
    visible_root: bytes,
    origins: Origins,
    evaluations: tuple[bytes, ...] = (),
    executor: Executor | None = None,
    threads: int = 1,
    memory: int = MEMORY_DEFAULT,
    report: Report | None = None,
) -> tuple[Resolution, float]:
    """Write a merged adapter as `output` asks; return how it came about, and its error.

    If anything fails, what was at the output's place is as it was.

    Raises:
        ConflictError: something is in the way.
        MachineError: the disk is full or refuses.
        CrdtMergeError: whatever `execute` raises.
    """
    config = ((CONFIG_FILE, adapter.layout.config),)
    weights = lay_out_file(WEIGHTS_FILE, adapter.outputs)
    with output.filled(weights, config) as (writer, finish, _):
        entries, error = execute_adapter(
            adapter,
            source,
            writer,
            executor=executor,
            threads=threads,
            memory=memory,
            report=report,
        )
        resolution = make_resolution(
            adapter.plan,
            entries,
            space=space,
            merge_id=merge_id,
            visible_root=visible_root,
            adapter=adapter.adapted,
            evaluations=evaluations,
        )
        finish(resolution, origins)
    return resolution, error
