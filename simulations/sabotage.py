"""`python -m simulations sabotage`: the code broken on purpose, to see who notices.

Owns the breaks, each of one promise, done to the real code in this process for as long as a
run lasts; and counting the seeds that it takes until a checker fails. Does not own the
checkers, nor the patches of tests/mutants, which name a test each.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.orset import OpSet
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica
from crdtmerge.resolve import plan
from crdtmerge.sync.messages import FeedReply, Heartbeat
from crdtmerge.trie import Trie
from nodes.cli.output import plain, table
from nodes.sets import Sets
from nodes.spaces import Spaces
from nodes.store.memory import MemoryBlobs, MemoryRecords
from simulations.disks import disk, storage
from simulations.disks.power_loss import Loss
from simulations.hunting.attempts import Failure, attempt
from simulations.hunting.workers import workers
from simulations.links import downloads

from .checkout import commit
from .faults import Faults
from .runs import SWARM, Run

SEEDS_DEFAULT: Final = 20
STALE_RECORDS: Final = 8
LINKS: Final = Faults.of(
    0.2, loss=0.3, duplicate=0.1, reorder=0.2, refuse=0.1, cut=0.05, crash=0.05
)
DISKS: Final = Faults.of(0.2, loss=0.1, power_loss=0.1)
SMALL: Final = Run(SWARM, 0, 4, 10, LINKS)
ON_DISKS: Final = replace(SMALL, faults=DISKS)

Breaking = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One break: what is wrong then, and in which run it should show."""

    words: str
    do: Breaking
    run: Run = SMALL

    @contextmanager
    def done(self) -> Iterator[None]:
        """Break the code for as long as this lasts."""
        with ExitStack() as undo:
            self.do(undo)
            yield

    def caught(self, seeds: Iterable[int]) -> Iterator[Failure | None]:
        """Yield how each seed's run fails, if it does."""
        for seed in seeds:
            with self.done():
                result = attempt(replace(self.run, seed=seed))
            yield result if isinstance(result, Failure) else None


def _put(undo: ExitStack, owner: Any, name: str, made: object) -> None:
    """Put something in the place of an attribute, until all is undone."""
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, made)


# --- records ---------------------------------------------------------------------------


def _drop_records(undo: ExitStack) -> None:
    whole = Sets.take

    def take(
        self: Sets, space: SpaceId, batch: Sequence[SignedRecord]
    ) -> tuple[RecordId, ...]:
        kept = [signed for signed in batch if signed.record.id[0] >= 16]
        dropped = [s.record.id for s in batch if s.record.id[0] < 16]
        return (*whole(self, space, kept), *dropped)

    _put(undo, Sets, "take", take)


def _forget_at_restart(undo: ExitStack) -> None:
    def lose_power(self: storage.MemoryStorage, _loss: Loss) -> None:
        kept = MemoryRecords(self.records.generation)
        for space in self.records.spaces():
            kept.append(space, self.records.load(space)[:-1])
        self.records = kept

    _put(undo, storage.MemoryStorage, "lose_power", lose_power)


def _use_numbers_again(undo: ExitStack) -> None:
    whole = Replica._last

    def last(self: Replica) -> tuple[int, RecordId] | None:
        """Forget one's own last record where it is the fifth, the tenth and so on."""
        found = whole(self)
        if found is None or found[0] % 5 or not found[0]:
            return found
        record = self.opset.signed[found[1]].record
        return found[0] - 1, RecordId(record.prev)

    _put(undo, Replica, "_last", last)


def _ignore_removes(undo: ExitStack) -> None:
    whole = OpSet.insert

    def insert(self: OpSet, batch: Iterable[SignedRecord]) -> OpSet:
        kept = list(batch)
        if len(self) and len(kept) > 1:  # from a peer: people say one thing at a time
            kept = [s for s in kept if s.record.kind != "remove"]
        return whole(self, kept)

    _put(undo, OpSet, "insert", insert)


def _forget_own_side(undo: ExitStack) -> None:
    whole = MemoryRecords.append

    def append(
        self: MemoryRecords,
        space: SpaceId,
        records: Sequence[SignedRecord],
        gone: frozenset[RecordId] = frozenset(),
    ) -> None:
        """Drop the last of what is here where several records come."""
        here = self.load(space) if len(records) > 1 else []
        whole(self, space, records, gone | {s.record.id for s in here[-1:]})

    _put(undo, MemoryRecords, "append", append)


# --- exchange --------------------------------------------------------------------------


def _serve_stale_sets(undo: ExitStack) -> None:
    """Serve a set as it was when it last had grown by eight records."""
    kept: dict[tuple[bytes, SpaceId], tuple[Heartbeat, Trie]] = {}
    heartbeat, trie, feed = Sets.heartbeat, Sets.trie, Sets.feed

    def stale(self: Sets, space: SpaceId) -> tuple[Heartbeat, Trie]:
        now = heartbeat(self, space)
        place = self.records.generation, space
        found = kept.get(place)
        if found is None or now.count >= found[0].count + STALE_RECORDS:
            found = kept[place] = now, trie(self, space)
        return found

    def stale_feed(self: Sets, space: SpaceId, after: int) -> FeedReply:
        last = stale(self, space)[0].sequence
        found = feed(self, space, min(after, last))
        kept = max(0, len(found.records) - max(0, found.through - last))
        through = min(found.through, last)
        return replace(found, records=found.records[:kept], through=through)

    _put(undo, Sets, "heartbeat", lambda self, space: stale(self, space)[0])
    _put(undo, Sets, "trie", lambda self, space: stale(self, space)[1])
    _put(undo, Sets, "feed", stale_feed)


def _trust_chunks(undo: ExitStack) -> None:
    class Anything(bytes):
        __hash__ = bytes.__hash__

        def __eq__(self, _other: object) -> bool:
            return True

    def receive(self: MemoryBlobs, blob: Any, data: bytes) -> None:
        self._blobs[blob] = data

    _put(undo, downloads, "chunk_digest", lambda _data: Anything())
    _put(undo, MemoryBlobs, "receive", receive)


def _serve_what_is_not_whole(undo: ExitStack) -> None:
    _put(undo, Spaces, "missing", lambda _self, _space: {})
    _put(undo, Spaces, "_survey", lambda _self, _space: [])


# --- disks, and the merge --------------------------------------------------------------


def _skip_syncs(undo: ExitStack) -> None:
    whole = disk.SimulatedFile.sync

    def sync(self: disk.SimulatedFile) -> None:
        if not self._path.name.startswith("store.sqlite"):
            return
        whole(self)

    _put(undo, disk.SimulatedFile, "sync", sync)


def _skip_all_syncs(undo: ExitStack) -> None:
    _put(undo, disk.SimulatedFile, "sync", lambda _self: None)


def _resolve_as_it_came(undo: ExitStack) -> None:
    _put(undo, plan, "_canonical", lambda _item: 0)


SABOTAGES: Final[dict[str, Sabotage]] = {
    "drop-a-record": Sabotage("One record in 16 that comes is dropped.", _drop_records),
    "forget-at-restart": Sabotage(
        "A store loses the last record with its process.", _forget_at_restart
    ),
    "reuse-a-number": Sabotage(
        "An author forgets its fifth, tenth, ... record.", _use_numbers_again, ON_DISKS
    ),
    "ignore-removes": Sabotage("Removes in a batch are dropped.", _ignore_removes),
    "forget-own-side": Sabotage(
        "A join of several records loses one of our own.", _forget_own_side
    ),
    "serve-a-stale-feed": Sabotage(
        "Peers are shown a set up to seven records old.", _serve_stale_sets
    ),
    "trust-a-chunk": Sabotage(
        "No chunk is compared with its digest.",
        _trust_chunks,
        replace(SMALL, faults=Faults.of(0.2, bad_chunk=0.2)),
    ),
    "fetch-nothing": Sabotage(
        "Contents that lack are taken for here.", _serve_what_is_not_whole
    ),
    "skip-an-fsync": Sabotage(
        "Files of blobs are named before they are synced.", _skip_syncs, ON_DISKS
    ),
    "skip-every-fsync": Sabotage("No file is ever synced.", _skip_all_syncs, ON_DISKS),
    "resolve-in-arrival-order": Sabotage(
        "Contributions are merged in the order in which they came.", _resolve_as_it_came
    ),
}


def measured(name: str, seeds: int) -> dict[str, object]:
    """Return in how many of `seeds` runs a break is caught, the first of them, and how."""
    chosen = SABOTAGES[name]
    found = list(chosen.caught(range(seeds)))
    first = next((n for n, failure in enumerate(found) if failure), None)
    failure = None if first is None else found[first]
    return {
        "name": name,
        "words": chosen.words,
        "command": f"crdtmerge simulate {chosen.run.command}",
        "seeds": seeds,
        "caught": sum(failure is not None for failure in found),
        "first": None if first is None else first + 1,
        "by": plain(failure.sign) if failure else "",
    }


def main(argv: Sequence[str]) -> int:
    """Break the code in each way; return 1 if a break is never caught."""
    parser = argparse.ArgumentParser(prog="python -m simulations sabotage")
    parser.add_argument("names", nargs="*", help="which breaks; else all")
    parser.add_argument("--seeds", type=int, default=SEEDS_DEFAULT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    names = options.names or list(SABOTAGES)
    if unknown := [name for name in names if name not in SABOTAGES]:
        parser.error(
            f"no break is called {unknown[0]!r}; known: {', '.join(SABOTAGES)}"
        )
    with workers(1):
        found = [measured(name, options.seeds) for name in names]
    if options.json:
        document = {"commit": commit(), "sabotages": found}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        rows = [[row[k] for k in ("name", "caught", "first", "by")] for row in found]
        head = ("BREAK", f"OF {options.seeds}", "FIRST", "HOW")
        sys.stdout.write("\n".join(table(head, rows)) + "\n")
    return 0 if all(row["caught"] for row in found) else 1
