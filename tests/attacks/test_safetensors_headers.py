"""Model files made to harm who reads them: each is refused, and the home is as before."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from crdtmerge.errors import BadInputError
from crdtmerge.formats.header import HEADER_BYTES_MAX
from tests.archives import Shared
from tests.attacks.guard import guarded
from tests.homes import SHAPES


@pytest.fixture(name="shared", scope="module")
def fixture_shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """One space for all: nothing here may change ann's home."""
    return Shared.at(tmp_path_factory.mktemp("shared"))


def entry(shape: object, begin: object, end: object, dtype: object = "F32") -> Any:
    """Return one entry of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def true_header() -> dict[str, Any]:
    """Return the header that fits the base, and `ROOM` bytes of data."""
    found, at = {}, 0
    for name, shape in sorted(SHAPES.items()):
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        found[name] = entry(list(shape), at, at + size)
        at += size
    return found


ROOM: Final = max(item["data_offsets"][1] for item in true_header().values())
FIRST: Final = min(SHAPES)


def file_of(header: object, room: int = ROOM, length: int | None = None) -> bytes:
    """Return a file with this header, or with a text in its place."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    return struct.pack("<Q", size) + text + bytes(room)


def changed(**fields: object) -> Callable[[], bytes]:
    """Return a file whose first tensor says something else of itself."""
    return lambda: file_of({**true_header(), FIRST: {**true_header()[FIRST], **fields}})


def with_extra(**more: object) -> Callable[[], bytes]:
    return lambda: file_of({**true_header(), **more})


FILES: Final[dict[str, Callable[[], bytes]]] = {
    "a header of 2^63 bytes": lambda: file_of(true_header(), length=1 << 63),
    "a header of 2^64 - 1 bytes": lambda: file_of(true_header(), length=2**64 - 1),
    "a header above the limit": lambda: file_of(b"{", length=HEADER_BYTES_MAX + 1),
    "a header longer than the file": lambda: file_of(b"{}", 0, length=1 << 20),
    "a header of no byte": lambda: file_of(b""),
    "a header that is a list": lambda: file_of([]),
    "a header that is no JSON": lambda: file_of(b"\xff\xfe{}"),
    "arrays in arrays": lambda: file_of(b"[" * 200_000),
    "objects in objects": lambda: file_of(b'{"a":' * 100_000),
    "a number of a million digits": lambda: file_of(
        b'{"t": {"dtype": "F32", "shape": ['
        + b"9" * 1_000_000
        + b'], "data_offsets": [0, 4]}}'
    ),
    "one name twice": lambda: file_of(
        b'{"t": %s, "t": %s}' % ((json.dumps(entry([1], 0, 4)).encode(),) * 2)
    ),
    "a shape of 2^80 items": changed(shape=[1 << 40, 1 << 40]),
    "a shape of 2^63 items": changed(shape=[1 << 63]),
    "a shape below zero": changed(shape=[-17, -5]),
    "a shape that is true": changed(shape=[True]),
    "a shape of numbers with points": changed(shape=[17.0, 5.0]),
    "forty dimensions": changed(shape=[1] * 40),
    "offsets beyond the file": changed(data_offsets=[0, 1 << 40]),
    "offsets below zero": changed(data_offsets=[-4, 0]),
    "offsets backwards": changed(data_offsets=[20, 0]),
    "offsets that overlap": changed(data_offsets=[4, 24]),
    "a dtype that is none": changed(dtype="F32; rm"),
    "a dtype of another width": changed(dtype="F64"),
    "a name that is no text": lambda: file_of(
        b'{"\\ud800": %s}' % json.dumps(entry([1], 0, 4)).encode()
    ),
    "a name of a megabyte": with_extra(**{"x" * (1 << 20): entry([0], ROOM, ROOM)}),
    "a gap": lambda: file_of(true_header(), ROOM + 8),
    "a tensor that the base has not": with_extra(evil=entry([1], ROOM, ROOM)),
    "a file of no byte": lambda: b"",
    "a pickle": lambda: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
}


def test_the_file_that_the_others_are_made_from_is_taken(tmp_path: Path) -> None:
    """The refusals are for the change, not for the rest of the file."""
    made = Shared.at(tmp_path)
    folder = made.folder / "fine"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(file_of(true_header()))
    assert made.fleet.call(made.ann, "contribute", path=folder)


@pytest.mark.parametrize("name", FILES)
def test_malicious_safetensors_header(
    shared: Shared, tmp_path: Path, name: str
) -> None:
    """No claim of a header is believed, allocated or followed; the file is named."""
    (tmp_path / "model.safetensors").write_bytes(FILES[name]())
    (tmp_path / "config.json").write_text('{"model_type": "small"}\n')
    with guarded(shared.folder, BadInputError) as found:
        shared.fleet.call(shared.ann, "contribute", path=tmp_path)
    assert len(str(found.value)) < 2000
