"""Digests: one domain per use, two levels for blobs."""

from itertools import pairwise

import pytest
from blake3 import blake3

from crdtmerge.codec import encode
from crdtmerge.digest import (
    CHUNK_BYTES,
    DIGEST_BYTES,
    Domain,
    blob_id,
    blob_id_of,
    chunk_count,
    chunk_digest,
    chunk_digests,
    digest,
    digest_value,
)


def test_every_domain_gives_another_digest() -> None:
    """No digest of one use can be replayed as one of another."""
    digests = [digest(domain, b"same bytes") for domain in Domain]
    assert len(set(digests)) == len(Domain)
    assert {len(d) for d in digests} == {DIGEST_BYTES}
    assert blake3(b"same bytes").digest() not in digests


def test_no_domain_is_a_prefix_of_another() -> None:
    """The texts are told apart by more than their length."""
    assert not any(b.startswith(a) for a, b in pairwise(sorted(Domain)))


def test_digest_is_that_of_the_standard() -> None:
    """A digest is BLAKE3's key derivation with the domain's text as context."""
    expected = blake3(b"abc", derive_key_context="crdtmerge v1 record id").digest()
    assert digest(Domain.RECORD, b"abc") == expected
    assert digest_value(Domain.RECORD, [1]) == digest(Domain.RECORD, encode([1]))


@pytest.mark.parametrize(
    ("size", "chunks"),
    [(0, 0), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (3 * CHUNK_BYTES, 3)],
)
def test_blob_is_the_digest_of_its_chunks(size: int, chunks: int) -> None:
    """A blob's id is that of its size and chunk list, at every edge of a chunk."""
    data = bytes(i % 251 for i in range(1000)) * (size // 1000 + 1)
    data = data[:size]
    parts = [data[i : i + CHUNK_BYTES] for i in range(0, size, CHUNK_BYTES)]
    assert chunk_count(size) == chunks == len(parts)
    assert chunk_digests(data) == [chunk_digest(part) for part in parts]
    assert blob_id_of(memoryview(data)) == blob_id(size, map(chunk_digest, parts))


def test_size_and_order_of_chunks_count() -> None:
    """A blob cannot be confused with another of the same chunks."""
    a, b = chunk_digest(b"a"), chunk_digest(b"b")
    ids = [blob_id(2, [a, b]), blob_id(2, [b, a]), blob_id(3, [a, b]), blob_id(2, [a])]
    assert len(set(ids)) == 4


def test_chunk_is_no_blob() -> None:
    """A blob of one chunk has another name than the chunk."""
    assert blob_id_of(b"abc") != chunk_digest(b"abc")
