"""The resolution: the machine-readable record of how a merged model came about.

Owns the form of `resolution.json` v1 and the model digest. Does not own making a model
(`model`) nor comparing one with its record (`verify`).

It says nothing of time, host or path: replicas that resolve the same write the same bytes.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from crdtmerge import __version__
from crdtmerge.changes import Change
from crdtmerge.codec import Value, format_decimal
from crdtmerge.digest import BlobId, ContentId, Domain, digest_value
from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import CONTRACT_VERSION
from crdtmerge.recipe import Parameters, Recipe
from crdtmerge.resolve.plan import Plan
from crdtmerge.rules import Who
from crdtmerge.trie import Trie

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Unread:
    """What an I/O budget left unread of a contribution: how much, and a digest of names."""

    tensors: int
    size: int
    digest: bytes

    @classmethod
    def of(cls, changes: Mapping[str, Change]) -> "Unread | None":
        """Return what stands for these changes, by tensor; None for none."""
        if not changes:
            return None
        size = sum(change.size for change in changes.values())
        return cls(len(changes), size, digest_value(Domain.UNREAD, sorted(changes)))


@dataclass(frozen=True, slots=True)
class Source:
    """A contribution that took part; `weight` is in units of 10**-9.

    `parameters` are its own, over the recipe's. In a space there are none. `unread` counts
    as left as it is in the base; `evidence` is the digest of its evidence, or empty.
    """

    content: ContentId
    weight: int
    authors: tuple[bytes, ...]
    parameters: Parameters = ()
    tags: tuple[str, ...] = ()
    unread: Unread | None = None
    evidence: bytes = b""

    @property
    def who(self) -> Who:
        """The contribution as the rules of a recipe see it."""
        return Who(self.content, self.authors, self.tags)


@dataclass(frozen=True, slots=True)
class Adapted:
    """What makes tensors an adapter: its rank, and the digest of its config's bytes."""

    rank: int
    config: BlobId


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive layers of a model in a stack: `count` from its `first` stand at `at`.

    `model` is its content id as a base.
    """

    model: ContentId
    first: int
    count: int
    at: int

    def describe(self) -> dict[str, object]:
        """Return it as JSON can carry it."""
        ends = [self.first, self.first + self.count]
        return {"model": self.model.hex(), "layer_range": ends, "at": self.at}


MadeFrom: TypeAlias = "tuple[tuple[ContentId, tuple[Piece, ...]], ...]"
"""Contents (contributions, and the base) that are stacks, sorted, and their layers.

What embeds is of the model of the first piece, all else outside of layers of the last."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """Which contributions, recipe and seeds made a model, and what the model is.

    `seeds` are (tensor, seed) pairs of the tensors whose strategy drew by the set, or
    depends on an order. `space` is empty for a merge of no space; then `base` may be empty
    too, where models were merged without one. With an `adapter`, `tensors` are its.
    `made_from` tells of contents that were put together from layers of models.
    `evaluations` are the ids of the evaluation records that the strategy read, sorted.
    """

    crdtmerge: str
    contract: int
    space: bytes
    merge_id: bytes
    visible_root: bytes
    base: ContentId
    recipe: Recipe
    contributions: tuple[Source, ...]
    seeds: tuple[tuple[str, bytes], ...]
    tensors: tuple[TensorEntry, ...]
    adapter: Adapted | None = None
    made_from: MadeFrom = ()
    evaluations: tuple[bytes, ...] = ()

    @property
    def model_digest(self) -> bytes:
        """Names the merged model by its tensors alone."""
        return model_digest(self.tensors)

    def to_json(self) -> str:
        """Return the text of `resolution.json`; `parse_resolution` is the inverse."""
        value = {
            "version": VERSION,
            "crdtmerge": self.crdtmerge,
            "contract": self.contract,
            "space": self.space.hex(),
            "merge_id": self.merge_id.hex(),
            "visible_root": self.visible_root.hex(),
            "base": self.base.hex(),
            "recipe": self.recipe.describe(),
            "contributions": [
                {
                    "content": source.content.hex(),
                    "weight": format_decimal(source.weight),
                    "authors": [author.hex() for author in source.authors],
                    "parameters": dict(source.parameters),
                    **({"tags": list(source.tags)} if source.tags else {}),
                    **_unread(source.unread),
                    **({"evidence": source.evidence.hex()} if source.evidence else {}),
                }
                for source in self.contributions
            ],
            "adapter": self.adapter
            and {
                "rank": self.adapter.rank,
                "config": self.adapter.config.hex(),
            },
            "seeds": {name: seed.hex() for name, seed in self.seeds},
            "strategies": [self.recipe.strategy],
            "tensors": [
                {
                    "name": entry.name,
                    "dtype": entry.dtype,
                    "shape": list(entry.shape),
                    "digest": entry.blob.hex(),
                }
                for entry in self.tensors
            ],
            "model_digest": self.model_digest.hex(),
        }
        if self.made_from:
            value["made_from"] = {
                content.hex(): [piece.describe() for piece in pieces]
                for content, pieces in self.made_from
            }
        if self.evaluations:
            value["evaluations"] = [record.hex() for record in self.evaluations]
        return json.dumps(value, sort_keys=True, indent=2) + "\n"


def _unread(unread: Unread | None) -> dict[str, object]:
    if unread is None:
        return {}
    told = {"tensors": unread.tensors, "bytes": unread.size}
    return {"unread": {**told, "digest": unread.digest.hex()}}


def root_without_space(sources: Iterable[Source]) -> bytes:
    """Return what stands for the visible root in a merge of no space.

    It covers contents, weights, evidence and own parameters. A space that sees the same
    contents with the same weights has the same root, as long as no model has parameters
    of its own or stands there twice.
    """
    met: Counter[tuple[bytes, int, Parameters]] = Counter()
    leaves = []
    for source in sources:
        key = (source.content, source.weight, source.parameters)
        weight = format_decimal(source.weight)
        value: list[Value] = [source.content, weight, source.evidence]
        if source.parameters or met[key]:
            value.append([list(pair) for pair in source.parameters])
        if met[key]:
            value.append(met[key])
        met[key] += 1
        leaves.append(digest_value(Domain.VISIBLE, value))
    return Trie.build(leaves).root


def model_digest(tensors: Iterable[TensorEntry]) -> bytes:
    """Return the digest of the sorted (name, dtype, shape, blob) of a model's tensors."""
    ordered = sorted(tensors, key=lambda entry: entry.name)
    return digest_value(Domain.MODEL, [entry.to_value() for entry in ordered])


def make_resolution(
    plan: Plan,
    tensors: Iterable[TensorEntry],
    *,
    space: bytes,
    merge_id: bytes,
    visible_root: bytes,
    base: ContentId | None = None,
    adapter: Adapted | None = None,
    made_from: MadeFrom = (),
    evaluations: tuple[bytes, ...] = (),
) -> Resolution:
    """Return the record of an executed plan; `tensors` are what it wrote.

    `base` stands in place of the plan's, where models were merged without one.
    """
    return Resolution(
        crdtmerge=__version__,
        contract=CONTRACT_VERSION,
        space=space,
        merge_id=merge_id,
        visible_root=visible_root,
        base=plan.base.content_id if base is None else base,
        recipe=plan.recipe,
        contributions=tuple(
            Source(
                c.content,
                c.weight,
                tuple(sorted(c.authors)),
                c.parameters,
                c.tags,
                Unread.of(unread),
                c.evidence_digest,
            )
            for c, unread in zip(plan.contributions, plan.unread, strict=True)
        ),
        seeds=tuple(sorted(plan.seeds.items())),
        tensors=tuple(tensors),
        adapter=adapter,
        made_from=made_from,
        evaluations=evaluations,
    )


def model_tensors(plan: Plan, digests: Mapping[str, BlobId]) -> list[TensorEntry]:
    """Return the tensors of a whole model; `digests` are those of the plan's outputs."""
    return [
        TensorEntry(name, dtype, shape, digests[name])
        for name, dtype, shape in plan.outputs
    ]
