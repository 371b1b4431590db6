"""The file form of kept sums: what is in the header, where planes lie, what is verified.

Owns this form. Does not own what the sums mean (`accumulators`) nor where files lie.

    8 bytes "crdtsums" | version | length of the header (two little-endian 32-bit numbers)
    header: a canonical value
    its digest, 32 bytes
    zeros up to a multiple of 8
    planes: float64, little-endian, row by row

The header has the digest of the planes, so it can be trusted without reading them. Equal
sums with equal last outputs have equal bytes, whatever came and went before.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final

import numpy as np

from crdtmerge.codec import Value, decode, encode
from crdtmerge.digest import DIGEST_BYTES, BlobId, Domain, digest
from crdtmerge.errors import DamagedStateError, EncodingError, UpgradeNeededError
from crdtmerge.numerics import CONTRACT_VERSION, Data, Grid
from crdtmerge.resolve.accumulators import (
    KEY_BYTES_MAX,
    MEMBERS_MAX,
    Accumulator,
    member_of_key,
)
from crdtmerge.strategies.sums import Share

VERSION: Final = 1
MAGIC: Final = b"crdtsums"
HEADER_BYTES_MAX: Final = 1 << 26
ROWS_MAX: Final = 8
FACTOR_BYTES_MAX: Final = 512
"""A factor is a fraction of two float64s at most: 2,200 bits above and below."""

_PREFIX_BYTES: Final = len(MAGIC) + 8
_ALIGNMENT: Final = 8


@dataclass(frozen=True, slots=True)
class Last:
    """The last output that was made of the sums: by which task, in which dtype."""

    task: bytes
    dtype: str
    output: BlobId


@dataclass(frozen=True, slots=True)
class Kept:
    """A verified header, and the planes that it speaks of, not yet verified."""

    last: Last
    planes_digest: bytes
    sums: Accumulator

    def accumulator(self) -> Accumulator:
        """Return the sums, once their planes are found to be those that were written.

        Raises:
            DamagedStateError: they are not.
        """
        found = self.sums.planes
        planes = found.data.cast("B") if found.size else b""
        if digest(Domain.SUMS_PLANES, planes) != self.planes_digest:
            raise DamagedStateError("the planes of kept sums are not what was written")
        return self.sums


def to_bytes(sums: Accumulator, last: Last) -> tuple[bytes, memoryview]:
    """Return sums and their last output as the bytes of a file, in two pieces.

    The second are the planes as they are: no copy is made of what is large.
    """
    array = np.ascontiguousarray(sums.planes, "<f8")
    planes = array.data.cast("B") if array.size else memoryview(b"")
    header = encode(_header(sums, last, digest(Domain.SUMS_PLANES, planes)))
    numbers = [VERSION.to_bytes(4, "little"), len(header).to_bytes(4, "little")]
    head = b"".join([MAGIC, *numbers, header, digest(Domain.SUMS_HEADER, header)])
    return head + bytes(-len(head) % _ALIGNMENT), planes


def from_bytes(data: Data) -> Kept:
    """Return what a file says, its header verified.

    Raises:
        UpgradeNeededError: a later version wrote it.
        DamagedStateError: it is not what was written, or of another kind.
    """
    view = memoryview(data).cast("B")
    header, start = _verified_header(view)
    try:
        value = decode(header, HEADER_BYTES_MAX)
        last, planes_digest, sums = _parsed(value, view[start:])
        if encode(_header(sums, last, planes_digest)) != header:
            raise DamagedStateError("a header of kept sums is not canonical")
    except (EncodingError, ValueError, ZeroDivisionError) as e:
        raise DamagedStateError(f"a header of kept sums makes no sense: {e}") from e
    return Kept(last, planes_digest, sums)


def _verified_header(view: memoryview) -> tuple[bytes, int]:
    """Return the header's bytes, and where the planes start."""
    prefix = bytes(view[:_PREFIX_BYTES])
    if len(prefix) != _PREFIX_BYTES or not prefix.startswith(MAGIC):
        raise DamagedStateError("this is no file of kept sums")
    version, size = np.frombuffer(prefix, "<u4", offset=len(MAGIC)).tolist()
    if version > VERSION:
        message = f"kept sums of version {version}: this version knows {VERSION}"
        hint = "upgrade crdtmerge, or remove the file: it is made afresh"
        raise UpgradeNeededError(message, hint=hint)
    end = _PREFIX_BYTES + size
    if version != VERSION or size > HEADER_BYTES_MAX or len(view) < end + DIGEST_BYTES:
        raise DamagedStateError("a file of kept sums is cut off or damaged")
    header = bytes(view[_PREFIX_BYTES:end])
    end += DIGEST_BYTES
    if digest(Domain.SUMS_HEADER, header) != view[end - DIGEST_BYTES : end]:
        raise DamagedStateError("the header of kept sums is not what was written")
    start = end + -end % _ALIGNMENT
    if any(view[end:start]):
        raise DamagedStateError("there is something between header and planes")
    return header, start


def _header(sums: Accumulator, last: Last, planes_digest: bytes) -> Value:
    rows, items = sums.planes.shape
    return [
        CONTRACT_VERSION,
        sums.made_for,
        sums.exponent,
        [sums.grid.step_exponent, sums.grid.limbs, rows, items],
        [[key, *_share(*held)] for key, held in sums.members.items()],
        [last.task, last.dtype, last.output],
        planes_digest,
    ]


def _share(share: Share, count: int) -> list[Value]:
    factor = [_number(n) for n in share.factor.as_integer_ratio()]
    return [count, share.weight, *factor, int(share.is_tau)]


def _number(value: int) -> bytes:
    return value.to_bytes(-(-value.bit_length() // 8), "big")


def _parsed(value: Value, planes: memoryview) -> tuple[Last, bytes, Accumulator]:
    match value:
        case [
            int(contract),
            bytes(made_for),
            int(exponent),
            [int(step), int(limbs), int(rows), int(items)],
            [*members],
            [bytes(task), str(dtype), bytes(output)],
            bytes(planes_digest),
        ] if contract == CONTRACT_VERSION:
            pass
        case _:
            raise DamagedStateError("a header of kept sums has another form")
    if not 1 <= limbs <= 2 or not 1 <= rows <= ROWS_MAX:
        raise DamagedStateError(f"kept sums of {limbs} limbs in {rows} planes")
    if items < 0 or planes.nbytes != 8 * rows * items:
        raise DamagedStateError(
            f"{planes.nbytes} bytes are not {rows} x {items} values"
        )
    shaped = np.frombuffer(planes, "<f8").reshape(rows, items)
    held = _members(members)
    sums = Accumulator(made_for, exponent, Grid(step, limbs), shaped, held)
    return Last(task, dtype, BlobId(output)), planes_digest, sums


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
