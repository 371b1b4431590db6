"""Fault records: what they show and how they are made. False ones: tests/attacks."""

import math
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import BODIES, Ban
from crdtmerge.codec import decode, encode
from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id, blob_id_of, chunk_digests
from crdtmerge.errors import (
    EncodingError,
    MalformedManifestError,
    MalformedRecordError,
    NotAllowedError,
)
from crdtmerge.faults import (
    LIST_BYTES_MAX,
    NOT_FINITE,
    Fault,
    check_fault,
    find,
    first_not_finite,
    prove_item,
    prove_size,
)
from crdtmerge.manifest import (
    FLOAT_DTYPES,
    ITEM_BYTES,
    MANIFEST_BYTES_MAX,
    Manifest,
    TensorEntry,
    tensor_from_value,
)
from crdtmerge.numerics import inspect
from crdtmerge.proofs import LEAF_BYTES, Proof
from crdtmerge.record import RECORD_BYTES_MAX, decode_record, make_record
from crdtmerge.replica import Replica
from tests.properties.cast import (
    BASE,
    CLEO,
    FAULTS,
    OWNERS,
    READER,
    STRANGER,
    Pen,
    add_of,
    wire,
)

NAN = struct.pack("<f", math.nan)


def model(*parts: bytes, dtype: str = "F32") -> Manifest:
    """Return the manifest of a model with these tensors."""
    width = ITEM_BYTES[dtype]
    entries = (
        TensorEntry(f"layer.{n:04}.weight", dtype, (len(p) // width,), blob_id_of(p))
        for n, p in enumerate(parts)
    )
    return Manifest("full", BASE, tuple(entries))


def chunk_of(data: bytes, item: int, width: int = 4) -> bytes:
    """Return the chunk in which an item lies."""
    start = item * width // CHUNK_BYTES * CHUNK_BYTES
    return data[start : start + CHUNK_BYTES]


def shown(manifest: Manifest, index: int, data: bytes, item: int) -> Fault:
    """Return the fault of an item, checked as a peer checks it: from its bytes."""
    tensor = manifest.tensors[index]
    chunk = chunk_of(data, item, ITEM_BYTES[tensor.dtype])
    made = prove_item(manifest, tensor, item, chunk_digests(data), chunk)
    read = Fault.from_value(decode(encode(made.to_value()), RECORD_BYTES_MAX))
    assert read == made
    check_fault(read)
    return read


@pytest.mark.parametrize(
    "item", [0, 255, 256, CHUNK_BYTES // 4 - 1, CHUNK_BYTES // 4, 700_000, 786_431]
)
def test_a_nan_anywhere_is_shown(item: int) -> None:
    """At both ends of leaves and chunks, in a tensor of three chunks."""
    data = bytearray(3 * CHUNK_BYTES)
    data[4 * item : 4 * item + 4] = NAN
    found = find(shown(model(bytes(8), bytes(data)), 1, bytes(data), item))
    assert found.tensor.name == "layer.0001.weight"
    assert found.reason == f"item {item} is NaN or infinity"


def test_a_nan_deep_in_64_gigabytes_is_shown() -> None:
    """From the list of chunk digests and one chunk: nobody reads the rest again."""
    chunk = bytes(500_000) + NAN + bytes(CHUNK_BYTES - 500_004)
    chunks = [n.to_bytes(32, "big") for n in range(1 << 16)]
    chunks[60_000] = chunk_digests(chunk)[0]
    size = len(chunks) * CHUNK_BYTES
    tensor = TensorEntry("layer.0400.huge", "F32", (size // 4,), blob_id(size, chunks))
    manifest = model(*(bytes([n % 250, n // 250]) * 2 for n in range(400)))
    manifest = replace(manifest, tensors=(*manifest.tensors, tensor))
    item = (60_000 * CHUNK_BYTES + 500_000) // 4
    fault = prove_item(manifest, tensor, item, chunks, chunk)
    check_fault(fault)
    assert find(fault).reason == f"item {item} is NaN or infinity"
    assert len(encode(fault.to_value())) < 8 << 10


def test_each_entry_of_a_long_manifest_is_found() -> None:
    """The first, the last, and one that straddles leaves of what the content id covers."""
    manifest = model(*(bytes([n]) * 4 + NAN for n in range(60)))
    assert len(manifest.content_bytes) > 3 * LEAF_BYTES
    for index in (0, 15, 16, 17, 59):
        fault = shown(manifest, index, bytes([index]) * 4 + NAN, 1)
        assert find(fault).tensor == manifest.tensors[index]


def test_the_longest_name_fits() -> None:
    """An entry may have 512 characters of four bytes; the proof shows four leaves."""
    entry = TensorEntry("\U0001f600" * 512, "F32", (1,) * 8, blob_id_of(NAN))
    before = model(bytes(700), bytes(701))
    manifest = replace(before, tensors=(*before.tensors, entry))
    assert find(shown(manifest, 2, NAN, 0)).tensor == entry


@pytest.mark.parametrize("dtype", sorted(FLOAT_DTYPES))
def test_what_is_not_finite_is_what_the_contract_says(dtype: str) -> None:
    """Of all bit patterns (of wide ones, of some) ingest and faults think alike."""
    width = ITEM_BYTES[dtype]
    kind = f"<u{width}"
    edges = [NOT_FINITE[dtype] + change for change in (-1, 0, 1)]
    if width == 1:
        patterns = np.arange(256, dtype=kind)
    else:
        rng = np.random.Generator(np.random.Philox(1))
        spread = rng.integers(0, 256**width - 1, 3000, kind[1:], endpoint=True)
        patterns = np.array([*edges, 0, 1, *spread], dtype=kind)
    for pattern in patterns:
        data = pattern.astype(kind).tobytes()
        finite = inspect(data, dtype).finite
        assert (first_not_finite(dtype, data) is None) == finite, pattern
    assert first_not_finite(dtype, b"") is None


def test_the_first_of_several_is_named() -> None:
    """Who looks at the same bytes shows the same item."""
    items = struct.pack("<6f", 1, 2, -math.inf, 4, math.nan, 6)
    assert first_not_finite("F32", items) == 2
    assert first_not_finite("I32", items) is None


def test_another_size_is_shown() -> None:
    """A blob with more or fewer bytes than dtype and shape declare."""
    data = bytes(CHUNK_BYTES + 100)
    for items in (0, 1, len(data) // 4 + 1):
        entry = TensorEntry("t", "F32", (items,), blob_id_of(data))
        manifest = Manifest("full", BASE, (entry,))
        fault = prove_size(manifest, entry, len(data), chunk_digests(data))
        read = Fault.from_value(decode(encode(fault.to_value()), RECORD_BYTES_MAX))
        check_fault(read)
        assert find(read).reason.startswith(f"its blob has {len(data)} bytes, not the")


def test_what_is_well_is_not_shown() -> None:
    """Nobody makes a false fault by mistake."""
    data = bytes(4000)
    manifest = model(data)
    with pytest.raises(MalformedRecordError):
        prove_item(manifest, manifest.tensors[0], 3, chunk_digests(data), data)
    with pytest.raises(MalformedRecordError):
        prove_size(manifest, manifest.tensors[0], 4000, chunk_digests(data))


def test_the_largest_fault_fits_in_a_record() -> None:
    """With every length at its limit: four leaves of entry, two of list, one of data."""

    def worst(length: int, leaves: int) -> Proof:
        levels = math.ceil(math.log2(-(-length // LEAF_BYTES)))
        return Proof(length, bytes((leaves + 1) * LEAF_BYTES), bytes(32 * 3 * levels))

    fault = Fault(
        FAULTS[0].content,
        (2**32, 2**32),
        worst(MANIFEST_BYTES_MAX, 4),
        2**40,
        worst(LIST_BYTES_MAX, 2),
        worst(CHUNK_BYTES, 1),
    )
    size = len(encode(fault.to_value()))
    assert size < RECORD_BYTES_MAX // 3, size


def test_the_store_does_not_check_again() -> None:
    """A record is read back without its proof: what is in the store was checked before."""
    false = replace(FAULTS[0], content=FAULTS[1].content)
    record = make_record(
        space=bytes(32),
        author=CLEO.public,
        author_seq=0,
        prev=b"",
        auth=b"a" * 32,
        body=false,
    )
    assert decode_record(record.data).body == false


def test_a_fault_needs_no_bytes_and_hides_its_content() -> None:
    """The visible root, and so the merge id, are those of a set without the content."""
    pen = Pen.start()
    good = pen.add(CLEO, add_of(BASE).content)
    before = pen.opset().view
    pen.write(CLEO, add_of(FAULTS[0].content))
    assert pen.opset().view.visible_root != before.visible_root
    fault = pen.write(CLEO, FAULTS[0]).record
    view = pen.opset().view
    assert view.visible_root == before.visible_root
    assert [v.adds for v in view.visible] == [(good,)]
    assert dict(view.faults) == {FAULTS[0].content: fault.id}


def test_an_old_version_asks_for_an_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not know the kind keeps the record, and does not merge on without it."""
    pen = Pen.start()
    pen.write(CLEO, add_of(FAULTS[0].content))
    fault = pen.write(CLEO, FAULTS[0]).record
    monkeypatch.delitem(BODIES, Fault.KIND)
    opset = pen.opset()
    assert opset.view.unknown_critical == ("fault",)
    assert opset.records[fault.id].data == fault.data


def test_the_lowest_record_names_a_fault() -> None:
    """Of several that show one content; and of a content that nobody added, too."""
    pen = Pen.start()
    records = [pen.write(author, FAULTS[1]).record.id for author in (CLEO, READER)]
    assert dict(pen.opset().view.faults) == {FAULTS[1].content: min(records)}


def test_a_replica_says_what_is_true_if_it_may() -> None:
    """A reader may; who has no rights is told so; nobody signs a false one."""
    pen = Pen.start()
    signed = Replica(pen.opset(), READER).report(FAULTS[0])
    assert wire(signed).record.body == FAULTS[0]
    with pytest.raises(NotAllowedError):
        Replica(pen.opset(), STRANGER).report(FAULTS[0])
    with pytest.raises(MalformedRecordError):
        Replica(pen.opset(), READER).report(
            replace(FAULTS[0], content=FAULTS[1].content)
        )
    pen.write(OWNERS[0], Ban("author", READER.public))
    with pytest.raises(NotAllowedError):
        Replica(pen.opset(), READER).report(FAULTS[0])


NASTY = st.text(
    st.sampled_from("\x00\x14 ab8F32UBI\x94\xa3ÔĔƔƣ\u1503\u0923\uff14\U00014a63"),
    max_size=12,
)
DIGESTS = st.lists(
    st.sampled_from((*b"\x00\xc4\x20\x94\xa1\xa3F32\x91\x92\xcd\xce\xcf\xd9ab", 0xC2)),
    min_size=32,
    max_size=32,
).map(bytes)
ENTRIES = st.builds(
    lambda name, dtype, shape, blob: TensorEntry(
        name or "x", dtype, tuple(shape), BlobId(blob)
    ),
    NASTY,
    st.sampled_from(("F32", "BF16", "F8_E4M3", "I8", "U64")),
    st.lists(st.sampled_from((0, 1, 0x94, 50208, 0x94A146, 2**39)), max_size=3),
    DIGESTS,
)


def misread(entries: list[TensorEntry]) -> list[TensorEntry]:
    """Return what can be read that ends with a true blob, but begins at no true entry.

    That its dtype, shape and blob are those of the entry that ends there is checked.
    """
    covered = encode(["full", bytes(BASE), [e.to_value() for e in entries]])
    found, end = [], len(covered)
    for entry in reversed(entries):
        begins = end - len(encode(entry.to_value()))
        for start in (n for n in range(end) if covered[n] == 0x94 and n != begins):
            try:
                read = tensor_from_value(decode(covered[start:end], 4096))
            except (EncodingError, MalformedManifestError):
                continue
            assert replace(read, name=entry.name) == entry
            found.append(read)
        end = begins
    return found


@given(st.lists(ENTRIES, min_size=1, max_size=3))
def test_an_entry_is_not_misread(entries: list[TensorEntry]) -> None:
    """Even if names and digests are chosen to mislead, none is taken for another's."""
    misread(entries)


def test_only_a_name_can_be_misread() -> None:
    """Within a name, or from within the digest before: the tensor is the true one.

    One name of the bytes e1 94 a5 and five letters; one digest that ends with 94 a4 e1.
    """
    inner = TensorEntry("w\u1525abcde", "F32", (7,), BlobId(bytes(32)))
    assert [entry.name for entry in misread([inner])] == ["abcde"]
    ends = BlobId(bytes(29) + b"\x94\xa4\xe1")
    before = TensorEntry("m", "I8", (9,), ends)
    after = TensorEntry("n", "F32", (7,), BlobId(bytes(32)))
    assert [entry.name for entry in misread([before, after])] == ["\u1521n"]
