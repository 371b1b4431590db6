"""BLAKE3 with one domain per use, and the two-level digest of blobs.

Owns every domain string of the formats and the chunk lists. Does not own what is hashed.

A domain is a BLAKE3 key-derivation context, so a digest of one use can never be replayed
as a digest of another. A blob is named by the digest over its size and the list of its
1 MiB chunk digests: a lying source is caught within one chunk.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NewType

from blake3 import blake3

from crdtmerge.codec import Value, encode

DIGEST_BYTES: Final = 32
CHUNK_BYTES: Final = 1 << 20
BLOB_BYTES_MAX: Final = 1 << 40

BlobId = NewType("BlobId", bytes)
"""Names immutable bytes: digest over their size and chunk digests."""
ContentId = NewType("ContentId", bytes)
"""Names a contribution: digest of (kind, base, tensor list) alone."""


class Domain(StrEnum):
    """The uses of a digest. A text once released never changes its meaning."""

    RECORD = "crdtmerge v1 record id"
    CHUNK = "crdtmerge v1 chunk"
    BLOB = "crdtmerge v1 blob"
    CONTENT = "crdtmerge v1 content id"
    EVIDENCE = "crdtmerge v1 evidence"
    TRIE_LEAF = "crdtmerge v1 trie leaf"
    TRIE_NODE = "crdtmerge v1 trie node"
    VISIBLE = "crdtmerge v1 visible contribution"
    RECIPE = "crdtmerge v1 recipe"
    MERGE = "crdtmerge v1 merge id"
    CHOSEN = "crdtmerge v1 contributions that rules are for"
    SEED = "crdtmerge v1 tensor seed"
    PHILOX = "crdtmerge v1 philox key"
    ORDER = "crdtmerge v1 order of a fold"
    TASK = "crdtmerge v1 task key"
    STAND_IN = "crdtmerge v1 place of bytes that were not read"
    MODEL = "crdtmerge v1 model digest"
    TICKET = "crdtmerge v1 ticket checksum"
    INVITE = "crdtmerge v1 invite answer"
    KEY_FILE = "crdtmerge v1 key file checksum"
    SUMS = "crdtmerge v1 what kept sums are made for"
    SUMS_HEADER = "crdtmerge v1 header of kept sums"
    SUMS_PLANES = "crdtmerge v1 planes of kept sums"
    GENERATION = "crdtmerge v1 generation of a copy"
    PACKED = "crdtmerge v1 index of a packed blob"
    MEMO = "crdtmerge v1 row of a memo"
    NORM = "crdtmerge v1 norm of a task vector"
    UNREAD = "crdtmerge v1 tensors left unread"
    SCRUTINY = "crdtmerge v1 measure of contributions"
    FORK_TURN = "crdtmerge v1 who shows a fork first"
    ATTESTED = "crdtmerge v1 attestations held"
    AUDIT = "crdtmerge v1 tensor of an audit"
    TRIALS = "crdtmerge v1 what a strategy makes of the trials"
    CLUES = "crdtmerge v1 clues of a comparison"
    SALT = "crdtmerge v1 salt of a comparison"


_BEGUN: Final = {domain: blake3(derive_key_context=domain) for domain in Domain}
"""Hashers that took their domain in: deriving its key costs as much as a short text."""


def digest(domain: Domain, data: bytes | memoryview) -> bytes:
    """Return the 32-byte digest of `data` under `domain`."""
    hasher = _BEGUN[domain].copy()
    hasher.update(data)
    return hasher.digest()


def keyed_digests(key: bytes, items: Iterable[bytes], length: int) -> list[bytes]:
    """Return the first `length` bytes of the digest of each item, by a key of 32 bytes."""
    return [blake3(item, key=key).digest(length) for item in items]


def digest_value(domain: Domain, value: Value) -> bytes:
    """Return the digest of the canonical encoding of `value` under `domain`."""
    return digest(domain, encode(value))


def chunk_digest(chunk: bytes | memoryview) -> bytes:
    """Return the digest of one chunk (all but the last are `CHUNK_BYTES` long)."""
    return blake3(chunk, derive_key_context=Domain.CHUNK).digest()


def chunk_count(size: int) -> int:
    """Return how many chunks `size` bytes have; no bytes have none."""
    return -(-size // CHUNK_BYTES)


def blob_id(size: int, chunks: Iterable[bytes]) -> BlobId:
    """Return the id of the blob of `size` bytes with these chunk digests, in order."""
    head = size.to_bytes(8, "little")
    return BlobId(digest(Domain.BLOB, head + b"".join(chunks)))


def chunk_digests(data: bytes | memoryview) -> list[bytes]:
    """Return the digests of the chunks of `data`."""
    view = memoryview(data)
    starts = range(0, len(view), CHUNK_BYTES)
    return [chunk_digest(view[start : start + CHUNK_BYTES]) for start in starts]


def blob_id_of(data: bytes | memoryview) -> BlobId:
    """Return the id of the blob whose bytes are `data`."""
    return blob_id(len(data), chunk_digests(data))
