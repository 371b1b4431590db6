"""Encoded chunks: which form, at which effort, and back to raw bytes.

Owns `encode`, `decode` and the choice between forms. Does not own planes (`planes`) nor
what is done to bit patterns (`patterns`).
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum, unique
from typing import Final

from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.encodings import patterns
from crdtmerge.encodings.patterns import Bytes, Step, items_of
from crdtmerge.encodings.planes import (
    Effort,
    Reader,
    compress,
    join,
    make_plane,
    read_plane,
    require,
    split,
    unframe,
)

WIDTHS: Final = (1, 2, 4, 8)
"""Bytes an item; those of every dtype of a manifest."""


@unique
class Form(IntEnum):
    """How the bytes of a chunk are arranged before they are compressed."""

    PLAIN = 1
    PLANES = 2
    XOR = 3
    DIFFERENCE = 4
    GROUPED = 5


BASED: Final = frozenset({Form.XOR, Form.DIFFERENCE, Form.GROUPED})
"""The forms that take the chunk of the base to be decoded."""

_FORMS: Final = {
    # SMALL tries them in this order, and of equal ones the first counts.
    Effort.FAST: (Form.DIFFERENCE, Form.XOR, Form.PLANES, Form.PLAIN),
    Effort.SMALL: (Form.GROUPED, *(form for form in Form if form is not Form.GROUPED)),
}
_PAYS_OF: Final = 64
"""`choose` names no form that saves less than one in so many bytes."""
_SAMPLE_BYTES: Final = 1 << 16
"""How much of a chunk is encoded to see which form is best."""

_DO: Final[Mapping[Form, Step]] = {
    Form.XOR: patterns.xor,
    Form.DIFFERENCE: patterns.difference,
    Form.GROUPED: patterns.grouped,
}
_UNDO: Final[Mapping[Form, Step]] = {
    Form.XOR: patterns.xor,
    Form.DIFFERENCE: patterns.undo_difference,
    Form.GROUPED: patterns.undo_grouped,
}


def encode(
    raw: Bytes,
    *,
    width: int,
    against: Bytes | None = None,
    form: Form | None = None,
    effort: Effort = Effort.FAST,
) -> bytes | None:
    """Return an encoded form of `raw`, shorter than it; None when there is none.

    `raw` is one chunk of items of `width` bytes; `against` is the chunk of the base in
    its place, of the same length. With `form` that one is taken. Without it, `FAST` takes
    DIFFERENCE, or PLANES where there is no base, and `SMALL` the shortest of all.
    Any thread may call it; it holds the interpreter's lock for a small part of the time.
    """
    _check_given(len(raw), width, against)
    if form is None and effort is Effort.FAST:
        form = Form.DIFFERENCE if against is not None else Form.PLANES
    forms = _possible(_FORMS[effort] if form is None else (form,), against)
    encoded = [_encode_as(one, raw, width, against, effort) for one in forms]
    shortest = min(encoded, key=len)
    return shortest if len(shortest) < len(raw) else None


def decode(data: Bytes, *, length: int, against: Bytes | None = None) -> bytes:
    """Return the raw chunk of `length` bytes that `data` encodes; not verified.

    `length` is what the manifest says, `against` the chunk of the base in this place.
    No more than a small multiple of `length` is ever allocated, whatever `data` claims.

    Raises:
        MalformedChunkError: `data` is not a whole encoded chunk of this length, or is
            encoded against a base chunk of which there is none of this length.
    """
    if not 0 < length <= CHUNK_BYTES:
        raise ValueError(f"a chunk of {length} bytes")
    require(1 < len(data) < length, f"{len(data)} bytes for a chunk of {length}")
    form, width = _head(data[0])
    base = None
    if form in BASED:
        fits = against is not None and len(against) == length
        require(fits, f"{form.name} without a base chunk of {length} bytes")
        base = against
    reader = Reader(data)
    if form is Form.PLAIN:
        raw = unframe(reader.rest(), length)
    else:
        count = length // width
        items = join([read_plane(reader, count) for _ in range(width)], width)
        if base is not None:
            items = _UNDO[form](items, items_of(base, width))
        raw = items.tobytes() + reader.take(length % width)
    reader.finish()
    return raw


def choose(
    samples: Sequence[tuple[Bytes, Bytes | None]],
    *,
    width: int,
    effort: Effort = Effort.FAST,
) -> Form | None:
    """Return the form that makes these chunks of one tensor shortest; None when none pays.

    A sample is a chunk and the base's chunk in its place. Two or three chunks (`sampled`)
    tell what a whole tensor gives, so that its other chunks pay for one form alone. Of
    each only the beginning is encoded.
    """
    cut = [
        (raw[:_SAMPLE_BYTES], None if against is None else against[:_SAMPLE_BYTES])
        for raw, against in samples
    ]
    best, least = None, sum(len(raw) - len(raw) // _PAYS_OF for raw, _ in cut)
    for form in _FORMS[effort]:
        if form in BASED and any(against is None for _, against in cut):
            continue
        total = 0
        for raw, against in cut:
            made = encode(raw, width=width, against=against, form=form, effort=effort)
            total += len(raw) if made is None else len(made)
        if total < least:
            best, least = form, total
    return best


def sampled(count: int) -> list[int]:
    """Return which chunks of a tensor of `count` stand for it: first, middle, last whole.

    The very last chunk is left out if there are others, as it may be a short one.
    """
    return sorted({0, max(0, count - 2) // 2, max(0, count - 2)}) if count else []


def form_of(data: Bytes) -> Form:
    """Return the form of an encoded chunk, of which no more than the first byte is read.

    Raises:
        MalformedChunkError: there is no such form, or no byte.
    """
    require(len(data) > 0, "no bytes")
    return _head(data[0])[0]


# --- the form --------------------------------------------------------------------------


def _check_given(length: int, width: int, against: Bytes | None) -> None:
    """Refuse what only a bug of ours would ask for."""
    if width not in WIDTHS:
        raise ValueError(f"items have a width of {WIDTHS}, not {width}")
    if length > CHUNK_BYTES:
        raise ValueError(f"{length} bytes are more than a chunk")
    if against is not None and len(against) != length:
        raise ValueError(f"a base chunk of {len(against)} bytes, not {length}")


def _possible(forms: Iterable[Form], against: Bytes | None) -> list[Form]:
    possible = [f for f in forms if f not in BASED or against is not None]
    if not possible:
        raise ValueError("this form takes a base chunk")
    return possible


def _head(first: int) -> tuple[Form, int]:
    """Return the form and the width that the first byte names."""
    number, log = first >> 4, first & 15
    require(number in _NUMBERS and log < len(WIDTHS), f"unknown form {first:#04x}")
    form = Form(number)
    require(form is not Form.PLAIN or log == 0, f"unknown form {first:#04x}")
    return form, 1 << log


_NUMBERS: Final = frozenset(int(form) for form in Form)


def _encode_as(
    form: Form, raw: Bytes, width: int, against: Bytes | None, effort: Effort
) -> bytes:
    if form is Form.PLAIN:
        return bytes([form << 4]) + compress(raw, effort)
    items = items_of(raw, width)
    if against is not None and form in BASED:
        items = _DO[form](items, items_of(against, width))
    parts = [bytes([form << 4 | (width.bit_length() - 1)])]
    for plane in split(items, width):
        parts += make_plane(plane, effort)
    parts.append(bytes(raw[len(raw) - len(raw) % width :]))
    return b"".join(parts)
