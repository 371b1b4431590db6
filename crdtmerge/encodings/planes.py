"""Planes: the bytes of one place in every item, and how each plane is kept.

Owns the modes of a plane, fields of bits, and zstd. Does not own forms nor the base.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum, unique
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.encodings.patterns import Bytes, Items, shifted_right
from crdtmerge.errors import MalformedChunkError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Plane: TypeAlias = NDArray[np.uint8]


@unique
class Mode(IntEnum):
    """How a plane is kept."""

    STORED = 0
    FRAME = 1
    FILLED = 2
    HALVES = 3
    QUARTERS = 4


@unique
class Effort(Enum):
    """What an encoder may spend: `FAST` for a link, `SMALL` for what lies cold."""

    FAST = "fast"
    SMALL = "small"


_SIZE_BYTES: Final = 3
_SMALLEST_PLANE: Final = 32
"""Planes below are stored: a frame has 10 bytes of its own."""
_FIELDS: Final = {Mode.HALVES: 4, Mode.QUARTERS: 2}
"""Bits of a field, by the mode that packs fields of several bytes in one."""
_SAMPLES: Final = 1 << 14
_NOISE_BITS: Final = 7.9
"""Bits of entropy a byte from which on a plane is stored as it is."""
_RUNS_BITS: Final = 1.0
"""Bits of entropy a byte below which runs, which zstd finds, count more than fields."""
_FRAME_WASTES: Final = 1.15
"""What a frame costs beyond the entropy of its bytes where chance finds repetitions."""

_P: Final = zstd.CompressionParameter
_LEVEL: Final = {Effort.FAST: 1, Effort.SMALL: 3}
_ENTROPY: Final[Mapping[int, int]] = {
    # Next to no search for repetitions, which planes of numbers do not have: what a search
    # finds there is chance, and costs both time and bytes.
    _P.compression_level: 1,
    _P.min_match: 7,
    _P.hash_log: 6,
    _P.window_log: 17,
}
_DECODER: Final[Mapping[int, int]] = {
    # A frame may ask for a window of any size; none of a chunk needs more than the chunk.
    zstd.DecompressionParameter.window_log_max: CHUNK_BYTES.bit_length() - 1
}


def require(fulfilled: bool, otherwise: str) -> None:
    """Refuse an encoded chunk unless this is fulfilled."""
    if not fulfilled:
        raise MalformedChunkError(f"not an encoded chunk: {otherwise}")


class Reader:
    """Takes bytes off an encoded chunk, never beyond its end."""

    def __init__(self, data: Bytes) -> None:
        self._view = memoryview(data)
        self._at = 1

    def take(self, size: int) -> memoryview:
        """Return the next `size` bytes."""
        require(size <= len(self._view) - self._at, "it is cut off")
        self._at += size
        return self._view[self._at - size : self._at]

    def rest(self) -> memoryview:
        """Return all that is left."""
        return self.take(len(self._view) - self._at)

    def finish(self) -> None:
        """Refuse bytes that nothing asked for."""
        require(self._at == len(self._view), "bytes follow it")


def make_plane(plane: Plane, effort: Effort) -> list[bytes]:
    """Return the mode and the body of a plane, in parts."""
    if len(plane) < _SMALLEST_PLANE:
        return _stored(plane)
    if effort is Effort.SMALL:
        tried = [_fields(plane, mode) for mode in _FIELDS]
        return min(_frame(plane), *tried, key=_length)
    mode = _guess(plane)
    if mode in _FIELDS:
        return _fields(plane, mode)
    return _stored(plane) if mode is Mode.STORED else _frame(plane)


def compress(data: Bytes, effort: Effort) -> bytes:
    """Return `data` as one frame, repetitions and all."""
    return zstd.compress(data, _LEVEL[effort])


def _stored(plane: Plane) -> list[bytes]:
    return [bytes([Mode.STORED]), plane.tobytes()]


def _frame(plane: Plane) -> list[bytes]:
    """Return a plane in one piece, in the shortest of the modes for that."""
    if not (plane != plane[0]).any():
        return [bytes([Mode.FILLED, plane[0]])]
    frame = zstd.compress(plane.data, options=_ENTROPY)
    if len(frame) + _SIZE_BYTES >= len(plane):
        return _stored(plane)
    return [bytes([Mode.FRAME]), len(frame).to_bytes(_SIZE_BYTES, "little"), frame]


def _fields(plane: Plane, mode: Mode) -> list[bytes]:
    """Return a plane taken apart into fields of bits."""
    parts = [bytes([mode])]
    for packed in _packed(plane, _FIELDS[mode]):
        parts += _frame(packed)
    return parts


def _guess(plane: Plane) -> Mode:
    """Return the mode that is likely the shortest, from how often bytes occur.

    A guess: floats here decide how well a chunk is compressed, never what it decodes to.
    """
    some = plane[:: max(1, len(plane) // _SAMPLES)]
    counts = np.bincount(some, minlength=256)
    whole = _entropy(counts)
    if whole >= _NOISE_BITS:
        return Mode.STORED
    if whole <= _RUNS_BITS:
        return Mode.FRAME
    best, least = Mode.FRAME, _FRAME_WASTES * whole
    for mode, bits in _FIELDS.items():
        axes = range(8 // bits)
        counted = counts.reshape((1 << bits,) * len(axes))
        total = sum(
            _entropy(counted.sum(tuple(other for other in axes if other != axis)))
            for axis in axes
        )
        if total < least:
            best, least = mode, total
    return best


def _entropy(counts: NDArray[np.integer[Any]]) -> float:
    """Return the bits that one of these values holds, by how often each was seen."""
    seen = counts[counts > 0]
    total = int(seen.sum())
    return math.log2(total) - float(seen @ np.log2(seen)) / total


def _length(parts: Sequence[bytes]) -> int:
    return sum(map(len, parts))


def read_plane(reader: Reader, count: int, *, whole: bool = True) -> Plane:
    """Return the next plane, which has `count` bytes; fields only of a `whole` one."""
    mode = reader.take(1)[0]
    match mode:
        case Mode.STORED:
            return np.frombuffer(reader.take(count), np.uint8)
        case Mode.FILLED:
            return np.full(count, reader.take(1)[0], np.uint8)
        case Mode.FRAME:
            size = int.from_bytes(reader.take(_SIZE_BYTES), "little")
            return np.frombuffer(unframe(reader.take(size), count), np.uint8)
        case Mode.HALVES | Mode.QUARTERS if whole:
            bits = _FIELDS[Mode(mode)]
            packed = -(-count * bits // 8)
            fields = [read_plane(reader, packed, whole=False) for _ in range(8 // bits)]
            return _unpacked(fields, bits, count)
    raise MalformedChunkError(f"not an encoded chunk: a plane of mode {mode}")


def unframe(frame: memoryview, size: int) -> bytes:
    """Return the `size` bytes of exactly one frame.

    SUBTLE: the header is asked first and the output is capped all the same: a frame may
    say one size and hold another, or say none.
    """
    try:
        told = zstd.get_frame_info(frame)
        require(told.decompressed_size == size, f"a frame not of {size} bytes")
        require(not told.dictionary_id, "a frame with a dictionary")
        decoder = zstd.ZstdDecompressor(options=_DECODER)
        data = decoder.decompress(frame, max_length=size + 1)
    except zstd.ZstdError as e:
        raise MalformedChunkError(f"not an encoded chunk: {e}") from e
    whole = decoder.eof and not decoder.unused_data and len(data) == size
    require(whole, "a frame that does not end where it should")
    return data


def split(items: Items, width: int) -> list[Plane]:
    """Return the planes of bytes, the lowest first."""
    if width == 1:
        return [items.view(np.uint8)]
    return [shifted_right(items, 8 * k).astype(np.uint8) for k in range(width)]


def join(planes: Sequence[Plane], width: int) -> Items:
    """Undo `split`."""
    kind = np.dtype(f"<u{width}")
    items: Items = planes[0].astype(kind)
    for k, plane in enumerate(planes[1:], 1):
        items |= plane.astype(kind) << kind.type(8 * k)
    return items


def _packed(plane: Plane, bits: int) -> list[Plane]:
    """Return the lowest `bits` of the bytes, several in one, then the next, and so on."""
    words = np.zeros(-(-len(plane) // 8), "<u8")
    words.view(np.uint8)[: len(plane)] = plane
    return [
        _pack((words >> np.uint64(at)) & _mask(bits, 8), bits)[
            : -(-len(plane) * bits // 8)
        ]
        for at in range(0, 8, bits)
    ]


def _pack(words: Items, bits: int) -> Plane:
    """Return bytes that each hold the low `bits` of several bytes of `words`."""
    lane = 8
    while bits < 8:
        words |= words >> np.uint64(lane - bits)
        lane, bits = 2 * lane, 2 * bits
        words &= _mask(bits, lane)
    return words.view(f"<u{lane // 8}").astype(np.uint8)


def _unpacked(fields: Sequence[Plane], bits: int, count: int) -> Plane:
    """Undo `_packed`, for a plane of `count` bytes."""
    lane = 64 // bits
    words = np.zeros(-(-count // 8), "<u8")
    for at, field in enumerate(fields):
        spread = np.zeros(len(words) * 64 // lane, f"<u{lane // 8}")
        spread[: len(field)] = field
        words |= _spread(spread.view("<u8"), bits) << np.uint64(at * bits)
    return words.view(np.uint8)[:count]


def _spread(words: Items, bits: int) -> Items:
    """Undo `_pack`: give each field a byte of its own."""
    held, lane = 8, 64 // bits
    while held > bits:
        held, lane = held // 2, lane // 2
        words |= words << np.uint64(lane - held)
        words &= _mask(held, lane)
    return words


@cache
def _mask(bits: int, lane: int) -> np.uint64:
    """Return a word whose lanes of `lane` bits have their lowest `bits` set."""
    return np.uint64(sum(((1 << bits) - 1) << at for at in range(0, 64, lane)))
