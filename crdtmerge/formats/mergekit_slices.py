"""Slices of a configuration: layers of models, and the values that hold in them.

Owns their keys, and which source of a slice is which contribution. Does not own what a
stack of them is made of (`mergekit_stack`), nor what values come to (`mergekit_tables`).

Which contribution a source is, is told by its place among the sources; a model that was
one in an earlier slice stays it, if it can. A slice with fewer sources than others leaves
the other contributions without weight.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.mergekit_chains import Chain
from crdtmerge.formats.mergekit_grammar import check_keys, mapping
from crdtmerge.formats.mergekit_members import Members
from crdtmerge.formats.mergekit_recipe import (
    Asked,
    Configuration,
    Listed,
    Need,
    compose,
)
from crdtmerge.formats.mergekit_stack import LAYERS_MAX, Cut, Layout, Span, lay_out
from crdtmerge.formats.mergekit_tables import Cell, compose_stack
from crdtmerge.formats.mergekit_tokenizer import TokenizerChoice
from crdtmerge.formats.yaml_text import Number, Plain
from crdtmerge.recipe import Parameters, Recipe

SLICES_MAX: Final = 4096

_SLICE: Final = ("sources", "base_model", "residual_weight", "parameters")
_SOURCE: Final = ("model", "layer_range", "parameters")


@dataclass(frozen=True, slots=True)
class Sliced:
    """What a configuration with slices asks for, as far as it says without its models.

    `cells` are the values of each cut, `shared` those at the top, `given_base` is the
    base_model at the top; the other fields are as those of a `Configuration`.
    """

    members: Members
    shared: Mapping[str, Chain]
    cuts: tuple[Cut, ...]
    cells: tuple[Cell, ...]
    output_dtype: str
    given_base: Asked | None
    tokenizer: TokenizerChoice | None
    chat_template: str
    extras: Parameters = ()

    @property
    def references(self) -> tuple[tuple[str, Path], ...]:
        """Names and folders of all models, each once, that of the companions first."""
        base = self.given_base
        found = {} if base is None else {base.path: base.name}
        for cut in self.cuts:
            for span in cut.spans:
                found.setdefault(span.path, span.name)
        return tuple((name, path) for path, name in found.items())

    @property
    def first(self) -> Path:
        """The folder of the base in the first slice, or of its first source."""
        return self.cuts[0].ground.path

    @property
    def places(self) -> tuple[Path, ...]:
        """All folders that are read."""
        return tuple(path for _, path in self.references)

    def with_extras(self, extras: Parameters) -> "Sliced":
        """Return it with what a recipe may say beyond it: mergekit has no key for that."""
        return replace(self, extras=extras)

    def laid_out(self, names: Mapping[Path, Collection[str]]) -> Configuration:
        """Return the whole configuration; `names` are those of the tensors of all models.

        What leaves all layers where they are is a configuration of whole models.

        Raises:
            BadInputError: a model lacks layers, or a tensor a value that it needs.
        """
        layout = lay_out(self.cuts, names)
        recipe, listed, needs = self._composed(layout)
        base, whole = self.cuts[0].base, self._is_whole(layout, names)
        return Configuration(
            replace(recipe, extras=self.extras),
            None if base is None else base.path,
            listed,
            tuple(self.members.notes),
            needs,
            "" if base is None else base.name,
            self.tokenizer,
            self.chat_template,
            None if whole else layout,
            self.references,
        )

    def _composed(
        self, layout: Layout
    ) -> tuple[Recipe, tuple[Listed, ...], tuple[Need, ...]]:
        method, dtype = self.members.method, self.output_dtype
        if len(self.cuts) == 1 and all(s.first == 0 for s in self.cuts[0].spans):
            (cell,) = self.cells
            models = [item for item in cell.sources if item is not None]
            return compose(method, cell.shared_over(self.shared), models, dtype)
        found = compose_stack(method, self.cells, self.shared, layout, dtype)
        return (*found, ())

    def _is_whole(self, layout: Layout, names: Mapping[Path, Collection[str]]) -> bool:
        """Tell whether all tensors of all models stay where they are."""
        return len(self.cuts) == 1 and all(
            span.first == 0 and layout.origins.keys() == set(names[span.path])
            for span in self.cuts[0].spans
        )


@dataclass(frozen=True, slots=True)
class _Slice:
    """One slice: its sources and base, each with its first layer."""

    place: str
    count: int
    parts: tuple[tuple[Asked, int], ...]
    base: tuple[Asked, int] | None
    own: Mapping[str, Chain]
    shared: Mapping[str, Chain]


def parse_slices(
    value: Plain, members: Members, base: Asked | None
) -> tuple[tuple[Cut, ...], tuple[Cell, ...]]:
    """Return the cuts that slices ask for, and the values in each.

    Raises:
        BadInputError: a slice is not of the form, or its sources do not fit the method.
        UnknownNameError: a key or word is not known; the hint has the nearest.
    """
    if not isinstance(value, list) or not 0 < len(value) <= SLICES_MAX:
        message = f"slices is not a list of 1 to {SLICES_MAX} slices"
        hint = "write `- sources: [{model: FOLDER, layer_range: [0, 16]}]` for each"
        raise BadInputError(message, hint=hint)
    reader = _Reader(members, base)
    found = [
        reader.slice(item, f"slices, number {i}") for i, item in enumerate(value, 1)
    ]
    if sum(item.count for item in found) > LAYERS_MAX:
        raise BadInputError(f"the slices have more than {LAYERS_MAX} layers together")
    based = all(item.base is not None for item in found)
    placed = _placed(found, pinned=members.method.base == "end")
    rows = list(zip(found, placed, strict=True))
    cuts = tuple(_cut(item, row, based=based) for item, row in rows)
    cells = tuple(
        Cell(tuple(part and part[0] for part in row), item.own, item.shared)
        for item, row in rows
    )
    return cuts, cells


def _cut(item: _Slice, row: Sequence[tuple[Asked, int] | None], *, based: bool) -> Cut:
    spans = tuple(None if p is None else Span(p[0].name, p[0].path, p[1]) for p in row)
    base = None
    if based and item.base is not None:
        asked, first = item.base
        base = Span(asked.name, asked.path, first)
    return Cut(item.place, item.count, spans, base)


def _placed(
    slices: Iterable[_Slice], *, pinned: bool
) -> list[list[tuple[Asked, int] | None]]:
    """Return the sources of each slice by contribution; None where one gives nothing.

    Where they are `pinned`, the place in the list says all.
    """
    listed = list(slices)
    width = max(len(item.parts) for item in listed)
    places: dict[Path, int] = {}
    found = []
    for item in listed:
        row: list[tuple[Asked, int] | None] = [None] * width
        waiting = []
        for part in item.parts:
            place = None if pinned else places.get(part[0].path)
            if place is None or row[place] is not None:
                waiting.append(part)
            else:
                row[place] = part
        free = [place for place, part in enumerate(row) if part is None]
        for place, part in zip(free, waiting, strict=False):
            row[place] = part
            places[part[0].path] = place
        found.append(row)
    return found


class _Reader:
    """Reads single slices."""

    def __init__(self, members: Members, base: Asked | None) -> None:
        self._members = members
        self._base = base

    def slice(self, value: Plain, place: str) -> _Slice:
        entry = mapping(value, place, "write `- sources: [...]`")
        check_keys(entry, _SLICE, place)
        if entry.get("residual_weight") is not None:
            self._members.note("residual_weight changes nothing, as in mergekit")
        base = self._base
        if entry.get("base_model") is not None:
            base = self._members.base(entry["base_model"], f"{place}, base_model")
        parts = self._sources(entry.get("sources"), place, base)
        counts = {last - first for _, first, last in parts}
        if len(counts) != 1:
            message = f"{place}: its sources have {_listed(counts)} layers"
            raise BadInputError(message, hint="give all of a slice equally many")
        firsts = {asked.path: first for asked, first, _ in parts}
        listed = [asked for asked, _, _ in parts]
        taking = self._members.taking_part(listed, base, place)
        given = self._members.shared(entry.get("parameters"), f"{place}, parameters")
        words = {word.name for word in self._members.method.words if word.per_model}
        return _Slice(
            place,
            counts.pop(),
            tuple((asked, firsts[asked.path]) for asked in taking),
            (base, firsts[base.path]) if base and base.path in firsts else None,
            {name: chain for name, chain in given.items() if name in words},
            {name: chain for name, chain in given.items() if name not in words},
        )

    def _sources(
        self, value: Plain, place: str, base: Asked | None
    ) -> list[tuple[Asked, int, int]]:
        if not isinstance(value, list) or not value:
            message = f"{place}: sources is not a list of models with layers"
            hint = "write `sources: [{model: FOLDER, layer_range: [0, 16]}]`"
            raise BadInputError(message, hint=hint)
        found: list[tuple[Asked, int, int]] = []
        for i, item in enumerate(value, start=1):
            here = f"{place}, source {i}"
            entry = mapping(item, here, "write `{model: FOLDER, layer_range: [0, 16]}`")
            check_keys(entry, _SOURCE, here)
            asked = self._members.asked(entry, here, base.path if base else None)
            if asked.adapter:
                message = f"{here}: {asked.name!r} is an adapter, which has no layers"
                hint = "merge it into its model with PEFT, and name that"
                raise BadInputError(message, hint=hint)
            if any(asked.path == other.path for other, _, _ in found):
                message = f"{here}: {asked.path.name} is a source of this slice already"
                raise BadInputError(message, hint="name each model once in a slice")
            found.append((asked, *_range(entry.get("layer_range"), here)))
        return found


def _range(value: Plain, place: str) -> tuple[int, int]:
    """Return the first layer of a range, and the one that it ends before."""
    items = value if isinstance(value, list) else []
    ends = [_whole(item) for item in items]
    match ends:
        case [int(first), int(last)] if 0 <= first < last <= LAYERS_MAX:
            return first, last
    message = f"{place}: layer_range is not a first layer and the one to stop before"
    raise BadInputError(message, hint="write `layer_range: [0, 16]` for layers 0 to 15")


def _whole(value: Plain) -> int | None:
    text = value.text if isinstance(value, Number) else value
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 6:
        return int(text)
    return None


def _listed(counts: Iterable[int]) -> str:
    return " and ".join(str(count) for count in sorted(counts))
