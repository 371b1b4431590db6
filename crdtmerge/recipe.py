"""Recipes: which strategy, with which parameters, on which tensors, between which steps.

Owns the form of a recipe, its digest, and what it gives one tensor of each contribution.
Does not own which tensors and contributions a rule is for (`rules`), nor what a strategy
or step accepts: that is `strategies`, which builds recipes from user input and checks
those that arrive.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from crdtmerge.codec import Value, parse_decimal
from crdtmerge.digest import Domain, digest_value
from crdtmerge.errors import BadInputError, MalformedRecordError
from crdtmerge.rules import (
    Place,
    Who,
    gradient_of,
    parse_pattern,
    parse_selector,
    value_at,
)
from crdtmerge.trie import Trie

RULES_MAX: Final = 1024
"""A stack of 80 layers with values of its own for each layer and model has as many."""
EXPRESSIONS_MAX: Final = 256
"""Rules by regular expression: each costs what it says to compile and to hold."""
PARAMETERS_MAX: Final = 64
STEPS_MAX: Final = 8
EXTRAS_MAX: Final = 16
TEXT_CHARACTERS_MAX: Final = 256
OUTPUT_DTYPES: Final = ("", "F64", "F32", "BF16", "F16", "F8_E4M3", "F8_E5M2")
SEED_SCOPES: Final = ("set", "contribution")
MISSING_CHOICES: Final = ("refuse", "base")
"""What a model may be that lacks tensors of the base; the first where nothing is said."""
EVERYWHERE: Final = "*"
"""The pattern of a rule for all tensors."""
WEIGHT: Final = "weight"
"""What a rule calls a contribution's weight; no strategy has a parameter of this name."""

Parameters = tuple[tuple[str, str], ...]
"""Sorted (name, value) pairs; values are canonical text, numbers as decimals.

Those of a step are called STEP.PARAMETER. In a rule a decimal may be a gradient: decimals
with commas between, over the layers from first to last."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Other values for some tensors (`tensors` is a pattern) of some contributions.

    `models` is a selector, empty for all. `parameters` hold only what changes; `weight`
    among them stands in place of the contribution's weight.
    """

    tensors: str
    parameters: Parameters
    models: str = ""

    def to_value(self) -> Value:
        """Return the plain value; a selector that is empty is left out."""
        pairs: list[Value] = [list(pair) for pair in self.parameters]
        return [self.tensors, pairs, *([self.models] if self.models else [])]

    def values_at(self, place: Place) -> dict[str, str]:
        """Return what it gives a tensor; nothing if that is not meant.

        A gradient gives nothing to a tensor outside of numbered layers.
        """
        if not parse_pattern(self.tensors).fits(place):
            return {}
        found = {}
        for name, text in self.parameters:
            anchors = gradient_of(text)
            if anchors is None:
                found[name] = text
            elif place.layer is not None:
                found[name] = value_at(anchors, place.layer)
        return found


@dataclass(frozen=True, slots=True)
class Setting:
    """What a recipe gives one tensor: parameters, and what contributions have for it.

    `weights` are in units of 10**-9, None where no rule gives one. `own` are the
    parameters in which each contribution differs from `parameters`.
    """

    parameters: Parameters
    weights: tuple[int | None, ...]
    own: tuple[Parameters, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a space is resolved; replicated, hashed, part of every merge id.

    `strategy` is a versioned name such as `ties/1`; `pre` and `post` are those of the
    steps before and after it, in order. `parameters` are complete, those of steps
    included, so a new default in a later version changes nothing. Of `rules` a later one
    goes over an earlier. `output_dtype` is empty for the base's own dtypes. `seed_scope`
    is `set` (masks change with the set, no author can grind them) or `contribution`
    (masks keyed by content id alone, stable when the set grows). `extras` are what else it
    says, by name, as canonical text; one that has its default is left out.
    """

    strategy: str
    parameters: Parameters = ()
    rules: tuple[Rule, ...] = ()
    output_dtype: str = ""
    seed_scope: str = "set"
    pre: tuple[str, ...] = ()
    post: tuple[str, ...] = ()
    extras: Parameters = ()

    def to_value(self) -> Value:
        """Return the plain value that a recipe record carries.

        Steps and extras are left out if there are none: recipes from before there were
        any keep their digest.
        """
        steps: list[Value] = [list(self.pre), list(self.post)]
        return [
            self.strategy,
            [list(pair) for pair in self.parameters],
            [rule.to_value() for rule in self.rules],
            self.output_dtype,
            self.seed_scope,
            *(steps if self.pre or self.post else []),
            *([[list(pair) for pair in self.extras]] if self.extras else []),
        ]

    def describe(self) -> dict[str, object]:
        """Return the recipe as JSON can carry it, its digest included.

        What is empty in a recipe without steps, selectors and extras is left out.
        """
        steps = {"pre": list(self.pre), "post": list(self.post)}
        return {
            "strategy": self.strategy,
            "parameters": dict(self.parameters),
            "rules": [
                {"pattern": rule.tensors, "parameters": dict(rule.parameters)}
                | ({"models": rule.models} if rule.models else {})
                for rule in self.rules
            ],
            "output_dtype": self.output_dtype,
            "seed_scope": self.seed_scope,
            **(steps if self.pre or self.post else {}),
            **({"extras": dict(self.extras)} if self.extras else {}),
            "digest": self.digest.hex(),
        }

    @property
    def digest(self) -> bytes:
        """Digest of the recipe's content."""
        return digest_value(Domain.RECIPE, self.to_value())

    def says(self, name: str) -> str:
        """Return what it says under a name of `extras`; empty if nothing."""
        return dict(self.extras).get(name, "")

    @property
    def missing(self) -> str:
        """What is done about a full contribution that lacks tensors of the base."""
        return self.says("missing") or MISSING_CHOICES[0]

    @property
    def io_budget(self) -> int:
        """The bytes that a resolve may read; 0 where all is read.

        Checked where a recipe comes in: this takes it for a number.
        """
        return int(self.says("io_budget") or 0)

    def without(self, name: str) -> "Recipe":
        """Return the recipe as if it said nothing under a name of `extras`."""
        return replace(
            self, extras=tuple(pair for pair in self.extras if pair[0] != name)
        )

    def merge_id(
        self,
        base: bytes,
        root: bytes,
        visible: Iterable[Who],
        read: Iterable[bytes] = (),
    ) -> bytes:
        """Return what names the model that this recipe makes of what `root` covers.

        The fourth field is the root of the evaluation records that the strategy reads
        (`read` are their ids), empty if it reads none. The root does not cover authors and
        tags: if rules select by them, a fifth field says which contributions each is for.
        """
        ids = frozenset(read)
        value: list[Value] = [
            base,
            self.digest,
            root,
            Trie.build(ids).root if ids else b"",
        ]
        told = [i for i, rule in enumerate(self.rules) if _tells(rule)]
        if told:
            chosen: list[Value] = [
                [who.content, list(fitting)]
                for who in sorted(visible, key=lambda who: who.content)
                if (fitting := [i for i in told if self._is_for(i, who)])
            ]
            value.append(digest_value(Domain.CHOSEN, chosen))
        return digest_value(Domain.MERGE, value)

    def _is_for(self, rule: int, who: Who) -> bool:
        return parse_selector(self.rules[rule].models).fits(who)

    def parameters_for(self, place: Place) -> Parameters:
        """Return the parameters for one tensor, after the rules for all contributions."""
        return self.setting(place, ()).parameters

    def for_the_whole(self, visible: Sequence[Who]) -> Setting:
        """Return what holds for the whole model: rules for some tensors play no part."""
        everywhere = tuple(rule for rule in self.rules if rule.tensors == EVERYWHERE)
        return replace(self, rules=everywhere).setting(Place(""), visible)

    def setting(self, place: Place, visible: Sequence[Who]) -> Setting:
        """Return what holds for one tensor, of all and of each of `visible`."""
        fitting = [
            (r.models, found) for r in self.rules if (found := r.values_at(place))
        ]
        shared = dict(self.parameters)
        for models, found in fitting:
            if not models:
                shared |= {k: v for k, v in found.items() if k != WEIGHT}
        mine = [self._of_one(fitting, who) for who in visible]
        weights = (values.pop(WEIGHT, None) for values in mine)
        return Setting(
            tuple(sorted(shared.items())),
            tuple(None if text is None else parse_decimal(text) for text in weights),
            tuple(
                tuple(sorted(v for v in values.items() if shared.get(v[0]) != v[1]))
                for values in mine
            ),
        )

    def _of_one(
        self, fitting: Sequence[tuple[str, dict[str, str]]], who: Who
    ) -> dict[str, str]:
        values = dict(self.parameters)
        for models, found in fitting:
            if not models or parse_selector(models).fits(who):
                values |= found
        return values


def _tells(rule: Rule) -> bool:
    """Tell whether a rule selects by what the visible root does not cover."""
    return bool(rule.models) and parse_selector(rule.models).kind != "content"


def recipe_from_value(value: object) -> Recipe:
    """Return the recipe that a record carries.

    Raises:
        MalformedRecordError: the value is not of the form of a recipe.
    """
    match value:
        case [str(strategy), [*pairs], [*rules], str(dtype), str(scope), *rest]:
            parsed = tuple(_rule(rule) for rule in rules)
            steps, extras = (rest[:-1], rest[-1:]) if len(rest) % 2 else (rest, [])
            recipe = Recipe(
                strategy, _pairs(pairs), parsed, dtype, scope, *_steps(steps)
            )
            recipe = replace(recipe, extras=_extras(extras))
        case _:
            message = "a recipe is not [strategy, parameters, rules, dtype, seed scope]"
            raise MalformedRecordError(message)
    if not 0 < len(strategy) <= TEXT_CHARACTERS_MAX or len(rules) > RULES_MAX:
        message = "a recipe is above its limits"
        raise MalformedRecordError(message)
    if dtype not in OUTPUT_DTYPES or scope not in SEED_SCOPES:
        message = f"a recipe has output dtype {dtype!r} and seed scope {scope!r}"
        raise MalformedRecordError(message)
    return recipe


def _steps(value: list[object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    match value:
        case []:
            return (), ()
        case [[*pre], [*post]] if pre or post:
            return _names(pre), _names(post)
    message = "the steps of a recipe are not [before, after], or both are empty"
    raise MalformedRecordError(message)


def _extras(value: list[object]) -> Parameters:
    """Return the extras; which names and texts there are `strategies` knows."""
    match value:
        case []:
            return ()
        case [[*pairs]] if 0 < len(pairs) <= EXTRAS_MAX:
            return _pairs(pairs)
    message = f"the extras of a recipe are no list of pairs, none, or over {EXTRAS_MAX}"
    raise MalformedRecordError(message)


def _names(value: list[object]) -> tuple[str, ...]:
    names = tuple(
        name
        for name in value
        if isinstance(name, str) and 0 < len(name) <= TEXT_CHARACTERS_MAX
    )
    if len(names) != len(value) or len(names) > STEPS_MAX:
        message = f"steps are not names, or more than {STEPS_MAX}"
        raise MalformedRecordError(message)
    return names


def _pairs(value: list[object]) -> Parameters:
    pairs: list[tuple[str, str]] = []
    for item in value:
        match item:
            case [str(name), str(text)] if (
                max(len(name), len(text)) <= TEXT_CHARACTERS_MAX
            ):
                pairs.append((name, text))
            case _:
                message = "a parameter is not [name, text]"
                raise MalformedRecordError(message)
    names = [name for name, _ in pairs]
    if names != sorted(set(names)) or len(names) > PARAMETERS_MAX:
        message = "parameters are not sorted and unique, or too many"
        raise MalformedRecordError(message)
    return tuple(pairs)


def _rule(value: object) -> Rule:
    match value:
        case [str(tensors), [*pairs], *rest] if 0 < len(tensors) <= TEXT_CHARACTERS_MAX:
            return Rule(tensors, _pairs(pairs), _models(rest))
    message = "a rule is not [pattern, parameters] or [pattern, parameters, selector]"
    raise MalformedRecordError(message)


def _models(rest: list[object]) -> str:
    match rest:
        case []:
            return ""
        case [str(models)]:
            pass
        case _:
            raise MalformedRecordError("the selector of a rule is no text")
    try:
        parse_selector(models)
    except BadInputError as e:
        raise MalformedRecordError(f"a rule has no selector: {e}") from e
    return models
