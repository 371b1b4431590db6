"""Which contents are shown otherwise than before: what a reader of them looks at again.

Owns the list of changes that the values of one growing set share. Does not own what is
shown (`view`).
"""

from collections.abc import Collection
from threading import Lock
from typing import Final, final

from crdtmerge.digest import ContentId

CHANGES_LEAST: Final = 1 << 16
"""Changes that are remembered whatever the set holds; above, twice what it shows."""


class _Shared:
    """What the values of one list hold together."""

    __slots__ = ("contents", "lock")

    def __init__(self) -> None:
        self.contents: list[ContentId] = []
        self.lock = Lock()


@final
class Changes:
    """The changes until now, of a list that goes on growing; a value."""

    __slots__ = ("_length", "_shared")

    def __init__(self) -> None:
        """Begin a list that no earlier value belongs to."""
        self._shared, self._length = _Shared(), 0

    def extended(self, contents: Collection[ContentId], shown: int) -> "Changes":
        """Return the list with `contents` at its end, where so many are `shown`.

        SUBTLE: the first value made from this one shares what it holds. One made later goes
        another way, and a list that grew too long ends: for both a new list begins, of
        which nobody who looked at an older one can tell the changes.
        """
        shared, after = self._shared, Changes()
        with shared.lock:
            length = self._length + len(contents)
            fits = length <= max(CHANGES_LEAST, 2 * shown)
            if fits and len(shared.contents) == self._length:
                shared.contents.extend(contents)
                after._shared, after._length = shared, length
        return after

    def since(self, earlier: "Changes") -> frozenset[ContentId] | None:
        """Return what changed after an earlier value; None if that cannot be told."""
        shared, begin = earlier._shared, earlier._length  # noqa: SLF001
        if shared is not self._shared or begin > self._length:
            return None
        return frozenset(shared.contents[begin : self._length])
