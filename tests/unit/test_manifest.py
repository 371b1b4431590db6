"""Manifests: one form, and a content id that notes do not touch."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from crdtmerge.changes import changes_of
from crdtmerge.digest import BlobId, ContentId, blob_id_of
from crdtmerge.errors import BadInputError, MalformedManifestError
from crdtmerge.manifest import (
    EvidenceEntry,
    FileEntry,
    Manifest,
    TensorEntry,
    decode_manifest,
    is_file_name,
)

BASE = ContentId(b"\xba" * 32)
BLOB = BlobId(b"\x01" * 32)
OTHER = BlobId(b"\x02" * 32)
A = TensorEntry("a", "F32", (2, 3), BLOB)
B = TensorEntry("b", "BF16", (), OTHER)
MANIFEST = Manifest(
    "full",
    BASE,
    (A, B),
    (FileEntry("README.md", 2, BlobId(b"\x03" * 32)),),
    (EvidenceEntry("fisher", TensorEntry("a", "F32", (6,), BLOB)),),
    "a note",
)


def test_bytes_invert() -> None:
    """A manifest reads from its bytes as it was, and its blob names these bytes."""
    data = MANIFEST.encode()
    assert decode_manifest(data) == MANIFEST
    assert MANIFEST.blob == blob_id_of(data)


def test_content_id_covers_kind_base_and_tensors_alone() -> None:
    """Notes, files and evidence make no second model; a tensor, kind or base does."""
    bare = Manifest("full", BASE, (A, B))
    assert bare.content_id == MANIFEST.content_id
    assert bare.blob != MANIFEST.blob
    others = [
        replace(bare, kind="delta"),
        replace(bare, base=bytes(32)),
        replace(bare, tensors=(A,)),
        replace(bare, tensors=(replace(A, blob=OTHER), B)),
        replace(bare, tensors=(replace(A, shape=(3, 2)), B)),
        replace(bare, tensors=(replace(A, dtype="I32"), B)),
        replace(bare, tensors=(replace(A, name="a0"), B)),
    ]
    assert len({bare.content_id, *(m.content_id for m in others)}) == 8


def test_evidence_digest_is_empty_without_evidence() -> None:
    """None has no digest; another kind or tensor has another one."""
    assert replace(MANIFEST, evidence=()).evidence_digest == b""
    gram = replace(MANIFEST, evidence=(replace(MANIFEST.evidence[0], kind="gram"),))
    assert len({MANIFEST.evidence_digest, gram.evidence_digest}) == 2


def test_declared_size_counts_everything() -> None:
    """Tensors, files and evidence all count; each blob is named once, with its size."""
    assert MANIFEST.size == 24 + 2 + 2 + 24
    assert MANIFEST.blobs() == {BLOB: 24, OTHER: 2, BlobId(b"\x03" * 32): 2}


TENSOR = ["a", "F32", [2, 3], BLOB]
FILE = ["f", 1, OTHER]
FORM: list[Any] = [1, "full", BASE, [TENSOR], [], [], ""]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 2),
        (0, "1"),
        (1, "half"),
        (1, "base"),
        (2, b""),
        (2, BASE[:31]),
        (3, []),
        (3, [TENSOR, TENSOR]),
        (3, [["b", *TENSOR[1:]], TENSOR]),
        (3, [["", *TENSOR[1:]]]),
        (3, [["x" * 513, *TENSOR[1:]]]),
        (3, [["a", "F8", [1], BLOB]]),
        (3, [["a", "F32", [-1], BLOB]]),
        (3, [["a", "F32", ["2"], BLOB]]),
        (3, [["a", "F32", [1] * 9, BLOB]]),
        (3, [["a", "F32", [1 << 41], BLOB]]),
        (3, [["a", "F32", [1 << 40], BLOB]]),
        (3, [["a", "F32", [1 << 40] * 8, BLOB]]),
        (3, [["a", "F32", [1], BLOB[:31]]]),
        (3, [["a", "F32", [1]]]),
        (3, [{"name": "a"}]),
        (4, [FILE, FILE]),
        (4, [["../f", 1, OTHER]]),
        (4, [["f", -1, OTHER]]),
        (4, [["f", (1 << 40) + 1, OTHER]]),
        (4, [["f", 1, OTHER[:31]]]),
        (5, [["", TENSOR]]),
        (5, [["x" * 33, TENSOR]]),
        (5, [["fisher", TENSOR]] * 2),
        (5, [["fisher", TENSOR[:3]]]),
        (6, "x" * 4097),
        (6, None),
    ],
)
def test_form_is_checked(at: int, value: object) -> None:
    """Each field has one form; a false size, a path, an unsorted list are refused."""
    decode_manifest(msgpack.packb(FORM))
    with pytest.raises(MalformedManifestError):
        decode_manifest(msgpack.packb([*FORM[:at], value, *FORM[at + 1 :]]))


def test_one_blob_has_one_size() -> None:
    """A blob that is declared with two sizes would be fetched as neither."""
    twice = [*FORM[:3], [TENSOR, ["b", "F32", [6], BLOB]], *FORM[4:]]
    decode_manifest(msgpack.packb(twice))
    twice[4] = [["f", 25, BLOB]]
    with pytest.raises(MalformedManifestError, match="two sizes"):
        decode_manifest(msgpack.packb(twice))


def test_a_base_has_no_base() -> None:
    """Only a manifest of kind base names none."""
    base = decode_manifest(msgpack.packb([1, "base", b"", [TENSOR], [], [], ""]))
    assert base.base == b""
    with pytest.raises(MalformedManifestError):
        decode_manifest(msgpack.packb([1, "base", BASE, [TENSOR], [], [], ""]))


@pytest.mark.parametrize(
    "name", ["README.md", "a", ".gitignore", "x y.txt", "Ünï.json"]
)
def test_plain_names_are_file_names(name: str) -> None:
    """One visible path component is a file name."""
    assert is_file_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "a/b", "a\\b", "C:", "a\0", "a\n", "\x1b[2J", "a.", "a ", "*"),
        *("CON", "nul.txt", "com1", "Lpt9.tar.gz", "x" * 256, "é" * 128, "\udcff"),
    ],
)
def test_traps_are_no_file_names(name: str) -> None:
    """Paths, devices, control characters and names no disk takes are refused."""
    assert not is_file_name(name)


def test_fine_tune_of_the_base_passes() -> None:
    """Same names, dtypes and shapes; the bytes are the contribution."""
    base = Manifest("base", b"", (replace(A, blob=OTHER), B))
    changes_of(Manifest("full", base.content_id, (A, B)), base)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ((A,), "lacks 1 tensor.*'b'"),
        (
            (A, B, TensorEntry("c", "F32", (), BLOB)),
            r"has 1 tensor \('c'\) that the base lacks",
        ),
        (
            (replace(A, shape=(3, 2)), B),
            r"'a' is F32 \[3, 2\], in the base F32 \[2, 3\]",
        ),
        ((A, replace(B, dtype="I32")), "'b' is I32"),
    ],
)
def test_other_models_are_named_by_their_first_difference(
    tensors: tuple[TensorEntry, ...], said: str
) -> None:
    """The message tells which tensor differs, and how."""
    base = Manifest("base", b"", (A, B))
    with pytest.raises(BadInputError, match=said):
        changes_of(Manifest("full", base.content_id, tensors), base)
