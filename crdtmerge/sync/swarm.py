"""One blob from several sources at once: who is asked for which chunks, and until when.

Owns the course of a download: the chunk list from whoever has it, missing chunks handed out
in runs, work taken over from slow sources, the tail asked of a second one, a source that
sent what it should not left out of this blob, silence ended. Does not own connections,
threads, disks or clocks: the caller opens and drops streams as `step` says, checks digests
and stores chunks, and passes the time.

What is sent in vain is bounded: a chunk that two sources sent (at most `HEDGES_MAX` of
them), one bad chunk a source, and what a stream had under way when it was dropped.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.digest import BlobId, chunk_count
from crdtmerge.errors import (
    CorruptBlobError,
    MalformedMessageError,
    NotFoundError,
)

from .runs import Run, Runs, runs_of
from .sources import Fate, Source, Stream
from .transfer import RUNS_MAX, Incoming, Piece, Wanted

SOURCES_MAX: Final = 8
"""Sources of one blob."""
STREAMS_PER_SOURCE_MAX: Final = 2
"""One that delivers, and one that is asked while the first ends."""
RUN_FIRST: Final = 8
"""Chunks that a source is asked for before its speed is known."""
RUN_LEAST: Final = 4
RUN_MAX: Final = 1024
RUN_S: Final = 1.0
"""How long a run should take its source: it claims no more than that."""
AHEAD_S: Final = 0.05
"""How long before the end of a run its source is asked for the next."""
LIST_PATIENCE_S: Final = 1.0
"""How long the chunk list may take before a second source is asked for it."""
PROGRESS_S: Final = 60.0
"""How long a stream may bring no message before it is dropped: the only deadline."""
DRAIN_S: Final = 5.0
"""How long a stream that brought all it should may take to end."""
STEAL_S: Final = 0.3
"""Work that will be done within this time is left where it is."""
HEDGE_S: Final = 0.5
"""How long the last chunk of a source is waited for before another is asked for it."""
HEDGES_MAX: Final = 16
"""Chunks of one blob that a second source is asked for."""
RETRY_FIRST_S: Final = 1.0
RETRY_LAST_S: Final = 60.0
"""How long a source that went away, or has not got the blob, is left alone."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Open a stream with `source`, and name it `number` from now on."""

    number: int
    source: bytes
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Drop:
    """End the stream `number`; what still comes of it is ignored."""

    number: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A source failed in this blob."""

    source: bytes
    fate: Fate
    reason: str


Step = Ask | Drop | Failed


@dataclass(slots=True)
class Tally:
    """What happened, in numbers."""

    stolen: int = 0
    """Chunks taken over from a slow source."""
    hedged: int = 0
    """Chunks asked of a second source."""
    wasted: int = 0
    """Chunks that came although they were here already."""
    stalls: int = 0
    """Streams that stood still for too long."""


@dataclass(slots=True)
class Swarm:
    """One download; `size` is the most that a signed manifest says of the blob.

    `encodings` and `against` go into every request (`Wanted`). A `fresh` one has no chunk
    yet, so that the first request may ask for some before the list is known.
    """

    blob: BlobId
    size: int
    encodings: bytes = b""
    against: bytes = b""
    fresh: bool = True
    chunks: Sequence[bytes] | None = None
    """The verified chunk list, once it is known; `size` is the true one then."""
    tally: Tally = field(default_factory=Tally)
    _sources: dict[bytes, Source] = field(default_factory=dict)
    _streams: dict[int, Stream] = field(default_factory=dict)
    _free: Runs = field(default_factory=Runs)
    _missing: set[int] | None = None
    _hedged: set[int] = field(default_factory=set)
    _steps: list[Step] = field(default_factory=list)
    _number: int = 0

    # --- what the caller tells ------------------------------------------------------------

    def add(self, source: bytes) -> None:
        """Take one more source, up to `SOURCES_MAX`; one that is known stays as it is."""
        if len(self._sources) < SOURCES_MAX:
            self._sources.setdefault(source, Source(source))

    def begin(self, missing: Iterable[int]) -> None:
        """Fetch these chunks: the list is known, and the others are here."""
        self._missing = set(missing)
        coming = {i for stream in self._streams.values() for i in stream.owed()}
        self._free = Runs.of(runs_of(sorted(self._missing - coming)))

    def opened(self, number: int, now: float) -> None:
        """Note that a stream is open: from now on its silence counts."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.opened, stream.heard = True, now

    def waiting(self, number: int) -> None:
        """Note that a stream is not read for a while: its silence is ours."""
        stream = self._streams.get(number)
        if stream is not None:
            stream.opened = False

    def message(self, number: int, message: bytes, now: float) -> Piece | None:
        """Take a message of a stream; return the chunk that is to be checked and stored.

        After a `Piece` the caller says `stored` or `bad` of this stream. One that was
        dropped brings nothing.
        """
        stream = self._streams.get(number)
        if stream is None or (stream.cut and not stream.owes):
            return None
        try:
            piece = stream.incoming.take(message)
        except NotFoundError as e:
            self._fail(stream.source, Fate.LACKS, str(e), now)
            return None
        except (CorruptBlobError, MalformedMessageError) as e:
            self._fail(stream.source, Fate.LIED, str(e), now)
            return None
        silent, stream.heard = now - stream.heard, now
        if piece is None:
            self._take_list(stream)
            return None
        stream.source.took(silent)
        if self._missing is not None and piece.index not in self._missing:
            self.tally.wasted += 1
            self._drop_if_cut(stream)
            return None
        stream.storing.add(piece.index)
        return piece

    def stored(self, number: int, index: int, now: float) -> None:
        """Note that a chunk is verified and stored; whoever else brings it may stop."""
        if self._missing is not None:
            self.tally.wasted += index not in self._missing
            self._missing.discard(index)
        stream = self._streams.get(number)
        if stream is not None:
            stream.storing.discard(index)
            stream.heard = now
            stream.source.failures, stream.source.fate = 0, Fate.WELL
            self._drop_if_cut(stream)
            if stream.over and not stream.storing:
                self._close(stream)
        for other in list(self._streams.values()):
            if other.number != number and other.owed() == {index}:
                self._drop(other)

    def bad(self, number: int, reason: str, now: float) -> None:
        """Note that a stream brought what the blob is not: its source is left out."""
        stream = self._streams.get(number)
        if stream is not None:
            self._fail(stream.source, Fate.LIED, reason, now)

    def withdraw(self, number: int) -> None:
        """Drop a stream that we cannot use, by no fault of its source; ask it anew."""
        stream = self._streams.get(number)
        if stream is not None:
            self._drop(stream)

    def ended(self, number: int, fate: Fate, reason: str, now: float) -> None:
        """Note that a stream ended; to end well it must have brought what was asked."""
        stream = self._streams.get(number)
        if stream is None:
            return
        if fate is Fate.WELL:
            if stream.owes:
                text = "the reply ended before all came that was asked for"
                self._fail(stream.source, Fate.LIED, text, now)
            elif stream.storing:
                stream.over = True  # or they would be asked for again meanwhile
            else:
                self._close(stream)
            return
        self._fail(stream.source, fate, reason, now)

    # --- what the caller asks -------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether every chunk is here."""
        return self._missing is not None and not self._missing

    @property
    def hopeless(self) -> bool:
        """Whether no stream is open, and no source may be asked now."""
        return not self._streams and not self.done and self._wakes is None

    @property
    def _wakes(self) -> float | None:
        """When the next source may be asked; None if all of them have failed.

        SUBTLE: one that failed is asked again only beside others that did not: when all
        have, the caller decides what comes first now.
        """
        usable = [s for s in self._sources.values() if not s.banned]
        if all(s.fate is not Fate.WELL for s in usable):
            return None
        return min((s.not_before for s in usable), default=None)

    @property
    def left(self) -> int | None:
        """How many chunks are missing; None while that is not known."""
        return None if self._missing is None else len(self._missing)

    def fates(self) -> dict[bytes, Fate]:
        """Return what became of each source so far."""
        return {name: source.fate for name, source in self._sources.items()}

    def step(self, now: float) -> list[Step]:
        """Return what to do, in this order; asked after every change, and now and then."""
        if not self.done:
            self._end_silence(now)
            if self.chunks is None:
                self._ask_for_list(now)
            elif self._missing is not None:
                self._hand_out(now)
        steps, self._steps = self._steps, []
        return steps

    def stop(self) -> list[Step]:
        """Drop every stream; nothing more is asked for."""
        for stream in list(self._streams.values()):
            self._drop(stream)
        steps, self._steps = self._steps, []
        return steps

    # --- the list -------------------------------------------------------------------------

    def _ask_for_list(self, now: float) -> None:
        """Ask one source for the list, with the first chunks; a second one in time."""
        asked = [stream.heard for stream in self._streams.values()]
        if asked and now - max(asked) < LIST_PATIENCE_S:
            return
        busy = {stream.source.name for stream in self._streams.values()}
        for source in self._ready(now):
            if source.name not in busy:
                # The first to be asked sends chunks at once: most blobs have few.
                first = self.fresh and not asked
                count = min(RUN_FIRST, chunk_count(self.size)) if first else 0
                runs = (Run(0, count),) if count else ()
                self._ask(source, runs, now, chunk_list=True)
                return

    def _take_list(self, stream: Stream) -> None:
        """Keep the list as soon as a source has proved it; drop who else was asked."""
        incoming = stream.incoming
        if self.chunks is not None or incoming.chunks is None:
            return
        self.chunks, self.size = incoming.chunks, incoming.size
        for other in list(self._streams.values()):
            if other is not stream:
                self._drop(other)

    # --- the chunks -----------------------------------------------------------------------

    def _hand_out(self, now: float) -> None:
        """Give every source that has room its next run, the quickest first."""
        for source in self._ready(now):
            streams = self._of(source)
            left = sum(stream.left for stream in streams)
            ahead = len(streams) >= STREAMS_PER_SOURCE_MAX
            if ahead or left > source.rate * AHEAD_S:
                continue
            if self._free.left:
                runs = self._free.take(self._run_length(source), RUNS_MAX)
                self._ask(source, tuple(runs), now)
            elif not left and not self._steal(source, now):
                self._hedge(source, now)

    def _run_length(self, source: Source) -> int:
        """Return how many chunks to hand out: what takes `RUN_S`, or a fair share."""
        usable = sum(s.fate is Fate.WELL for s in self._sources.values())
        share = max(RUN_LEAST, -(-self._free.left // max(1, usable)))
        wish = int(source.rate * RUN_S) if source.rate else RUN_FIRST
        return min(max(wish, RUN_LEAST), RUN_MAX, share)

    def _steal(self, thief: Source, now: float) -> bool:
        """Take over the end of the run that will take longest; tell whether there was one.

        Both should be done at the same time; the chunk that is on its way stays.
        """
        victims = [
            s for s in self._streams.values() if s.left > 1 and s.source is not thief
        ]
        slowest = max(victims, key=lambda s: self._time_left(s, now), default=None)
        if slowest is None or self._time_left(slowest, now) < STEAL_S:
            return False
        theirs = slowest.left / self._time_left(slowest, now)
        mine = thief.rate or max(theirs, *(s.rate for s in self._sources.values()))
        keep = max(1, round(slowest.left * theirs / (theirs + mine)))
        runs = slowest.incoming.due.cut(keep)
        if not runs:
            return False
        slowest.cut = True
        self.tally.stolen += sum(run.count for run in runs)
        self._free.put(runs)
        runs = self._free.take(self._run_length(thief), RUNS_MAX)
        self._ask(thief, tuple(runs), now)
        return True

    def _time_left(self, stream: Stream, now: float) -> float:
        """Return how long a stream will take, by what it did or did not do so far."""
        waited = now - stream.heard
        rate = stream.source.rate
        if not rate:
            return waited * stream.left
        ahead = sum(s.left for s in self._of(stream.source))
        return max(waited * stream.left, ahead / rate)

    def _hedge(self, source: Source, now: float) -> None:
        """Ask for a last chunk a second time, if its first source takes long."""
        patience = max(HEDGE_S, 2 / source.rate) if source.rate else HEDGE_S
        for stream in sorted(self._streams.values(), key=lambda s: s.heard):
            late = now - stream.heard >= patience and stream.source is not source
            if not stream.left or not late or stream.storing:
                continue
            index = stream.incoming.due.next
            if index in self._hedged or self.tally.hedged >= HEDGES_MAX:
                continue
            self._hedged.add(index)
            self.tally.hedged += 1
            self._ask(source, (Run(index, 1),), now)
            return

    # --- streams --------------------------------------------------------------------------

    def _ready(self, now: float) -> list[Source]:
        """Return the sources that may be asked now, the quickest first."""
        ready = [
            s for s in self._sources.values() if not s.banned and s.not_before <= now
        ]
        return sorted(ready, key=lambda s: -s.rate)

    def _of(self, source: Source) -> list[Stream]:
        """Return the streams of a source that owe something."""
        return [s for s in self._streams.values() if s.source is source and s.owes]

    def _ask(
        self,
        source: Source,
        runs: tuple[Run, ...],
        now: float,
        *,
        chunk_list: bool = False,
    ) -> None:
        wanted = Wanted(chunk_list, runs, self.encodings, self.against)
        incoming = Incoming(self.blob, self.size, wanted, self.chunks)
        self._number += 1
        self._streams[self._number] = Stream(self._number, source, incoming, now)
        self._steps.append(Ask(self._number, source.name, wanted))

    def _close(self, stream: Stream) -> None:
        """Forget a stream; what it owes is for others."""
        if self._streams.pop(stream.number, None) is None or self._missing is None:
            return
        owed = stream.owed() & self._missing
        for other in self._streams.values():
            owed -= other.owed()
        self._hedged -= owed
        self._free.put(runs_of(sorted(owed)))

    def _drop(self, stream: Stream) -> None:
        self._close(stream)
        self._steps.append(Drop(stream.number))

    def _drop_if_cut(self, stream: Stream) -> None:
        """Drop a stream whose source does not know that less is wanted than was asked."""
        if stream.cut and not stream.owed():
            self._drop(stream)

    def _fail(self, source: Source, fate: Fate, reason: str, now: float) -> None:
        """Leave a source alone for a while, or for good, and hand its work to others."""
        source.fate, source.rate = fate, 0.0
        source.banned = source.banned or fate is Fate.LIED
        source.failures += 1
        pause = RETRY_FIRST_S * 2.0 ** min(source.failures - 1, 10)
        source.not_before = now + min(pause, RETRY_LAST_S)
        for stream in list(self._streams.values()):
            if stream.source is source:
                self._drop(stream)
        self._steps.append(Failed(source.name, fate, reason))

    def _end_silence(self, now: float) -> None:
        for stream in list(self._streams.values()):
            silent = now - stream.heard
            if stream.number not in self._streams or stream.storing:
                continue
            if stream.owes and stream.opened and silent >= PROGRESS_S:
                self.tally.stalls += 1
                text = f"it brought nothing for {silent:.0f} s"
                self._fail(stream.source, Fate.GONE, text, now)
            elif not stream.owes and stream.opened and silent >= DRAIN_S:
                self._drop(stream)
