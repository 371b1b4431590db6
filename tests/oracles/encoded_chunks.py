"""A second reading of encoded chunks: plain loops over integers, sharing no code.

Owns a decoder written from the text of the form alone, byte by byte; slow. zstd's own
decoder is shared, as a frame has no other meaning than the one it gives.
"""

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def decode(data: bytes, length: int, base: bytes | None) -> bytes:
    """Return the raw chunk; assertions fail where the form is broken."""
    form, width = data[0] >> 4, 2 ** (data[0] & 15)
    if form == 1:
        return zstd.decompress(data[1:])
    count, at = length // width, 1
    planes = []
    for _ in range(width):
        plane, at = _plane(data, at, count)
        planes.append(plane)
    items = [sum(planes[k][i] * 256**k for k in range(width)) for i in range(count)]
    if base is not None and form > 2:
        theirs = [
            int.from_bytes(base[i * width : (i + 1) * width], "little")
            for i in range(count)
        ]
        items = _against(form, items, theirs, 8 * width)
    raw = b"".join(item.to_bytes(width, "little") for item in items)
    assert len(data) - at == length - len(raw)
    return raw + data[at:]


def _plane(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    mode, at = data[at], at + 1
    if mode == 0:
        return list(data[at : at + count]), at + count
    if mode == 1:
        size = data[at] + 256 * data[at + 1] + 65536 * data[at + 2]
        plane = list(zstd.decompress(data[at + 3 : at + 3 + size]))
        assert len(plane) == count
        return plane, at + 3 + size
    if mode == 2:
        return [data[at]] * count, at + 1
    bits = {3: 4, 4: 2}[mode]
    in_byte = 8 // bits
    plane = [0] * count
    for field in range(in_byte):
        packed, at = _plane(data, at, (count + in_byte - 1) // in_byte)
        for i in range(count):
            value = packed[i // in_byte] // 2 ** (bits * (i % in_byte)) % 2**bits
            plane[i] += value * 2 ** (bits * field)
    return plane, at


def _against(form: int, items: list[int], base: list[int], bits: int) -> list[int]:
    if form == 3:
        return [item ^ theirs for item, theirs in zip(items, base, strict=True)]
    if form == 5:
        # The eight bits below the sign; of a byte the seven that there are.
        groups = [theirs % 2 ** (bits - 1) // 2 ** max(0, bits - 9) for theirs in base]
        order = sorted(range(len(base)), key=lambda i: (groups[i], i))
        placed = [0] * len(base)
        for value, i in zip(items, order, strict=True):
            placed[i] = value
        items = placed
    return [
        _from_rank((_rank(theirs, bits) + _moved(item)) % 2**bits, bits)
        for item, theirs in zip(items, base, strict=True)
    ]


def _moved(zigzag: int) -> int:
    return zigzag // 2 if zigzag % 2 == 0 else -(zigzag + 1) // 2


def _rank(pattern: int, bits: int) -> int:
    """Return the place of a float among all, the most negative first."""
    half = 1 << (bits - 1)
    return pattern + half if pattern < half else (1 << bits) - 1 - pattern


def _from_rank(rank: int, bits: int) -> int:
    half = 1 << (bits - 1)
    return rank - half if rank >= half else (1 << bits) - 1 - rank
