"""Values by tensor in a stack of slices, as the rules of a recipe.

Owns which value holds in a tensor of the output, and the fewest rules that say so plainly.
Does not own the grammar of values (`mergekit_chains`), nor the stack (`mergekit_stack`).

As in mergekit: a source's own value goes before its slice's, and that before the one at
the top. A filter of what each model has for itself is on the name that the tensor has in
the model; one of what holds for all models is on its name in the output. A gradient goes
over the layers of its slice; outside of layers it has its first value, in a slice of one
layer its last.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

from crdtmerge.errors import BadInputError
from crdtmerge.formats.mergekit_chains import Chain, literal, plain_chain
from crdtmerge.formats.mergekit_methods import Method, Word
from crdtmerge.formats.mergekit_recipe import (
    Asked,
    Listed,
    Part,
    listed_of,
    missing_from,
    parameters_of,
    rest_of,
)
from crdtmerge.formats.mergekit_stack import Layout
from crdtmerge.recipe import EVERYWHERE, WEIGHT, Recipe, Rule
from crdtmerge.rules import Place, gradient_of, parse_pattern, split_layer, value_at
from crdtmerge.strategies import make_recipe

Column: TypeAlias = "tuple[tuple[str, str], ...]"
"""The values of one layer, by what follows its number in a name."""
Texts: TypeAlias = "Mapping[str, str | None]"
"""A value for each tensor of the output; None where it plays no part."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The values of one cut: of each source, of all sources, and of the merge there."""

    sources: tuple[Asked | None, ...]
    own: Mapping[str, Chain]
    shared: Mapping[str, Chain]

    def shared_over(self, top: Mapping[str, Chain]) -> dict[str, Chain]:
        """Return what holds for all models here: this, then what the top gives."""
        given = {**self.own, **self.shared}
        return {
            name: given.get(name, Chain()).then(top.get(name, Chain()))
            for name in {*given, *top}
        }


def compose_stack(
    method: Method,
    cells: Sequence[Cell],
    top: Mapping[str, Chain],
    layout: Layout,
    output_dtype: str,
) -> tuple[Recipe, tuple[Listed, ...]]:
    """Return the recipe of a stack, and its contributions with what is theirs alone.

    Raises:
        BadInputError: a tensor lacks a value, or it is none that the strategy takes.
    """
    tables = _Tables(method, cells, top, layout)
    parts = list(tables.parts())
    recipe = make_recipe(
        method.strategy,
        parameters_of(method, parts),
        [rule for part in parts for rule in part.rules],
        output_dtype,
    )
    listed = tuple(
        listed_of(recipe, asked, [(p, p.own[i], p.own_rules[i]) for p in parts])
        for i, asked in enumerate(_contributions(layout))
    )
    return recipe, listed


def _contributions(layout: Layout) -> Iterator[Asked]:
    """Yield each contribution, called by the layers that it is made of."""
    for slot in range(layout.slots):
        spans = [(cut.sources[slot], cut.count) for cut in layout.cuts]
        named = [
            f"{span.name}[{span.first}:{span.first + count}]"
            for span, count in spans
            if span is not None
        ]
        first = next(span for span, _ in spans if span is not None)
        yield Asked(" ".join(named), first.path)


class _Tables:
    """The values of all words in all tensors, while they become parts of a recipe."""

    def __init__(
        self,
        method: Method,
        cells: Sequence[Cell],
        top: Mapping[str, Chain],
        layout: Layout,
    ) -> None:
        self._method = method
        self._cells = cells
        self._shared = [cell.shared_over(top) for cell in cells]
        self._layout = layout

    def parts(self) -> Iterator[Part]:
        for word in self._method.words:
            chains = [self._chains(word, slot) for slot in range(self._layout.slots)]
            if self._method.base == "end":
                t = chains[1]
                ends = [[chain and chain.turned(rest_of) for chain in t], t]
                yield self._part(word, WEIGHT, ends)
            elif word.ours is not None:
                yield self._part(word, word.ours, chains)

    def _chains(self, word: Word, slot: int) -> list[Chain | None]:
        """Return the values that one contribution has in each cut, None where it has none.

        Raises:
            BadInputError: one must be given, and is not.
        """
        found: list[Chain | None] = []
        for cell, shared in zip(self._cells, self._shared, strict=True):
            asked = cell.sources[slot]
            if asked is None:
                found.append(None)
                continue
            chain = asked.own.get(word.name, Chain())
            chain = chain.then(shared.get(word.name, Chain()))
            chain = chain.then(plain_chain(word.default))
            missing_from(self._method, word, chain, asked)
            found.append(chain.turned(word.turned))
        return found

    def _part(
        self, word: Word, ours: str, chains: Sequence[Sequence[Chain | None]]
    ) -> Part:
        texts = [self._texts(word, ours, slot, own) for slot, own in enumerate(chains)]
        if not word.per_model and ours != WEIGHT:
            texts = [_anybodys(texts)] * len(texts)
        given = [chain for own in chains for chain in own if chain is not None]
        patterns = dict.fromkeys(p for chain in given for p, _ in chain.entries)
        made = [_ruled(ours, table, tuple(patterns)) for table in texts]
        first, rules = made[0]
        if all(table == texts[0] for table in texts) and ours != WEIGHT:
            nobody = len(texts)
            return Part(ours, first, tuple(rules), (None,) * nobody, ((),) * nobody)
        common = None if ours == WEIGHT else first
        own: list[str | None] = []
        own_rules: list[tuple[Rule, ...]] = []
        for text, found in made:
            differs = text != common
            plain = not found or ours == WEIGHT
            start = [Rule(EVERYWHERE, ((ours, text),))] if differs and not plain else []
            own.append(text if differs and plain else None)
            own_rules.append((*start, *found))
        return Part(ours, common, (), tuple(own), tuple(own_rules))

    def _texts(
        self, word: Word, ours: str, slot: int, chains: Sequence[Chain | None]
    ) -> Texts:
        found: dict[str, str | None] = {}
        for name, origin in self._layout.origins.items():
            chain, cut = chains[origin.cut], self._layout.cuts[origin.cut]
            span = cut.sources[slot]
            if chain is None or span is None:
                found[name] = "0" if ours == WEIGHT else None
                continue
            key = origin.name_in(span) if word.per_model else name
            text = _at(chain, key, origin.layer, cut.count)
            if text is None:
                message = f"{cut.place}: {self._method.name} has no {word.name}"
                hint = "end the list with `{value: ...}`, for all other tensors"
                raise BadInputError(f"{message} for tensor {key!r}", hint=hint)
            found[name] = text
        return found


def _anybodys(tables: Sequence[Texts]) -> Texts:
    """Return what holds for all contributions, as told by any that gives the tensor."""
    found: dict[str, str | None] = {}
    for table in tables:
        found |= {name: text for name, text in table.items() if text is not None}
    return found


def _at(chain: Chain, name: str, layer: int | None, count: int) -> str | None:
    """Return the value in one tensor, which may be of a layer out of `count`."""
    fitting = (a for p, a in chain.entries if parse_pattern(p).fits(Place(name)))
    anchors = next(fitting, chain.rest)
    if anchors is None or layer is None:
        return None if anchors is None else anchors[0]
    if len(anchors) == 1 or count == 1:
        return anchors[-1]
    units = gradient_of(",".join(anchors))
    assert units is not None, "two anchors have a comma between"
    return value_at(units, (layer, count))


def _ruled(ours: str, texts: Texts, patterns: Sequence[str]) -> tuple[str, list[Rule]]:
    """Return the most frequent value, and rules that give all others."""
    counts = Counter(text for text in texts.values() if text is not None)
    common = max(sorted(counts), key=lambda text: counts[text])
    full = {name: common if text is None else text for name, text in texts.items()}
    found: list[tuple[str, str]] = []
    columns: dict[int, dict[str, str]] = {}
    for name, text in full.items():
        parts = split_layer(name)
        if parts is not None:
            columns.setdefault(parts[1], {})[parts[2]] = text
        elif text != common:
            found.append((f"name:{name}", text))
    for first, last, column in _runs(columns):
        found += _of_run(f"layers:{first}..{last}", column, common, patterns)
    return common, [Rule(pattern, ((ours, text),)) for pattern, text in found]


def _runs(
    columns: Mapping[int, Mapping[str, str]],
) -> Iterator[tuple[int, int, Column]]:
    """Yield runs of consecutive layers that have the same values."""
    listed = [
        (layer, tuple(sorted(columns[layer].items()))) for layer in sorted(columns)
    ]
    for column, run in groupby(listed, key=lambda item: item[1]):
        layers = [layer for layer, _ in run]
        yield layers[0], layers[-1], column


def _of_run(
    place: str, column: Column, common: str, patterns: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield the patterns and values of one run of layers, later ones going over earlier."""
    counts = Counter(text for _, text in column)
    most = max(sorted(counts), key=lambda text: counts[text])
    if most != common:
        yield place, most
    rests = [rest for rest, _ in column]
    for text in sorted(counts.keys() - {most}):
        group = {rest for rest, own in column if own == text}
        fitting = (p for p in patterns if _chosen(p, rests) == group)
        chosen = next(fitting, None)
        if chosen is not None:
            yield f"{place}:{chosen}", text
        else:
            yield from (
                (f"{place}:{_only(rest, rests)}", text) for rest in sorted(group)
            )


def _chosen(pattern: str, rests: Sequence[str]) -> set[str]:
    """Return what a pattern fits, whatever the number of the layer and its stack."""
    parsed = parse_pattern(pattern)
    return {rest for rest in rests if parsed.fits(Place(rest))}


def _only(rest: str, rests: Sequence[str]) -> str:
    """Return a pattern that fits one tensor of a layer, and no other of it."""
    pattern = f"*{literal(rest)}"
    if _chosen(pattern, rests) == {rest}:
        return pattern
    return f"regex:[^0-9]*[0-9]+{_quoted(rest)}"


def _quoted(text: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else f"\\{c}" for c in text)
