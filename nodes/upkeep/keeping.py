"""What a running node does for its store by itself, a little at a time.

Owns when it collects and checks, and the counters of both. Does not own what goes
(`collecting`), nor what is damaged (`scrubbing`). Time is given: nothing here reads a
clock.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from crdtmerge.errors import NoRoomError

from ..home import Home
from ..spaces import Spaces
from .collecting import GRACE_S, sweep
from .scrubbing import Scrubber

FIRST_S: Final = 60.0
"""How long after the start the first collection comes."""
EVERY_S: Final = 600.0
"""How long after one collection the next comes."""
MOST: Final = 256
"""Blobs that go in one turn."""
RATE: Final = 8_000_000.0
"""Bytes that the slow check reads in a second, where the user says nothing."""

_log: Final = logging.getLogger(__name__)


class _Stopped(Exception):  # noqa: N818  no error: the node stops
    """The node stops in the middle of a turn."""


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What the user wants a node to do by itself."""

    scrub_rate: float = RATE
    """Bytes a second; 0 turns the check off."""
    collects: bool = True


class Keeper:
    """The upkeep of one home while a node runs. For one thread, but `stop`."""

    def __init__(self, home: Home, spaces: Spaces, upkeep: Upkeep) -> None:
        """Do what `upkeep` says."""
        self._home = home
        self._spaces = spaces
        self.upkeep = upkeep
        self.scrubber = Scrubber(home, spaces, upkeep.scrub_rate)
        self.collected_blobs = 0
        self.collected_bytes = 0
        self._due: float | None = None
        self._waiting: set[str] = set()
        self._stopping = threading.Event()

    def turn(self, now: float, wall: float) -> None:
        """Do what is due; `now` only grows, `wall` is the system's clock.

        That the disk is full is no failure of the node: what is due comes again.

        Raises:
            MachineError: the store cannot be read or written.
        """
        try:
            if self.upkeep.scrub_rate > 0:
                with self._if_room("the check"):
                    self.scrubber.turn(now, wall, self._breathe)
            if self.upkeep.collects:
                with self._if_room("collection"):
                    self._collect(now, wall)
        except _Stopped:
            return

    @contextmanager
    def _if_room(self, what: str) -> Iterator[None]:
        """Give up what finds the disk full, and say so once until there is room."""
        try:
            yield
        except NoRoomError as e:
            if what not in self._waiting:
                _log.warning("%s waits for room: %s", what, e)
            self._waiting.add(what)
        else:
            self._waiting.discard(what)

    def stop(self) -> None:
        """Let a turn that is under way end soon; from any thread."""
        self._stopping.set()

    def end(self) -> None:
        """Write down what the next start goes on from.

        Raises:
            MachineError: the disk refused.
        """
        if self.upkeep.scrub_rate > 0:
            self.scrubber.save()

    def facts(self) -> dict[str, object]:
        """Return what was done since the start, as JSON."""
        scrubber = self.scrubber
        return {
            "scrub_rate": self.upkeep.scrub_rate,
            "scrubbed_bytes": scrubber.bytes,
            "scrubbed_blobs": scrubber.blobs,
            "scrub_passes": scrubber.passes,
            "damaged": dict(sorted(scrubber.damaged.items())),
            "collects": self.upkeep.collects,
            "collected_blobs": self.collected_blobs,
            "collected_bytes": self.collected_bytes,
        }

    def _breathe(self, _: int = 0) -> None:
        if self._stopping.is_set():
            raise _Stopped

    def _collect(self, now: float, wall: float) -> None:
        if self._due is None:
            self._due = now + FIRST_S
        if now < self._due:
            return
        self._due = now + FIRST_S
        swept = sweep(
            self._home,
            self._spaces,
            int(wall),
            GRACE_S,
            most=MOST,
            breathe=self._breathe,
        )
        self._due = now + (0.0 if len(swept.taken) == MOST else EVERY_S)
        self.collected_blobs += len(swept.taken)
        self.collected_bytes += swept.bytes
        if swept.taken:
            words = "%d blobs that nothing needs any more went (%d bytes)"
            _log.info(words, len(swept.taken), swept.bytes)
        if swept.in_the_way:
            _log.info("collection waits: %s", swept.in_the_way)
            self._due = now + FIRST_S
