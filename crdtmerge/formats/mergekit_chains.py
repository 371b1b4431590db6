"""A parameter by tensor and depth, as mergekit writes it: gradients, filters, both.

Owns their grammar, which value goes before which, and the rules of a recipe that say the
same. Does not own plain values (`mergekit_values`), nor what rules mean (`recipe`).

In mergekit a filter is a part of a tensor's name, in the case that it has there, and the
first that fits has its value; `*`, nothing and no filter fit every name. In a recipe a
later rule goes over an earlier one, so rules are emitted from the last to the first. A
gradient's first value is that of tensors outside of numbered layers; a stack of one layer
has its last.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from crdtmerge.errors import BadInputError, UnknownNameError
from crdtmerge.formats.mergekit_methods import Word
from crdtmerge.formats.mergekit_values import value_text
from crdtmerge.formats.yaml_text import Plain
from crdtmerge.recipe import EVERYWHERE, TEXT_CHARACTERS_MAX, Rule
from crdtmerge.rules import ANCHORS_MAX, Place
from crdtmerge.strategies.table import suggestion

_CONDITION: Final = ("value", "filter")

Anchors: TypeAlias = tuple[str, ...]
"""A gradient's values from the first layer to the last; a plain value is one."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The values of one parameter: a tensor has that of the first pattern that fits it.

    `rest` is for tensors that no pattern fits, None where nothing is given for them.
    """

    entries: tuple[tuple[str, Anchors], ...] = ()
    rest: Anchors | None = None

    @property
    def plain(self) -> str | None:
        """The value, if all tensors have the same."""
        alike = not self.entries and self.rest is not None and len(self.rest) == 1
        return self.rest[0] if alike and self.rest else None

    def then(self, other: "Chain") -> "Chain":
        """Return this with what `other` gives to tensors that this gives nothing."""
        if self.rest is not None:
            return self
        return Chain(self.entries + other.entries, other.rest)

    def turned(self, turn: Callable[[str], str]) -> "Chain":
        """Return the chain with every value turned into another."""
        entries = [(p, tuple(map(turn, anchors))) for p, anchors in self.entries]
        rest = None if self.rest is None else tuple(map(turn, self.rest))
        return Chain(tuple(entries), rest)

    def rules(self, name: str) -> tuple[Rule, ...]:
        """Return the rules that give `name` these values; a plain `rest` is not theirs."""
        found: list[Rule] = []
        for pattern, anchors in reversed(self.entries):
            found += [
                _rule(pattern, name, anchors[:1]),
                *_rising(pattern, name, anchors),
            ]
        return (*_rising(EVERYWHERE, name, self.rest or ()), *found)


def plain_chain(text: str | None) -> Chain:
    """Return the chain of one value for all tensors, or of none."""
    return Chain(rest=None if text is None else (text,))


def parse_chain(value: Plain, word: Word, place: str) -> Chain:
    """Return what a parameter's value is, of whatever form.

    Raises:
        BadInputError: it is of no form, mixes forms, or a value of it is not of its kind.
        UnknownNameError: a condition has a key that is not known.
    """
    if isinstance(value, dict):
        return _conditions([value], word, place)
    if not isinstance(value, list):
        return plain_chain(value_text(value, word, place))
    conditions = [item for item in value if isinstance(item, dict)]
    if len(conditions) == len(value):
        return _conditions(conditions, word, place)
    if conditions:
        message = (
            f"{place}: {word.name} has both plain values and conditions in one list"
        )
        hint = "write a gradient [A, B, ...], or `{filter: ..., value: ...}` for each"
        raise BadInputError(message, hint=hint)
    return Chain(rest=_gradient(value, word, place))


def fitted(rules: Sequence[Rule], places: Iterable[Place]) -> list[Rule]:
    """Return rules that give a stack of one layer the last value of a gradient.

    Raises:
        BadInputError: there are gradients, stacks of one layer, and others.
    """
    rising = [rule for rule in rules if _is_rising(rule)]
    counts = {place.layer[1] for place in places if place.layer is not None}
    if not rising or 1 not in counts:
        return list(rules)
    if counts != {1}:
        message = (
            "a gradient over layers, and some tensors are numbered in a stack of one"
        )
        hint = "give these tensors a plain value: it is not sure that they are layers"
        raise BadInputError(message, hint=hint)
    return [_of_one_layer(rule) if _is_rising(rule) else rule for rule in rules]


def _conditions(items: Sequence[dict[str, Plain]], word: Word, place: str) -> Chain:
    entries: list[tuple[str, Anchors]] = []
    rest: Anchors | None = None
    for item in items:
        for key in item:
            if key not in _CONDITION:
                message = f"{place}: {word.name}: {key!r} is not known"
                raise UnknownNameError(
                    message, hint=suggestion(key, _CONDITION, _CONDITION)
                )
        pattern = _pattern(item.get("filter"), word, place)
        anchors = _values(item.get("value"), word, place)
        if rest is None and pattern == EVERYWHERE:
            rest = anchors
        elif rest is None:
            entries.append((pattern, anchors))
    return Chain(tuple(entries), rest)


def _values(value: Plain, word: Word, place: str) -> Anchors:
    if value is None or isinstance(value, dict):
        raise BadInputError(f"{place}: {word.name}: a condition lacks its `value`")
    if isinstance(value, list):
        return _gradient(value, word, place)
    return (value_text(value, word, place),)


def _gradient(items: Sequence[Plain], word: Word, place: str) -> Anchors:
    """Return the anchors of a gradient; equal ones are one plain value."""
    if not 0 < len(items) <= ANCHORS_MAX:
        message = f"{place}: {word.name} is a gradient of {len(items)} values"
        raise BadInputError(message, hint=f"give 1 to {ANCHORS_MAX}")
    anchors = tuple(value_text(item, word, place) for item in items)
    if len(set(anchors)) == 1:
        return anchors[:1]
    if word.kind != "decimal":
        message = f"{place}: {word.name} is a gradient, which only a decimal can be"
        raise BadInputError(message, hint="give `{filter: ..., value: ...}` for each")
    return anchors


def _pattern(value: Plain, word: Word, place: str) -> str:
    """Return the shell pattern of a filter, every character of which stands for itself."""
    if value is None:
        return EVERYWHERE
    if not isinstance(value, str):
        raise BadInputError(
            f"{place}: {word.name}: a filter is part of a name, as text"
        )
    if value in {"*", ""}:
        return EVERYWHERE
    escaped = literal(value)
    if len(escaped) > TEXT_CHARACTERS_MAX // 2:
        message = f"{place}: {word.name}: the filter {value:.20}... is too long"
        raise BadInputError(message)
    return f"*{escaped}*"


def literal(text: str) -> str:
    """Return the shell pattern in which every character stands for itself."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _rising(pattern: str, name: str, anchors: Anchors) -> list[Rule]:
    return [_rule(pattern, name, anchors)] if len(anchors) > 1 else []


def _rule(pattern: str, name: str, anchors: Anchors) -> Rule:
    text = ",".join(anchors)
    if len(text) > TEXT_CHARACTERS_MAX:
        message = f"the gradient of {name} is above {TEXT_CHARACTERS_MAX} characters"
        raise BadInputError(message, hint="give fewer values, or of fewer places")
    return Rule(pattern, ((name, text),))


def _is_rising(rule: Rule) -> bool:
    return any("," in text for _, text in rule.parameters)


def _of_one_layer(rule: Rule) -> Rule:
    last = tuple((name, text.rpartition(",")[2]) for name, text in rule.parameters)
    return replace(rule, tensors=f"layers:0:{rule.tensors}", parameters=last)
