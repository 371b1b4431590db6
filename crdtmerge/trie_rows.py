"""Tries as rows: what to keep of one so that it never has to be built again.

Owns what a row holds, and which rows a change touches. Does not own where rows are kept
(`nodes.store`), nor the tries (`crdtmerge.trie`), which read rows back and check them.

There is a row for each inner node of more than `BUCKET_MAX` digests: count and hash of each
child. Digests are in no row: who keeps rows keeps those anyway. So an insert touches as
many rows as lie above it, log n, and a million digests have some thousand rows.
"""

from collections.abc import Iterator
from typing import TypeGuard

from crdtmerge.trie import BUCKET_MAX, COUNT_BYTES, RADIX, Inner, Node, Prefix

Row = tuple[Prefix, bytes | None]
"""Where a row lies, and what it says from now on; None if there is none any more."""


def rows_changed(
    before: Node | None, after: Node, prefix: Prefix = ()
) -> Iterator[Row]:
    """Yield the rows in which two tries differ; `before` is None where nothing is kept.

    What both share is not looked at.
    """
    if before is after:
        return
    # what has no row has no rows below, whatever stands for its children
    old: tuple[Node | None, ...] = (None,) * RADIX
    new: tuple[Node, ...] = (after,) * RADIX
    if _has_row(before):
        old = before.children
    if _has_row(after):
        new = after.children
        yield prefix, _row_of(after)
    elif _has_row(before):
        yield prefix, None
    else:
        return
    for step, (one, other) in enumerate(zip(old, new, strict=True)):
        yield from rows_changed(one, other, (*prefix, step))


def _has_row(node: Node | None) -> TypeGuard[Inner]:
    return isinstance(node, Inner) and node.count > BUCKET_MAX


def _row_of(node: Inner) -> bytes:
    entries = (c.count.to_bytes(COUNT_BYTES, "little") + c.hash for c in node.children)
    return b"".join(entries)
