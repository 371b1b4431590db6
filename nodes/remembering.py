"""The address book between two runs of a node: from its clock to the disk, and back.

Owns the change between a clock that only grows and the date. Does not own the book
(`book`), nor the table (`store`). A date that was set back makes an address as lately
tried as can be, and no more.
"""

from collections.abc import Callable
from typing import Final

from .book import Book, Place, Tried
from .store.base import LocalStore, TriedFacts

SAVE_S: Final = 10.0
"""How often what changed in the book goes to disk."""


class Remembering:
    """Keeps one node's address book on its disk."""

    def __init__(
        self,
        local: LocalStore,
        clock: Callable[[], float],
        date: Callable[[], float],
    ) -> None:
        """`clock` is the node's, `date` the system's; both in seconds."""
        self._local = local
        self._clock = clock
        self._date = date

    def load(self, book: Book) -> None:
        """Fill `book` with what the last run knew."""
        book.load(map(self._tried, self._local.tried()))

    def save(self, changes: list[tuple[Place, Tried | None]]) -> None:
        """Keep what changed.

        Raises:
            MachineError: the disk refused.
        """
        kept = [self._facts(place, tried) for place, tried in changes if tried]
        gone = [place for place, tried in changes if tried is None]
        if kept or gone:
            self._local.keep_tried(kept, gone)

    def _tried(self, facts: TriedFacts) -> tuple[Place, Tried]:
        worked = None if facts.worked is None else self._then(facts.worked)
        tried = Tried(
            facts.successes,
            facts.failures,
            worked,
            self._then(facts.tried),
            facts.local,
        )
        return (facts.node, facts.address), tried

    def _facts(self, place: Place, tried: Tried) -> TriedFacts:
        passed = self._date() - self._clock()
        worked = None if tried.worked_at is None else int(tried.worked_at + passed)
        return TriedFacts(
            *place,
            tried.successes,
            tried.failures,
            worked,
            int(tried.tried_at + passed),
            tried.local,
        )

    def _then(self, date: float) -> float:
        """Return when on the node's clock a date was; it may be below zero."""
        return self._clock() - max(0.0, self._date() - date)
