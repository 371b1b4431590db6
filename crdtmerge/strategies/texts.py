"""What a user typed for one parameter, as the canonical text of its value.

Owns spellings and ranges. Does not own which parameters there are.
"""

import re
from collections.abc import Mapping
from typing import Final

from crdtmerge.codec import DECIMAL_PLACES, DECIMAL_UNIT, format_decimal, parse_decimal
from crdtmerge.errors import BadInputError, EncodingError
from crdtmerge.strategies.base import FALSE, TRUE, Parameter

_PLAIN_DECIMAL: Final = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?")
_FLAGS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("true", "yes", "on", "1"), TRUE),
    **dict.fromkeys(("false", "no", "off", "0"), FALSE),
}

RESULT_UNITS_MAX: Final = 10**9 * DECIMAL_UNIT - 1
"""All that a decimal can say: nine digits before the point, and nine after it."""

WEIGHT_OF_RULE: Final = Parameter(
    "weight",
    "decimal",
    default="1",
    mergekit_default=None,
    help="weight of contributions, in place of their own",
    minimum=-1000 * DECIMAL_UNIT,
    maximum=1000 * DECIMAL_UNIT,
    per_model=True,
)
_WEIGHT: Final = Parameter(
    "weight",
    "decimal",
    default="1",
    mergekit_default=None,
    help="weight of a contribution",
    maximum=1000 * DECIMAL_UNIT,
)
_RESULT: Final = Parameter(
    "result",
    "decimal",
    default="0",
    mergekit_default=None,
    help="result of an evaluation",
    minimum=-RESULT_UNITS_MAX,
    maximum=RESULT_UNITS_MAX,
)


def parse_weight(text: str) -> int:
    """Return a contribution's weight in units from what a user typed.

    Raises:
        BadInputError: it is not a plain decimal from 0 to 1,000.
    """
    return parse_decimal(typed_value(_WEIGHT, text))


def parse_result(text: str) -> int:
    """Return an evaluation's result in units from what a user typed.

    Raises:
        BadInputError: it is not a plain decimal of at most nine digits and nine places.
    """
    return parse_decimal(typed_value(_RESULT, text))


def typed_value(parameter: Parameter, text: str) -> str:
    """Return the canonical text of what a user typed for a parameter.

    Raises:
        BadInputError: it is not of its kind, or out of its range.
    """
    if parameter.kind == "choice":
        if text.lower() not in parameter.choices:
            raise _refusal(parameter, text)
        return text.lower()
    if parameter.kind == "label":
        if not parameter.accepts(text):
            raise _refusal(parameter, text)
        return text
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
        hint = f"write {DECIMAL_PLACES} decimal places at most"
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
