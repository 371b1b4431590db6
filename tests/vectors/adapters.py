"""Small merges of an adapter, a delta and a full model, whose bytes are golden.

Exact products, factoring and the sum of unlike kinds are all in them. `python -m
tests.vectors.adapters` prints the vectors as JSON.
"""

import json
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.numerics import downcast
from crdtmerge.resolve.adapter import execute_adapter, plan_adapter
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.plan import make_plan
from crdtmerge.resolve.resolution import model_digest, model_tensors
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import make_recipe
from tests.vectors.resolves import Blobs, values

SHAPES = {"a.weight": (96, 130), "b.weight": (64, 64), "c.bias": (130,)}
DTYPES = ("F32", "BF16")


class World:
    """A base and three contributions of the three kinds, in one dtype."""

    def __init__(self, dtype: str) -> None:
        """Make them all."""
        self.dtype, self.blobs = dtype, Blobs()
        entries = [self.entry(name, name, SHAPES[name], 0.5) for name in SHAPES]
        self.base = Manifest("base", b"", tuple(entries))
        self.full = self.manifest(
            "full",
            [
                self.entry(name, f"full {name}", shape, 0.02, near=name)
                for name, shape in SHAPES.items()
            ],
        )
        self.delta = self.manifest(
            "delta", [self.entry("a.weight", "delta", SHAPES["a.weight"], 0.01)]
        )
        self.loras = [self.lora(1, 5), self.lora(2, 3)]

    def entry(
        self,
        name: str,
        label: str,
        shape: tuple[int, ...],
        scale: float,
        near: str = "",
    ) -> TensorEntry:
        """Return a tensor of values that `label` draws."""
        count = int(np.prod(shape))
        data = values(label, count, scale)
        if near:
            data = data + values(near, count, 0.5)
        blob = self.blobs.put(downcast(data, self.dtype))
        return TensorEntry(name, self.dtype, shape, blob)

    def manifest(self, kind: str, entries: list[TensorEntry]) -> Manifest:
        """Return a contribution to the base."""
        ordered = tuple(sorted(entries, key=lambda entry: entry.name))
        return Manifest(kind, self.base.content_id, ordered)

    def lora(self, seed: int, rank: int) -> Manifest:
        """Return an adapter: one layer keeps (out, in), the other (in, out)."""
        scale = self.blobs.put(struct.pack("<d", 2 / rank))
        entries = []
        for target, a, b in (
            ("a.weight", ".lora_A", ".lora_B"),
            ("b.weight", ".lora_fan_in_A", ".lora_fan_in_B"),
        ):
            rows, columns = SHAPES[target]
            entries += [
                self.entry(target + a, f"{seed}A{target}", (rank, columns), 0.1),
                self.entry(target + b, f"{seed}B{target}", (rows, rank), 0.1),
                TensorEntry(f"{target}.lora_scale", "F64", (), scale),
            ]
        return self.manifest("lora", entries)

    def contributions(self, *manifests: Manifest) -> list[Contribution]:
        """Return them with unlike weights."""
        return [
            Contribution(ContentId(m.content_id), (1 + i) * DECIMAL_UNIT // 2, m)
            for i, m in enumerate(manifests)
        ]


def merged(dtype: str, strategy: str) -> str:
    """Return the model digest (hex) of a merge of all kinds."""
    world = World(dtype)
    given = world.contributions(world.full, world.delta, *world.loras)
    plan = make_plan(make_recipe(strategy, {}), world.base, given)
    digests = execute(plan, world.blobs, world.blobs)
    return model_digest(model_tensors(plan, digests)).hex()


def adapted(dtype: str, strategy: str, rank: int) -> str:
    """Return the digest (hex) of an adapter made of two adapters and a delta."""
    world = World(dtype)
    given = world.contributions(world.delta, *world.loras)
    exponents = dict.fromkeys(SHAPES, 0)
    plan = plan_adapter(make_recipe(strategy, {}), world.base, given, rank, exponents)
    entries, _ = execute_adapter(plan, world.blobs, world.blobs)
    return model_digest(entries).hex()


def works() -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield (name, what computes its digest) of every vector."""
    for dtype in DTYPES:
        for strategy in ("linear", "ties"):
            yield f"{strategy} {dtype}", partial(merged, dtype, strategy)
        yield f"adapter linear {dtype}", partial(adapted, dtype, "linear", 4)
    yield "adapter dare_ties F32", partial(adapted, "F32", "dare_ties", 6)


def vectors() -> Iterator[tuple[str, str]]:
    """Yield (name, digest) of every vector."""
    for name, work in works():
        yield name, work()


def main() -> None:
    """Print the vectors."""
    json.dump(dict(vectors()), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
