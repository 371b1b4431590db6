"""Resolving to a folder that other tools load: weights, companions, card, resolution.

Owns what comes of a plan. Does not own the computation (`execute`), nor the folder
(`output`).
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from crdtmerge.digest import BlobId, ContentId
from crdtmerge.formats.progress import Report
from crdtmerge.formats.shards import ModelLayout
from crdtmerge.resolve.card import Origins
from crdtmerge.resolve.cost import Choice
from crdtmerge.resolve.counting import Counted, Read
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.incremental import Moved, SumsStore
from crdtmerge.resolve.memo import Memo
from crdtmerge.resolve.memory import MEMORY_DEFAULT
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.plan import Plan
from crdtmerge.resolve.reading import TensorSource
from crdtmerge.resolve.resolution import (
    MadeFrom,
    Resolution,
    make_resolution,
    model_tensors,
)
from crdtmerge.resolve.reuse import Before, Reuse, Tally


@dataclass(frozen=True, slots=True)
class Resolved:
    """A merged model: how it came about, and what that took."""

    resolution: Resolution
    tally: Tally
    read: Read
    sums: Moved = field(default_factory=Moved)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """What the record of a model says beside its tensors.

    `plan` is the one that is recorded: where contents had no names yet as it was computed,
    it is the same with their names. `base` stands in place of the plan's.
    """

    plan: Plan
    merge_id: bytes
    visible_root: bytes
    space: bytes = b""
    base: ContentId | None = None
    made_from: MadeFrom = ()
    origins: Origins = field(default_factory=Origins)
    evaluations: tuple[bytes, ...] = ()

    def resolution(self, digests: Mapping[str, BlobId]) -> Resolution:
        """Return the record; `digests` are those of the plan's outputs."""
        return make_resolution(
            self.plan,
            model_tensors(self.plan, digests),
            space=self.space,
            merge_id=self.merge_id,
            visible_root=self.visible_root,
            base=self.base,
            made_from=self.made_from,
            evaluations=self.evaluations,
        )


def resolve_model(
    *,
    plan: Plan,
    source: TensorSource,
    output: Output,
    layout: ModelLayout,
    about: Callable[[], About],
    executor: Executor | None = None,
    threads: int = 1,
    memory: int = MEMORY_DEFAULT,
    report: Report | None = None,
    memo: Memo | None = None,
    sums: tuple[SumsStore, Choice] | None = None,
) -> Resolved:
    """Write the merged model of `plan` as `output` asks; return how it came about.

    `layout` is that of the plan's outputs. `about` is called once all is computed, and may
    refuse it. Tasks take `memory` bytes together beside what is mapped. What `memo` knows,
    and what a broken-off run left at this place, is used instead of being computed; what
    was found out is remembered. `sums` are where kept sums lie, and which outputs are
    made of them.
    If anything fails, what was at the output's place is as it was.

    Raises:
        ConflictError: something is in the way.
        MachineError: the disk is full or refuses.
        CrdtMergeError: whatever `execute` raises.
    """
    counted = Counted(source, plan)
    with output.filled(layout) as (writer, finish, journal):
        lasts = [k.last.task for k in sums[1].kept.values()] if sums else []
        before = Before.of(plan, memo, journal.noted, lasts)
        reuse = Reuse(before, layout, writer, journal)
        increments = reuse.sum_up(plan, counted, *sums) if sums else None
        try:
            digests = execute(
                plan,
                counted,
                writer,
                executor=executor,
                threads=threads,
                memory=memory,
                report=report,
                results=reuse,
            )
        except BaseException:
            if memo is not None:  # another run need not measure again
                memo.keep({}, reuse.measures)
            raise
        said = about()
        resolution = said.resolution(digests)
        finish(resolution, said.origins)
    if memo is not None:
        memo.keep(reuse.outputs(output.out), reuse.measures)
    if increments is None:
        return Resolved(resolution, reuse.tally, counted.bytes)
    refused = sorted(set(increments.unkept.values()))
    notes = tuple(f"sums were not kept: {reason}" for reason in refused[:1])
    return Resolved(resolution, reuse.tally, counted.bytes, increments.moved, notes)
