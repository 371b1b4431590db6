"""What a strategy is: its declaration, its parameters, and what one task sees.

Owns the types that the table, the strategies and `resolve` share. Does not own any
formula, nor how user input becomes parameters (`recipes`).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from crdtmerge.codec import DECIMAL_UNIT, format_decimal, parse_decimal
from crdtmerge.digest import ContentId
from crdtmerge.errors import EncodingError
from crdtmerge.numerics import Data, Floats, Items, Singles
from crdtmerge.recipe import Parameters

TRUE: Final = "true"
FALSE: Final = "false"

LABEL_FORM: Final = "up to 64 of a-z 0-9 . _ -"
_LABEL: Final = re.compile(r"[a-z0-9._-]{0,64}")

Weights: TypeAlias = Sequence[int]
"""Weights or coefficients in units of 10**-9, one a contribution, canonical order."""

Given: TypeAlias = Data | Items | Singles
"""One contribution's tensor: its raw bytes in the base's dtype, items of another dtype, or
(an array) its task vector in float32."""


@dataclass(frozen=True, slots=True)
class Parts:
    """An output tensor of `items` items, made range by range.

    `make` may be called for any ranges, in any order, from several threads; a range has
    the bytes that it has in the whole.
    """

    items: int
    make: Callable[[range], Data]

    def whole(self) -> Data:
        """Return all bytes at once."""
        return self.make(range(self.items))


Made: TypeAlias = Data | Parts
"""What an emit step returns: the output tensor's bytes, or what makes any part of them."""

Measures: TypeAlias = tuple[float, ...]
"""What a map step measures on one tensor; a strategy's own order and meaning."""

Evidence: TypeAlias = Mapping[str, Floats]
"""What one contribution attaches for one tensor: an array in float64 for each kind.

Every array was checked and normalised before (`crdtmerge.evidence.kinds` has the shapes and
what is normalised how), so that no author outweighs others by scaling.
"""

NO_EVIDENCE: Final[Evidence] = MappingProxyType({})

Scalars: TypeAlias = Mapping[str, float]
"""What one contribution attaches as single numbers, by name: `loss`, `step`, `samples`,
`score:CATEGORY`. Self-declared, finite, and no more is known of them."""

Description: TypeAlias = dict[str, object]
"""A plain dict that JSON can carry."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its kind, our default, mergekit's (None: it has no such thing).

    `default` and `mergekit_default` are canonical text; `minimum` and `maximum` bound a
    number, both inclusive, in units of 10**-9 (an `integer` is a decimal without places);
    `choices` are the texts that a choice may be; a `label` is a word or is empty.
    `per_model` parameters may differ between the contributions of one merge; `whole` ones
    have one value for the whole model, which no rule for some tensors may change.
    """

    name: str
    kind: Literal["decimal", "integer", "flag", "choice", "label"]
    default: str
    mergekit_default: str | None
    help: str
    minimum: int = 0
    maximum: int = 0
    per_model: bool = False
    choices: tuple[str, ...] = ()
    whole: bool = False

    @property
    def range_text(self) -> str:
        """Say which values are accepted."""
        if self.kind == "choice":
            return " or ".join(self.choices)
        if self.kind == "flag":
            return f"{TRUE} or {FALSE}"
        if self.kind == "label":
            return f"a word of {LABEL_FORM}, or empty"
        bounds = f"{format_decimal(self.minimum)} to {format_decimal(self.maximum)}"
        kind = "whole number" if self.kind == "integer" else "number"
        return f"a {kind}, {bounds}"

    @property
    def accepted(self) -> list[str]:
        """The bounds of a number, both inclusive; else all values there are."""
        if self.kind in {"decimal", "integer"}:
            return [format_decimal(self.minimum), format_decimal(self.maximum)]
        if self.kind == "label":
            return [LABEL_FORM]
        return list(self.choices) if self.kind == "choice" else [FALSE, TRUE]

    def accepts(self, text: str) -> bool:
        """Tell whether `text` is the canonical text of a value that is allowed."""
        if self.kind in {"choice", "flag"}:
            return text in self.accepted
        if self.kind == "label":
            return _LABEL.fullmatch(text) is not None
        try:
            units = parse_decimal(text)
        except EncodingError:
            return False
        whole = self.kind == "decimal" or units % DECIMAL_UNIT == 0
        return whole and self.minimum <= units <= self.maximum

    def describe(self) -> Description:
        """Return the parameter as plain values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "default": self.default,
            "mergekit_default": self.mergekit_default,
            "range": self.accepted,
            "per_model": self.per_model,
            "whole": self.whole,
            "help": self.help,
        }


@dataclass(frozen=True, slots=True)
class Values:
    """The parameters that hold for one tensor: `recipe.parameters_for(tensor)`.

    The recipe was checked before, so every declared parameter is there and canonical.
    """

    parameters: Parameters = ()

    def units(self, name: str) -> int:
        """Return a decimal in units of 10**-9."""
        return parse_decimal(dict(self.parameters)[name])

    def count(self, name: str) -> int:
        """Return a whole number."""
        return self.units(name) // DECIMAL_UNIT

    def real(self, name: str) -> float:
        """Return a decimal as the float64 next to it."""
        return self.units(name) / DECIMAL_UNIT

    def flag(self, name: str) -> bool:
        """Return a flag."""
        return dict(self.parameters)[name] == TRUE

    def choice(self, name: str) -> str:
        """Return one of the texts that the parameter allows."""
        return dict(self.parameters)[name]

    def under(self, step: str) -> "Values":
        """Return the parameters of one step, by their own names."""
        prefix = f"{step}."
        return Values(
            tuple(
                (name.removeprefix(prefix), text)
                for name, text in self.parameters
                if name.startswith(prefix)
            )
        )


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one map or emit task sees: one float tensor of every model, and no more.

    `base` is the raw little-endian bytes of `items` items of `dtype`, None where models
    are merged without a base. A contribution is such bytes too, items of another dtype
    (each as it is stored: what is computed is exact in any), or a float32 array: its task
    vector. `contributions`, `contents`, `weights` (units), `own` and `coefficients`
    (units, from the reduce step) go together, in canonical order. `seed` is the tensor's,
    there for strategies that draw or depend on order; masks use it only in seed scope
    `set`. An empty `output_dtype` means `dtype`, an empty `own` that all contributions
    take `values`. `shape` is the tensor's, for strategies that look at rows. `exponent` is
    that of the base's tensor if it is known without the base; else the bytes tell. `layer`
    is (number from 0, how many) for a tensor of a numbered layer, for strategies by depth.
    `evidence` has what each contribution attaches for this tensor, of the kinds that the
    strategy reads; empty where none attaches any.
    """

    tensor: str
    dtype: str
    items: int
    base: Data | None
    contributions: tuple[Given, ...]
    contents: tuple[ContentId, ...]
    weights: tuple[int, ...]
    seed: bytes
    seed_scope: str
    output_dtype: str
    values: Values
    own: tuple[Values, ...] = ()
    coefficients: tuple[int, ...] | None = None
    shape: tuple[int, ...] = ()
    exponent: int | None = None
    layer: tuple[int, int] | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """What an evaluation says of one contribution: a metric on named data.

    `value` is in units of 10**-9; the author is who signed it. Of each author there is one
    score of one contribution, metric and data: the last.
    """

    content: ContentId
    metric: str
    data: str
    value: int
    author: bytes


@dataclass(frozen=True, slots=True)
class Whole:
    """What a reduce step sees beside the measures: what holds for the whole model.

    `contents`, `weights` (units) and `own` go together, in canonical order, and so do
    `scalars` where the strategy reads them, else there are none. `scores` are the
    evaluations that the strategy reads, sorted.
    """

    contents: tuple[ContentId, ...]
    weights: tuple[int, ...]
    values: Values
    own: tuple[Values, ...]
    scalars: tuple[Scalars, ...] = ()
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that one task takes for each item of its tensor, beside what it was given.

    `shared` once, `each` for every contribution of weight, `several` once where there is
    more than one. Of a tensor as a matrix, its first dimension by all others, `rows`,
    `columns` and `short` are bytes for each item of a square of that side (`short`: of the
    shorter), and `columns_each` so for every contribution: for factors and Gram matrices,
    which may be larger than the tensor. What is given is the tensor of base and
    contributions as stored, with evidence, and what is returned the output. An upper bound
    on the readable reference, for tensors of 2**18 items or more, to which blocks of fixed
    size add 2 MiB at most; it is measured
    (tests/unit/test_strategies_declarations.py).
    """

    shared: int = 0
    each: int | Fraction = 0
    several: int = 0
    rows: int = 0
    columns: int = 0
    short: int = 0
    columns_each: int = 0

    @property
    def text(self) -> str:
        """Say it for people."""
        parts = []
        if self.shared:
            parts.append(f"{self.shared} B an item")
        if self.each:
            parts.append(f"{self.each} B an item and contribution")
        if self.several:
            parts.append(f"{self.several} B an item of several contributions")
        squares = (
            ("rows", self.rows),
            ("columns", self.columns),
            ("shorter", self.short),
        )
        parts += [f"{n} B x {side} squared" for side, n in squares if n]
        if self.columns_each:
            parts.append(f"{self.columns_each} B x columns squared a contribution")
        return " + ".join(parts) or "not declared"

    def bytes_of(
        self, items: int, contributions: int, shape: tuple[int, ...] = ()
    ) -> int:
        """Return the bound for one task; `shape` is the whole tensor's."""
        several = self.several if contributions > 1 else 0
        total = math.ceil(items * (self.shared + several + self.each * contributions))
        if len(shape) < 2 or not math.prod(shape):
            return total
        rows, columns = shape[0], math.prod(shape[1:])
        short, wide = min(rows, columns), columns * columns
        total += self.rows * rows * rows + self.short * short * short
        return total + (self.columns + self.columns_each * contributions) * wide


def whole_of(made: Made) -> Data:
    """Return all bytes of an output tensor."""
    return made.whole() if isinstance(made, Parts) else made


def all_at_once(_values: Values) -> None:
    """Make all items of a tensor at once, whatever the parameters are."""


def part_by_part(_values: Values) -> Memory:
    """Keep nothing while parts of a tensor are made, whatever the parameters are."""
    return Memory()


def masks_to_match(values: Values) -> Memory:
    """Keep who stays of each contribution, a bit an item, where sums are matched.

    For strategies that draw, with a parameter `rescale` that may be `l1`.
    """
    matches = values.choice("rescale") == "l1"
    return Memory(each=Fraction(1, 8)) if matches else Memory()


def always(_values: Values) -> bool:
    """Hold whatever the parameters are."""
    return True


def one(_values: Values) -> int:
    """Need one contribution, whatever the parameters are."""
    return 1


def never(_values: Values) -> bool:
    """Hold for no parameters."""
    return False


def nothing(_values: Values) -> tuple[str, ...]:
    """Read no evidence, whatever the parameters are."""
    return ()


@dataclass(frozen=True, slots=True)
class Strategy:
    """One strategy at one version: what it needs, what it declares, its pure functions.

    `emit` returns the output tensor's bytes, or `Parts` that make any of them, where items
    can be told one by one once the tensors were looked at. A strategy with a reduce step
    has `map` (some float64 for each tensor) and `reduce` (map results in order of tensor
    names, and the `Whole` -> coefficients in units), which run where `reduces` says so of
    the recipe's parameters; one that reads no tensor has `reduce` alone. `evidence` names
    the kinds of evidence that the task of a tensor reads (`crdtmerge.evidence.kinds`);
    `scalars` and `scores` tell whether the reduce step reads those. `memory` bounds what a
    task takes for the items that it works on at once: a part's, or all where `held` gives
    None; `held` tells what it keeps for every item of the tensor while parts are made.
    `fewest` is how many contributions of weight above zero there must be. `needs_base`
    tells whether the formula reads the base: if not, models can be merged without one.
    `prefers_base` tells that it then is another formula: a base that there is must be
    read. `shifts` tells whether the result moves with the base, so that merging task
    vectors alone gives the merged task vector. `nameless` says that contributions may
    have any names and any order: no bit changes. `passes_over` says that who leaves a
    tensor as it is in the base changes no bit of it, whatever it weighs. One changed
    output bit is a new version.
    """

    name: str
    version: int
    summary: str
    paper: str
    emit: Callable[[Inputs], Made]
    aliases: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    needs_base: bool = True
    prefers_base: bool = False
    shifts: Callable[[Values], bool] = always
    evidence: Callable[[Values], tuple[str, ...]] = nothing
    scalars: Callable[[Values], bool] = never
    scores: Callable[[Values], bool] = never
    draws: bool = False
    order_dependent: bool = False
    by_layer: bool = False
    nameless: bool = False
    passes_over: Callable[[Values], bool] = never
    classification: Literal["portable", "platform"] = "portable"
    memory: Memory = Memory()
    held: Callable[[Values], Memory | None] = all_at_once
    fewest: Callable[[Values], int] = one
    map: Callable[[Inputs], Measures] | None = None
    reduce: Callable[[Sequence[Measures], Whole], tuple[int, ...]] | None = None
    reduces: Callable[[Values], bool] = always

    @property
    def full_name(self) -> str:
        """The versioned name that recipes carry, such as `ties/1`."""
        return f"{self.name}/{self.version}"

    @property
    def defaults(self) -> Values:
        """All parameters as they come."""
        return Values(tuple(sorted((p.name, p.default) for p in self.parameters)))

    def parameter(self, name: str) -> Parameter | None:
        """Return the declaration of a parameter, None if there is none."""
        return next((p for p in self.parameters if p.name == name), None)

    def describe(self) -> Description:
        """Return the declaration as plain values; `fewest` is that of the defaults."""
        defaults = self.defaults
        reads = [*self.evidence(defaults)]
        reads += ["scalars"] if self.scalars(defaults) else []
        reads += ["evaluations"] if self.scores(defaults) else []
        return {
            "name": self.name,
            "full_name": self.full_name,
            "version": self.version,
            "aliases": list(self.aliases),
            "class": self.classification,
            "parameters": [parameter.describe() for parameter in self.parameters],
            "summary": self.summary,
            "paper": self.paper,
            "needs_base": self.needs_base,
            "prefers_base": self.prefers_base,
            "evidence": reads,
            "whole": self.reduce is not None,
            "fewest": self.fewest(defaults),
            "order_dependent": self.order_dependent,
            "by_layer": self.by_layer,
            "draws": self.draws,
            "memory": {
                "text": self.memory.text,
                "bytes_per_item": self.memory.shared,
                "bytes_per_item_and_contribution": self.memory.each,
            },
        }
