"""What is done with files of a home: read as after a disk, a person or a copy changed them.

Owns the reads of the targets whose refusals are `HOME`.
"""

import io
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final
from unittest import mock

from crdtmerge.bodies import SpaceId
from crdtmerge.codec import decode, encode
from crdtmerge.digest import (
    CHUNK_BYTES,
    BlobId,
    Domain,
    blob_id_of,
    chunk_digests,
    digest,
)
from crdtmerge.errors import (
    CorruptBlobError,
    DamagedStateError,
    EncodingError,
    NotFoundError,
)
from crdtmerge.formats.journal import noted_in
from crdtmerge.identity import Purpose, SigningKey
from crdtmerge.resolve import kept
from crdtmerge.resolve.accumulators import parts_of
from crdtmerge.sync.attestations import decode_attestation
from nodes.agent import AgentKey, find
from nodes.anchor import ANCHOR_FILE, Anchor, SpaceSigner
from nodes.commands import asked_for
from nodes.home import Home, create_home
from nodes.keys import AUTHOR_KEY_FILE, NODE_KEY_FILE, read_keys
from nodes.lock import _held_by
from nodes.operations.contents import kept_exponents
from nodes.passphrase import Passphrase
from nodes.sealing import parse
from nodes.spaces import Spaces
from nodes.store.attested import _parsed
from nodes.store.disk import SYSTEM_DISK
from nodes.store.memo import _known, _seal
from nodes.store.packed import PackedFile, claimed
from nodes.store.ranges import Stored
from nodes.upkeep.scrubbing import Scrubber
from nodes.witness import said
from tests.fuzz.scratch import scratch, written
from tests.fuzz.seeds import BIG
from tests.fuzz.sums import sealed_of, sums_of
from tests.fuzz.target import HOME, Refusals, either

VECTORS: Final = json.loads(
    (Path(__file__).parent.parent / "vectors/formats.json").read_text()
)
PASSPHRASE: Final = Passphrase(b"passphrase", "a test")
PLANES: Final = bytes.fromhex(VECTORS["kept sums 2 planes"])
STAMP: Final = bytes(32)
"""Of the layout of an output."""


def read_sealed_key(data: bytes) -> None:
    """Read an encrypted key, also with its checksum made right; open a cheap one."""

    def read(lines: bytes) -> None:
        key = parse(lines)
        assert len(key.public) == 32
        if key._cost.memory <= 1 << 16 and key._cost.p == 1:
            key.open(PASSPHRASE.secret)

    either(HOME, lambda: read(data), lambda: read(sealed_of(data)))


def read_key_files(data: bytes) -> None:
    """Read the key files of a home, both of them these bytes."""
    for name in (AUTHOR_KEY_FILE, NODE_KEY_FILE):
        written(f"keys/{name}", data).chmod(0o600)
    author, node = read_keys(scratch() / "keys", lambda *_: PASSPHRASE)
    assert author.public == node.public


def read_sums(data: bytes) -> None:
    """Read kept sums: a value for their header, a zero byte, and their planes."""
    header, _, planes = data.rpartition(b"\0planes")
    sums = kept.from_bytes(sums_of(header), planes)
    sums.verify()
    last = sums.sums.shape[1]
    for part in parts_of(last):
        assert sums.sums.part(part).shape == (sums.sums.shape[0], len(part))
    again = kept.header_of(sums.sums, sums.last, sums.packed)
    assert again == sums_of(header)


def read_sums_file(data: bytes) -> None:
    """Read a header of kept sums as it stands, over the planes of the golden one."""
    kept.from_bytes(data, PLANES)


BLOB: Final = BIG[:CHUNK_BYTES] + b"tail!"
PACKED_OF: Final = blob_id_of(BLOB)


def read_packed(data: bytes) -> None:
    """Read a packed blob: its index made right for the lengths that the input begins with.

    Two lengths of two bytes each, and then the chunks.
    """
    base = BlobId(digest(Domain.BLOB, b"base"))
    path = written("packed", data)
    with SYSTEM_DISK.open(path) as file:
        claimed(file, path)
    lengths = [int.from_bytes(data[i : i + 2], "big") for i in (0, 2)]
    index = b"crdtPAK1" + PACKED_OF + base + len(BLOB).to_bytes(8, "little")
    index += b"".join(length.to_bytes(4, "little") for length in lengths)
    content = index + digest(Domain.PACKED, index) + data[4:]
    path = written("packed.whole", content)
    stored = Stored(
        PACKED_OF,
        len(BLOB),
        tuple(chunk_digests(BLOB)),
        path,
        0,
        False,
        len(content),
        base,
    )
    with SYSTEM_DISK.open(path) as file:
        packed = PackedFile(file, stored)
        for i in range(2):
            raw = packed.chunk(i, base_chunk)
            assert raw == BLOB[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES]


PACKED: Final[Refusals] = (CorruptBlobError,)


def base_chunk(index: int) -> bytes:
    """Return a chunk of the blob that the packed one is encoded against."""
    return BLOB[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


def read_journal(data: bytes) -> None:
    """Read what an output under way noted."""
    for name, noted in noted_in(written("journal", data), STAMP).items():
        name.encode(errors="surrogatepass")
        assert len(noted.digest) == 32


# --- what the store of a home remembers ---------------------------------------------------


@cache
def home() -> Home:
    """Return a home that stays open."""
    seeds = bytes(32), bytes([1]) * 32
    return create_home(
        scratch() / "home",
        author_seed=seeds[0],
        node_seed=seeds[1],
        generation=bytes(16),
    )


def read_anchor(data: bytes) -> None:
    """Open the anchor of a home: its file, and two values of the store, between zeros.

    Then sign with it, where it has no doubt.
    """
    text, place, doubts = (*data.split(b"\0\0", 2), b"", b"")[:3]
    held = home()
    (scratch() / "home" / ANCHOR_FILE).write_bytes(text)
    held.local.set_value("anchor", place)
    held.local.set_value("doubts", doubts)
    folder = scratch() / "home"
    anchor = Anchor(folder, held.local, held.records, SYSTEM_DISK, write=True)
    signer = SpaceSigner(SigningKey(bytes(32)), anchor, SpaceId(bytes(32)))
    signer.sign(Purpose.RECORD, b"message")


def read_row(data: bytes) -> None:
    """Read a row of the memo, a canonical value, and as if its seal were right."""
    try:
        value = decode(data, len(data))
    except EncodingError as e:
        raise DamagedStateError("no row") from e
    row: Sequence[object] = value if isinstance(value, list) else [value]
    key = bytes(32)
    sealed = [*row[:7], _seal([key, *row[:7]])]  # type: ignore[list-item]
    for one in (row, sealed):
        found = _known(key, one)
        if found is not None:
            assert encode([found.digest, found.place.offset, found.place.size])


def read_scrub_place(data: bytes) -> None:
    """Read where the last check of a home's blobs ended."""
    home().local.set_value("scrub", data)
    Scrubber(home(), Spaces(home().records, home().blobs), 0)


def read_exponents(data: bytes) -> None:
    """Read what was kept of a base."""
    for name, number in (kept_exponents(data) or {}).items():
        assert isinstance(name, str)
        assert type(number) is int


def read_attested(data: bytes) -> None:
    """Read what a home attests, its seal made right: what it says can be attested."""
    made = _parsed(digest(Domain.ATTESTED, data) + data)
    if made is not None:
        attested = said(SpaceId(bytes(32)), bytes(32), made)
        assert decode_attestation(attested.encode()) == attested


def read_lock(data: bytes) -> None:
    """Read who holds the lock of a home."""
    assert str(_held_by(data[:64]))


def read_request(data: bytes) -> None:
    """Read what is asked over the control socket."""
    verb, arguments = asked_for(data)
    assert isinstance(verb, str)
    assert isinstance(arguments, dict)


# --- an agent that holds keys -------------------------------------------------------------


class Replies:
    """A connection to an agent whose answers are given, whatever it is asked."""

    def __init__(self, data: bytes) -> None:
        self._left = io.BytesIO(data)

    def send(self, _: bytes) -> None:
        """Take a question."""

    def recv(self, size: int) -> bytes:
        """Return the next bytes of the answers."""
        return self._left.read(size)

    def close(self) -> None:
        """Close it."""


def read_agent(data: bytes) -> None:
    """Find a key of an agent, and have it sign: two answers, or one."""
    if int.from_bytes(data[5:9], "big") > KEYS_MAX:
        raise NotFoundError("more keys than are tried here")

    def read(use: Callable[[], object]) -> None:
        replies = Replies(data)
        with mock.patch("paramiko.agent.get_agent_connection", return_value=replies):
            use()

    key = AgentKey(AGENT_KEY.public)
    either(
        HOME,
        lambda: read(lambda: find("a comment")),
        lambda: read(lambda: key.sign(Purpose.PROBE, b"message")),
    )


KEYS_MAX: Final = 1 << 10
"""Paramiko counts as far as an agent tells it to, up to 2**32, and that takes hours."""
AGENT_KEY: Final = SigningKey(bytes([9]) * 32)
