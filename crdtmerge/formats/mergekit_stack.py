"""Layers of models, cut and put upon one another: which tensor of the output is whose.

Owns the layout of a stack: for each tensor of the output, the cut it is of, and the
tensor of a model that stands there. Names alone are looked at, so that what does not fit
is refused before a byte is read. Does not own how a configuration writes slices
(`mergekit_slices`), which values hold in them (`mergekit_tables`), nor bytes.

As in mergekit, what embeds stands before all layers, and is of the models of the first
slice; all else that is of no layer (norms, heads) stands after them, and is of the last.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from crdtmerge.errors import BadInputError
from crdtmerge.rules import split_layer

LAYERS_MAX: Final = 100_000
"""Layers of an output; names of tensors carry six digits."""
_EMBEDS: Final = ("emb", "rotary", "relative_pe")
_EMBEDDINGS: Final = frozenset({"wte", "wpe", "shared"})
_HEADS: Final = frozenset({"embed_out"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Span:
    """Layers of one model: `first`, and as many after it as the cut has.

    `name` is what the configuration calls the model at `path`.
    """

    name: str
    path: Path
    first: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Consecutive layers of the output, and the models that they are made of.

    `sources` has for each contribution what it gives here, None where that is nothing.
    `base` is what task vectors are measured from, None where models stand on nothing.
    """

    place: str
    count: int
    sources: tuple[Span | None, ...]
    base: Span | None = None

    @property
    def spans(self) -> tuple[Span, ...]:
        """All of it, the base first."""
        return tuple(s for s in (self.base, *self.sources) if s is not None)

    @property
    def ground(self) -> Span:
        """What stands where a contribution gives nothing: the base, or the first source."""
        return self.spans[0]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tensor of the output is from: its cut, and its layer in it, if it has one.

    `stack` and `rest` are what stands around the number of a layer in its name.
    """

    cut: int
    layer: int | None
    stack: str
    rest: str

    def name_in(self, span: Span) -> str:
        """Return the name of the tensor that stands there in a model."""
        if self.layer is None:
            return self.rest
        return f"{self.stack}{span.first + self.layer}{self.rest}"


@dataclass(frozen=True, slots=True)
class Layout:
    """The cuts of a stack, and where each tensor of the output is from, by its name."""

    cuts: tuple[Cut, ...]
    origins: Mapping[str, Origin]

    @property
    def slots(self) -> int:
        """Number of contributions."""
        return len(self.cuts[0].sources)

    def span(self, name: str, slot: int) -> Span | None:
        """Return what a contribution gives of a tensor of the output."""
        return self.cuts[self.origins[name].cut].sources[slot]

    def picked(
        self, pick: Callable[[Cut], Span], held: Mapping[Path, Mapping[str, T]]
    ) -> dict[str, T]:
        """Return what stands in each tensor of the output, `pick` choosing the model.

        `held` is by the path of a model and the name of its tensor. What a model lacks
        is left out.
        """
        found: dict[str, T] = {}
        for name, origin in self.origins.items():
            span = pick(self.cuts[origin.cut])
            item = held[span.path].get(origin.name_in(span))
            if item is not None:
                found[name] = item
        return found


def lay_out(cuts: Sequence[Cut], names: Mapping[Path, Iterable[str]]) -> Layout:
    """Return the layout of a stack; `names` are those of the tensors of all models.

    Raises:
        BadInputError: a model has no layers, several stacks of them, or fewer than asked.
    """
    models = {path: frozenset(found) for path, found in names.items()}
    stacks = {span.path: _stack(models[span.path], span) for span in _all(cuts)}
    for cut in cuts:
        for span in cut.spans:
            stack, depth = stacks[span.path]
            if span.first + cut.count > depth:
                message = f"{cut.place}: model {span.name!r} has {depth} layers, not"
                raise BadInputError(f"{message} {span.first + cut.count}")
            if stack != stacks[cut.ground.path][0]:
                message = f"{cut.place}: the layers of model {span.name!r} are called"
                theirs = stacks[cut.ground.path][0]
                raise BadInputError(f"{message} {stack}N, not {theirs}N")
    found = dict(_outside(cuts, models)) | dict(_layers(cuts, models, stacks))
    return Layout(tuple(cuts), dict(sorted(found.items())))


def _all(cuts: Iterable[Cut]) -> list[Span]:
    return [span for cut in cuts for span in cut.spans]


def _stack(names: Iterable[str], span: Span) -> tuple[str, int]:
    """Return the name of a model's stack of layers, up to the number, and its depth."""
    depths: dict[str, int] = {}
    for name in names:
        parts = split_layer(name)
        if parts:
            stack, number, rest = parts
            if name != f"{stack}{number}{rest}":
                message = f"model {span.name!r} numbers its layers with zeros in front"
                raise BadInputError(message, hint="list whole models")
            depths[stack] = max(depths.get(stack, 0), number + 1)
    if len(depths) == 1:
        return next(iter(depths.items()))
    message = f"model {span.name!r} has {len(depths)} stacks of layers"
    listed = ", ".join(f"{stack}N" for stack in sorted(depths)[:3])
    hint = f"slices are of models with one ({listed}); list whole models"
    raise BadInputError(message, hint=hint if depths else "list whole models")


def _outside(
    cuts: Sequence[Cut], models: Mapping[Path, frozenset[str]]
) -> Iterator[tuple[str, Origin]]:
    """Yield the tensors that are of no layer."""
    for number, embeds in ((0, True), (len(cuts) - 1, False)):
        for name in models[cuts[number].ground.path]:
            if split_layer(name) is None and _embeds(name) == embeds:
                yield name, Origin(number, None, "", name)


def _embeds(name: str) -> bool:
    """Tell whether a tensor stands before all layers."""
    parts = name.lower().split(".")
    if _HEADS & set(parts):
        return False
    return any(p in _EMBEDDINGS or any(e in p for e in _EMBEDS) for p in parts)


def _layers(
    cuts: Sequence[Cut],
    models: Mapping[Path, frozenset[str]],
    stacks: Mapping[Path, tuple[str, int]],
) -> Iterator[tuple[str, Origin]]:
    """Yield the tensors of all layers under their new numbers."""
    above = 0
    for number, cut in enumerate(cuts):
        ground = cut.ground
        stack, _ = stacks[ground.path]
        for name in models[ground.path]:
            parts = split_layer(name)
            if parts and ground.first <= parts[1] < ground.first + cut.count:
                layer = parts[1] - ground.first
                new = f"{stack}{above + layer}{parts[2]}"
                yield new, Origin(number, layer, stack, parts[2])
        above += cut.count
