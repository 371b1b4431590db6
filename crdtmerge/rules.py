"""Which tensors and which contributions a rule is for, and values over depth.

Owns the texts that rules carry: patterns of tensor names, layer ranges, selectors of
contributions, gradients. Does not own what a rule gives (`recipe`), nor which parameters
there are (`strategies`).

A pattern is a shell pattern on the whole name (`*.bias`), or `name:` and an exact name, or
`regex:` and a regular expression of RE2 that fits the whole name; `layers:A..B` before
them (with a colon between, or alone) takes the tensors of these numbered layers only, both
ends included, negative ones counted from the last. RE2 is linear in the length of a name:
a peer's expression cannot hold a node up.

A selector is `content:` or `author:` and an id in full, or `tag:` and a tag.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from crdtmerge.codec import format_decimal, parse_decimal
from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import BadInputError, EncodingError

TAG_CHARACTERS_MAX: Final = 64
TAGS_MAX: Final = 16
ANCHORS_MAX: Final = 64
_PATTERNS_HELD: Final = 1024
_EXPRESSIONS_HELD: Final = 256
_EXPRESSION_BYTES_MAX: Final = 1 << 20
"""What RE2 may take for one expression: a peer's 256 rules cannot fill the memory."""

# Digits of ASCII alone: what counts as one elsewhere changes with Python's version.
_NUMBER: Final = re.compile(r"(?:^|\.)([0-9]{1,6})(?=\.|$)")
_RANGE: Final = re.compile(r"(-?[0-9]{1,6})?\.\.(-?[0-9]{1,6})?")
_SINGLE: Final = re.compile(r"-?[0-9]{1,6}")
_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_ID: Final = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}")

Layer: TypeAlias = tuple[int, int]
"""Number of a layer from 0, and how many its stack has."""


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor as rules see it: its name, and its layer if it is of a numbered one."""

    name: str
    layer: Layer | None = None


@dataclass(frozen=True, slots=True)
class Who:
    """A contribution as selectors see it."""

    content: bytes
    authors: tuple[bytes, ...] = ()
    tags: tuple[str, ...] = ()


def places_of(names: Iterable[str]) -> Mapping[str, Place]:
    """Return the places of a model's tensors.

    The first whole number in a dotted name is the layer's; what stands before it names
    the stack, whose layers are counted up to the largest number that any tensor has.
    """
    listed = list(names)
    found = {name: _NUMBER.search(name) for name in listed}
    counts: dict[str, int] = {}
    for name, match in found.items():
        if match:
            stack = name[: match.start()]
            counts[stack] = max(counts.get(stack, 0), int(match[1]) + 1)
    return MappingProxyType(
        {
            name: Place(
                name,
                (int(match[1]), counts[name[: match.start()]]) if match else None,
            )
            for name, match in found.items()
        }
    )


def split_layer(name: str) -> tuple[str, int, str] | None:
    """Return the stack, number and rest of a name; None if it is of no numbered layer."""
    match = _NUMBER.search(name)
    return (
        (name[: match.start(1)], int(match[1]), name[match.end(1) :]) if match else None
    )


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern; `first` and `last` bound the layers, None where there is none."""

    kind: Literal["glob", "name", "regex"]
    text: str
    by_layer: bool = False
    first: int = 0
    last: int = -1

    def fits(self, place: Place) -> bool:
        """Tell whether a tensor is meant."""
        return self._layer_fits(place.layer) and self._name_fits(place.name)

    def _layer_fits(self, layer: Layer | None) -> bool:
        if not self.by_layer:
            return True
        if layer is None:
            return False
        number, count = layer
        first, last = (n + count if n < 0 else n for n in (self.first, self.last))
        return first <= number <= last

    def _name_fits(self, name: str) -> bool:
        if self.kind == "name":
            return name == self.text
        if self.kind == "glob":
            return fnmatchcase(name, self.text)
        return matches(self.text, name)


@lru_cache(_PATTERNS_HELD)
def parse_pattern(text: str) -> Pattern:
    """Return what a pattern means.

    Raises:
        BadInputError: it is no pattern.
    """
    if text.startswith("layers:"):
        numbers, _, rest = text.removeprefix("layers:").partition(":")
        first, last = _layer_range(numbers, text)
        if rest.startswith("layers:"):
            raise BadInputError(f"{text!r:.200} gives layers twice")
        inner = parse_pattern(rest or "*")
        return Pattern(inner.kind, inner.text, True, first, last)
    kind, colon, rest = text.partition(":")
    if colon and kind == "name":
        return Pattern("name", _some(rest, text))
    if colon and kind == "regex":
        matches(_some(rest, text), "")
        return Pattern("regex", rest)
    return Pattern("glob", _some(text, text))


def _some(part: str, text: str) -> str:
    if not part:
        hint = "write a shell pattern such as '*.bias', or name: or regex: and one"
        raise BadInputError(f"the pattern {text!r} names no tensor", hint=hint)
    return part


def _layer_range(numbers: str, text: str) -> tuple[int, int]:
    if _SINGLE.fullmatch(numbers):
        return int(numbers), int(numbers)
    match = _RANGE.fullmatch(numbers)
    if not match or not (match[1] or match[2]):
        hint = "write layers:0..7, layers:..3, layers:-4.. or layers:5"
        raise BadInputError(f"{text!r} has no range of layers", hint=hint)
    first, last = int(match[1] or 0), int(match[2] or -1)
    if first > last and (first < 0) == (last < 0):
        message = f"the range of layers in {text!r} ends before it begins"
        raise BadInputError(message, hint="write the smaller number first")
    return first, last


def matches(expression: str, name: str) -> bool:
    """Tell whether a regular expression of RE2 fits a whole name, in linear time.

    Raises:
        BadInputError: it is none.
    """
    return bool(_expression(expression).fullmatch(name))


@lru_cache(_EXPRESSIONS_HELD)
def _expression(text: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - untyped library
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _EXPRESSION_BYTES_MAX
    try:
        return re2.compile(text, options)
    except re2.error as e:
        reason = e.args[0].decode() if e.args and isinstance(e.args[0], bytes) else e
        message = f"the regular expression {text!r:.300} cannot be used: {reason}"
        hint = "expressions are those of RE2: no backreferences, no look-around"
        raise BadInputError(message, hint=hint) from e
    except UnicodeEncodeError as e:
        raise BadInputError(f"the pattern {text!r} is not Unicode text") from e


def check_tag(tag: str) -> None:
    """Refuse what is no tag.

    Raises:
        BadInputError: it is empty, too long, or holds what a tag may not.
    """
    if not _TAG.fullmatch(tag):
        message = f"{tag!r} is no tag"
        hint = (
            f"use 1 to {TAG_CHARACTERS_MAX} letters, digits, dots, dashes, plus signs"
        )
        raise BadInputError(message, hint=f"{hint} or underscores")


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector."""

    kind: Literal["content", "author", "tag"]
    text: str

    def fits(self, who: Who) -> bool:
        """Tell whether a contribution is meant."""
        if self.kind == "tag":
            return self.text in who.tags
        named = bytes.fromhex(self.text)
        return named == who.content if self.kind == "content" else named in who.authors


@lru_cache(_PATTERNS_HELD)
def parse_selector(text: str) -> Selector:
    """Return which contributions a selector means.

    Raises:
        BadInputError: it is no selector.
    """
    kind, _, rest = text.partition(":")
    if kind == "tag":
        check_tag(rest)
        return Selector("tag", rest)
    if kind in {"content", "author"}:
        if not _ID.fullmatch(rest):
            message = f"{text!r} has no id of {2 * DIGEST_BYTES} hexadecimal characters"
            raise BadInputError(message, hint="`crdtmerge status --json` has them")
        return Selector("content" if kind == "content" else "author", rest)
    hint = "write content:ID, author:ID or tag:TAG"
    raise BadInputError(f"{text!r} selects no contributions", hint=hint)


def gradient_of(text: str) -> Sequence[int] | None:
    """Return the anchors of a gradient in units of 10**-9; None if it is a plain value.

    Raises:
        BadInputError: an anchor is no canonical decimal, or there are too many.
    """
    if "," not in text:
        return None
    parts = text.split(",")
    if len(parts) > ANCHORS_MAX:
        raise BadInputError(f"a gradient has {ANCHORS_MAX} values at most")
    try:
        return tuple(parse_decimal(part) for part in parts)
    except EncodingError as e:
        raise BadInputError(f"{text!r} is no gradient: {e}") from e


def value_at(anchors: Sequence[int], layer: Layer) -> str:
    """Return a gradient's value in one layer, as canonical text.

    The anchors stand at equal distances from the first layer to the last; between two of
    them values lie on a line, rounded half-even to 9 places. A stack of one layer has the
    first value.
    """
    number, count = layer
    at = Fraction(number * (len(anchors) - 1), count - 1) if count > 1 else Fraction(0)
    left = min(int(at), len(anchors) - 2)
    rest = at - left
    exact = anchors[left] * (1 - rest) + anchors[left + 1] * rest
    return format_decimal(round(exact))


def canonical_gradient(units: Iterable[int]) -> str:
    """Return a gradient's canonical text."""
    return ",".join(format_decimal(unit) for unit in units)
