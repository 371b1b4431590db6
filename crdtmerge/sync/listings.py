"""The tensors behind a model digest, page by page: who differs is asked on which.

Owns how a list is cut into pages and put together again, and that it is proved: it counts
only if the model digest that its node attested comes out of it. Does not own when one is
asked for (`nodes.attesting`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from crdtmerge.errors import MalformedMessageError
from crdtmerge.manifest import TensorEntry
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.sync.messages import MESSAGE_BYTES_MAX

TENSORS_MAX: Final = 1 << 16
"""Most tensors of a list that is asked for: larger models are compared as a whole."""
CHARACTERS_MAX: Final = 1 << 23
"""Most characters of all names of such a list."""
_PAGE_BYTES_MAX: Final = MESSAGE_BYTES_MAX - (64 << 10)
_ENTRY_BYTES: Final = 64
"""What an entry takes beside its name, its shape and its dtype."""


def page(tensors: Sequence[TensorEntry], first: int) -> tuple[TensorEntry, ...]:
    """Return the entries from `first` on, as many as fit one message."""
    return tuple(_fitting(tensors, first))


def _fitting(tensors: Sequence[TensorEntry], first: int) -> Iterator[TensorEntry]:
    size = 0
    for entry in tensors[first:]:
        size += len(entry.name.encode()) + len(entry.dtype) + 10 * len(entry.shape)
        size += _ENTRY_BYTES
        if size > _PAGE_BYTES_MAX:
            return
        yield entry


@dataclass(slots=True)
class Listing:
    """A list that is arriving; `model` is what must come out of it."""

    model: bytes
    got: list[TensorEntry] = field(default_factory=list)
    total: int = 0
    characters: int = 0

    @property
    def too_long(self) -> bool:
        """Whether more has come than is kept of any list."""
        return self.characters > CHARACTERS_MAX

    def take(self, total: int, tensors: Sequence[TensorEntry]) -> bool:
        """Add the next page; tell whether the list is whole, and proved.

        Raises:
            MalformedMessageError: it does not go on from the last page, is longer than
                was said, or is not what the model digest was made of.
        """
        if not tensors or (self.got and total != self.total):
            raise MalformedMessageError("a list of tensors that does not go on")
        self.total = total
        names = [entry.name for entry in (*self.got[-1:], *tensors)]
        if any(a >= b for a, b in pairwise(names)):
            raise MalformedMessageError("a list of tensors that is not sorted")
        self.got += tensors
        self.characters += sum(len(entry.name) for entry in tensors)
        if len(self.got) < total:
            return False
        if len(self.got) > total or model_digest(self.got) != self.model:
            raise MalformedMessageError("tensors that are not of the model attested")
        return True


def differing(
    ours: Sequence[TensorEntry], theirs: Sequence[TensorEntry]
) -> tuple[str, ...]:
    """Return the names of the tensors in which two models differ, sorted."""
    mine: Mapping[str, TensorEntry] = {entry.name: entry for entry in ours}
    other: Mapping[str, TensorEntry] = {entry.name: entry for entry in theirs}
    return tuple(
        name
        for name in sorted(mine.keys() | other.keys())
        if mine.get(name) != other.get(name)
    )
