"""False faults: each says of a sound contribution that it is none. All are refused."""

import math
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge import faults
from crdtmerge.codec import encode
from crdtmerge.digest import CHUNK_BYTES, Domain, blob_id_of, chunk_digests
from crdtmerge.errors import (
    CrdtMergeError,
    MalformedProofError,
    MalformedRecordError,
    NotAdmissibleError,
)
from crdtmerge.faults import Fault, check_fault, prove_item, prove_size
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.proofs import LEAF_BYTES, Proof, prove
from crdtmerge.record import decode_record, make_record, sign_record, well_formed
from crdtmerge.sync.messages import SignedBytes
from tests.attacks.fortress import Fortress
from tests.properties.cast import (
    BASE,
    CARL,
    CLEO,
    FAULTS,
    READER,
    STRANGER,
    Pen,
    add_of,
    write,
)

NAN: Final = struct.pack("<f", math.nan)
ITEMS: Final = CHUNK_BYTES // 2
BAD_ITEM: Final = CHUNK_BYTES // 4 + 1000
"""In the second chunk of two."""


def values(seed: int) -> bytearray:
    """Return two chunks of finite numbers, which differ from leaf to leaf."""
    rng = random.Random(seed)
    leaf = [rng.uniform(-1, 1) for _ in range(ITEMS)]
    return bytearray(struct.pack(f"<{ITEMS}f", *leaf))


GOOD: Final = bytes(values(1))
_bad = values(2)
_bad[4 * BAD_ITEM : 4 * BAD_ITEM + 4] = NAN
BAD: Final = bytes(_bad)


def entry(name: str, dtype: str, data: bytes, width: int) -> TensorEntry:
    """Return the entry of a tensor with these bytes."""
    return TensorEntry(name, dtype, (len(data) // width,), blob_id_of(data))


OTHERS: Final = tuple(
    entry(f"z{n:02}", "F32", bytes([n, 0, 0, 0]), 4) for n in range(60)
)
"""So that what a content id covers has several leaves, and a path."""
HONEST: Final = Manifest(
    "full",
    BASE,
    (
        entry("a", "F32", GOOD, 4),
        # Bits that are NaN in F32 are plain integers here.
        entry("b", "I32", BAD, 4),
        entry("c", "F32", GOOD[:CHUNK_BYTES], 4),
        *OTHERS,
    ),
)
FAULTY: Final = Manifest(
    "full", BASE, (entry("a", "F32", BAD, 4), entry("b", "F32", GOOD, 4), *OTHERS)
)


def chunk(data: bytes, number: int) -> bytes:
    """Return one chunk."""
    return data[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]


TRUE: Final = prove_item(
    FAULTY, FAULTY.tensors[0], BAD_ITEM, chunk_digests(BAD), chunk(BAD, 1)
)
SIZE: Final = prove_size(
    Manifest("full", BASE, (replace(FAULTY.tensors[0], shape=(7,)),)),
    replace(FAULTY.tensors[0], shape=(7,)),
    len(BAD),
    chunk_digests(BAD),
)


def of_entry(manifest: Manifest, index: int) -> dict[str, object]:
    """Return the fields that prove an entry of a manifest, truly."""
    at, proof = faults._prove_entry(manifest, manifest.tensors[index])
    return {"content": manifest.content_id, "entry_at": at, "entry": proof}


def of_item(data: bytes, item: int, dtype_width: int = 4) -> dict[str, object]:
    """Return the fields that prove an item of a blob, truly."""
    number, at = divmod(item * dtype_width, CHUNK_BYTES)
    listed = len(data).to_bytes(8, "little") + b"".join(chunk_digests(data))
    chunks = prove(Domain.BLOB, listed, [(8 + 32 * number, 32)])[1]
    shown = prove(Domain.CHUNK, chunk(data, number), [(at, dtype_width)])[1]
    return {"item": item, "chunks": chunks, "data": shown}


T = TypeVar("T", Fault, Proof)


def changed(value: T, **fields: object) -> T:
    """Return a fault or a proof with other fields."""
    return replace(value, **fields)  # type: ignore[arg-type]


def false() -> Iterator[tuple[str, Fault]]:
    """Yield a name and a false fault, of every sort that we could think of."""
    good = of_entry(HONEST, 0)
    yield "a number", changed(TRUE, **good | of_item(GOOD, 5))
    integers = of_entry(HONEST, 1) | of_item(BAD, BAD_ITEM)
    yield "integers", changed(TRUE, **integers)
    yield "another content", changed(TRUE, content=HONEST.content_id)
    yield "a chunk of another blob", changed(TRUE, **good)
    listed = of_item(GOOD, BAD_ITEM)["chunks"]
    yield "the list of another blob", changed(TRUE, chunks=listed)
    yield "data of another chunk", changed(TRUE, **good, chunks=listed)
    yield "the item of another chunk", changed(TRUE, item=BAD_ITEM - CHUNK_BYTES // 4)
    yield "another item", changed(TRUE, item=BAD_ITEM + 1)
    yield "an item beyond the tensor", changed(TRUE, item=ITEMS)
    yield "an item before the tensor", changed(TRUE, item=-1)
    yield "a size as declared", changed(SIZE, **good, chunks=_size(GOOD))
    yield "the size of another blob", changed(SIZE, chunks=_size(GOOD[:-4]))
    lie = SIZE.chunks.leaves.replace(len(BAD).to_bytes(8, "little"), bytes(8), 1)
    yield "a size made up", changed(SIZE, chunks=changed(SIZE.chunks, leaves=lie))
    yield from _elsewhere()
    yield from _with_broken_proofs()


def _elsewhere() -> Iterator[tuple[str, Fault]]:
    """Yield faults whose entry does not stand where they say."""
    offset, size = TRUE.entry_at
    for by in (-1, 1, -offset, LEAF_BYTES, 2**60):
        yield f"the entry {by} bytes on", changed(TRUE, entry_at=(offset + by, size))
        yield f"an entry of {by} more", changed(TRUE, entry_at=(offset, size + by))
    # The same bytes are finite, and an item of them NaN, at other dtypes and shapes.
    true = FAULTY.tensors[0]
    others = [
        replace(true, dtype="F64", shape=(ITEMS // 2,)),
        replace(true, dtype="BF16", shape=(2 * ITEMS,)),
        replace(true, shape=(2, ITEMS)),
        replace(HONEST.tensors[1], dtype="F32"),
    ]
    for other in others:
        for manifest in (FAULTY, HONEST):
            leaf, data = manifest.content_bytes, encode(other.to_value())
            at = leaf.index(encode(manifest.tensors[0].to_value()))
            leaf = leaf[:at] + data + leaf[at + len(data) :]
            place = (at, len(data))
            proof = prove(Domain.CONTENT, leaf, [place])[1]
            fields = {"content": manifest.content_id, "entry_at": place}
            name = f"{other.dtype} {other.shape} in {manifest.content_id.hex()[:4]}"
            yield name, changed(TRUE, entry=proof, **fields)


def _with_broken_proofs() -> Iterator[tuple[str, Fault]]:
    """Yield faults of which one of the three proofs is not what it was."""
    for name in ("entry", "chunks", "data"):
        proof: Proof = getattr(TRUE, name)
        path = proof.siblings
        ways = {
            "a cut path": changed(proof, siblings=path[:-32]),
            "no path": changed(proof, siblings=b""),
            "a longer path": changed(proof, siblings=path + bytes(32)),
            "swapped": changed(proof, siblings=path[:-64] + path[-32:] + path[-64:-32]),
            "one byte more": changed(proof, length=proof.length + 1),
            "one byte less": changed(proof, length=proof.length - 1),
            "twice as long": changed(proof, length=2 * proof.length + LEAF_BYTES),
            "no leaves": changed(proof, leaves=b""),
            "a cut leaf": changed(proof, leaves=proof.leaves[:-1]),
            "one leaf more": changed(proof, leaves=proof.leaves + bytes(LEAF_BYTES)),
        }
        for way, lie in ways.items():
            if lie != proof:  # a short input has no path that could be cut
                yield f"{way} of {name}", changed(TRUE, **{name: lie})


def _size(data: bytes) -> Proof:
    listed = len(data).to_bytes(8, "little") + b"".join(chunk_digests(data))
    return prove(Domain.BLOB, listed, [(0, 8)])[1]


FALSE: Final = dict(false())


NO_FAULT: Final = (
    *("a number", "integers", "another item", "a size as declared"),
    *("an item beyond", "an item before", "F64", "BF16"),
    *("the entry -", "the entry 1 ", "an entry of -", "an entry of 1 "),
)
"""How the names begin whose proofs are true, of what is no fault."""


def error_of(name: str) -> type[MalformedRecordError]:
    """Return by what a false fault is refused: it leads nowhere, or shows nothing."""
    return MalformedRecordError if name.startswith(NO_FAULT) else MalformedProofError


def bytes_of(fault: Fault, pen: Pen) -> SignedBytes:
    """Return a record of a fault as a member's own program signs it."""
    after = pen.last.get(CLEO.public)
    record = make_record(
        space=pen.genesis.record.id,
        author=CLEO.public,
        author_seq=after.author_seq + 1 if after else 0,
        prev=after.id if after else b"",
        auth=pen.grants[CLEO.public].id,
        body=fault,
    )
    signed = sign_record(record, CLEO)
    return SignedBytes(record.data, signed.signature)


@pytest.fixture(name="sound", scope="module")
def fixture_sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fortress]:
    """One fortress for all, which shows both models: no false fault may change it."""
    fortress = Fortress.at(tmp_path_factory.mktemp("sound"))
    for manifest in (HONEST, FAULTY):
        fortress.say(CLEO, add_of(manifest.content_id))
    fortress.keep()
    yield fortress
    fortress.home.close()


def test_the_true_ones_are_true() -> None:
    """What the false ones are made from is accepted, so they fail for their own reason."""
    check_fault(TRUE)
    check_fault(SIZE)
    assert len(FALSE) > 40


@pytest.mark.parametrize("name", FALSE)
def test_false_fault_proof(sound: Fortress, name: str) -> None:
    """It breaks the rules as a malformed record does: nothing of the batch is kept."""
    fine = sound.next(CLEO, add_of(BASE))
    try:
        lie = bytes_of(FALSE[name], sound.pen)
    except MalformedRecordError:
        return  # not even its form holds
    batch = [SignedBytes(fine.record.data, fine.signature), lie]
    with sound.refuses(error_of(name)):
        sound.spaces().receive(sound.space, batch)


@pytest.mark.parametrize("name", ["a number", "a size made up", "a cut path of entry"])
def test_false_fault_proof_of_a_member(sound: Fortress, name: str) -> None:
    """Its node is dropped, and both models are as visible as before."""
    lie = bytes_of(FALSE[name], sound.pen)
    sound.withstands(error_of(name), lambda siege: siege.feeds(CARL, lie))
    view = sound.spaces().view(sound.space)
    assert {HONEST.content_id, FAULTY.content_id} < {v.content for v in view.visible}


@given(st.integers(0, 1 << 30), st.integers(1, 255), st.sampled_from((TRUE, SIZE)))
def test_changed_byte_of_a_fault_proof(at: int, flip: int, fault: Fault) -> None:
    """No byte of a fault's body can be another: signed anew, it is still no record."""
    pen = Pen.start()
    body = bytearray(encode(fault.to_value()))
    whole = bytes_of(fault, pen)
    start = whole.data.index(bytes(body))
    data = bytearray(whole.data)
    data[start + at % len(body)] ^= flip
    try:
        record = make_signed(bytes(data))
    except CrdtMergeError:
        return
    with pytest.raises(MalformedRecordError):
        well_formed(record.data, record.signature)


def make_signed(data: bytes) -> SignedBytes:
    """Sign bytes as their author's own program does, if they are a record at all."""
    signed = sign_record(decode_record(data), CLEO)
    return SignedBytes(data, signed.signature)


def test_fault_proof_of_a_stranger(fortress: Fortress) -> None:
    """A true proof needs the rank of reader, no more and no less."""
    fortress.say(CLEO, add_of(FAULTS[0].content))
    fortress.keep()
    stranger = write(STRANGER, fortress.pen.genesis.record, FAULTS[0])
    fortress.withstands(NotAdmissibleError, lambda siege: siege.feeds(CARL, stranger))
    shown = len(fortress.spaces().view(fortress.space).visible)
    true = fortress.next(READER, FAULTS[0])
    fortress.takes([true], lambda siege: siege.feeds(CARL, true))
    assert len(fortress.spaces().view(fortress.space).visible) == shown - 1


def test_flood_of_one_fault(fortress: Fortress) -> None:
    """Said again and again, each time as another record, a fault is checked once."""
    pen, space = fortress.pen, fortress.space
    fortress.say(CLEO, add_of(FAULTY.content_id))
    fortress.keep()
    spaces = fortress.spaces()
    check_fault.cache_clear()
    flood = []
    for _ in range(200):
        signed = pen.write(CLEO, TRUE)
        flood.append(SignedBytes(signed.record.data, signed.signature))
    check_fault.cache_clear()
    began = time.process_time()
    spaces.receive(space, flood)
    spent = time.process_time() - began
    assert check_fault.cache_info().misses == 1
    assert len(spaces.view(space).visible) == 2
    assert spent < 1.0, spent
