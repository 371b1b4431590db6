"""What the kinds of record share: ids, limits, and how a broken form is told.

Owns the names of ids and the forms of lists and labels. Does not own any kind.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NewType

from crdtmerge.codec import Value
from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import MalformedRecordError

NAME_CHARACTERS_MAX: Final = 64
IDS_MAX: Final = 1024
WEIGHT_UNITS_MAX: Final = 1000 * 10**9
"""Largest weight of one contribution: 1000, in units of 1e-9."""

RecordId = NewType("RecordId", bytes)
SpaceId = NewType("SpaceId", bytes)
"""The record id of the space's genesis."""


def is_label(text: str) -> bool:
    """Tell whether `text` can be a name that people read."""
    return (
        0 < len(text) <= NAME_CHARACTERS_MAX
        and text.isprintable()
        and text.strip() == text
    )


def sorted_ids(value: Sequence[Value]) -> tuple[bytes, ...]:
    """Return 32-byte ids that are sorted and unique, so that one list has one form."""
    require(len(value) <= IDS_MAX, f"more than {IDS_MAX} ids")
    ids = tuple(item for item in value if isinstance(item, bytes))
    whole = len(ids) == len(value) and all(len(i) == DIGEST_BYTES for i in ids)
    require(whole, "not 32-byte ids")
    require(all(a < b for a, b in pairwise(ids)), "ids are not sorted and unique")
    return ids


def require(holds: bool, broken: str) -> None:
    """Raise MalformedRecordError with the broken rule unless it holds."""
    if not holds:
        raise MalformedRecordError(broken)


def not_a(form: str) -> MalformedRecordError:
    """Return the error for a value of another form."""
    return MalformedRecordError(f"not a {form}")
