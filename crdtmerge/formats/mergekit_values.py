"""The values of a mergekit configuration as canonical text: exact, or refused.

Owns numbers, flags, choices and dtypes. Does not own which words there are
(`mergekit_methods`), nor values by tensor and depth (`mergekit_chains`).
"""

from decimal import Decimal, localcontext
from typing import Final

from crdtmerge.codec import DECIMAL_PLACES, DECIMAL_UNIT, format_decimal
from crdtmerge.errors import BadInputError, UnknownNameError
from crdtmerge.formats.mergekit_methods import Word
from crdtmerge.formats.yaml_text import Number, Plain
from crdtmerge.strategies.table import suggestion

_DTYPES: Final = {
    "float64": "F64",
    "float32": "F32",
    "bfloat16": "BF16",
    "float16": "F16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
_NUMBER_DIGITS_MAX: Final = 60


def value_text(value: Plain, word: Word, place: str) -> str:
    """Return the canonical text of one plain value of a parameter.

    Raises:
        BadInputError: it is of another kind, out of range, or needs more than nine places.
    """
    if word.kind == "flag":
        return _flag(value, word, place)
    if word.kind == "choice":
        if value in word.choices:
            return str(value)
        listed = ", ".join(word.choices)
        raise BadInputError(f"{place}: {word.name} is none of {listed}")
    if isinstance(value, Number | str):
        units = _exact(value if isinstance(value, str) else value.text, word, place)
        whole = word.kind != "integer" or units % DECIMAL_UNIT == 0
        if whole and word.minimum <= units <= word.maximum:
            return format_decimal(units)
    bounds = f"{format_decimal(word.minimum)} to {format_decimal(word.maximum)}"
    kind = "whole number" if word.kind == "integer" else "number"
    raise BadInputError(f"{place}: {word.name} is not a {kind} from {bounds}")


def _flag(value: Plain, word: Word, place: str) -> str:
    text = value.text if isinstance(value, Number) else str(value)
    text = text.removesuffix(".0")  # mergekit-evolve writes 1.0 for true
    if text.lower() in {"true", "yes", "on", "1"}:
        return "true"
    if text.lower() in {"false", "no", "off", "0"}:
        return "false"
    raise BadInputError(f"{place}: {word.name} is not true or false")


def _exact(text: str, word: Word, place: str) -> int:
    """Return a number in units of 10**-9, never rounded; exponents are welcome."""
    message = f"{place}: {word.name} is {text!r:.40}, which is not a number"
    octal = text.lstrip("+-")[:1] == "0" and text.lstrip("+-").isdigit()
    if "_" in text or ":" in text or (octal and len(text.lstrip("+-")) > 1):
        raise BadInputError(message, hint="write a plain decimal such as 0.25 or 1e-3")
    try:
        with localcontext() as context:
            context.prec = _NUMBER_DIGITS_MAX
            scaled = Decimal(text).scaleb(DECIMAL_PLACES)
    except (ArithmeticError, ValueError) as e:
        hint = "write a plain decimal such as 0.25 or 1e-3"
        raise BadInputError(message, hint=hint) from e
    if not scaled.is_finite() or scaled.adjusted() >= _NUMBER_DIGITS_MAX:
        raise BadInputError(message)
    if scaled != scaled.to_integral_value():
        message = f"{place}: {word.name} has more than {DECIMAL_PLACES} decimal places"
        raise BadInputError(message, hint=f"round it yourself: {text:.40}")
    return int(scaled)


def dtype_of(value: Plain, key: str) -> str:
    """Return our name of a dtype.

    Raises:
        UnknownNameError: it is none that weights are merged in.
    """
    name = value.removeprefix("torch.") if isinstance(value, str) else ""
    if name in _DTYPES:
        return _DTYPES[name]
    shown = value if isinstance(value, str) else "not text"
    message = f"{key} {shown!r} is none of {', '.join(_DTYPES)}"
    raise UnknownNameError(message, hint=suggestion(name, _DTYPES, _DTYPES))
