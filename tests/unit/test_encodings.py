"""Encoded chunks: what saves bytes does, what lies is refused, memory stays bounded."""

import sys
import tracemalloc

import numpy as np
import pytest

from crdtmerge.digest import CHUNK_BYTES
from crdtmerge.encodings import (
    BASED,
    Effort,
    Form,
    choose,
    decode,
    encode,
    form_of,
    sampled,
)
from crdtmerge.errors import MalformedChunkError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RNG = np.random.default_rng(7)
BASE = RNG.standard_normal(CHUNK_BYTES // 4).astype("<f4") * np.float32(0.05)
TUNED = BASE + RNG.standard_normal(len(BASE)).astype("<f4") * np.float32(1e-4)


def planes_of(count: int, *bodies: bytes, head: int = 0x20) -> bytes:
    """Return a chunk of planes with these bodies."""
    return bytes([head]) + b"".join(bodies)


def frame(data: bytes) -> bytes:
    """Return a plane of one frame."""
    made = zstd.compress(data)
    return b"\x01" + len(made).to_bytes(3, "little") + made


def bfloat16(values: np.ndarray) -> bytes:
    """Return values cut to bfloat16."""
    return (values.view("<u4") >> np.uint32(16)).astype("<u2").tobytes()


@pytest.mark.parametrize(
    ("raw", "base", "width", "share"),
    [
        (TUNED.tobytes(), BASE.tobytes(), 4, 0.62),
        (bfloat16(TUNED), bfloat16(BASE), 2, 0.15),
    ],
    ids=["float32", "bfloat16"],
)
def test_a_fine_tune_takes_less_against_its_base(
    raw: bytes, base: bytes, width: int, share: float
) -> None:
    """Differences beat XOR, XOR beats planes alone, planes beat plain zstd."""
    forms = (Form.GROUPED, Form.DIFFERENCE, Form.XOR, Form.PLANES, Form.PLAIN)
    made = [encode(raw, width=width, against=base, form=form) for form in forms]
    lengths = [len(data or raw) for data in made]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) == len(lengths)
    assert lengths[0] < share * len(raw)


def test_choose_names_the_form_of_a_tensor_by_a_few_chunks() -> None:
    """With a base the difference, without it planes; for noise none."""
    raw, base = TUNED.tobytes(), BASE.tobytes()
    assert choose([(raw, base), (raw, base)], width=4) is Form.DIFFERENCE
    assert choose([(raw, base)], width=4, effort=Effort.SMALL) is Form.GROUPED
    assert choose([(raw, base), (raw, None)], width=4) is Form.PLANES
    noise = RNG.integers(0, 256, CHUNK_BYTES, np.uint8).tobytes()
    assert choose([(noise, None)], width=4) is None
    assert encode(noise, width=4) is None


def test_a_chunk_equal_to_its_base_is_next_to_nothing() -> None:
    """What did not change costs a few bytes a chunk."""
    raw = TUNED.tobytes()
    for form in BASED:
        data = encode(raw, width=4, against=raw, form=form)
        assert data is not None
        assert len(data) <= 16
        assert form_of(data) is form


def test_few_changed_items_cost_a_few_bytes_each() -> None:
    """Runs of unchanged items are found: there is no need of a list of places."""
    changed = BASE.copy()
    places = RNG.choice(len(BASE), len(BASE) // 1000, replace=False)
    changed[places] *= np.float32(1.01)
    data = encode(changed.tobytes(), width=4, against=BASE.tobytes())
    assert data is not None
    assert len(data) < 10 * len(places)


def test_samples_stand_for_first_middle_and_last() -> None:
    """The last chunk, which may be short, is no sample unless it is the only one."""
    assert [sampled(n) for n in range(5)] == [[], [0], [0], [0, 1], [0, 1, 2]]
    assert sampled(100) == [0, 49, 98]


@pytest.mark.parametrize("form", sorted(BASED))
def test_a_missing_or_foreign_base_is_named(form: Form) -> None:
    """A chunk of a form that takes the base is not decoded without the right length."""
    raw = TUNED.tobytes()
    data = encode(raw, width=4, against=BASE.tobytes(), form=form)
    assert data is not None
    for against in (None, b"", raw[:-4]):
        with pytest.raises(MalformedChunkError, match="without a base chunk"):
            decode(data, length=len(raw), against=against)


@pytest.mark.parametrize("length", [CHUNK_BYTES - 4, CHUNK_BYTES - 1, 4, 1])
@pytest.mark.parametrize("form", sorted(Form))
def test_another_length_is_refused(form: Form, length: int) -> None:
    """A chunk decodes to the length that was encoded and to no other."""
    raw, base = TUNED.tobytes(), BASE.tobytes()
    data = encode(raw, width=4, against=base, form=form)
    assert data is not None
    with pytest.raises(MalformedChunkError):
        decode(data, length=length, against=base[:length])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b"\x20", "1 bytes"),
        (b"\x00\x02\x00", "unknown form"),
        (b"\x60\x02\x00", "unknown form"),
        (b"\x24\x02\x00", "unknown form"),
        (b"\x11\x02\x00", "unknown form"),
        (b"\x20\x02", "cut off"),
        (b"\x20\x00abc", "cut off"),
        (b"\x20\x02\x00\x00", "bytes follow"),
        (b"\x20\x05\x00", "mode 5"),
        (b"\x20\x03\x03\x02\x00\x02\x00\x02\x00", "mode 3"),
        (b"\x20\x01\xff\xff\xff", "cut off"),
        (b"\x20\x01\x03\x00\x00abc", "not an encoded chunk"),
        (planes_of(100, frame(bytes(99))), "frame not of 100 bytes"),
        (planes_of(100, frame(bytes(1 << 16))), "frame not of 100 bytes"),
        (b"\x10" + zstd.compress(bytes(1 << 16)), "frame not of 100 bytes"),
        (b"\x10" + zstd.compress(bytes(100)) + b"\x00", "where it should"),
        (b"\x10" + 2 * zstd.compress(bytes(100)), "where it should"),
        (b"\x10" + zstd.compress(bytes(100))[:-1], "where it should"),
    ],
)
def test_broken_forms_are_named(data: bytes, says: str) -> None:
    """Each broken rule has its word; nothing else is raised."""
    with pytest.raises(MalformedChunkError, match=says):
        decode(data, length=100)


def bomb(claimed: int, held: int) -> bytes:
    """Return a frame that claims one size and holds another, many times over."""
    small: dict[int, int] = {zstd.CompressionParameter.window_log: 17}  # is granted
    data = bytearray(zstd.compress(bytes(held), options=small))
    told = zstd.get_frame_info(bytes(data)).decompressed_size
    assert told == held
    for size in (8, 4, 2):
        field = held.to_bytes(size, "little")
        at = bytes(data).find(field, 4)
        if at >= 0:
            data[at : at + size] = claimed.to_bytes(size, "little")
            return bytes(data)
    raise AssertionError("no size found")


@pytest.mark.parametrize("window_log", [21, 27, 31])
def test_windows_beyond_a_chunk_are_refused(window_log: int) -> None:
    """A frame that asks for a window of megabytes gets none of it."""
    length = CHUNK_BYTES // 2
    honest = zstd.compress(bytes(length))
    assert honest[4] == 0xA0  # four bytes of size, and no window
    header = bytes([0x80, (window_log - 10) << 3])
    asking = honest[:4] + header + honest[5:]
    assert zstd.get_frame_info(asking).decompressed_size == length
    with pytest.raises(MalformedChunkError, match="too much memory"):
        decode(b"\x10" + asking, length=length)


def test_bombs_are_cut_off_before_memory_is_taken() -> None:
    """A few kilobytes that claim or hold gigabytes cost no more than the chunk."""
    held = 1 << 30
    honest = zstd.compress(bytes(held))
    lying = bomb(claimed=CHUNK_BYTES, held=held)
    assert zstd.get_frame_info(lying).decompressed_size == CHUNK_BYTES
    tracemalloc.start()
    try:
        for data in (honest, lying, honest * 8, lying * 8):
            for chunk in (
                b"\x10" + data,
                b"\x20\x01" + len(data).to_bytes(3, "little") + data,
            ):
                with pytest.raises(MalformedChunkError):
                    decode(chunk[: CHUNK_BYTES - 1], length=CHUNK_BYTES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * CHUNK_BYTES


def test_our_own_mistakes_are_ours() -> None:
    """What no peer can cause is no RemoteError."""
    with pytest.raises(ValueError, match="width"):
        encode(b"abc", width=3)
    with pytest.raises(ValueError, match="more than a chunk"):
        encode(bytes(CHUNK_BYTES + 1), width=1)
    with pytest.raises(ValueError, match="base chunk of 2 bytes"):
        encode(b"abc", width=1, against=b"ab")
    with pytest.raises(ValueError, match="takes a base chunk"):
        encode(b"abc", width=1, form=Form.XOR)
    with pytest.raises(ValueError, match="a chunk of 0 bytes"):
        decode(b"\x20\x00", length=0)


def test_views_of_foreign_buffers_are_taken() -> None:
    """Chunks are read from maps: any buffer is taken, also at an odd address."""
    raw, base = TUNED.tobytes(), BASE.tobytes()
    shifted = memoryview(bytearray(b"x" + raw))[1:]
    data = encode(shifted, width=4, against=memoryview(base))
    assert data == encode(raw, width=4, against=base)
    assert data is not None
    assert decode(memoryview(data), length=len(raw), against=bytearray(base)) == raw
    assert encode(b"", width=4) is None
