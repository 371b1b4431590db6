"""What we answer a peer's questions: from the set as it is, without a state but numbers.

Owns which question has which answer, and that each is given once under one number. Does not
own what the sets hold, nor what we ask ourselves (`pulls`).
"""

from dataclasses import dataclass, replace
from typing import assert_never

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import MalformedMessageError
from crdtmerge.sync.compare import compare
from crdtmerge.sync.messages import (
    IDS_MAX,
    CompareReply,
    CompareRequest,
    FeedReply,
    FeedRequest,
    RecordsReply,
    RecordsRequest,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.pulls import Answer, Pull, Question, Spaces
from crdtmerge.sync.reconcile import answer


@dataclass(frozen=True, slots=True)
class Serving:
    """Answers a peer."""

    spaces: Spaces

    def answer(self, space: SpaceId, pull: Pull, question: Question) -> Answer | None:
        """Return the answer to a question, once under one number.

        Raises:
            MalformedMessageError: it has none, or is out of bounds.
        """
        if question.number == 0:
            raise MalformedMessageError("a question without a number")
        if question.number <= pull.answered:
            return None  # asked again while the answer was under way, or doubled
        pull.answered = question.number
        return replace(self._answer(space, question), number=question.number)

    def _answer(self, space: SpaceId, question: Question) -> Answer:
        match question:
            case FeedRequest(generation=generation, after=after):
                return self._feed(space, generation, after)
            case TrieRequest(prefixes=prefixes):
                return TrieReply(
                    space, tuple(answer(self.spaces.trie(space), prefixes))
                )
            case CompareRequest(salt=salt, sections=sections):
                covered, found = compare(self.spaces.trie(space), salt, sections)
                return CompareReply(space, tuple(found), covered)
            case RecordsRequest(ids=ids):
                return self._records(space, ids)
            case _:
                assert_never(question)

    def _feed(self, space: SpaceId, generation: bytes, after: int) -> FeedReply:
        ours = self.spaces.heartbeat(space)
        if generation == ours.generation:
            return self.spaces.feed(space, after)
        return FeedReply(space, ours.generation, 0, more=False, records=())

    def _records(self, space: SpaceId, ids: tuple[bytes, ...]) -> RecordsReply:
        if not 0 < len(ids) <= IDS_MAX:
            raise MalformedMessageError(f"{len(ids)} records asked for at once")
        return self.spaces.fetch(space, ids)
