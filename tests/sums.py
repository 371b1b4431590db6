"""What tests of kept sums share: a source that counts, a store in a dict, many models."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from crdtmerge import numerics
from crdtmerge.digest import BlobId
from crdtmerge.errors import DamagedStateError, UpgradeNeededError
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.recipe import Recipe
from crdtmerge.resolve import kept
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.incremental import Increments, SumsStore
from crdtmerge.resolve.kept import Last
from crdtmerge.resolve.plan import Plan, Task, make_plan
from crdtmerge.resolve.settings import Contribution
from tests.models import (
    SHAPES,
    UNIT,
    Blobs,
    Tensors,
    contribution_of,
    describe,
    make_tensors,
)

FLOATS = [name for name, (dtype, _) in SHAPES.items() if dtype != "I64"]


@dataclass
class Counting(Blobs):
    """A tensor source that says which blobs it was asked for, in order."""

    asked: list[tuple[BlobId, int]] = field(default_factory=list)

    def read(self, blob: BlobId, size: int) -> bytes:
        """Return verified bytes."""
        self.asked.append((blob, size))
        return super().read(blob, size)

    @property
    def bytes_read(self) -> int:
        """How many bytes were asked for."""
        return sum(size for _, size in self.asked)


@dataclass
class Sink:
    """Keeps what is written; a later tensor over an earlier one."""

    held: dict[str, bytes] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)

    def write(self, name: str, data: bytes | memoryview, offset: int = 0) -> None:
        """Keep one tensor."""
        self.writes[name] = self.writes.get(name, 0) + 1
        self.held[name] = self.held.get(name, b"")[:offset] + bytes(data)


@dataclass
class Store:
    """Kept sums in a dict, counting what is saved."""

    held: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    saved: int = 0
    replaced: int = 0

    def load(self, tensor: str) -> tuple[bytes, bytes] | None:
        """Return header and planes that were kept."""
        return self.held.get(tensor)

    def keep(self, tensor: str, header: bytes) -> None:
        """Keep a header beside the planes that there are."""
        self.saved += 1
        self.held[tensor] = (header, self.held[tensor][1])

    @contextmanager
    def replacing(self, tensor: str) -> Iterator["Planes"]:
        """Lend what takes planes."""
        yield Planes(self, tensor)


@dataclass
class Planes:
    """New planes of one tensor."""

    store: Store
    tensor: str
    data: bytes = b""

    def write(self, data: bytes | memoryview) -> None:
        """Take more."""
        self.data += bytes(data)

    def finish(self, header: bytes) -> None:
        """Keep all."""
        self.store.saved += 1
        self.store.replaced += 1
        self.store.held[self.tensor] = (header, self.data)


@dataclass
class Outcome:
    """What a resolve with kept sums came to: digests, what was written, what was begun."""

    digests: Mapping[str, BlobId]
    written: tuple[str, ...]
    afresh: Mapping[str, str]


@dataclass
class Held:
    """The results of somebody who has outputs: those that `held` names."""

    plan: Plan
    source: Blobs
    sink: Sink
    store: SumsStore
    held: Mapping[str, BlobId]
    written: list[str] = field(default_factory=list)
    increments: Increments = field(init=False)

    def __post_init__(self) -> None:
        self.increments = Increments(
            self.plan, self.source, self.sink, self.store, look_up=self.look_up
        )

    def look_up(self, tensor: str, last: Last) -> BlobId | None:
        """Tell whether the last output is the one at hand."""
        return last.output if self.held.get(tensor) == last.output else None

    def take(self, task: Task) -> BlobId | None:
        """Take what the very same task made."""
        frame = self.plan.frames[task.tensor]
        if not frame.is_merged:
            same = self.held.get(task.tensor) == frame.entry.blob
            return frame.entry.blob if same else None
        data = self.store.load(task.tensor)
        try:
            last = kept.from_bytes(*data).last if data else None
        except (DamagedStateError, UpgradeNeededError):
            return None
        if last is None or last.task != task.key:
            return None
        return self.look_up(task.tensor, last)

    def made(self, task: Task) -> BlobId | None:
        """Make it of sums."""
        before = self.sink.writes.get(task.tensor, 0)
        digest = self.increments.made(task)
        if self.sink.writes.get(task.tensor, 0) > before:
            self.written.append(task.tensor)
        return digest

    def measured(self, task: Task) -> tuple[float, ...] | None:
        """Know of no measure."""

    def memory(self, task: Task) -> int:
        """Have room for all."""
        return 0 * len(task.key)

    def note(self, task: Task, digest: BlobId) -> None:
        """Take note of what was copied."""
        assert digest
        if not self.plan.frames[task.tensor].is_merged:
            self.written.append(task.tensor)

    def note_measures(self, task: Task, measures: tuple[float, ...]) -> None:
        """Remember no measure."""


def resolve_with_sums(
    plan: Plan,
    source: Blobs,
    sink: Sink,
    store: SumsStore,
    *,
    held: Mapping[str, BlobId] | None = None,
    executor: Executor | None = None,
    threads: int = 1,
) -> Outcome:
    """Resolve with kept sums; `held` are digests of the outputs at hand."""
    results = Held(plan, source, sink, store, held or {})
    digests = execute(
        plan, source, sink, executor=executor, threads=threads, results=results
    )
    written = tuple(sorted(results.written))
    return Outcome(digests, written, results.increments.afresh)


def delta_of(tune: Tensors, base: Tensors, names: Sequence[str]) -> Tensors:
    """Return the task vectors of some tensors, in F32."""
    found = {}
    for name in names:
        dtype = SHAPES[name][0]
        theta, ground = (numerics.upcast(t[name], dtype) for t in (tune, base))
        found[name] = (theta - ground).astype(np.float32).tobytes()
    return found


@dataclass
class World:
    """A base, and models that anybody may offer with any weight.

    Every third gives task vectors of some tensors, one of these as pairs of factors; of
    the others one gives the base's `scale` and `head.bias`, and one is the base itself.
    """

    blobs: Counting
    base: Manifest
    models: list[Manifest]

    @classmethod
    def make(cls, models: int) -> "World":
        """Return a world with so many models."""
        blobs = Counting()
        tensors = make_tensors(0)
        base = describe(tensors, blobs)
        made = []
        for seed in range(1, models + 1):
            tune = make_tensors(seed, tensors)
            if seed == 2:
                tune |= {name: tensors[name] for name in ("scale", "head.bias")}
            if seed == 4:
                tune = dict(tensors)
            if seed == 6:
                made.append(_adapter(seed, blobs, base))
            elif seed % 3 == 0:
                made.append(_delta(tune, tensors, blobs, base))
            else:
                made.append(describe(tune, blobs, "full", base.content_id))
        return cls(blobs, base, made)

    def offers(self, chosen: Sequence[tuple[int, int]]) -> list[Contribution]:
        """Return contributions of (model, weight)."""
        return [contribution_of(self.models[m], weight) for m, weight in chosen]

    def whole(self, recipe: Recipe, offers: Sequence[Contribution]) -> Tensors:
        """Return the model as it is resolved from all inputs."""
        sink = Sink()
        execute(make_plan(recipe, self.base, offers), self.blobs, sink)
        return sink.held

    def again(
        self,
        recipe: Recipe,
        offers: Sequence[Contribution],
        store: Store,
        sink: Sink | None = None,
        held: Mapping[str, BlobId] | None = None,
    ) -> tuple[Outcome, Sink]:
        """Resolve with kept sums; what was asked for before is forgotten."""
        sink = sink or Sink()
        self.blobs.asked.clear()
        plan = make_plan(recipe, self.base, offers)
        outcome = resolve_with_sums(plan, self.blobs, sink, store, held=held)
        return outcome, sink


def _delta(tune: Tensors, base: Tensors, blobs: Blobs, described: Manifest) -> Manifest:
    names = ("block.weight", "embed.weight", "scale")
    entries = tuple(
        TensorEntry(name, "F32", SHAPES[name][1], blobs.put(data))
        for name, data in delta_of(tune, base, names).items()
    )
    return Manifest("delta", described.content_id, entries)


def _adapter(seed: int, blobs: Blobs, described: Manifest) -> Manifest:
    """Return pairs of factors, one as layers keep them, one as embeddings do."""
    generator = np.random.default_rng(seed)
    entries = []
    for name, middle in (("block.weight", "lora"), ("embed.weight", "lora_embedding")):
        rows, columns = SHAPES[name][1]
        if middle != "lora":
            rows, columns = columns, rows
        for end, shape in (("A", (2, columns)), ("B", (rows, 2))):
            data = (generator.standard_normal(shape) / 8).astype("<f4").tobytes()
            blob = blobs.put(data)
            entries.append(TensorEntry(f"{name}.{middle}_{end}", "F32", shape, blob))
        scale = blobs.put(np.float64(0.5).tobytes())
        entries.append(TensorEntry(f"{name}.lora_scale", "F64", (), scale))
    made = tuple(sorted(entries, key=lambda entry: entry.name))
    return Manifest("lora", described.content_id, made)


def own(offer: Contribution, **parameters: str) -> Contribution:
    """Return a contribution with parameters of its own."""
    return replace(offer, parameters=tuple(sorted(parameters.items())))


__all__ = [
    "FLOATS",
    "UNIT",
    "Counting",
    "Sink",
    "Store",
    "World",
    "own",
    "resolve_with_sums",
]
