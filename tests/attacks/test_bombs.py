"""Few bytes that claim, or hold, very much: refused before anything is allocated."""

from collections.abc import Callable
from typing import Any, Final

import msgpack
import pytest

from crdtmerge import codec
from crdtmerge.bodies import Add
from crdtmerge.codec import DEPTH_MAX, encode
from crdtmerge.digest import BLOB_BYTES_MAX, Domain, blob_id_of, digest
from crdtmerge.errors import (
    FaultyContributionError,
    MalformedManifestError,
    MalformedRecordError,
)
from crdtmerge.identity import Purpose
from crdtmerge.manifest import DIMENSIONS_MAX, NAME_CHARACTERS_MAX, decode_manifest
from crdtmerge.record import RECORD_BYTES_MAX
from crdtmerge.sync.messages import SignedBytes
from tests.attacks.fortress import Fortress
from tests.properties.cast import BASE, CARL, CLEO, CONTENTS

HUGE: Final = BLOB_BYTES_MAX
BLOB: Final = bytes(32)


def manifest_with(*tensors: object, files: object = (), kind: str = "full") -> bytes:
    """Return the bytes of a manifest with whatever tensors, by plain msgpack."""
    value = [1, kind, BASE, list(tensors), list(files), [], ""]  # type: ignore[call-overload]
    data: bytes = msgpack.packb(value, use_bin_type=True)
    return data


BOMBS: Final[dict[str, bytes]] = {
    "eight dimensions of a tebibyte": manifest_with(["t", "F32", [HUGE] * 8, BLOB]),
    "a dimension above a tebibyte": manifest_with(["t", "U8", [HUGE + 1], BLOB]),
    "a tensor above a tebibyte": manifest_with(["t", "F32", [HUGE // 2], BLOB]),
    "a dimension of 64 bits": manifest_with(["t", "U8", [2**64 - 1], BLOB]),
    "a dimension below zero": manifest_with(["t", "U8", [-1, -HUGE], BLOB]),
    "nine dimensions": manifest_with(["t", "U8", [1] * (DIMENSIONS_MAX + 1), BLOB]),
    "a shape that is a text": manifest_with(["t", "U8", "44", BLOB]),
    "a dimension that is true": manifest_with(["t", "U8", [True], BLOB]),
    "a dtype of no width": manifest_with(["t", "F4", [1], BLOB]),
    "a name of a megabyte": manifest_with(["t" * (1 << 20), "U8", [1], BLOB]),
    "a name of no letter": manifest_with(["", "U8", [1], BLOB]),
    "one name twice": manifest_with(*[["t", "U8", [1], BLOB]] * 2),
    "one blob of two sizes": manifest_with(
        ["s", "U8", [1], BLOB], ["t", "U8", [2], BLOB]
    ),
    "no tensor": manifest_with(),
    "a base that is none": manifest_with(["t", "U8", [1], BLOB], kind="base"),
    "a file above a tebibyte": manifest_with(
        ["t", "U8", [1], BLOB], files=[["f", HUGE + 1, BLOB]]
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_shape_bomb(fortress: Fortress, name: str) -> None:
    """A manifest whose shapes make no sense is none, and its contribution is faulty."""
    data = BOMBS[name]
    with fortress.refuses(MalformedManifestError):
        decode_manifest(data)
    blob = fortress.home.blobs.put(data)
    body = Add(CONTENTS[0], blob, len(data), 1, codec.DECIMAL_UNIT, b"", "")
    fortress.say(CLEO, body)
    fortress.keep()
    spaces = fortress.spaces()
    visible = spaces.view(fortress.space).visible
    (shown,) = [v for v in visible if v.content == CONTENTS[0]]
    with fortress.refuses(FaultyContributionError):
        spaces.manifest(shown)
    # Nobody is asked for what it names: it would never end.
    assert spaces.lacking(fortress.space, shown) == {}


def test_shape_bomb_that_is_well_formed() -> None:
    """Empty tensors of vast shapes cost nothing; a name at its limit is a name."""
    empty = manifest_with(["t" * NAME_CHARACTERS_MAX, "F64", [0, *[HUGE] * 7], BLOB])
    manifest = decode_manifest(empty)
    assert manifest.size == 0
    assert blob_id_of(empty) == manifest.blob


# --- what a record can claim -------------------------------------------------------------


def signed_by_cleo(data: bytes) -> SignedBytes:
    """Return bytes that CLEO's own program signed as a record."""
    signature = CLEO.sign(Purpose.RECORD, digest(Domain.RECORD, data))
    return SignedBytes(data, signature)


def deep(levels: int) -> bytes:
    return b"\x91" * levels + b"\x05"


def claiming(head: bytes, number: int) -> bytes:
    return head + number.to_bytes(4, "big") + bytes(1000)


NESTED: Final = (b"\xdd" + (60_000).to_bytes(4, "big")) * 16
CODED: Final[dict[str, Callable[[], bytes]]] = {
    "arrays in arrays": lambda: deep(DEPTH_MAX + 1),
    "arrays in arrays to the limit": lambda: deep(RECORD_BYTES_MAX - 1),
    "an array of 4 thousand million": lambda: claiming(b"\xdd", 2**32 - 1),
    "a text of 4 GiB": lambda: claiming(b"\xdb", 2**32 - 1),
    "bytes of 4 GiB": lambda: claiming(b"\xc6", 2**32 - 1),
    "sixteen arrays that claim all": lambda: NESTED + bytes(60_000),
    "a map of 4 thousand million": lambda: claiming(b"\xdf", 2**32 - 1),
    "an extension": lambda: claiming(b"\xc9", 2**32 - 1),
}


@pytest.mark.parametrize("name", CODED)
def test_codec_bomb(fortress: Fortress, name: str) -> None:
    """Headers that claim what is not there get no memory for it, and no record comes."""
    bomb = signed_by_cleo(CODED[name]())
    fortress.withstands(MalformedRecordError, lambda siege: siege.feeds(CARL, bomb))


@pytest.mark.parametrize("name", CODED)
def test_codec_bomb_as_a_manifest(fortress: Fortress, name: str) -> None:
    """A manifest may be a thousand times as long, and is read as carefully."""
    data = CODED[name]() + bytes(1 << 16)
    with fortress.refuses(MalformedManifestError):
        decode_manifest(data)


def test_record_with_more_values_than_bytes_suggest(
    fortress: Fortress, monkeypatch: Any
) -> None:
    """Many small values cost far more than their bytes, so that their number is bounded."""
    monkeypatch.setattr(codec, "VALUES_MAX", 1000)
    data = encode([1] * 900 + [[2] * 200])
    bomb = signed_by_cleo(data)
    fortress.withstands(MalformedRecordError, lambda siege: siege.feeds(CARL, bomb))
