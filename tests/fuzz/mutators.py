"""Changes of an input that keep it a value of its shape, so that a decoder reads on.

Owns the changes of canonical values and of JSON, and of plain bytes. Chance comes from
the caller. Does not own when they are made: the fuzzer mixes them with its own, the
replay of the kept inputs makes a few of each.
"""

import json
import random
from collections.abc import Callable
from typing import Any, Final

from crdtmerge.codec import decode, encode
from crdtmerge.errors import EncodingError

PLANES: Final = b"\0planes"
"""What ends the value of an input of the shape `planes`."""

Tree = Any
_INTEGERS: Final = (
    0, 1, -1, 7, 255, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63),
)  # fmt: skip
_TEXTS: Final = (
    "", "a", "\0", "0", "-0", "0.5", "1e9", "0,1", "*", "[", "regex:(", "regex:a{1001}",
    "name:", "layers:0..", "layers:9..1", "layers:0:layers:0:x", "tag:x", "content:ab",
    "é", "\x1b[2J", "a" * 300, "ties/1", "F32", "../x", "192.0.2.1:1", "true",
)  # fmt: skip
_BYTES: Final = (b"", bytes(16), bytes(32), b"\xff" * 32, bytes(64), b"\0" * 33)
VALUES: Final[tuple[Tree, ...]] = (*_INTEGERS, *_TEXTS, *_BYTES, [], [[]], [0, b"", ""])
JSONS: Final[tuple[Tree, ...]] = (
    *_INTEGERS, *_TEXTS, None, True, False, 1.5, 1e308, float("nan"), float("inf"),
    10**30, "\ud800", [], {}, [None], {"": 0}, [[[[]]]], "x{4294967296}", "(?i)a", "(a+)+$",
)  # fmt: skip


def mutated(shape: str, data: bytes, rng: random.Random) -> bytes:
    """Return `data` with one to three changes, as a value of its shape if it is one."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        data = _SHAPES.get(shape, changed_bytes)(data, rng)
    return data


def structured(shape: str) -> bool:
    """Tell whether a shape has changes of its own."""
    return shape in _SHAPES


def changed_value(data: bytes, rng: random.Random) -> bytes:
    """Change one place of a canonical value."""
    try:
        return encode(_changed(decode(data, len(data)), rng, VALUES))
    except EncodingError:
        return changed_bytes(data, rng)


def changed_json(data: bytes, rng: random.Random) -> bytes:
    """Change one place of a JSON document, whose own spelling is kept where it can be."""
    try:
        value = json.loads(data)
        changed = _changed(value, rng, JSONS)
        text = json.dumps(changed, indent=1, sort_keys=True)
    except (ValueError, RecursionError, TypeError):
        return changed_bytes(data, rng)
    compact = b"\n" not in data
    return (json.dumps(changed) if compact else text + "\n").encode()


def changed_header(data: bytes, rng: random.Random) -> bytes:
    """Change the JSON of a safetensors header; the target makes its length right."""
    text = data[8:].rstrip(b"\0")
    return bytes(8) + changed_json(text, rng)


def changed_sums(data: bytes, rng: random.Random) -> bytes:
    """Change the value of kept sums, or their planes."""
    value, found, planes = data.rpartition(PLANES)
    if not found:
        return changed_bytes(data, rng)
    if rng.random() < 0.2:
        planes = changed_bytes(planes, rng)
    return changed_value(value, rng) + PLANES + planes


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change, cut, repeat or put in some bytes."""
    at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    match rng.randrange(6):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + data[end:]
        case 2:
            return data[:end] + data[at:end] + data[end:]
        case 3:
            return data[:at] + rng.randbytes(rng.randrange(1, 5)) + data[at:]
        case 4:
            return data[:at] + rng.choice(_WORDS) + data[at:]
        case _:
            flipped = bytearray(data or b"\0")
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
            return bytes(flipped)


_WORDS: Final = (
    b"\0", b"\xff" * 8, b"\n", b"[" * 40, b'"', b"{", b": ", b"!!int ", b"&a *a",
    b"\\ud800",
    b'"\\UFFFFFFFF"', b"9" * 30, b"-", b"\x7f\xff\xff\xff", b"\xed\xa0\x80", b"e999", b",",
)  # fmt: skip
_SHAPES: Final[dict[str, Callable[[bytes, random.Random], bytes]]] = {
    "value": changed_value,
    "json": changed_json,
    "header": changed_header,
    "planes": changed_sums,
    "text": changed_bytes,
}


# --- trees ------------------------------------------------------------------------------


def _changed(tree: Tree, rng: random.Random, leaves: tuple[Tree, ...]) -> Tree:
    """Return a tree with one place changed; the deeper a place, the likelier its turn."""
    if isinstance(tree, list) and tree and rng.random() < 0.85:
        at = rng.randrange(len(tree))
        return [*tree[:at], *_in_place_of(tree, at, rng, leaves), *tree[at + 1 :]]
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        return _changed_mapping(tree, rng, leaves)
    return _leaf(tree, rng, leaves)


def _in_place_of(
    tree: list[Tree], at: int, rng: random.Random, leaves: tuple[Tree, ...]
) -> list[Tree]:
    match rng.randrange(12):
        case 0:
            return []
        case 1:
            return [tree[at], tree[at]]
        case 2:
            return [rng.choice(tree), tree[at]]
        case 3:
            return [[tree[at]]]
        case _:
            return [_changed(tree[at], rng, leaves)]


def _changed_mapping(
    tree: dict[str, Tree], rng: random.Random, leaves: tuple[Tree, ...]
) -> dict[str, Tree]:
    key, found = rng.choice(list(tree)), dict(tree)
    match rng.randrange(12):
        case 0:
            del found[key]
        case 1:
            found[rng.choice(_TEXTS)] = found.pop(key)
        case 2:
            found[rng.choice(list(tree))] = found[key]
        case _:
            found[key] = _changed(found[key], rng, leaves)
    return found


def _leaf(tree: Tree, rng: random.Random, leaves: tuple[Tree, ...]) -> Tree:
    """Return another leaf, most often one of the same kind and near."""
    if rng.random() < 0.2:
        return rng.choice(leaves)
    if isinstance(tree, int) and not isinstance(tree, bool):
        near = tree + 1, tree - 1, tree * 2, -tree, tree ^ 1 << rng.randrange(64)
        return rng.choice(rng.choice((near, _INTEGERS)))
    if isinstance(tree, bytes):
        return rng.choice(_BYTES) if rng.random() < 0.2 else changed_bytes(tree, rng)
    if isinstance(tree, str):
        at = rng.randrange(len(tree) + 1)
        return tree[:at] + rng.choice(_TEXTS) + tree[at + rng.randrange(2) :]
    return rng.choice(leaves)
