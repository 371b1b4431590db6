"""Proofs of bytes under a digest, against the library that makes the digests."""

import random
from typing import Final

import pytest
from blake3 import blake3

from crdtmerge.codec import Value
from crdtmerge.digest import DIGEST_BYTES, Domain, digest
from crdtmerge.errors import MalformedProofError
from crdtmerge.proofs import (
    LEAF_BYTES,
    LEAVES_SHOWN_MAX,
    Proof,
    proof_from_value,
    prove,
    verify,
)

SIZES: Final = (
    *(0, 1, 63, 64, 65, 127, 128, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 3073),
    *(5 * 1024, 7 * 1024 + 1, 8 * 1024 - 1, 64 << 10, (64 << 10) + 1, 100_003),
)


def some(size: int) -> bytes:
    """Return bytes of this size, the same in every run."""
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("domain", [Domain.CONTENT, Domain.BLOB, Domain.CHOSEN])
@pytest.mark.parametrize("size", SIZES)
def test_the_tree_is_that_of_the_library(domain: Domain, size: int) -> None:
    """Every length and context gives the digest that the `blake3` library gives."""
    data = some(size)
    expected = blake3(data, derive_key_context=str(domain)).digest()
    assert prove(domain, data, [])[0] == expected


def test_a_whole_chunk_has_the_digest_of_the_library() -> None:
    """So does 1 MiB: a thousand leaves, and more than are hashed side by side."""
    for size in (1 << 20, (5 << 20) + 1):
        data = some(size)
        assert prove(Domain.CHUNK, data, [])[0] == digest(Domain.CHUNK, data)


@pytest.mark.parametrize("size", [s for s in SIZES if s])
def test_every_leaf_can_be_shown(size: int) -> None:
    """The bytes of each leaf, its first and its last, come out as they went in."""
    data = some(size)
    leaves = -(-size // LEAF_BYTES)
    for leaf in range(leaves) if leaves < 10 else (0, 1, 6, leaves - 2, leaves - 1):
        end = min(size, (leaf + 1) * LEAF_BYTES)
        spans = [(leaf * LEAF_BYTES, 1), (end - 1, 1)]
        root, proof = prove(Domain.CHUNK, data, spans)
        assert verify(Domain.CHUNK, root, proof, spans) == [
            data[leaf * LEAF_BYTES : leaf * LEAF_BYTES + 1],
            data[end - 1 : end],
        ]


def test_a_proof_is_short() -> None:
    """Of 32 MiB one leaf, the last one and a path are enough."""
    data = bytes(32 << 20)
    _, proof = prove(Domain.BLOB, data, [(5_000_000, 32)])
    assert len(proof.leaves) == 2 * LEAF_BYTES
    assert len(proof.siblings) <= 2 * 15 * DIGEST_BYTES


@pytest.mark.parametrize(("size", "claimed"), [(5, 6), (5, 7), (6, 5), (4, 8), (3, 4)])
def test_a_lie_about_the_length_is_refused(size: int, claimed: int) -> None:
    """Where the first leaf's path is the same, the last leaf's tells lengths apart."""
    data = some(size * LEAF_BYTES)
    root, proof = prove(Domain.CHUNK, data, [(0, 8)])
    lies = [claimed * LEAF_BYTES, len(data) - 1, len(data) + 1, 0, 8]
    for length in lies:
        lie = Proof(length, proof.leaves, proof.siblings)
        with pytest.raises(MalformedProofError):
            verify(Domain.CHUNK, root, lie, [(0, 8)])


def test_what_is_shown_elsewhere_is_refused() -> None:
    """Equal leaves are told apart by their numbers: nothing can be moved."""
    data = bytes(8 * LEAF_BYTES)
    root, proof = prove(Domain.CHUNK, data, [(0, 8)])
    assert verify(Domain.CHUNK, root, proof, [(0, 8)]) == [bytes(8)]
    for offset in (LEAF_BYTES, 2 * LEAF_BYTES, 6 * LEAF_BYTES):
        with pytest.raises(MalformedProofError):
            verify(Domain.CHUNK, root, proof, [(offset, 8)])


def test_a_path_is_neither_cut_nor_longer_nor_in_another_order() -> None:
    """One proof has one form."""
    data = some(9 * LEAF_BYTES)
    spans = [(3000, 2000)]
    root, proof = prove(Domain.CHUNK, data, spans)
    path = proof.siblings
    values = [path[i : i + 32] for i in range(0, len(path), 32)]
    assert len(set(values)) == len(values) > 2
    swapped = b"".join((values[1], values[0], *values[2:]))
    for siblings in (path[:-32], path[32:], path[:-1], path + bytes(32), b"", swapped):
        with pytest.raises(MalformedProofError):
            verify(Domain.CHUNK, root, Proof(len(data), proof.leaves, siblings), spans)
    for leaves in (proof.leaves[:-1], proof.leaves + b"x", proof.leaves[LEAF_BYTES:]):
        with pytest.raises(MalformedProofError):
            verify(Domain.CHUNK, root, Proof(len(data), leaves, path), spans)


def test_a_node_of_the_tree_is_no_leaf() -> None:
    """Two chaining values are no input of 64 bytes: parents are hashed apart."""
    data = some(2 * LEAF_BYTES)
    root, _ = prove(Domain.CHUNK, data, [])
    halves = [prove(Domain.CHUNK, data, [(n * LEAF_BYTES, 8)])[1] for n in (0, 1)]
    lie = Proof(64, b"".join(half.siblings for half in halves), b"")
    with pytest.raises(MalformedProofError):
        verify(Domain.CHUNK, root, lie, [(0, 8)])


def test_a_proof_of_another_domain_is_refused() -> None:
    """The domain is hashed into every node."""
    data = some(5000)
    root, proof = prove(Domain.CHUNK, data, [(1, 8)])
    with pytest.raises(MalformedProofError):
        verify(Domain.BLOB, root, proof, [(1, 8)])


@pytest.mark.parametrize(
    "spans",
    [
        [(-1, 4)],
        [(0, 0)],
        [(4999, 2)],
        [(1 << 70, 1)],
        [(0, (LEAVES_SHOWN_MAX + 1) * LEAF_BYTES)],
        [(2 * n * LEAF_BYTES, 1) for n in range(LEAVES_SHOWN_MAX + 1)],
    ],
)
def test_what_cannot_be_shown_is_refused(spans: list[tuple[int, int]]) -> None:
    """Spans outside of the input, empty ones, and more than a reader wants to pay for."""
    size = 5000 if len(spans) == 1 and spans[0][1] < 5000 else 1 << 20
    with pytest.raises(MalformedProofError):
        verify(Domain.CHUNK, bytes(32), Proof(size, b"", b""), spans)


def test_values_of_another_form_are_refused() -> None:
    """A proof is three fields, over an input within the limit."""
    proof = prove(Domain.CHUNK, some(3000), [(2000, 8)])[1]
    assert proof_from_value(proof.to_value(), 3000) == proof
    with pytest.raises(MalformedProofError):
        proof_from_value(proof.to_value(), 2999)
    wrong: list[Value] = [
        [],
        b"",
        [1, b""],
        [-1, b"", b""],
        ["1", b"", b""],
        [1, "", b""],
    ]
    for value in wrong:
        with pytest.raises(MalformedProofError):
            proof_from_value(value, 3000)
