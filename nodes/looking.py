"""What is here of the contributions of one space, found a bounded number at a time.

Owns which contributions are looked at next. Does not own what is visible
(`crdtmerge.policy`), nor how one is looked at (`spaces`).

Where few are not whole, each look is at all of them. Of very many it is at some: of an
author in turn, so that one who offers a million keeps nobody else's waiting, and what is
new beside what was looked at before.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.digest import BlobId, ContentId
from crdtmerge.identity import AuthorId
from crdtmerge.policy import Changes, Shown, Visible

from .fairness import FairQueue

LOOKS_MAX: Final = 1024
"""Contributions of a space that one look is at."""

Lack = tuple[Visible, dict[BlobId, int]]
"""A contribution, and a part of what it lacks: nothing, if what came is faulty."""


@dataclass(slots=True, eq=False)
class Seen:
    """What was here of the contributions of a space; for one thread at a time."""

    changes: Changes = field(default_factory=Changes)
    whole: dict[ContentId, Visible] = field(default_factory=dict)
    """Those of which all is here; any thread may ask for one of them."""
    doubtful: dict[ContentId, Lack] = field(default_factory=dict)
    """Those of the last look that are not whole."""
    _news: FairQueue[ContentId] = field(default_factory=FairQueue)
    _waiting: FairQueue[ContentId] = field(default_factory=FairQueue)
    _counts: Counter[AuthorId] = field(default_factory=Counter)

    @property
    def has_news(self) -> bool:
        """Tell whether there are contributions that nobody looked at yet."""
        return len(self._news) > 0

    def hear(self, shown: Shown) -> list[ContentId]:
        """Note what is shown now; return what is not taken for whole any more."""
        changed = shown.changes.since(self.changes)
        gone: list[ContentId] = []
        if changed is None:  # nobody can tell: look at all
            gone += self.whole
            changed = frozenset(shown.elements)
            self._news, self._waiting = FairQueue(), FairQueue()
            self._counts.clear()
            self.whole.clear()
        for content in sorted(changed):
            if self.whole.pop(content, None) is not None:
                gone.append(content)
            if (visible := shown.elements.get(content)) is not None:
                self._put(self._news, visible)
        self.changes = shown.changes
        return gone

    def next(self, shown: Shown) -> list[Visible]:
        """Return what to look at now; `note` must hear of each."""
        at_once = max(LOOKS_MAX // 2, LOOKS_MAX - len(self._waiting))
        taken = self._take(self._news, at_once)
        taken += self._take(self._waiting, LOOKS_MAX - len(taken))
        found = (shown.elements.get(content) for content in sorted(set(taken)))
        return [v for v in found if v and self.whole.get(v.content) != v]

    def note(self, visible: Visible, part: dict[BlobId, int] | None) -> Lack | None:
        """Keep what a look found: a part of what is lacking, or None of what is faulty."""
        if part is not None and not part:
            self.whole[visible.content] = visible
            return None
        self._put(self._waiting, visible)
        return visible, part or {}

    def _put(self, queue: FairQueue[ContentId], visible: Visible) -> None:
        """Let a contribution wait, for the author of it of whom the fewest do.

        SUBTLE: else who adds what another offers could make it wait behind its own.
        """
        author = min(visible.authors, key=lambda a: (self._counts[a], a))
        self._counts[author] += 1
        queue.put(author, visible.content)

    def _take(self, queue: FairQueue[ContentId], most: int) -> list[ContentId]:
        taken: list[ContentId] = []
        for _ in range(min(most, len(queue))):
            flow, content = queue.take()
            queue.charge(flow, 1)
            author = AuthorId(flow)
            self._counts[author] -= 1
            if not self._counts[author]:
                del self._counts[author]
            taken.append(content)
        return taken
