"""One pass over a user's tensors: what to look at in each, and what the pass has seen.

Owns what is learned of a block (the digests of its chunks, the facts of its values) and
how blocks make up a tensor. Does not own how files are read ahead, on which threads, nor
where the bytes are kept: that is for whoever makes the pass (`Pass`).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id, chunk_digest
from crdtmerge.formats.folder import read_chunks
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.progress import Progress, Report
from crdtmerge.manifest import ITEM_BYTES
from crdtmerge.numerics import TensorFacts, join_facts

BLOCK_BYTES: Final = 4 << 20
"""What is read at once: whole chunks, so whole items of every dtype."""

Look: TypeAlias = Callable[[memoryview, int], TensorFacts]
"""Returns the facts of a part of a tensor, given the number of its first item."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A tensor to read once: how its values are looked at, and whether bytes are held.

    Bytes that are `held` come with what was seen. `name` is the base's tensor that it is
    likely to be equal to.
    """

    tensor: StoredTensor
    look: Look | None = None
    held: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """What is learned of one block: its chunks, and the facts of its values."""

    chunks: tuple[bytes, ...]
    facts: TensorFacts | None


@dataclass(frozen=True, slots=True)
class Seen:
    """What is learned of one tensor; `data` are its bytes if they were to be held."""

    blob: BlobId
    facts: TensorFacts | None = None
    data: bytes = b""


Pass: TypeAlias = Callable[[Sequence[Visit]], Iterator[Seen]]
"""Reads the tensors once each, and yields what was seen of each, in order."""


def measure(visit: Visit, data: bytes, offset: int) -> Block:
    """Return what is learned of the block of a tensor that begins at byte `offset`.

    Pure, and free of the interpreter's lock for the most part: blocks may be measured on
    several threads at once.

    Raises:
        ContractError: the values leave the numeric contract.
    """
    view, width = memoryview(data), ITEM_BYTES[visit.tensor.dtype]
    chunks, facts = [], []
    # A chunk is hashed and looked at while it is in the cache of the core.
    for start in range(0, len(view), CHUNK_BYTES):
        chunk = view[start : start + CHUNK_BYTES]
        chunks.append(chunk_digest(chunk))
        if visit.look is not None:
            facts.append(visit.look(chunk, (offset + start) // width))
    return Block(tuple(chunks), join_facts(facts) if visit.look else None)


@dataclass(slots=True)
class Tally:
    """A tensor as its blocks come in, in order."""

    visit: Visit
    chunks: list[bytes] = field(default_factory=list)
    _facts: list[TensorFacts] = field(default_factory=list)
    _data: list[bytes] = field(default_factory=list)

    def take(self, block: Block, data: bytes) -> None:
        """Take in the next block."""
        self.chunks += block.chunks
        if block.facts is not None:
            self._facts = [join_facts([*self._facts, block.facts])]
        if self.visit.held:
            self._data.append(data)

    def seen(self) -> Seen:
        """Return what the blocks make up."""
        facts = join_facts(self._facts) if self.visit.look is not None else None
        blob = blob_id(self.visit.tensor.size, self.chunks)
        return Seen(blob, facts, b"".join(self._data))


def plain_pass(
    visits: Sequence[Visit],
    report: Report | None = None,
    work: str = "hashing",
    threads: int = 1,
) -> Iterator[Seen]:
    """Make the pass over so many tensors side by side, keeping nothing.

    Raises:
        BadInputError: a file changed since its header was read.
    """
    total, done = sum(visit.tensor.size for visit in visits), 0
    pool = ThreadPoolExecutor(threads, "hashing")
    try:
        passes = zip(visits, pool.map(_seen, visits), strict=True)
        for number, (visit, seen) in enumerate(passes, start=1):
            yield seen
            done += visit.tensor.size
            if report:
                report(Progress(work, done, total, tensors=(number, len(visits))))
    finally:
        pool.shutdown(cancel_futures=True)


def _seen(visit: Visit) -> Seen:
    """Read one tensor, chunk by chunk."""
    tally, offset = Tally(visit), 0
    for chunk in read_chunks(visit.tensor):
        tally.take(measure(visit, chunk, offset), chunk)
        offset += len(chunk)
    return tally.seen()
