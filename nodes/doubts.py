"""A home that was restored or copied, while its node runs.

Owns what the log says of it, and that this author signs again once a peer has reported our
record root. Does not own the doubts themselves (`anchor`), nor the reports (`node`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.sync.messages import Heartbeat

from .anchor import REASONS
from .home import Home
from .spaces import Spaces

Reports = Callable[[SpaceId], Awaitable[Mapping[bytes, Heartbeat | None]]]
"""Returns the peers that share a space, and where each last said it stands."""

_log: Final = logging.getLogger(__name__)


class Doubts:
    """The doubts of one home, from the start of its node to their end."""

    def __init__(self, home: Home, spaces: Spaces, reports: Reports) -> None:
        """Ask `reports` for what peers have said since the node started."""
        self._anchor = home.anchor
        self._spaces = spaces
        self._reports = reports

    def warn(self) -> None:
        """Log in which spaces nothing is signed, and why."""
        for space in self._anchor.doubted():
            self._warn_of(space)

    def returned(self, space: SpaceId, record: RecordId) -> None:
        """Take note of a record of our author that a peer sent, and we do not know."""
        self._anchor.returned(space, record)
        self._warn_of(space)

    def _warn_of(self, space: SpaceId) -> None:
        doubt = self._anchor.doubt(space)
        if doubt is not None:
            name = space.hex()[:12]
            _log.warning("space %s: this home signs nothing: %s", name, REASONS[doubt])

    async def end(self) -> bool:
        """End the doubts of spaces where a peer has our record root; tell if any did.

        What this home signed before it was restored is here then, as far as that peer
        knows it.
        """
        ended = False
        for space in self._anchor.doubted():
            reports = await self._reports(space)
            ours = (await asyncio.to_thread(self._spaces.heartbeat, space)).root
            equal = any(theirs and theirs.root == ours for theirs in reports.values())
            if equal and await asyncio.to_thread(self._anchor.compared, space):
                _log.warning("this home signs again in space %s", space.hex()[:12])
                ended = True
        return ended
