"""The slow check in the background: every blob is read again, the coldest first.

Owns the order, the rate, and where it was when the node stopped. Does not own what damage
is (`inspecting`), nor its repair (`repairing`). Time is given: nothing here reads a clock.

Bytes that nobody reads rot unseen; what a resolve reads is verified anyhow, so what was
used longest ago comes first. What is damaged is set aside, and fetched as all that is
missing.
"""

import logging
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Final

from crdtmerge.codec import Value, decode, encode
from crdtmerge.errors import EncodingError, NoRoomError

from ..home import Home
from ..spaces import Spaces
from ..store.download import chunk_length
from ..store.holdings import Holding
from ..store.ranges import Done
from .inspecting import inspect_blob
from .needs import find_needs
from .repairing import repair
from .sources import Sources

PASS_S: Final = 24 * 3600
"""The least time from the begin of one pass to that of the next."""
BURST_S: Final = 2.0
"""What a pause allows to be caught up."""
COST_MIN: Final = 16 << 10
"""What a small blob counts as: looking it up costs something too."""
SAVE_BYTES: Final = 64 << 20
"""How much is read before it is written down where we are."""
ROWS: Final = 64
"""Blobs that are looked up at a time."""

_PLACE: Final = "scrub"
_PLACE_BYTES_MAX: Final = 1 << 10

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a pass is: before this chunk of this blob, or behind it; when it began."""

    used: int = 0
    blob: bytes = b""
    chunk: int = 0
    behind: bool = False
    over: bool = True
    began: int = 0

    def to_value(self) -> Value:
        """Return what is written down."""
        flags = 2 * self.over + self.behind
        return [self.used, self.blob, self.chunk, flags, self.began]


class Scrubber:
    """The slow check of one home, from turn to turn. For one thread.

    Counters are of this node's life: bytes and blobs that were read, passes that ended, and
    damaged blobs by what became of them.
    """

    def __init__(self, home: Home, spaces: Spaces, rate: float) -> None:
        """Read `rate` bytes a second; 0 reads nothing."""
        self._home = home
        self._spaces = spaces
        self.rate = rate
        self.bytes = 0
        self.blobs = 0
        self.passes = 0
        self.damaged: Counter[str] = Counter()
        self._place = self._remembered()
        self._queue: deque[Holding] = deque()
        self._left = 0.0
        self._last: float | None = None
        self._unsaved = 0

    def turn(self, now: float, wall: float, breathe: Done = lambda _: None) -> None:
        """Read as much as the time since the last turn allows.

        `now` only grows, `wall` is the system's clock; `breathe` hears of bytes, and may
        raise to end the turn.

        Raises:
            MachineError: the store cannot be read, or a repair was refused.
        """
        passed = 0.0 if self._last is None else now - self._last
        self._last = now
        self._left = min(self._left + passed * self.rate, BURST_S * self.rate)
        while self._left > 0 and (holding := self._next(int(wall))) is not None:
            self._check(holding, breathe)

    def save(self) -> None:
        """Write down where this pass is.

        Raises:
            MachineError: the disk refused.
        """
        self._home.local.set_value(_PLACE, encode(self._place.to_value()))
        self._unsaved = 0

    def _remembered(self) -> _Place:
        kept = self._home.local.get_value(_PLACE)
        if kept is None:
            return _Place()
        try:
            value = decode(kept, _PLACE_BYTES_MAX)
        except EncodingError:
            value = None
        match value:
            case [int(used), bytes(blob), int(chunk), int(flags), int(began)]:
                return _Place(
                    used, blob, chunk, bool(flags & 1), bool(flags & 2), began
                )
            case _:
                _log.warning("it is not known any more where the last check ended")
                return _Place()

    def _next(self, wall: int) -> Holding | None:
        """Return what to read now; None when the pass is over and the next not due."""
        if not self._queue:
            # a clock that was set back must not hold up the next pass for ever
            if self._place.over and 0 <= wall - self._place.began < PASS_S:
                return None
            if self._place.over:
                self._place = _Place(over=False, began=wall)
            self._look_up()
        if self._queue:
            return self._queue[0]
        self.passes += 1
        self._place = _Place(began=self._place.began)
        self.save()
        return None

    def _look_up(self) -> None:
        place, rows = self._place, self._home.blobs.rows
        self._queue.extend(
            rows.colder_first(place.used, place.blob, ROWS, behind=place.behind)
        )

    def _check(self, holding: Holding, breathe: Done) -> None:
        """Read the next chunk of a blob, and go on to the next blob at its end."""
        place, blob = self._place, holding.blob
        begun = (place.used, place.blob) == (holding.used, blob)
        index = place.chunk if begun and not place.behind else 0
        length = max(chunk_length(holding.size, index), 0)
        self._left -= max(length, COST_MIN)
        self.bytes += length
        self._unsaved += length
        breathe(length)
        right = self._home.blobs.examination.is_right(blob, index)
        if not right:
            self._damaged(holding, breathe)
        ended = not right or chunk_length(holding.size, index + 1) <= 0
        if ended:
            self.blobs += 1
            self._queue.popleft()
        self._place = replace(
            place, used=holding.used, blob=blob, chunk=index + 1, behind=ended
        )
        if self._unsaved >= SAVE_BYTES:
            self.save()

    def _damaged(self, holding: Holding, breathe: Done) -> None:
        """Say what is wrong with a blob, and repair it as far as this machine can."""
        home, spaces, blob = self._home, self._spaces, holding.blob
        damage = inspect_blob(home.blobs, holding, breathe)
        if damage is None or not home.blobs.has(blob):
            return  # it went meanwhile, or is right by now
        try:
            needs = find_needs(home, spaces)
            sources = Sources(home, spaces)
            outcome: str = repair(home, spaces, damage, needs, sources).outcome
        except NoRoomError as e:
            _log.warning("a damaged blob cannot be repaired: %s", e)
            outcome = "wanted"
        self.damaged[outcome] += 1
        words = "blob %s is damaged (%s, %d chunks): %s"
        _log.warning(words, blob.hex(), damage.kind, len(damage.chunks), outcome)
