"""Building recipes from what a user typed, and checking those that peers wrote.

Owns the acceptance of strategy and step names, of parameters and their ranges, and of
rules. Does not own the form of a recipe (`crdtmerge.recipe`), nor how one value is read
(`texts`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from crdtmerge.errors import (
    BadInputError,
    UnknownNameError,
    UpgradeNeededError,
)
from crdtmerge.recipe import (
    EVERYWHERE,
    EXPRESSIONS_MAX,
    OUTPUT_DTYPES,
    PARAMETERS_MAX,
    RULES_MAX,
    SEED_SCOPES,
    STEPS_MAX,
    TEXT_CHARACTERS_MAX,
    WEIGHT,
    Parameters,
    Recipe,
    Rule,
)
from crdtmerge.rules import (
    ANCHORS_MAX,
    canonical_gradient,
    parse_pattern,
    parse_selector,
)
from crdtmerge.strategies.base import Parameter, Strategy, Values
from crdtmerge.strategies.extras import canonical_extras, check_extras
from crdtmerge.strategies.steps import STEPS, Stage, Step, find_step
from crdtmerge.strategies.table import STRATEGIES, find, known, suggestion
from crdtmerge.strategies.texts import WEIGHT_OF_RULE, typed_value

STAGES: Final[tuple[Stage, Stage]] = ("pre", "post")

_DTYPES: Final = {
    "FLOAT64": "F64",
    "FLOAT32": "F32",
    "BFLOAT16": "BF16",
    "FLOAT16": "F16",
    "FLOAT8_E4M3FN": "F8_E4M3",
    "FLOAT8_E5M2": "F8_E5M2",
    "BASE": "",
}
"""Other spellings of output dtypes; BASE leaves the base's own."""


def dtype_named(text: str) -> str:
    """Return the output dtype that a user means; what is none is left as it is."""
    return _DTYPES.get(text.upper(), text.upper())


def make_recipe(
    name: str,
    parameters: Mapping[str, str],
    rules: Iterable[Rule] = (),
    output_dtype: str = "",
    seed_scope: str = "set",
    *,
    pre: Sequence[str] = (),
    post: Sequence[str] = (),
    extras: Mapping[str, str] | None = None,
) -> Recipe:
    """Return the recipe that a user asked for, complete and in canonical text.

    What `parameters` leaves out takes our defaults; those of a step are called
    STEP.PARAMETER. `rules` are as the user wrote them: in any spelling, and each holds
    only what it changes. A gradient among the parameters becomes the first rule.
    `extras` are what else it says (`extras.EXTRAS`); defaults are left out.

    Raises:
        UnknownNameError: no such strategy, step or parameter; the hint has the nearest.
        BadInputError: a value is out of its range, not of its kind, or a rule asks for
            what no rule can.
    """
    strategy = find(name)
    steps = [
        [find_step(step, stage) for step in names]
        for stage, names in zip(STAGES, (pre, post), strict=True)
    ]
    declared = _declared(strategy, *steps)
    plain = {key: text for key, text in parameters.items() if "," not in text}
    rising = {key: text for key, text in parameters.items() if "," in text}
    complete = {p: parameter.default for p, parameter in declared.items()}
    complete |= dict(_typed(strategy, declared, plain.items()))
    asked = [Rule(EVERYWHERE, tuple(rising.items()))] if rising else []
    made = Recipe(
        strategy.full_name,
        tuple(sorted(complete.items())),
        tuple(_typed_rule(strategy, declared, rule) for rule in [*asked, *rules]),
        output_dtype,
        seed_scope,
        tuple(step.full_name for step in steps[0]),
        tuple(step.full_name for step in steps[1]),
        canonical_extras(extras or {}),
    )
    _check_frame(made)
    _check_rules(strategy, declared, made)
    return made


def check_recipe(recipe: Recipe) -> Strategy:
    """Return the strategy of a recipe that arrived from a peer, once it is usable.

    Raises:
        UpgradeNeededError: this version does not know the strategy or a step, or the
            package that brings it is not installed.
        PluginError: it is of another package, and refused.
        BadInputError: a parameter is missing, unknown, out of range or not canonical, or
            a rule is not usable.
    """
    strategy = known(recipe.strategy)
    if strategy is None:
        raise _missing(recipe.strategy)
    _check_frame(recipe)
    check_extras(recipe)
    steps = steps_of(recipe)
    count = len(recipe.pre)
    declared = _declared(strategy, steps[:count], steps[count:])
    _check_canonical(strategy, declared, recipe.parameters)
    missing = declared.keys() - dict(recipe.parameters).keys()
    if missing:
        names = ", ".join(sorted(missing))
        message = f"the recipe for {strategy.full_name} lacks the parameter {names}"
        raise BadInputError(message)
    for rule in recipe.rules:
        if _typed_rule(strategy, declared, rule) != rule:
            message = f"the rule for {rule.tensors!r} is not canonical"
            raise BadInputError(message)
    _check_rules(strategy, declared, recipe)
    return strategy


def steps_of(recipe: Recipe) -> list[Step]:
    """Return the steps of a recipe, before and after.

    Raises:
        UpgradeNeededError: this version does not know one.
        BadInputError: one does not stand where it can.
    """
    found = []
    for stage, names in zip(STAGES, (recipe.pre, recipe.post), strict=True):
        for name in names:
            step = STEPS.get(name)
            if step is None:
                message = f"the recipe's step {name!r} is not known here"
                hint = (
                    f"upgrade crdtmerge; this version knows {', '.join(sorted(STEPS))}"
                )
                raise UpgradeNeededError(message, hint=hint)
            if stage not in step.stages:
                place = "before" if stage == "pre" else "after"
                raise BadInputError(f"{name} cannot stand {place} a strategy")
            found.append(step)
    return found


def has_reduce(strategy: Strategy, recipe: Recipe) -> bool:
    """Tell whether a recipe has the strategy's model-wide step.

    What holds for the whole model decides: a rule for all tensors may change that.
    """
    values = Values(recipe.for_the_whole(()).parameters)
    return strategy.reduce is not None and strategy.reduces(values)


def evidence_of(strategy: Strategy, recipe: Recipe, values: Values) -> tuple[str, ...]:
    """Return the kinds of evidence that strategy and steps read for a tensor, sorted."""
    steps = {kind for step in steps_of(recipe) for kind in step.evidence}
    return tuple(sorted({*strategy.evidence(values), *steps}))


def _declared(
    strategy: Strategy, before: Sequence[Step], after: Sequence[Step]
) -> dict[str, Parameter]:
    """Return all parameters of a pipeline, by the names that recipes use.

    Raises:
        BadInputError: a step stands there twice: its parameters could not be told apart.
    """
    declared = {p.name: p for p in strategy.parameters}
    names = [step.name for step in (*before, *after)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInputError(f"the step {twice} stands in the recipe twice")
    for step in before:
        declared |= {f"{step.name}.{p.name}": p for p in step.parameters}
    for step in after:
        # There is one merged task vector: nothing of it is of one contribution.
        declared |= {
            f"{step.name}.{p.name}": replace(p, per_model=False)
            for p in step.parameters
        }
    return declared


def _missing(full_name: str) -> UpgradeNeededError:
    """Return the error for a strategy that is not here: ours of later, or a package's."""
    if "." in full_name:
        message = f"no package that is installed here brings the strategy {full_name!r}"
        vendor = full_name.partition(".")[0]
        hint = (
            f"install the package of {vendor!r} that has it, as whoever set the recipe"
            " did; or explore another strategy with `resolve --strategy`"
        )
        return UpgradeNeededError(message, hint=hint)
    message = f"the recipe's strategy {full_name!r} is not known here"
    hint = f"upgrade crdtmerge; this version knows {', '.join(sorted(STRATEGIES))}"
    return UpgradeNeededError(message, hint=hint)


def check_shared(recipe: Recipe) -> None:
    """Refuse a recipe for a whole space whose bytes differ between its machines.

    Raises:
        BadInputError: its strategy is of class `platform`.
    """
    strategy = known(recipe.strategy)
    if strategy is not None and strategy.classification == "platform":
        message = (
            f"{recipe.strategy} is of class platform: its bytes differ between machines,"
            " so members would not have one model"
        )
        hint = "explore it on this machine with `resolve --strategy`"
        raise BadInputError(message, hint=hint)


def _check_frame(recipe: Recipe) -> None:
    """Refuse what no strategy accepts: dtype, scope, rules out of bounds."""
    choices = (
        ("output dtype", recipe.output_dtype, OUTPUT_DTYPES),
        ("seed scope", recipe.seed_scope, SEED_SCOPES),
    )
    for what, value, allowed in choices:
        if value not in allowed:
            listed = ", ".join(choice for choice in allowed if choice)
            message = f"{what} {value!r} is none of {listed}"
            raise BadInputError(message)
    limits = (
        ("rules", len(recipe.rules), RULES_MAX),
        ("rules by regular expression", _expressions(recipe), EXPRESSIONS_MAX),
        ("steps", max(len(recipe.pre), len(recipe.post)), STEPS_MAX),
        ("parameters", len(recipe.parameters), PARAMETERS_MAX),
    )
    for what, count, limit in limits:
        if count > limit:
            raise BadInputError(f"{count} {what} are above the limit of {limit}")


def _expressions(recipe: Recipe) -> int:
    """Count the rules by regular expression; looking at them compiles none."""
    patterns = (r.tensors.removeprefix("layers:").split(":") for r in recipe.rules)
    return sum("regex" in parts[:2] for parts in patterns)


def _typed(
    strategy: Strategy,
    declared: Mapping[str, Parameter],
    given: Iterable[tuple[str, str]],
) -> Parameters:
    """Return what a user typed as sorted canonical pairs."""
    pairs = [
        (name, typed_value(_find(strategy, declared, name), text))
        for name, text in given
    ]
    return tuple(sorted(pairs))


def _check_canonical(
    strategy: Strategy, declared: Mapping[str, Parameter], pairs: Parameters
) -> None:
    """Refuse pairs of a peer that `make_recipe` would not have written."""
    for name, text in pairs:
        if typed_value(_find(strategy, declared, name), text) != text:
            message = f"{name}={text!r} is not the canonical text of its value"
            raise BadInputError(message)


def _find(
    strategy: Strategy, declared: Mapping[str, Parameter], name: str
) -> Parameter:
    if name not in declared:
        message = f"{strategy.full_name} has no parameter {name!r}"
        raise UnknownNameError(message, hint=suggestion(name, declared, declared))
    return declared[name]


def _typed_rule(
    strategy: Strategy, declared: Mapping[str, Parameter], rule: Rule
) -> Rule:
    """Return a rule in canonical text; gradients of decimals are values too."""
    if not 0 < len(rule.tensors) <= TEXT_CHARACTERS_MAX:
        message = f"a rule's pattern has 1 to {TEXT_CHARACTERS_MAX} characters"
        raise BadInputError(message)
    parse_pattern(rule.tensors)
    if rule.models:
        parse_selector(rule.models)
    known = {**declared, WEIGHT: WEIGHT_OF_RULE}
    pairs = {}
    for name, text in rule.parameters:
        if name in pairs:
            raise BadInputError(f"the rule for {rule.tensors!r} gives {name!r} twice")
        pairs[name] = _typed_in_rule(_find(strategy, known, name), text)
    return Rule(rule.tensors, tuple(sorted(pairs.items())), rule.models)


def _typed_in_rule(parameter: Parameter, text: str) -> str:
    if "," not in text:
        return typed_value(parameter, text)
    if parameter.kind != "decimal":
        message = (
            f"{parameter.name}={text!r}: only a decimal has a gradient over layers"
        )
        raise BadInputError(message)
    anchors = [typed_value(parameter, part.strip()) for part in text.split(",")]
    canonical = canonical_gradient(Values((("", a),)).units("") for a in anchors)
    if len(anchors) > ANCHORS_MAX or len(canonical) > TEXT_CHARACTERS_MAX:
        message = (
            f"the gradient of {parameter.name} has {len(anchors)} values in"
            f" {len(canonical)} characters; at most {ANCHORS_MAX} values in"
            f" {TEXT_CHARACTERS_MAX} fit"
        )
        raise BadInputError(message, hint="use fewer values, or fewer places")
    return canonical


def _check_rules(
    strategy: Strategy, declared: Mapping[str, Parameter], recipe: Recipe
) -> None:
    """Refuse rules that ask for what cannot be: part of what holds for the whole.

    Raises:
        BadInputError: a parameter of the whole model changes in some tensors, or one of
            the merge for some contributions.
    """
    reduces = has_reduce(strategy, recipe)
    for rule in recipe.rules:
        for name, text in rule.parameters:
            parameter = declared.get(name, WEIGHT_OF_RULE)
            whole = parameter.whole or (name == WEIGHT and reduces)
            if whole and (rule.tensors != EVERYWHERE or "," in text):
                message = (
                    f"{name} of {strategy.full_name} holds for the whole model: a rule"
                    f" cannot change it for {rule.tensors!r}"
                )
                raise BadInputError(message, hint="give it once, for all tensors")
            if rule.models and not parameter.per_model:
                message = f"{name} cannot differ between the contributions of a merge"
                raise BadInputError(
                    message, hint="give it in a rule without content, author or tag"
                )
