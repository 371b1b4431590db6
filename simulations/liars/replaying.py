"""Fault 36: frames that were sent or heard before, said again.

Owns which of them, and to whom: in other sessions than theirs, and of other spaces.
"""

import random
from dataclasses import replace
from typing import Final

from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.sync.messages import (
    CompareReply,
    FeedReply,
    Heartbeat,
    Message,
    RecordsReply,
    Rumour,
    TensorsReply,
    TrieReply,
)

from .liar import Liar

FRAMES_MAX: Final = 24
"""Frames that are said again at once."""
ANSWERS: Final = (FeedReply, TrieReply, CompareReply, RecordsReply, TensorsReply)
"""An answer that nobody asked for ends a stream: half of the times there is none."""
ELSEWHERE: Final = 0.1
"""Share of the frames that are said of a space that the peer does not know."""


def replay(liar: Liar, rng: random.Random) -> bool:
    """Say again what was sent or heard, to any peers; tell whether there was anything."""
    quiet = rng.random() < 0.5
    known = [m for m in liar.memory if not (quiet and isinstance(m, ANSWERS))]
    peers = liar.peers()
    if not peers or not known:
        return False
    for message in rng.sample(known, min(FRAMES_MAX, len(known))):
        moved = rng.random() < ELSEWHERE
        said = _elsewhere(message, rng) if moved else message
        liar.tell(rng.choice(peers), said)
    return True


def _elsewhere(message: Message, rng: random.Random) -> Message:
    """Return the same about a space that nobody founded."""
    if isinstance(message, Heartbeat | Rumour | FeedReply):
        return replace(message, space=rng.randbytes(DIGEST_BYTES))
    return message
