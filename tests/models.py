"""Small models for tests: a base and fine-tunes as bytes, manifests and a tensor source.

The blobs lie in a dict, which is a real tensor source: verified when read.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from crdtmerge import numerics
from crdtmerge.digest import BlobId, ContentId, blob_id_of
from crdtmerge.errors import ContentMissingError, CorruptBlobError
from crdtmerge.formats.companions import companions_of
from crdtmerge.formats.shards import SHARD_BYTES, lay_out_model
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.recipe import Recipe
from crdtmerge.resolve.model import About, resolve_model
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.plan import Plan, make_plan
from crdtmerge.resolve.resolution import Resolution
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import STRATEGIES, find, make_recipe
from tests.evidence import stored
from tests.strategies import NEEDS, Need

UNIT = 10**9
IDS = {"space": b"s" * 32, "merge_id": b"m" * 32, "visible_root": b"v" * 32}
SHAPES: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "block.weight": ("F32", (33, 7)),
    "embed.weight": ("BF16", (19, 5)),
    "empty": ("F32", (0, 3)),
    "head.bias": ("F16", (13,)),
    "positions": ("I64", (6,)),
    "scale": ("F64", ()),
}

Tensors = dict[str, bytes]


@dataclass
class Blobs:
    """A tensor source over a dict, counting what is read."""

    held: dict[BlobId, bytes] = field(default_factory=dict)
    reads: int = 0

    def put(self, data: bytes) -> BlobId:
        """Keep `data` under its id."""
        blob = blob_id_of(data)
        self.held[blob] = data
        return blob

    def read(self, blob: BlobId, size: int) -> bytes:
        """Return verified bytes."""
        self.reads += 1
        if blob not in self.held:
            message = f"blob {blob.hex()[:12]} has not arrived"
            raise ContentMissingError(message)
        data = self.held[blob]
        if blob_id_of(data) != blob or len(data) != size:
            message = f"blob {blob.hex()[:12]} is damaged"
            raise CorruptBlobError(message)
        return data


def make_tensors(seed: int, base: Tensors | None = None) -> Tensors:
    """Return random tensors, near to those of `base` if one is given."""
    generator = np.random.default_rng(seed)
    tensors: Tensors = {}
    for name, (dtype, shape) in SHAPES.items():
        items = int(np.prod(shape))
        if dtype == "I64":
            tensors[name] = np.arange(seed, seed + items).astype("<i8").tobytes()
            continue
        values = generator.standard_normal(items) / 4
        if base is not None:
            values = numerics.upcast(base[name], dtype) + values / 16
        tensors[name] = numerics.downcast(values, dtype)
    return tensors


def describe(
    tensors: Tensors, blobs: Blobs, kind: str = "base", base: bytes = b""
) -> Manifest:
    """Keep the tensors and return their manifest."""
    entries = [
        TensorEntry(name, *SHAPES[name], blobs.put(tensors[name]))
        for name in sorted(tensors)
    ]
    return Manifest(kind, base, tuple(entries))


def contribution(
    tensors: Tensors, blobs: Blobs, base: Manifest, weight: int = UNIT
) -> Contribution:
    """Keep the tensors and return a contribution of them."""
    manifest = describe(tensors, blobs, "full", base.content_id)
    return contribution_of(manifest, weight)


def contribution_of(manifest: Manifest, weight: int = UNIT) -> Contribution:
    """Return a contribution of a manifest by an author made up from its id."""
    content = ContentId(manifest.content_id)
    return Contribution(content, weight, manifest, (content[::-1],))


@dataclass(frozen=True)
class Merge:
    """A base with its contributions, and where their bytes lie."""

    base: Manifest
    contributions: tuple[Contribution, ...]
    blobs: Blobs


def make_merge(weights: Iterable[int] = (UNIT, 2 * UNIT, UNIT // 2)) -> Merge:
    """Return a base and one fine-tune a weight; the last leaves `scale` as it was."""
    blobs = Blobs()
    tensors = make_tensors(0)
    base = describe(tensors, blobs)
    tunes = [make_tensors(i, tensors) for i, _ in enumerate(weights, start=1)]
    tunes[-1]["scale"] = tensors["scale"]
    made = tuple(
        contribution(tune, blobs, base, weight)
        for tune, weight in zip(tunes, weights, strict=True)
    )
    return Merge(base, made, blobs)


def recipe_of(name: str, **options: Any) -> Recipe:
    """Return a recipe with what the strategy cannot do without."""
    need = NEEDS.get(find(name).full_name, Need({}))
    return make_recipe(name, need.parameters, **options)


def told(merge: Merge, recipe: Recipe) -> tuple[Contribution, ...]:
    """Return the contributions with parameters of their own that the strategy needs."""
    need = NEEDS.get(recipe.strategy, Need({}))
    places = {
        c: i for i, c in enumerate(sorted(c.content for c in merge.contributions))
    }
    return tuple(
        replace(
            with_evidence(merge, c, recipe, c.content[0]),
            parameters=tuple(sorted(need.own(places[c.content]).items())),
        )
        for c in merge.contributions
    )


def with_evidence(
    merge: Merge, item: Contribution, recipe: Recipe, place: int
) -> Contribution:
    """Return a contribution with made-up evidence of all that the recipe reads."""
    shapes = {name: shape for name, (kind, shape) in SHAPES.items() if kind != "I64"}

    def draw(label: str, count: int) -> numerics.Floats:
        return np.random.default_rng([*label.encode()]).standard_normal(count)

    evidence = stored(recipe, shapes, place, draw, merge.blobs.put)
    return replace(item, manifest=replace(item.manifest, evidence=evidence))


def shuffled(seed: int) -> Merge:
    """Return the merge of `make_merge` from a store built anew, in another order."""
    merge = make_merge()
    order = random.Random(seed)
    contributions = list(merge.contributions)
    order.shuffle(contributions)
    blobs = list(merge.blobs.held.items())
    order.shuffle(blobs)
    return Merge(merge.base, tuple(contributions), Blobs(dict(blobs)))


def resolve(
    merge: Merge, out: Path, recipe: Recipe | str = "ties", **options: Any
) -> Resolution:
    """Resolve to a folder, by default with nothing of a base beside the weights."""
    recipe = recipe_of(recipe) if isinstance(recipe, str) else recipe
    scores = options.pop("scores", ())
    plan = make_plan(recipe, merge.base, told(merge, recipe), scores=scores)
    files = options.pop("files", {})
    asked = {k: options.pop(k) for k in ("overwrite", "fsync") if k in options}
    beside = companions_of(files, (), recipe.output_dtype)
    layout = lay_out_model(plan.outputs, options.pop("shard_bytes", SHARD_BYTES))
    return resolve_model(
        plan=plan,
        source=merge.blobs,
        output=Output(out, companions=beside, **asked),
        layout=layout,
        about=about(plan),
        **options,
    ).resolution


def about(plan: Plan, **more: Any) -> Callable[[], About]:
    """Return what tells the record of a plan of no real space."""
    return lambda: About(plan, **{**IDS, **more})


def resolve_all(out: Path) -> None:
    """Resolve with every strategy; imports no torch, so that a process is quick."""
    for name in STRATEGIES:
        resolve(shuffled(9), out / name.replace("/", "-"), name)
