"""Whatever lies in a user's file, reading it ends in a model or in `BadInputError`."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load_file

from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import ModelFolder, open_tensor, read_folder
from crdtmerge.formats.header import read_header
from crdtmerge.manifest import ITEM_BYTES

SIZES: st.SearchStrategy[object] = st.one_of(
    st.integers(-2, 20),
    st.sampled_from([2**31, 2**53, 2**63, 2**64, 10**30, -(2**63)]),
    st.sampled_from([True, None, 1.0, 1e400, math.nan, "8", [], {}]),
)
DTYPES = st.sampled_from([*ITEM_BYTES, "f32", "", "F4", "C64", "F8_E8M0", 3, None])
NAMES = st.sampled_from(["a", "b", "", "__metadata__", "\ud800", "w" * 600, "é"])
ENTRIES = st.one_of(
    st.fixed_dictionaries(
        {
            "dtype": DTYPES,
            "shape": st.one_of(st.lists(SIZES, max_size=9), SIZES),
            "data_offsets": st.one_of(st.lists(SIZES, min_size=2, max_size=2), SIZES),
        }
    ),
    st.recursive(SIZES, lambda inner: st.lists(inner, max_size=2), max_leaves=4),
)
LENGTHS = st.one_of(
    st.none(),
    st.integers(0, 200),
    st.sampled_from([2**64 - 1, 2**63, 10**8, 10**8 + 1]),
)


@contextmanager
def written(name: str, data: bytes) -> Iterator[Path]:
    """Lend the path of a file that holds `data`."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path


def described(pairs: list[tuple[str, object]]) -> bytes:
    """Return a JSON object with these names, the same one twice if it is given twice."""
    items = (f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
    return ("{" + ",".join(items) + "}").encode()


def check(path: Path) -> None:
    """Check that a file is refused, or is what the format's own library takes it for."""
    try:
        found = read_header(path)
    except BadInputError as e:
        assert path.name in str(e)  # noqa: PT017 - either outcome is right
        return
    size = path.stat().st_size
    assert all(0 <= t.offset <= t.offset + t.size <= size for t in found)
    places = sorted((t.offset, t.offset + t.size) for t in found)
    assert all(one[1] <= two[0] for one, two in pairwise(places))
    numpy = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL"}
    if all(t.dtype in numpy for t in found):
        loaded = load_file(path)
        assert {t.name: bytes(open_tensor(t)) for t in found} == {
            name: array.tobytes() for name, array in loaded.items()
        }


@given(st.lists(st.tuples(NAMES, ENTRIES), max_size=4), LENGTHS, st.integers(0, 40))
def test_no_header_is_a_crash(
    pairs: list[tuple[str, object]], length: int | None, count: int
) -> None:
    """Headers of the right form with senseless values, of any stated length."""
    text = described(pairs)
    length = len(text) if length is None else length
    with written(
        "x.safetensors", length.to_bytes(8, "little") + text + bytes(count)
    ) as p:
        check(p)


@given(st.binary(max_size=60), st.booleans())
def test_no_bytes_are_a_crash(data: bytes, framed: bool) -> None:
    """Any bytes, as a file or as its header."""
    head = len(data).to_bytes(8, "little") if framed else b""
    with written("x.safetensors", head + data) as path:
        check(path)


GOOD = described(
    [
        ("a", {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}),
        ("b", {"dtype": "I64", "shape": [1], "data_offsets": [8, 16]}),
    ]
)


@given(st.integers(0, len(GOOD) + 23), st.integers(0, 255), st.integers(0, 30))
def test_one_byte_that_changed_is_no_crash(at: int, value: int, cut: int) -> None:
    """A file that was right but for a byte, or its end."""
    data = bytearray(len(GOOD).to_bytes(8, "little") + GOOD + bytes(range(16)))
    data[at] = value
    with written("x.safetensors", bytes(data[: len(data) - max(0, cut - 10)])) as path:
        check(path)


PLACES = st.sampled_from(
    [
        *("a.safetensors", "b.safetensors", "../a.safetensors", "/etc/passwd", "."),
        *("a.safetensors/", "c.safetensors", "", "\ud800", "x\0y", "n" * 300, 3, None),
    ]
)
INDICES = st.one_of(
    st.lists(st.tuples(NAMES, PLACES), max_size=4).map(
        lambda pairs: b'{"weight_map":' + described(list(pairs)) + b"}"
    ),
    st.binary(max_size=40),
    st.sampled_from(
        [b"[]", b'{"weight_map":[]}', b"[" * 100_000, b'{"weight_map":{}}']
    ),
)


@given(INDICES)
def test_no_index_is_a_crash(text: bytes) -> None:
    """Whatever the index says, only the shards beside it are looked at."""
    with written("model.safetensors.index.json", text) as index:
        for name, key in (("a.safetensors", "a"), ("b.safetensors", "b")):
            entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
            head = described([(key, entry)])
            data = len(head).to_bytes(8, "little") + head + bytes(8)
            (index.parent / name).write_bytes(data)
        try:
            found: ModelFolder = read_folder(index.parent)
        except BadInputError as e:
            assert str(index.parent) in str(e) or ".safetensors" in str(e)  # noqa: PT017
        else:
            assert {t.path.parent for t in found.tensors} == {index.parent}
            assert json.loads(text)["weight_map"] == {
                t.name: t.path.name for t in found.tensors
            }


def test_the_oracle_reads_what_is_right() -> None:
    """The check is not vacuous: the good file is read, and one with a hole is not."""
    data = len(GOOD).to_bytes(8, "little") + GOOD + bytes(range(16))
    with written("x.safetensors", data) as path:
        check(path)
        assert len(read_header(path)) == 2
        path.write_bytes(data.replace(b"[8, 16]", b"[9, 17]") + b"\0")
        with pytest.raises(SafetensorError):
            load_file(path)
        with pytest.raises(BadInputError, match="not a valid"):
            read_header(path)
