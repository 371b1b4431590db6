"""What a configuration asks for, as a recipe with rules, and models of their own weight.

Owns which value becomes the recipe's, a model's own, or a rule. Does not own the form of a
file (`mergekit`), nor which value goes before which (`mergekit_chains`).

What all models have alike goes to the recipe: files that ask for the same merge in other
words make the same merge. Rules for one model select it by its content, which is known
once its folder was read: `Configuration.recipe_for`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from crdtmerge.codec import DECIMAL_UNIT, format_decimal, parse_decimal
from crdtmerge.errors import BadInputError
from crdtmerge.formats.mergekit_chains import Chain, fitted, plain_chain
from crdtmerge.formats.mergekit_methods import Method, Word
from crdtmerge.formats.mergekit_stack import Layout
from crdtmerge.formats.mergekit_tokenizer import TokenizerChoice
from crdtmerge.recipe import EVERYWHERE, WEIGHT, Parameters, Recipe, Rule
from crdtmerge.rules import parse_pattern, places_of
from crdtmerge.strategies import find, make_recipe


@dataclass(frozen=True, slots=True)
class Listed:
    """One model that takes part: what it is called, weighs, and has of its own.

    `name` is as the file has it, `weight` in units of 10**-9; `parameters` are those in
    which it differs from the recipe, `rules` those for it alone, selectors left out. With
    `adapter`, `path` is that of an adapter of the base_model.
    """

    name: str
    path: Path
    weight: int
    parameters: Parameters = ()
    adapter: bool = False
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """A value without which nothing is merged, and the tensors that are given one."""

    what: str
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file asks for.

    `base` is None where models are merged without one, else the folder that the file calls
    `base_name`. `recipe` is without the rules for single models. Without `tokenizer` all
    models must have one vocabulary. `chat_template` is empty for the one that is there,
    `auto` for the models' most frequent, or the template itself. `notes` tell what was
    accepted although it changes nothing, or not what mergekit does.

    With a `layout` the models are what it puts together, and so is the base: `used` are
    then names and folders of all models, that of the companions first.
    """

    recipe: Recipe
    base: Path | None
    models: tuple[Listed, ...]
    notes: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    base_name: str = ""
    tokenizer: TokenizerChoice | None = None
    chat_template: str = ""
    layout: Layout | None = None
    used: tuple[tuple[str, Path], ...] = ()

    @property
    def references(self) -> tuple[tuple[str, Path], ...]:
        """Names and folders of all models, adapters left out, that of companions first."""
        if self.used:
            return self.used
        base = self.base
        found = {} if base is None else {base: self.base_name or base.name}
        for model in self.models:
            if not model.adapter:
                found.setdefault(model.path, model.name)
        return tuple((name, path) for path, name in found.items())

    @property
    def first(self) -> Path:
        """The folder of the base, or of the first model where there is none."""
        if self.layout is not None:
            return self.layout.cuts[0].ground.path
        return self.base or self.models[0].path

    @property
    def output_dtype(self) -> str:
        """What floats become, empty where they keep their dtype."""
        return self.recipe.output_dtype

    @property
    def places(self) -> tuple[Path, ...]:
        """All folders that are read."""
        adapters = [model.path for model in self.models if model.adapter]
        return (*(path for _, path in self.references), *adapters)

    def with_extras(self, extras: Parameters) -> "Configuration":
        """Return it with what a recipe may say beyond it: mergekit has no key for that."""
        return replace(self, recipe=replace(self.recipe, extras=extras))

    def recipe_for(self, contents: Sequence[bytes], names: Iterable[str]) -> Recipe:
        """Return the whole recipe.

        `contents` are the ids of `models`, in their order; `names` those of all tensors.

        Raises:
            BadInputError: a tensor has no value that it needs, one content has two sets
                of rules, or the recipe does not allow a rule.
        """
        places = places_of(names)
        for need in self.needs:
            for name, place in places.items():
                if not any(parse_pattern(text).fits(place) for text in need.patterns):
                    message = f"{need.what} for tensor {name!r}"
                    hint = "end the list with `{value: ...}`, for all other tensors"
                    raise BadInputError(message, hint=hint)
        own = self._own_rules(contents)
        selecting = [
            replace(rule, models=f"content:{content.hex()}")
            for content in sorted(own)
            for rule in own[content]
        ]
        rules = fitted([*self.recipe.rules, *selecting], places.values())
        recipe = self.recipe
        return make_recipe(
            recipe.strategy,
            dict(recipe.parameters),
            rules,
            recipe.output_dtype,
            extras=dict(recipe.extras),
        )

    def _own_rules(self, contents: Sequence[bytes]) -> dict[bytes, tuple[Rule, ...]]:
        found: dict[bytes, tuple[Rule, ...]] = {}
        for content, model in zip(contents, self.models, strict=True):
            if found.setdefault(content, model.rules) != model.rules:
                message = f"model {model.name!r} has the tensors of another model"
                hint = "values by tensor or depth must be the same for both"
                raise BadInputError(f"{message}, and other filters", hint=hint)
        return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A model that takes part, and what the file gives it alone, by mergekit's words."""

    name: str
    path: Path
    own: Mapping[str, Chain] = field(default_factory=dict)
    adapter: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What one of our parameters is: for all, and for each model.

    `own` is what stands with a model, None where that is `common`.
    """

    name: str
    common: str | None
    rules: tuple[Rule, ...]
    own: tuple[str | None, ...]
    own_rules: tuple[tuple[Rule, ...], ...]


def compose(
    method: Method,
    shared: Mapping[str, Chain],
    models: Sequence[Asked],
    output_dtype: str,
) -> tuple[Recipe, tuple[Listed, ...], tuple[Need, ...]]:
    """Return the recipe, the models with what is theirs alone, and what must be given.

    Raises:
        BadInputError: a value is missing, or is none that the strategy takes.
    """
    needs: list[Need] = []
    parts: list[Part] = []
    for word in method.words:
        chains = [_chain(word, shared, model) for model in models]
        for chain, model in zip(chains, models, strict=True):
            needs += missing_from(method, word, chain, model)
        if method.base == "end":
            parts.append(_ends(chains[0]))
        elif word.ours is None:
            chains[0].turned(word.turned)  # may refuse it
        else:
            parts.append(_part(word, word.ours, shared, chains))
    recipe = make_recipe(
        method.strategy,
        parameters_of(method, parts),
        [rule for part in parts for rule in part.rules],
        output_dtype,
    )
    listed = tuple(
        listed_of(recipe, model, [(p, p.own[i], p.own_rules[i]) for p in parts])
        for i, model in enumerate(models)
    )
    return recipe, listed, tuple(dict.fromkeys(needs))


def _chain(word: Word, shared: Mapping[str, Chain], model: Asked) -> Chain:
    """Return a model's own values, then those for all, then mergekit's default."""
    found = model.own.get(word.name, Chain()).then(shared.get(word.name, Chain()))
    return found.then(plain_chain(word.default))


def missing_from(method: Method, word: Word, chain: Chain, model: Asked) -> list[Need]:
    """Return the need that a chain must be shown to fill, if there is one.

    Raises:
        BadInputError: it gives no tensor a value.
    """
    if chain.rest is not None:
        return []
    what, hint = f"{method.name} has no {word.name}", ""
    if word.per_model:
        what = f"model {model.name!r} has no {word.name}"
        hint = "give `parameters: {weight: ...}` to each model, or once for all"
        if method.base == "counts":
            hint += f"; {method.name} counts the base_model as a model"
    if chain.entries:
        return [Need(what, tuple(pattern for pattern, _ in chain.entries))]
    if word.per_model:
        raise BadInputError(f"{what}, which {method.name} needs", hint=hint)
    message = f"{method.name} needs `{word.name}` in the parameters"
    hint = "0 is the base_model, 1 the other" if method.base == "end" else ""
    raise BadInputError(message, hint=hint)


def _part(
    word: Word, ours: str, shared: Mapping[str, Chain], given: Sequence[Chain]
) -> Part:
    chains = [chain.turned(word.turned) for chain in given]
    if len(set(chains)) == 1:
        return _same(ours, chains[0], len(chains))
    fallback = shared.get(word.name, Chain()).then(plain_chain(word.default))
    common = _first(fallback.turned(word.turned))
    return _differing(ours, None if ours == WEIGHT else common, chains)


def _ends(t: Chain) -> Part:
    """Return the weights 1 - t of the base and t of the other model."""
    return _differing(WEIGHT, None, [t.turned(rest_of), t])


def rest_of(t: str) -> str:
    """Return 1 - t."""
    return format_decimal(DECIMAL_UNIT - parse_decimal(t))


def _same(ours: str, chain: Chain, count: int) -> Part:
    common = _first(chain)
    own = (common if ours == WEIGHT else None,) * count
    return Part(ours, common, chain.rules(ours), own, ((),) * count)


def _differing(ours: str, common: str | None, chains: Sequence[Chain]) -> Part:
    """Return what models have that do not all have the same.

    A model's own parameter goes over all rules, so one that depends on the tensor is all
    rules; a weight of its own stands where no rule gives one.
    """
    own: list[str | None] = []
    rules: list[tuple[Rule, ...]] = []
    for chain in chains:
        first = _first(chain)
        if chain.plain is not None or ours == WEIGHT:
            own.append(None if first == common else first)
            rules.append(chain.rules(ours))
        else:
            other = first is not None and first != common
            start = [Rule(EVERYWHERE, ((ours, first or ""),))] if other else []
            own.append(None)
            rules.append((*start, *chain.rules(ours)))
    return Part(ours, common, (), tuple(own), tuple(rules))


def _first(chain: Chain) -> str | None:
    """Return what a tensor has that no pattern fits and that is of no layer."""
    return None if chain.rest is None else chain.rest[0]


def parameters_of(method: Method, parts: Sequence[Part]) -> dict[str, str]:
    """Return the recipe's parameters; what has no word has mergekit's fixed value."""
    fixed = {
        p.name: p.mergekit_default
        for p in find(method.strategy).parameters
        if p.mergekit_default is not None
    }
    given = {
        part.name: part.common
        for part in parts
        if part.name != WEIGHT and part.common is not None
    }
    words = {word.ours for word in method.words}
    return {name: text for name, text in fixed.items() if name not in words} | given


def listed_of(
    recipe: Recipe,
    model: Asked,
    mine: Sequence[tuple[Part, str | None, tuple[Rule, ...]]],
) -> Listed:
    """Return a model as a contribution: its weight, and what it has of its own."""
    own = {part.name: text for part, text, _ in mine if text is not None}
    weight = own.pop(WEIGHT, None)
    return Listed(
        model.name,
        model.path,
        DECIMAL_UNIT if weight is None else parse_decimal(weight),
        _canonical(recipe, own),
        model.adapter,
        tuple(rule for _, _, rules in mine for rule in rules),
    )


def _canonical(recipe: Recipe, own: Mapping[str, str]) -> Parameters:
    """Return own parameters checked as those of the recipe are, in canonical text."""
    made = make_recipe(recipe.strategy, dict(recipe.parameters) | dict(own))
    return tuple((name, text) for name, text in made.parameters if name in own)
