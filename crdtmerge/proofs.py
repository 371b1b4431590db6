"""Proofs that bytes stand at an offset of what a digest covers, without the rest of it.

Owns BLAKE3's tree: the compression function, leaves, parents, and proofs of a few leaves.
Does not own domains (`digest`), nor what the bytes shown mean (`faults`).

BLAKE3 is a Merkle tree over leaves of 1 KiB (https://github.com/BLAKE3-team/BLAKE3-specs,
section 2; there they are called chunks, a word that we use for 1 MiB of a blob). A proof
gives some leaves whole, and of every other subtree beside their paths the chaining value;
who folds them up to the root must find the digest.

A proof shows the last leaf always, asked for or not. SUBTLE: a leaf's own number is
hashed with it, so bytes cannot be moved; but nothing on the path to an inner leaf tells how
long the input is. The last leaf's path does: it goes right at every branching, and its
number and its length are hashed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from crdtmerge.codec import Value
from crdtmerge.digest import DIGEST_BYTES, Domain
from crdtmerge.digest import digest as digest_of
from crdtmerge.errors import MalformedProofError

LEAF_BYTES: Final = 1024
LEAVES_SHOWN_MAX: Final = 16
"""Most leaves of one proof: what a reader pays is bounded before it hashes anything."""

_BLOCK_BYTES: Final = 64
_LANES_MAX: Final = 4096
"""Leaves that are hashed side by side, so that working arrays stay in the cache."""

_CHUNK_START: Final = 1
_CHUNK_END: Final = 2
_PARENT: Final = 4
_ROOT: Final = 8
_DERIVE_KEY_CONTEXT: Final = 32
_DERIVE_KEY_MATERIAL: Final = 64

_IV: Final = (
    0x6A09E667,
    0xBB67AE85,
    0x3C6EF372,
    0xA54FF53A,
    0x510E527F,
    0x9B05688C,
    0x1F83D9AB,
    0x5BE0CD19,
)
_IV_COLUMN: Final = np.array(_IV[:4], np.uint32)[:, None]
_PERMUTATION: Final = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_ROUNDS: Final = 7


def _orders() -> list[npt.NDArray[np.int_]]:
    """Return which words of a block each round takes: for columns x, y; diagonals x, y."""
    orders, order = [], list(range(16))
    for _ in range(_ROUNDS):
        orders.append(np.array([order[0:8:2], order[1:8:2], order[8::2], order[9::2]]))
        order = [order[i] for i in _PERMUTATION]
    return orders


_ORDERS: Final = _orders()
_DIAGONALS: Final = np.array(
    [4 * row + (at + row) % 4 for row in range(4) for at in range(4)]
)
"""State words by the diagonals that they stand on; `_COLUMNS` puts them back."""
_COLUMNS: Final = np.argsort(_DIAGONALS)

Words: TypeAlias = npt.NDArray[np.uint32]
"""Rows of 32-bit words; a column is one of the values that are hashed side by side."""
Span: TypeAlias = tuple[int, int]
"""Where bytes stand: an offset, and how many there are."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Some leaves of an input of `length` bytes, and what leads from them to the root.

    `leaves` are the bytes of the leaves shown, in order, the last one of the input always
    among them; `siblings` are chaining values, level by level from below, left to right.
    """

    length: int
    leaves: bytes
    siblings: bytes

    def to_value(self) -> Value:
        """Return the plain value; the inverse of `proof_from_value`."""
        return [self.length, self.leaves, self.siblings]


def proof_from_value(value: Value, length_max: int) -> Proof:
    """Return the proof that `value` is, over an input of at most `length_max` bytes.

    Raises:
        MalformedProofError: it is none.
    """
    match value:
        case [int(length), bytes(leaves), bytes(siblings)]:
            if not 0 <= length <= length_max:
                raise MalformedProofError(
                    f"an input of {length} bytes is above the limit of {length_max}"
                )
            return Proof(length, leaves, siblings)
        case _:
            raise MalformedProofError("a proof is not [length, leaves, siblings]")


def prove(
    domain: Domain, data: bytes | memoryview, spans: Sequence[Span]
) -> tuple[bytes, Proof]:
    """Return the digest of `data` under `domain`, and a proof of the bytes at `spans`."""
    shown = _shown(len(data), spans)
    level = _leaf_values(domain, data)
    known, siblings = set(shown), []
    while level.shape[1] > 1:
        count = level.shape[1]
        siblings += [level[:, i] for i in _missing(known, count)]
        level = _parents(domain, level)
        known = {i // 2 for i in known}
    leaves = (data[i * LEAF_BYTES : (i + 1) * LEAF_BYTES] for i in shown)
    path = b"".join(_bytes_of(value) for value in siblings)
    return _bytes_of(level[:, 0]), Proof(len(data), b"".join(leaves), path)


def verify(
    domain: Domain, digest: bytes, proof: Proof, spans: Sequence[Span]
) -> list[bytes]:
    """Return the bytes at `spans` of the one input whose digest under `domain` is known.

    There is one proof of given spans of a given input: what is missing, in excess or
    changed in any byte is refused.

    Raises:
        MalformedProofError: it does not prove that.
    """
    leaves = _leaves_of(proof, spans)
    if _root(domain, proof, leaves) != digest:
        raise MalformedProofError("the proof leads to another digest")
    return [_cut(leaves, span) for span in spans]


def _root(domain: Domain, proof: Proof, leaves: dict[int, bytes]) -> bytes:
    """Return the digest to which a proof leads.

    Where all of the input is shown, the library makes it, in no time.
    """
    siblings = _Siblings(proof.siblings)
    if len(proof.leaves) == proof.length:
        siblings.require_used()
        return digest_of(domain, proof.leaves)
    count = max(leaves) + 1
    stacked = _leaf_batch(domain, list(leaves.items()), root=count == 1)
    values = {index: stacked[:, n] for n, index in enumerate(leaves)}
    while count > 1:
        for index in _missing(values.keys(), count):
            values[index] = siblings.take()
        values = _fold(domain, values, count)
        count = -(-count // 2)
    siblings.require_used()
    return _bytes_of(values[0])


def read_spans(proof: Proof, spans: Sequence[Span]) -> list[bytes]:
    """Return the bytes that `proof` shows at `spans`, whether they are true or not.

    Raises:
        MalformedProofError: it does not show them, or more than them.
    """
    leaves = _leaves_of(proof, spans)
    return [_cut(leaves, span) for span in spans]


# --- which leaves and values a proof holds ------------------------------------------------


def _shown(length: int, spans: Iterable[Span]) -> list[int]:
    """Return the numbers of the leaves that a proof of `spans` shows, sorted.

    Raises:
        MalformedProofError: a span is not within the input, or they are too many.
    """
    shown = {max(0, length - 1) // LEAF_BYTES}
    for offset, size in spans:
        if offset < 0 or size <= 0 or offset + size > length:
            raise MalformedProofError("what is to be shown is not within the input")
        last = (offset + size - 1) // LEAF_BYTES
        if last - offset // LEAF_BYTES >= LEAVES_SHOWN_MAX:
            raise MalformedProofError(f"more than {LEAVES_SHOWN_MAX} leaves are shown")
        shown |= set(range(offset // LEAF_BYTES, last + 1))
    if len(shown) > LEAVES_SHOWN_MAX:
        raise MalformedProofError(f"more than {LEAVES_SHOWN_MAX} leaves are shown")
    return sorted(shown)


def _leaves_of(proof: Proof, spans: Sequence[Span]) -> dict[int, bytes]:
    """Return the shown leaves by their numbers, in order."""
    leaves: dict[int, bytes] = {}
    at = 0
    for index in _shown(proof.length, spans):
        size = min(LEAF_BYTES, proof.length - index * LEAF_BYTES)
        leaves[index] = proof.leaves[at : at + size]
        at += size
    if at != len(proof.leaves):
        raise MalformedProofError("leaves are missing or in excess")
    return leaves


def _missing(known: Iterable[int], count: int) -> list[int]:
    """Return the nodes of a level of `count` that must be given beside the known ones."""
    known = set(known)
    return sorted({i ^ 1 for i in known if i ^ 1 < count} - known)


def _cut(leaves: dict[int, bytes], span: Span) -> bytes:
    offset, size = span
    first = offset // LEAF_BYTES
    last = (offset + size - 1) // LEAF_BYTES
    start = offset - first * LEAF_BYTES
    joined = b"".join(leaves[i] for i in range(first, last + 1))
    return joined[start : start + size]


class _Siblings:
    """The chaining values of a proof, taken one by one."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def take(self) -> Words:
        value, self._left = self._left[:DIGEST_BYTES], self._left[DIGEST_BYTES:]
        if len(value) != DIGEST_BYTES:
            raise MalformedProofError("the path to the root is cut off")
        return np.frombuffer(value, "<u4").astype(np.uint32)

    def require_used(self) -> None:
        if self._left:
            raise MalformedProofError("the path to the root is too long")


# --- the tree -----------------------------------------------------------------------------


def _leaf_values(domain: Domain, data: bytes | memoryview) -> Words:
    """Return the chaining values of all leaves; of a single one, the digest."""
    view = memoryview(data)
    count = max(1, -(-len(view) // LEAF_BYTES))
    parts = []
    for first in range(0, count, _LANES_MAX):
        batch = [
            (i, view[i * LEAF_BYTES : (i + 1) * LEAF_BYTES])
            for i in range(first, min(count, first + _LANES_MAX))
        ]
        parts.append(_leaf_batch(domain, batch, root=count == 1))
    return np.concatenate(parts, axis=1)


def _leaf_batch(
    domain: Domain, batch: Sequence[tuple[int, bytes | memoryview]], *, root: bool
) -> Words:
    """Return the chaining values of numbered leaves, of which the last may be short."""
    key = np.frombuffer(_key(domain), "<u4").astype(np.uint32)
    return _leaves(key, batch, _DERIVE_KEY_MATERIAL, root=root)


@lru_cache
def _key(domain: Domain) -> bytes:
    """Return the key that stands for a domain: the digest of its text, in a mode apart."""
    text = domain.value.encode()
    assert len(text) <= LEAF_BYTES
    batch = [(0, text)]
    iv = np.array(_IV, np.uint32)
    return _bytes_of(_leaves(iv, batch, _DERIVE_KEY_CONTEXT, root=True)[:, 0])


def _leaves(
    key: Words,
    batch: Sequence[tuple[int, bytes | memoryview]],
    mode: int,
    *,
    root: bool,
) -> Words:
    """Hash numbered leaves side by side: each is a chain of blocks of 64 bytes.

    The leaves but the last have 1 KiB; the last one's blocks are fewer, so what its column
    holds is kept when it ends.
    """
    sizes = [len(leaf) for _, leaf in batch]
    padded = b"".join(bytes(leaf).ljust(LEAF_BYTES, b"\0") for _, leaf in batch)
    words = np.frombuffer(padded, "<u4").astype(np.uint32)
    words = words.reshape(len(batch), LEAF_BYTES // _BLOCK_BYTES, 16)
    blocks = np.array([max(1, -(-size // _BLOCK_BYTES)) for size in sizes])
    numbers = np.array([index for index, _ in batch], np.uint64)
    value = np.repeat(key[:, None], len(batch), axis=1)
    for block in range(int(blocks.max())):
        last = block == blocks - 1
        flags = np.full(len(batch), mode, np.uint32)
        flags |= np.where(last, _CHUNK_END | (_ROOT if root else 0), 0).astype(
            np.uint32
        )
        flags |= np.uint32(_CHUNK_START if block == 0 else 0)
        filled = np.clip(np.array(sizes) - block * _BLOCK_BYTES, 0, _BLOCK_BYTES)
        made = _compress(value, words[:, block].T, numbers, filled, flags)
        value = np.where(block < blocks, made, value)
    return value


def _parents(domain: Domain, level: Words) -> Words:
    """Return the next level: neighbours are joined, one that is left over goes up."""
    count = level.shape[1]
    paired = count - count % 2
    made = _join(domain, level[:, 0:paired:2], level[:, 1:paired:2], root=count == 2)
    return np.concatenate((made, level[:, paired:]), axis=1)


def _fold(domain: Domain, values: dict[int, Words], count: int) -> dict[int, Words]:
    """Return the next level of what is known of one that has `count` nodes."""
    pairs = sorted({i // 2 for i in values if i | 1 < count})
    upper = {i // 2: value for i, value in values.items() if i | 1 >= count}
    if not pairs:
        return upper  # the last one alone is known, and goes up
    left = np.stack([values[2 * i] for i in pairs], axis=1)
    right = np.stack([values[2 * i + 1] for i in pairs], axis=1)
    made = _join(domain, left, right, root=count == 2)
    return upper | {index: made[:, n] for n, index in enumerate(pairs)}


def _join(domain: Domain, left: Words, right: Words, *, root: bool) -> Words:
    key = np.frombuffer(_key(domain), "<u4").astype(np.uint32)
    lanes = left.shape[1]
    mode = _DERIVE_KEY_MATERIAL | _PARENT | (_ROOT if root else 0)
    return _compress(
        np.repeat(key[:, None], lanes, axis=1),
        np.concatenate((left, right)),
        np.zeros(lanes, np.uint64),
        np.full(lanes, _BLOCK_BYTES),
        np.full(lanes, mode, np.uint32),
    )


def _bytes_of(value: Words) -> bytes:
    return value.astype("<u4").tobytes()


# --- the compression function -------------------------------------------------------------


def _compress(
    value: Words,
    block: Words,
    numbers: npt.NDArray[np.uint64],
    sizes: npt.NDArray[np.int_],
    flags: Words,
) -> Words:
    """Return the first eight words of the compression of each column (section 2.2)."""
    lanes = value.shape[1]
    state = np.empty((16, lanes), np.uint32)
    state[0:8] = value
    state[8:12] = _IV_COLUMN
    state[12] = numbers & np.uint64(0xFFFFFFFF)
    state[13] = numbers >> np.uint64(32)
    state[14] = sizes
    state[15] = flags
    for order in _ORDERS:
        words = block[order]
        _mix(state, words[0], words[1])
        state = state[_DIAGONALS]
        _mix(state, words[2], words[3])
        state = state[_COLUMNS]
    return state[0:8] ^ state[8:16]


def _mix(state: Words, x: Words, y: Words) -> None:
    """Mix four columns at once with two message words each: the quarter round."""
    a, b, c, d = state[0:4], state[4:8], state[8:12], state[12:16]
    for word, down, along in ((x, 16, 12), (y, 8, 7)):
        a += b
        a += word
        d ^= a
        _rotate(d, down)
        c += d
        b ^= c
        _rotate(b, along)


def _rotate(words: Words, by: int) -> None:
    """Rotate in place to the right."""
    low = words << np.uint32(32 - by)
    words >>= np.uint32(by)
    words |= low
