"""Valid inputs to begin with: what a home holds, as our own code writes it.

Owns the seeds of the targets of `reading_homes`.
"""

from collections.abc import Iterator

from crdtmerge.codec import Value, encode
from crdtmerge.digest import CHUNK_BYTES, BlobId
from crdtmerge.encodings import Form
from crdtmerge.encodings import encode as encode_chunk
from crdtmerge.formats.journal import Journal
from crdtmerge.identity import Purpose
from crdtmerge.numerics import Data
from crdtmerge.resolve.kept import Packing, header_of
from nodes.agent import AgentKey
from nodes.sealing import Cost, seal
from tests.fuzz.reading_homes import AGENT_KEY
from tests.fuzz.scratch import scratch
from tests.fuzz.seeds import BIG
from tests.unit.peers import SPACE
from tests.vectors.formats import LAST, MANIFEST, OWNER, kept_sums

# --- files of a home --------------------------------------------------------------------


def sealed_keys() -> Iterator[bytes]:
    """Yield encrypted keys: with their checksum, and the lines before it."""
    sealed = seal(
        OWNER.seed, b"passphrase", salt=bytes(16), nonce=bytes(12), cost=Cost(4, 1, 1)
    )
    yield sealed
    yield sealed[: sealed.index(b"checksum")]
    yield sealed.replace(b"scrypt 4 1 1", b"scrypt 17 8 1")


def key_files() -> Iterator[bytes]:
    """Yield keys in the clear, and encrypted."""
    yield f"{OWNER.seed.hex()}\n".encode()
    yield AgentKey(OWNER.public).form()
    yield next(sealed_keys())


def sums() -> Iterator[bytes]:
    """Yield the value of a header of kept sums, with the planes."""
    found, planes = kept_sums(), list[Data]()
    packing = Packing(found.grid, planes.append)
    packing.add(found.part(range(3)))
    header = header_of(found, LAST, packing.packed)
    yield header[16:-32] + b"\0planes" + b"".join(bytes(part) for part in planes)


def sums_files() -> Iterator[bytes]:
    """Yield a header of kept sums as it lies in its file."""
    found, planes = kept_sums(), list[Data]()
    packing = Packing(found.grid, planes.append)
    packing.add(found.part(range(3)))
    yield header_of(found, LAST, packing.packed)


def packed() -> Iterator[bytes]:
    """Yield a packed blob: two lengths, and its chunks."""
    chunks = (BIG[:CHUNK_BYTES], b"tail!")
    for form, width in ((Form.DIFFERENCE, 2), (Form.XOR, 1), (Form.GROUPED, 4)):
        made = [
            encode_chunk(chunk, width=width, against=chunk, form=form) or chunk
            for chunk in chunks
        ]
        yield b"".join(len(one).to_bytes(2, "big") for one in made) + b"".join(made)


def journals() -> Iterator[bytes]:
    """Yield a journal of two tensors, and one that was torn."""
    path = scratch() / "made.journal"
    journal = Journal(path, bytes(32))
    journal.note("a", bytes(32), BlobId(bytes(32)))
    journal.note("é b", bytes(32), BlobId(bytes([1]) * 32))
    journal.close()
    data = path.read_bytes()
    path.unlink()
    yield data
    yield data[:-9]


def anchors() -> Iterator[bytes]:
    """Yield an anchor, the place that a store remembers, and doubts."""
    place = encode([7, "stamp", 8])
    yield b"00000000000000000007\n\0\0" + place + b"\0\0" + encode([])
    yield b"00000000000000000008\n\0\0" + place + b"\0\0" + encode([[SPACE, 1, 1]])
    yield b"\0\0" + encode([0, "", 1]) + b"\0\0" + encode([])


def rows() -> Iterator[bytes]:
    """Yield a row of the memo, its seal left for the target."""
    yield encode([b"/a/model.safetensors", bytes(32), 8, 24, 1000, 1 << 60, 77, b""])


def scrub_places() -> Iterator[bytes]:
    """Yield where a check ended."""
    yield encode([1_700_000_000, bytes(32), 5, 3, 1_700_000_000])


def exponents() -> Iterator[bytes]:
    """Yield exponents of a base."""
    yield b'{"a.weight": 3, "b": -2}'


def attested() -> Iterator[bytes]:
    """Yield what a home attests, its seal left for the target."""
    listed: list[Value] = [entry.to_value() for entry in MANIFEST.tensors]
    yield encode([1, 7, bytes(32), 2, "CPython 3.11, x86_64", listed])


def locks() -> Iterator[bytes]:
    """Yield who holds a lock."""
    yield from (b"123 node\n", b"4567890 command\n")


def requests() -> Iterator[bytes]:
    """Yield requests on the control socket."""
    yield b'{"verb": "status", "arguments": {}}'
    yield b'{"verb": "space_grant", "arguments": {"author": "ab", "rank": "reader"}}'


def agents() -> Iterator[bytes]:
    """Yield what an agent answers: its keys, and a signature."""
    kind = b"ssh-ed25519"
    blob = string(kind) + string(AGENT_KEY.public)
    listed = (1).to_bytes(4, "big") + string(blob) + string(b"a comment")
    yield string(bytes([12]) + listed)
    signature = AGENT_KEY.sign(Purpose.PROBE, b"message")
    signed = string(string(kind) + string(signature))
    yield string(bytes([12]) + listed) + string(bytes([14]) + signed)


def string(data: bytes) -> bytes:
    """Return bytes as the protocol of ssh-agent has them, their length before them."""
    return len(data).to_bytes(4, "big") + data
