"""The file form of kept sums: what is in the header, how planes lie, what is verified.

Owns this form. Does not own what the sums mean (`accumulators`) nor where files lie.

Header, a file of its own:

    8 bytes "crdtsums" | version | length of the value (two little-endian 32-bit numbers)
    a canonical value
    its digest, 32 bytes

Planes: part after part, in each row after row, packed (`numerics.packed`).

The header has the width of each row and the digest of each part, so that it can be trusted
without reading planes, and be replaced where only members changed. Equal sums with equal
last outputs have equal bytes, whatever came and went before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Final

import numpy as np

from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import DIGEST_BYTES, BlobId, Domain, digest
from crdtmerge.errors import DamagedStateError, EncodingError, UpgradeNeededError
from crdtmerge.numerics import (
    CONTRACT_VERSION,
    Data,
    Grid,
    Planes,
    pack_planes,
    unpack_planes,
)
from crdtmerge.resolve.accumulators import (
    KEY_BYTES_MAX,
    MEMBERS_MAX,
    PART_ITEMS,
    Accumulator,
    member_of_key,
    parts_of,
)
from crdtmerge.strategies.sums import Share

VERSION: Final = 2
MAGIC: Final = b"crdtsums"
HEADER_BYTES_MAX: Final = 1 << 26
ROWS_MAX: Final = 8
STEP_MAX: Final = 960
"""Largest exponent of a grid's step, up or down: each step is a float64."""
FACTOR_BYTES_MAX: Final = 512
"""A factor is a fraction of two float64s at most: 2,200 bits above and below."""

_PREFIX_BYTES: Final = len(MAGIC) + 8


@dataclass(frozen=True, slots=True)
class Last:
    """The last output that was made of the sums: by which task, in which dtype."""

    task: bytes
    dtype: str
    output: BlobId


@dataclass(frozen=True, slots=True)
class Packed:
    """How planes lie in their file: the width of each row in each part, and digests."""

    widths: tuple[bytes, ...]
    digests: tuple[bytes, ...]

    def size(self, items: int) -> int:
        """Return how many bytes the planes of so many items take."""
        parts = zip(self.widths, parts_of(items), strict=True)
        return sum(sum(widths) * len(part) for widths, part in parts)


@dataclass(slots=True)
class Packing:
    """Packs planes part by part, on their way to a file."""

    grid: Grid
    write: Callable[[Data], None]
    size: int = 0
    _widths: list[bytes] = field(default_factory=list)
    _digests: list[bytes] = field(default_factory=list)

    def add(self, planes: Planes) -> None:
        """Write the planes of the next part."""
        widths, rows = pack_planes(planes, self.grid)
        data = b"".join(rows)
        self._widths.append(widths)
        self._digests.append(digest(Domain.SUMS_PLANES, data))
        self.size += len(data)
        self.write(data)

    @property
    def packed(self) -> Packed:
        """How what was written lies."""
        return Packed(tuple(self._widths), tuple(self._digests))


@dataclass(frozen=True, slots=True)
class Kept:
    """A verified header, and the planes that it speaks of, not yet verified."""

    last: Last
    packed: Packed
    sums: Accumulator
    data: Data

    @property
    def size(self) -> int:
        """Bytes of the planes as they lie."""
        return self.packed.size(self.sums.shape[1])

    def verify(self) -> None:
        """Look at all planes: they are those that were written.

        Raises:
            DamagedStateError: they are not.
        """
        for part, expected in zip(
            parts_of(self.sums.shape[1]), self.packed.digests, strict=True
        ):
            found = _part(self.packed, self.data, part)
            if digest(Domain.SUMS_PLANES, found) != expected:
                message = "the planes of kept sums are not what was written"
                raise DamagedStateError(message)


def header_of(sums: Accumulator, last: Last, packed: Packed) -> bytes:
    """Return the header of sums whose planes lie so, with their last output."""
    header = encode(_header(sums, last, packed))
    numbers = [VERSION.to_bytes(4, "little"), len(header).to_bytes(4, "little")]
    return b"".join([MAGIC, *numbers, header, digest(Domain.SUMS_HEADER, header)])


def from_bytes(head: Data, planes: Data) -> Kept:
    """Return what a header says, itself verified, of these planes.

    Raises:
        UpgradeNeededError: a later version wrote it.
        DamagedStateError: it is not what was written, or of another kind.
    """
    header = _verified_header(memoryview(head).cast("B"))
    try:
        value = decode(header, HEADER_BYTES_MAX)
        last, packed, sums = _parsed(value, planes)
        if encode(_header(sums, last, packed)) != header:
            raise DamagedStateError("a header of kept sums is not canonical")
    except (EncodingError, ValueError, ZeroDivisionError) as e:
        raise DamagedStateError(f"a header of kept sums makes no sense: {e}") from e
    return Kept(last, packed, sums, planes)


def _part(packed: Packed, data: Data, part: range) -> memoryview:
    """Return the bytes of the planes of one part."""
    number = part.start // PART_ITEMS
    start = sum(map(sum, packed.widths[:number])) * PART_ITEMS
    size = sum(packed.widths[number]) * len(part)
    return memoryview(data)[start : start + size]


def _verified_header(view: memoryview) -> bytes:
    """Return the header's value, still encoded."""
    prefix = bytes(view[:_PREFIX_BYTES])
    if len(prefix) != _PREFIX_BYTES or not prefix.startswith(MAGIC):
        raise DamagedStateError("this is no file of kept sums")
    version, size = np.frombuffer(prefix, "<u4", offset=len(MAGIC)).tolist()
    if version > VERSION:
        message = f"kept sums of version {version}: this version knows {VERSION}"
        hint = "upgrade crdtmerge, or remove the file: it is made afresh"
        raise UpgradeNeededError(message, hint=hint)
    end = _PREFIX_BYTES + size
    whole = size <= HEADER_BYTES_MAX and len(view) == end + DIGEST_BYTES
    if version != VERSION or not whole:
        raise DamagedStateError("a file of kept sums is cut off or damaged")
    header = bytes(view[_PREFIX_BYTES:end])
    if digest(Domain.SUMS_HEADER, header) != view[end:]:
        raise DamagedStateError("the header of kept sums is not what was written")
    return header


def _header(sums: Accumulator, last: Last, packed: Packed) -> Value:
    rows, items = sums.shape
    return [
        CONTRACT_VERSION,
        sums.made_for,
        sums.exponent,
        [sums.grid.step_exponent, sums.grid.limbs, rows, items],
        [[key, *_share(*held)] for key, held in sums.members.items()],
        [last.task, last.dtype, last.output],
        [list(packed.widths), list(packed.digests)],
    ]


def _share(share: Share, count: int) -> list[Value]:
    factor = [_number(n) for n in share.factor.as_integer_ratio()]
    return [count, share.weight, *factor, int(share.is_tau)]


def _number(value: int) -> bytes:
    return value.to_bytes(-(-value.bit_length() // 8), "big")


def _parsed(value: Value, planes: Data) -> tuple[Last, Packed, Accumulator]:
    match value:
        case [
            int(contract),
            bytes(made_for),
            int(exponent),
            [int(step), int(limbs), int(rows), int(items)],
            [*members],
            [bytes(task), str(dtype), bytes(output)],
            [[*widths], [*digests]],
        ] if contract == CONTRACT_VERSION:
            pass
        case _:
            raise DamagedStateError("a header of kept sums has another form")
    if not 1 <= limbs <= 2 or not 1 <= rows <= ROWS_MAX or abs(step) > STEP_MAX:
        raise DamagedStateError(f"kept sums of {limbs} limbs in {rows} planes")
    packed = Packed(tuple(_bytes(widths, rows)), tuple(_bytes(digests, DIGEST_BYTES)))
    parts = -(-max(items, 1) // PART_ITEMS)
    if items < 0 or {len(packed.widths), len(packed.digests)} != {parts}:
        raise DamagedStateError(f"kept sums of {items} items in other parts")
    size = memoryview(planes).nbytes
    if size != packed.size(items):
        message = f"{size} bytes are not the planes of {rows} x {items} values"
        raise DamagedStateError(message)
    grid = Grid(step, limbs)

    def part(wanted: range) -> Planes:
        data = _part(packed, planes, wanted)
        found = packed.widths[wanted.start // PART_ITEMS]
        return unpack_planes(data, found, len(wanted), grid)

    shape, held = (rows, items), _members(members)
    sums = Accumulator(made_for, exponent, grid, shape, part, held)
    return Last(task, dtype, BlobId(output)), packed, sums


def _bytes(found: Sequence[object], size: int) -> Iterator[bytes]:
    for item in found:
        if not isinstance(item, bytes) or len(item) != size:
            raise DamagedStateError("a header of kept sums has another form")
        yield item


def _members(found: Sequence[object]) -> Mapping[bytes, tuple[Share, int]]:
    if len(found) > MEMBERS_MAX:
        raise DamagedStateError(f"kept sums hold at most {MEMBERS_MAX} contributions")
    members = dict(_each(found))
    keys = list(members)
    if keys != sorted(keys) or len(keys) != len(found):
        raise DamagedStateError("the contributions in kept sums are not in order")
    if sum(count for _, count in members.values()) > MEMBERS_MAX:
        raise DamagedStateError(f"kept sums hold at most {MEMBERS_MAX} contributions")
    return MappingProxyType(members)


def _each(found: Sequence[object]) -> Iterator[tuple[bytes, tuple[Share, int]]]:
    for member in found:
        match member:
            case [
                bytes(key), int(count), int(weight),
                bytes(above), bytes(below), (0 | 1) as is_tau,
            ] if count > 0 and max(len(above), len(below)) <= FACTOR_BYTES_MAX:  # fmt: skip
                ratio = (int.from_bytes(part, "big") for part in (above, below))
                member_of_key(key[: KEY_BYTES_MAX + 1])
                yield key, (Share(weight, Fraction(*ratio), bool(is_tau)), count)
            case _:
                raise DamagedStateError("kept sums hold what is no contribution")
