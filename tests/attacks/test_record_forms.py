"""Records of another form: each field and body has one, and the rest is refused."""

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from crdtmerge.bodies import IDS_MAX
from crdtmerge.errors import (
    MalformedRecordError,
)
from crdtmerge.record import (
    RECORD_BYTES_MAX,
    SignedRecord,
    decode_record,
)
from crdtmerge.sync.messages import SignedBytes
from tests.attacks.fortress import Fortress
from tests.properties.cast import (
    CLEO,
    CONTENTS,
    Pen,
    add_of,
    unknown,
)


def fields_of(signed: SignedRecord) -> list[Any]:
    """Return a record's nine fields, to be changed and packed again by plain msgpack."""
    fields: list[Any] = msgpack.unpackb(signed.record.data, raw=False)
    return fields


def packed(fields: list[Any]) -> bytes:
    """Return what an attacker's own encoder makes of `fields`."""
    data: bytes = msgpack.packb(fields, use_bin_type=True)
    return data


@pytest.fixture(name="walls", scope="module")
def fixture_walls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fortress]:
    """One fortress for all: nothing here may change it."""
    fortress = Fortress.at(tmp_path_factory.mktemp("walls"))
    yield fortress
    fortress.home.close()


@pytest.fixture(name="pen")
def fixture_pen() -> Pen:
    """A members space with its cast."""
    return Pen.start()


def refused(walls: Fortress, data: bytes, match: str | None = None) -> None:
    """Check that these bytes come in by no door, and are refused before the signature."""
    with walls.refuses(MalformedRecordError, match):
        walls.spaces().receive(walls.space, [SignedBytes(data, bytes(64))])


def an_add(pen: Pen) -> SignedRecord:
    """Return a contributor's add."""
    return pen.write(CLEO, add_of(CONTENTS[0]))


ID = b"\x01" * 32


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 0),
        (0, 2),
        (0, "1"),
        (1, b""),
        (1, ID[:31]),
        (1, "x" * 32),
        (2, b""),
        (2, ID + b"\0"),
        (3, -1),
        (3, 2**63),
        (3, b"\x01"),
        (4, b""),
        (4, ID[:31]),
        (5, b""),
        (5, ID + b"\0"),
        (6, ""),
        (6, "Add"),
        (6, "add "),
        (6, "x" * 33),
        (6, b"add"),
        (6, "genesis"),
        (7, 1),
        (7, 2),
        (7, -1),
        (7, True),
        (7, None),
        (8, None),
        (8, {}),
        (8, [1.0]),
        (8, []),
        (8, msgpack.ExtType(5, b"a")),
    ],
)
def test_field_of_another_form_is_refused(
    walls: Fortress, pen: Pen, at: int, value: object
) -> None:
    """Each of the nine fields has one type and range; a known kind is never critical."""
    pen.write(CLEO, unknown())
    fields = fields_of(an_add(pen))
    fields[at] = value
    refused(walls, packed(fields))


@pytest.mark.parametrize("cut", [0, 1, 8, 10])
def test_record_of_another_length_is_refused(
    walls: Fortress, pen: Pen, cut: int
) -> None:
    """Nine fields, no more, no less; trailing bytes are refused too."""
    refused(walls, packed([*fields_of(an_add(pen)), 0][:cut]))
    refused(walls, an_add(pen).record.data + b"\0")


@pytest.mark.parametrize("value", [0, b"x", "text", []])
def test_record_that_is_no_array_is_refused(walls: Fortress, value: object) -> None:
    """A scalar or an empty array is no record."""
    refused(walls, msgpack.packb(value))


ADD = [ID, ID, 1, 1, "1", b"", ""]
GENESIS = ["name", "open", ID, [ID], b"n" * 16]


def changed(body: list[Any], at: int, value: object) -> list[Any]:
    """Return `body` with one field changed."""
    return [*body[:at], value, *body[at + 1 :]]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        *(
            ("add", changed(ADD, 4, weight))
            for weight in (
                "NaN",
                "nan",
                "inf",
                "-1",
                "-0",
                "1.0",
                "0.10",
                "01",
                "+1",
                "1e3",
                ".5",
                "1.",
                "",
                " 1",
                "1\n",
                "1_0",
                "\u0661",
                "1000.000000001",
                "1001",
                "0.0000000001",
                "9" * 40,
                1,
                b"1",
            )
        ),
        ("add", changed(ADD, 0, ID[:31])),
        ("add", changed(ADD, 1, ID[:31])),
        ("add", changed(ADD, 2, 0)),
        ("add", changed(ADD, 2, (64 << 20) + 1)),
        ("add", changed(ADD, 3, -1)),
        ("add", changed(ADD, 3, (1 << 40) + 1)),
        ("add", changed(ADD, 5, ID[:31])),
        ("add", changed(ADD, 6, "x" * 1025)),
        ("add", [*ADD, 0]),
        ("remove", [[]]),
        ("remove", [ID]),
        ("remove", [[ID, ID]]),
        ("remove", [[b"\x02" * 32, ID]]),
        ("remove", [[ID[:31]]]),
        ("remove", [["x" * 32]]),
        ("remove", [[n.to_bytes(32, "big") for n in range(IDS_MAX + 1)]]),
        ("recipe", [["s/1", [], [], "", "set"], [ID, ID]]),
        ("recipe", [["s/1", [], [], "I8", "set"], []]),
        ("recipe", [["s/1", [], [], "", "all"], []]),
        ("recipe", [["s/1", [["a", "1"], ["a", "2"]], [], "", "set"], []]),
        ("grant", [ID, 3, "1", 1, 1]),
        ("grant", [ID, -1, "1", 1, 1]),
        ("grant", [ID[:31], 1, "1", 1, 1]),
        ("grant", [ID, 1, "1001", 1, 1]),
        ("grant", [ID, 1, "-1", 1, 1]),
        ("grant", [ID, 1, "1", -1, 1]),
        ("grant", [ID, 1, "1", 2**63, 1]),
        ("grant", [ID, 1, "1", 1, (1 << 40) + 1]),
        ("revoke", [ID[:31], []]),
        ("revoke", [ID, [ID, ID]]),
        ("ban", ["model", ID]),
        ("ban", ["content", ID[:31]]),
        ("ban", ["author", "x" * 32]),
        ("lift", [ID[:31]]),
        ("lift", [ID, ID]),
        ("node", [ID[:31], []]),
        ("node", [(1).to_bytes(32, "little"), []]),
        ("node", [ID, ["host"]]),
        ("node", [ID, ["host:0"]]),
        ("node", [ID, ["host:65536"]]),
        ("node", [ID, ["a b:1"]]),
        ("node", [ID, ["host:1\n"]]),
        ("node", [ID, ["h\u00f6st:1"]]),
        ("node", [ID, [b"host:1"]]),
        ("node", [ID, ["host:1"] * 9]),
        ("genesis", changed(GENESIS, 0, "")),
        ("genesis", changed(GENESIS, 0, "a\x1b[2J")),
        ("genesis", changed(GENESIS, 0, " a")),
        ("genesis", changed(GENESIS, 0, "x" * 65)),
        ("genesis", changed(GENESIS, 1, "closed")),
        ("genesis", changed(GENESIS, 2, b"")),
        ("genesis", changed(GENESIS, 3, [])),
        ("genesis", changed(GENESIS, 3, [ID, ID])),
        ("genesis", changed(GENESIS, 3, [n.to_bytes(32, "big") for n in range(65)])),
        ("genesis", changed(GENESIS, 4, b"n" * 15)),
    ],
)
def test_body_of_another_form_is_refused(
    walls: Fortress, kind: str, body: list[Any]
) -> None:
    """Each kind has one form; NaN, trailing zeros, unsorted ids, false sizes are none."""
    links = [b"", b""] if kind == "genesis" else [ID, ID]
    fields = [1, links[0], ID, 0, b"", links[1], kind, 0, body]
    refused(walls, packed(fields))


@pytest.mark.parametrize("body", [ADD, changed(ADD, 4, "1000"), changed(ADD, 4, "0")])
def test_the_form_that_the_changes_start_from_is_read(body: list[Any]) -> None:
    """The refusals above are for the change, not for the rest of the record."""
    decode_record(packed([1, ID, ID, 0, b"", ID, "add", 0, body]))
    decode_record(packed([1, b"", ID, 0, b"", b"", "genesis", 0, GENESIS]))


@pytest.mark.parametrize(("at", "value"), [(1, ID), (5, ID), (3, 1)])
def test_genesis_that_hangs_on_something_is_refused(
    walls: Fortress, at: int, value: object
) -> None:
    """A genesis names no space, no grant and no record before it."""
    fields = [1, b"", ID, 0, b"", b"", "genesis", 0, GENESIS]
    fields[at] = value
    fields[4] = ID if at == 3 else b""
    refused(walls, packed(fields))


def test_oversize_record_is_refused(walls: Fortress) -> None:
    """64 KiB are the limit to the byte, for known and unknown kinds."""
    fields = [1, ID, ID, 0, b"", ID, "blob", 0, [b""]]
    room = RECORD_BYTES_MAX - len(packed(fields))
    fields[8] = [bytes(room - 2)]  # a length of three bytes instead of one
    assert len(packed(fields)) <= RECORD_BYTES_MAX
    assert decode_record(packed(fields)).kind == "blob"
    fields[8] = [bytes(room)]
    refused(walls, packed(fields), "limit")
