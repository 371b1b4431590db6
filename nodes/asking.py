"""Our questions to one peer: a few are out at a time, whatever the number of spaces.

Owns which of them go out when. Does not own what is asked (`crdtmerge.sync.session`), which
has one question a space.

Each answer may have a MiB, and what has left the peer cannot be overtaken any more: news of
a small space would stand in the buffers of the line behind as many answers as there are
questions out. So few are, and of the spaces that wait goes next the one that was sent least
(`fairness`).
"""

from typing import Final

from crdtmerge.sync.messages import Message

from .fairness import FairQueue
from .outgoing import flow_of
from .quotas import price_of, weight

ASKED_MAX: Final = 2
"""Questions that may be out at once: one is answered while the other is on its way."""
ANSWER_S: Final = 30.0
"""After so long without an answer others are asked: some questions are never answered."""


def asks(message: Message) -> bool:
    """Tell whether this is a question that a numbered answer is for."""
    return bool(getattr(message, "number", 0)) and price_of(message).questions > 0


def answers(message: Message) -> bool:
    """Tell whether this answers a numbered question."""
    return bool(getattr(message, "number", 0)) and price_of(message).questions == 0


class Asking:
    """The questions that are out, and those that wait; one of each space and kind."""

    def __init__(self) -> None:
        """Start with none."""
        self._out: dict[tuple[bytes, int], float] = {}
        self._held: dict[tuple[bytes, type[Message]], Message] = {}
        self._waiting: FairQueue[type[Message]] = FairQueue()
        self._answer_bytes: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._held)

    def ask(self, question: Message, now: float) -> list[Message]:
        """Return what may go out at `now`, now that `question` is to be asked as well.

        One that is asked again goes out at once, or goes on waiting. A newer one of a
        space takes the place of the one that waits.
        """
        if _key(question) in self._out:
            return [question]
        space, kind = flow_of(question), type(question)
        if (space, kind) not in self._held:
            self._waiting.put(space, kind)
        self._held[space, kind] = question
        return self._next(now)

    def answered(self, answer: Message, now: float) -> list[Message]:
        """Return what may go out at `now` that this answer is here."""
        self._out.pop(_key(answer), None)
        self._answer_bytes[flow_of(answer)] = weight(answer)
        return self._next(now)

    def _next(self, now: float) -> list[Message]:
        late = [key for key, since in self._out.items() if now - since > ANSWER_S]
        for key in late:
            del self._out[key]
        found = []
        while self._held and len(self._out) < ASKED_MAX:
            space, kind = self._waiting.take()
            self._waiting.charge(space, self._answer_bytes.get(space, 0))
            question = self._held.pop((space, kind))
            self._out[_key(question)] = now
            found.append(question)
        return found


def _key(message: Message) -> tuple[bytes, int]:
    """Return what a question and its answer have in common."""
    return flow_of(message), int(getattr(message, "number", 0))
