"""The pass over a user's files: each byte is read once, named, checked and kept on the way.

Owns reading ahead, and the threads on which blocks are measured. Does not own what is
learned of a block (`crdtmerge.formats.survey`), nor how bytes are kept (`store.intake`).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Final

from crdtmerge.formats.progress import Progress, Report
from crdtmerge.formats.survey import (
    BLOCK_BYTES,
    Block,
    Seen,
    Tally,
    Visit,
    measure,
)

from ..store.intake import Intake
from ..store.sources import Sources

BLOCKS_AHEAD: Final = 4
"""Blocks that are read before the one whose turn it is; with it they bound the memory."""
MEASURING_THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class Ahead:
    """A block that was read, and is being measured; the `last` one of its tensor?"""

    visit: Visit
    data: bytes
    block: Future[Block]
    last: bool


@dataclass(slots=True)
class Survey:
    """Makes passes for one command: a `Pass` of `crdtmerge.formats`."""

    sources: Sources
    intake: Intake
    pool: Executor
    report: Report

    def __call__(self, visits: Sequence[Visit]) -> Iterator[Seen]:
        """Read the tensors once each, and yield what was seen of each, in order.

        Raises:
            BadInputError: a file cannot be read, or is not the one it was.
            ContractError: values leave the numeric contract.
            MachineError: the disk refused.
        """
        work = "referencing" if self.intake.reference else "storing"
        total, done = sum(visit.tensor.size for visit in visits), 0
        tally, taking = None, None
        for ahead in self._blocks(visits):
            if tally is None or taking is None:
                again = partial(self.sources.read, ahead.visit.tensor)
                taking = self.intake.begin(ahead.visit.tensor, again)
                tally = Tally(ahead.visit)
            block = ahead.block.result()
            if ahead.data:
                taking.take(ahead.data, block.chunks)
            tally.take(block, ahead.data)
            done += len(ahead.data)
            if ahead.last:
                taking.end()
                yield tally.seen()
                tally = taking = None
            self.report(Progress(work, done, total))
        self.sources.check_unchanged(visit.tensor for visit in visits)

    def _blocks(self, visits: Sequence[Visit]) -> Iterator[Ahead]:
        """Read block after block, some ahead of the one that is yielded."""
        ahead: deque[Ahead] = deque()
        for visit in visits:
            size = visit.tensor.size
            for start in range(0, max(size, 1), BLOCK_BYTES):
                length = min(BLOCK_BYTES, size - start)
                data = self.sources.read(visit.tensor, start, length)
                block = self.pool.submit(measure, visit, data, start)
                ahead.append(Ahead(visit, data, block, last=start + length == size))
                if len(ahead) > BLOCKS_AHEAD:
                    yield ahead.popleft()
        yield from ahead
