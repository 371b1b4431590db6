"""Tier 2: the laws on whole models on disk, every tensor at full resolution.

Owns which joins are compared, and what is counted. Does not own models (`large_models`),
nor joins (`laws`). Each model has three members, whose contributions lie in files that are
mapped and never copied. Their records travel as in tier 1; each result of a join is
resolved from its own records, in the order in which they arrived there, with a plan of its
own, and each output tensor is compared by its digest. Nothing is written: the output is
hashed as it is made.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from crdtmerge.bodies import SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId
from crdtmerge.errors import CrdtMergeError
from crdtmerge.formats.folder import ModelFolder, read_folder
from crdtmerge.formats.ingest import Model, describe
from crdtmerge.formats.source import FolderSource
from crdtmerge.manifest import FLOAT_DTYPES, Manifest
from crdtmerge.numerics import Data
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.plan import Plan, make_plan
from simulations.checking.merging import arrivals

from .catalogue import Choice, catalogue, tag_of
from .large_models import NAMES, REAL, Sizes, make_models, minilm, tune_models
from .laws import Wire
from .replicas import State, make_peer, opened, saved
from .spaces import found_among
from .timing import Memory, Tell, Watch, in_processes, processors, tell

Join = Callable[[State, State], State]
Order = Callable[[Join, State, State, State], State]
Facts = dict[str, object]

Span = tuple[float, float]
"""Seconds of the clock, and of processors by all threads."""

REFERENCE: Final[Order] = lambda j, a, b, c: j(j(a, b), c)  # noqa: E731  a table of joins
LAWS: Final[Mapping[str, Order]] = {
    "commutative": lambda j, a, b, c: j(c, j(b, a)),
    "associative": lambda j, a, b, c: j(a, j(b, c)),
    "idempotent": lambda j, a, b, c: j(j(j(j(a, b), c), c), a),
    "convergence": lambda j, a, b, c: j(j(b, j(c, a)), j(a, c)),
}
"""The same union, joined otherwise; each is resolved and compared with the reference."""
AT_ONCE: Final[Mapping[str, Order]] = {
    "all laws at once": lambda j, a, b, c: j(j(c, j(b, a)), j(a, b)),
}
"""Swapped, grouped otherwise, and two taken twice: one comparison for large models."""


@dataclass(frozen=True, slots=True)
class Work:
    """One model: its sizes (None: the real MiniLM), and strategies (none: all).

    Of those in `each_law` each law is looked at alone, of the others all at once.
    """

    sizes: Sizes | None
    strategies: tuple[str, ...] = ()
    each_law: tuple[str, ...] = ()

    def orders(self, choice: Choice) -> Mapping[str, Order]:
        """Return the joins that are compared with the reference."""
        return LAWS if choice.strategy.name in self.each_law else AT_ONCE


def check(work: Work, say: Tell) -> Facts:
    """Make the models in one process and check them in another; return the figures."""
    with TemporaryDirectory(prefix="paper") as scratch:
        folder = Path(scratch)
        watch = Watch()
        (paths,) = in_processes(_make, [(folder, work.sizes)], 1, apart=True)
        made_s = watch.lap()
        (facts,) = in_processes(_check, [(work, paths)], 1, apart=True)
    say(f"tier 2: {facts['model']}: {facts['layer_checks']} layer checks")
    return facts | {"made_s": round(made_s, 1)}


def _make(asked: tuple[Path, Sizes | None]) -> list[Path]:
    folder, sizes = asked
    if sizes is not None:
        return [found.path for found in make_models(folder, sizes)]
    place = minilm()
    assert place is not None, "its package is there, or it is not asked for"
    return [found.path for found in tune_models(folder, read_folder(place))]


def _check(asked: tuple[Work, Sequence[Path]]) -> Facts:
    """Run all strategies on one model; in a process of its own, for its memory."""
    work, paths = asked
    folders = [read_folder(path) for path in paths]
    watch = Watch()
    held = Held.of(folders)
    named_s = watch.lap()
    rows, refused, run = list[Facts](), list[Facts](), list[Choice]()
    with Memory() as memory:
        for choice in catalogue(work.strategies):
            try:
                rows.append(_strategy(choice, held, work.orders(choice)))
                run.append(choice)
                tell(
                    f"tier 2: {choice.name}: {rows[-1]['cpu_s']} s of processors a resolve"
                )
            except CrdtMergeError as e:
                refused.append({"strategy": choice.name, "why": str(e)})
    tensors, name = held.base.tensors, work.sizes.name if work.sizes else REAL
    return {
        "model": name,
        "configuration": work.sizes.source if work.sizes else "real, trained weights",
        "parameters": sum(entry.items for entry in tensors),
        "dtype": sorted({e.dtype for e in tensors if e.dtype in FLOAT_DTYPES}),
        "tensors": len(tensors),
        "bytes_each": sum(entry.size for entry in tensors),
        "fine_tunes": len(folders) - 1,
        "strategies": rows,
        "refused": refused,
        "strategy_tests": sum(len(work.orders(choice)) for choice in run),
        "layer_checks": sum(_count(row, "layer_checks") for row in rows),
        "layer_checks_passed": sum(_count(row, "layers_equal") for row in rows),
        "hashed_s": round(named_s, 1),
        "peak_resident_bytes": memory.resident,
        "peak_anonymous_bytes": memory.anonymous,
    }


def _count(row: Facts, name: str) -> int:
    found = row[name]
    assert isinstance(found, int)
    return found


@dataclass(frozen=True, slots=True)
class Held:
    """A base and its fine-tunes as they lie in files, by name."""

    base: Manifest
    tunes: tuple[Manifest, ...]
    source: FolderSource

    @classmethod
    def of(cls, folders: Sequence[ModelFolder]) -> "Held":
        """Name all tensors by their digests."""
        source = FolderSource()
        manifests: list[Manifest] = []
        for folder in folders:
            source.watch(folder.tensors)
            known = manifests[0].content_id if manifests else b""
            found = describe(folder, "full" if manifests else "base", known)
            source.add(Model(folder.path, found, folder.tensors))
            manifests.append(found)
        return cls(manifests[0], tuple(manifests[1:]), source)

    def states(self, choice: Choice) -> tuple[SpaceId, list[State]]:
        """Return what each member holds that contributed one fine-tune."""
        peers = [make_peer(name) for name in NAMES[1:]]
        recipe = choice.recipe(len(peers))
        space = found_among(recipe, peers, self.base.content_id)
        for number, (peer, tune) in enumerate(zip(peers, self.tunes, strict=True), 1):
            peer.blobs.add(tune.encode())  # its tensors stay where they are
            signed = peer.replica(space).contribute(
                tune, weight=DECIMAL_UNIT, note="", tags=(tag_of(number),)
            )
            peer.say(space, signed)
        return space, [saved(peer, space) for peer in peers]

    def plan(self, state: State) -> Plan:
        """Return the plan of a replica made of the bytes of a state."""
        peer = opened(state)
        view = peer.spaces.view(state.space)
        arrived = arrivals(peer.spaces, state.space)
        visible = sorted(view.visible, key=lambda found: arrived[found.content])
        assert view.recipe is not None
        assert len(visible) == len(self.tunes)
        return make_plan(view.recipe, self.base, peer.spaces.contributions(visible))


class _Nowhere:
    """A sink of outputs, which were hashed before they come here."""

    def write(self, name: str, data: Data, offset: int = 0) -> None:
        """Keep nothing."""


def _strategy(choice: Choice, held: Held, orders: Mapping[str, Order]) -> Facts:
    """Resolve the reference and each other join under one strategy; compare."""
    _, (a, b, c) = held.states(choice)
    join, spans = Wire(), list[Span]()
    expected = _resolve(held, REFERENCE(join, a, b, c), spans)
    equal = {}
    for law, order in orders.items():
        found = _resolve(held, order(join, a, b, c), spans)
        equal[law] = sum(found[name] == digest for name, digest in expected.items())
    theirs = {entry.name: entry.blob for entry in held.base.tensors}
    size = sum(entry.size for entry in held.base.tensors)
    best = min(seconds for seconds, _ in spans[1:] or spans)
    cpu = min(cpu for _, cpu in spans[1:] or spans)
    return {
        "strategy": choice.name,
        "paper": list(choice.papers),
        "laws": {law: count == len(expected) for law, count in equal.items()},
        "layer_checks": len(expected) * len(orders),
        "layers_equal": sum(equal.values()),
        "tensors_unlike_the_base": sum(theirs[n] != d for n, d in expected.items()),
        "seconds": round(best, 2),
        "cpu_s": round(cpu, 2),
        "input_gb_per_cpu_s": round(size * (1 + len(held.tunes)) / cpu / 1e9, 3),
    }


def _resolve(held: Held, state: State, spans: list[Span]) -> dict[str, BlobId]:
    """Return the digest of each output tensor; the first run compiles its kernels."""
    threads, watch = processors(), Watch()
    with ThreadPoolExecutor(threads, "resolve") as executor:
        plan = held.plan(state)
        found = execute(
            plan, held.source, _Nowhere(), executor=executor, threads=threads
        )
    held.source.check_unchanged()
    spans.append((watch.lap(), watch.cpu))
    return found
