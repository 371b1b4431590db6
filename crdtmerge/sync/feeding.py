"""The feed: what a peer stored after our cursor, in its order.

Owns the questions for it and what their answers must be. Does not own when it is asked for
(`session`), nor how the peer finds its records.
"""

from dataclasses import dataclass

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import MalformedMessageError
from crdtmerge.sync.messages import FeedReply, FeedRequest
from crdtmerge.sync.pulls import Cursor, Pull, Pulls


@dataclass(frozen=True, slots=True)
class Feeding:
    """Reads a peer's feeds."""

    pulls: Pulls

    def ask(self, space: SpaceId, pull: Pull, cursor: Cursor) -> None:
        """Ask for what comes after `cursor`."""
        pull.target = pull.target or pull.latest
        self.pulls.cursors[space] = cursor
        self.pulls.ask(pull, FeedRequest(space, cursor.generation, cursor.sequence))

    def take(self, space: SpaceId, reply: FeedReply) -> bool:
        """Take a part of the feed and ask for the next; tell whether it was the last.

        Raises:
            RemoteError: the peer broke the protocol, or sent what breaks a rule.
        """
        answered = self.pulls.answered(space, reply.number, FeedRequest)
        if answered is None:
            return False
        pull, asked = answered
        if reply.generation != asked.generation:
            del self.pulls.cursors[
                space
            ]  # another life of the peer's store: start over
            return True
        # Numbers have no gap, so every record moves the feed by one at least.
        moved = reply.through - asked.after
        if moved < len(reply.records) or (reply.more and not reply.records):
            raise MalformedMessageError("a feed that does not move on")
        if not self.pulls.learn(space, reply.records):
            self.pulls.showed(space, pull, len(reply.records))
        cursor = Cursor(reply.generation, reply.through)
        self.pulls.cursors[space] = cursor
        if reply.more:
            self.ask(space, pull, cursor)
        return not reply.more
