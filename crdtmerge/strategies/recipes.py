"""Building recipes from what a user typed, and checking those that peers wrote.

Owns the acceptance of strategy names, parameters and their ranges. Does not own the form
of a recipe (`crdtmerge.recipe`).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from crdtmerge.codec import DECIMAL_PLACES, DECIMAL_UNIT, format_decimal, parse_decimal
from crdtmerge.errors import (
    BadInputError,
    EncodingError,
    UnknownNameError,
    UpgradeNeededError,
)
from crdtmerge.recipe import (
    OUTPUT_DTYPES,
    RULES_MAX,
    SEED_SCOPES,
    TEXT_CHARACTERS_MAX,
    Parameters,
    Recipe,
)
from crdtmerge.strategies.base import FALSE, TRUE, Parameter, Strategy
from crdtmerge.strategies.table import STRATEGIES, find, known, suggestion

_PLAIN_DECIMAL: Final = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?")
_FLAGS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("true", "yes", "on", "1"), TRUE),
    **dict.fromkeys(("false", "no", "off", "0"), FALSE),
}


def make_recipe(
    name: str,
    parameters: Mapping[str, str],
    rules: Iterable[tuple[str, Mapping[str, str]]] = (),
    output_dtype: str = "",
    seed_scope: str = "set",
) -> Recipe:
    """Return the recipe that a user asked for, complete and in canonical text.

    What `parameters` leaves out takes our defaults. `rules` are (pattern, parameters)
    pairs; a rule holds only what it changes.

    Raises:
        UnknownNameError: no such strategy or parameter; the hint has the nearest name.
        BadInputError: a value is out of its range, or not of its kind.
    """
    strategy = find(name)
    complete = {p.name: p.default for p in strategy.parameters}
    complete |= dict(_typed(strategy, parameters))
    made = Recipe(
        strategy.full_name,
        tuple(sorted(complete.items())),
        tuple((pattern, _typed(strategy, pairs)) for pattern, pairs in rules),
        output_dtype,
        seed_scope,
    )
    _check_frame(made)
    return made


def check_recipe(recipe: Recipe) -> Strategy:
    """Return the strategy of a recipe that arrived from a peer, once it is usable.

    Raises:
        UpgradeNeededError: this version does not know the strategy, or the package that
            brings it is not installed.
        PluginError: it is of another package, and refused.
        BadInputError: a parameter is missing, unknown, out of range or not canonical.
    """
    strategy = known(recipe.strategy)
    if strategy is None:
        raise _missing(recipe.strategy)
    _check_frame(recipe)
    _check_canonical(strategy, recipe.parameters)
    missing = {p.name for p in strategy.parameters} - dict(recipe.parameters).keys()
    if missing:
        names = ", ".join(sorted(missing))
        message = f"the recipe for {strategy.full_name} lacks the parameter {names}"
        raise BadInputError(message)
    for _, pairs in recipe.rules:
        _check_canonical(strategy, pairs)
    return strategy


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
    if len(recipe.rules) > RULES_MAX:
        message = f"{len(recipe.rules)} rules are above the limit of {RULES_MAX}"
        raise BadInputError(message)
    for pattern, _ in recipe.rules:
        if not 0 < len(pattern) <= TEXT_CHARACTERS_MAX:
            message = f"a rule's pattern has 1 to {TEXT_CHARACTERS_MAX} characters"
            raise BadInputError(message)


def _typed(strategy: Strategy, given: Mapping[str, str]) -> Parameters:
    """Return what a user typed as sorted canonical pairs."""
    pairs = [
        (name, _typed_value(_declared(strategy, name), text))
        for name, text in given.items()
    ]
    return tuple(sorted(pairs))


def _check_canonical(strategy: Strategy, pairs: Parameters) -> None:
    """Refuse pairs of a peer that `make_recipe` would not have written."""
    for name, text in pairs:
        parameter = _declared(strategy, name)
        if _typed_value(parameter, text) != text:
            message = f"{name}={text!r} is not the canonical text of its value"
            raise BadInputError(message)


def _declared(strategy: Strategy, name: str) -> Parameter:
    parameter = strategy.parameter(name)
    if parameter is None:
        names = [p.name for p in strategy.parameters]
        message = f"{strategy.full_name} has no parameter {name!r}"
        raise UnknownNameError(message, hint=suggestion(name, names, names))
    return parameter


def _typed_value(parameter: Parameter, text: str) -> str:
    if parameter.kind == "choice":
        if text.lower() not in parameter.choices:
            raise _refusal(parameter, text)
        return text.lower()
    if parameter.kind == "flag":
        flag = _FLAGS.get(text.lower())
        if flag is None:
            raise _refusal(parameter, text)
        return flag
    units = _typed_units(parameter, text)
    whole = parameter.kind != "integer" or units % DECIMAL_UNIT == 0
    if not whole or not parameter.minimum <= units <= parameter.maximum:
        raise _refusal(parameter, text)
    return format_decimal(units)


def _typed_units(parameter: Parameter, text: str) -> int:
    """Parse a plain decimal in any spelling: .2, 0.20 and +0.2 are all 0.2."""
    match = _PLAIN_DECIMAL.fullmatch(text)
    digits = (match[2] + (match[3] or "")) if match else ""
    if match is None or not digits:
        hint = "write plain decimals such as 0.2, without an exponent"
        raise _refusal(parameter, text, hint)
    sign, whole, places = match[1], match[2].lstrip("0"), (match[3] or "").rstrip("0")
    if len(places) > DECIMAL_PLACES:
        hint = f"at most {DECIMAL_PLACES} places count"
        raise _refusal(parameter, text, hint)
    canonical = f"{whole or '0'}.{places}" if places else whole or "0"
    try:
        units = parse_decimal(canonical)
    except EncodingError as e:
        raise _refusal(parameter, text) from e
    return -units if sign == "-" else units


def _refusal(parameter: Parameter, text: str, hint: str = "") -> BadInputError:
    message = f"{parameter.name}={text!r} is not {parameter.range_text}"
    return BadInputError(message, hint=hint or parameter.help)


def parse_weight(text: str) -> int:
    """Return a contribution's weight in units from what a user typed.

    Raises:
        BadInputError: it is not a plain decimal from 0 to 1,000.
    """
    return parse_decimal(_typed_value(_WEIGHT, text))


_WEIGHT: Final = Parameter(
    "weight",
    "decimal",
    default="1",
    mergekit_default=None,
    help="weight of a contribution",
    maximum=1000 * DECIMAL_UNIT,
)
