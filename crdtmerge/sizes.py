"""Numbers of bytes as people write them.

Owns the spelling of sizes. Does not own what a size limits.
"""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from crdtmerge.errors import BadInputError

_SIZE: Final = re.compile(r"(\d{1,20}(?:\.\d{1,3})?) ?([KMGT]?)(I?)B?", re.ASCII)
_POWERS: Final[Mapping[str, int]] = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def size_of(text: str) -> int:
    """Return a size such as 200GB (thousands), 50GiB (1024s) or 1000000, in bytes.

    Raises:
        BadInputError: it is none.
    """
    hint = "write 500MB, 20GiB or 1000000"
    return int(amount_of(text.strip(), f"{text!r} is no size", hint))


def amount_of(text: str, wrong: str, hint: str) -> Fraction:
    """Return an amount of bytes; `wrong` and `hint` are for the refusal.

    Raises:
        BadInputError: the text is none.
    """
    match = _SIZE.fullmatch(text.upper())
    if match is None or (match[3] and not match[2]):
        raise BadInputError(wrong, hint=hint)
    unit = 1024 if match[3] else 1000
    return Fraction(match[1]) * Fraction(unit) ** _POWERS[match[2]]
