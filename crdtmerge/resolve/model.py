"""Resolving to a folder that other tools load: weights, companions, card, resolution.

Owns what comes of a plan. Does not own the computation (`execute`), nor the folder
(`output`).
"""

from collections.abc import Callable
from concurrent.futures import Executor

from crdtmerge.digest import ContentId
from crdtmerge.formats.progress import Report
from crdtmerge.formats.shards import ModelLayout
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.memory import MEMORY_DEFAULT
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.plan import Plan
from crdtmerge.resolve.reading import TensorSource
from crdtmerge.resolve.resolution import (
    Resolution,
    make_resolution,
    model_tensors,
)


def resolve_model(
    *,
    plan: Plan,
    source: TensorSource,
    output: Output,
    layout: ModelLayout,
    space: bytes,
    merge_id: bytes,
    visible_root: bytes,
    base: ContentId | None = None,
    executor: Executor | None = None,
    threads: int = 1,
    memory: int = MEMORY_DEFAULT,
    report: Report | None = None,
    check: Callable[[], None] | None = None,
) -> Resolution:
    """Write the merged model of `plan` as `output` asks; return how it came about.

    `layout` is that of the plan's outputs. `base` stands in the resolution in place of the
    plan's. `check` may refuse the result once it is computed. Tasks take `memory` bytes
    together beside what is mapped.
    If anything fails, what was at the output's place is as it was.

    Raises:
        ConflictError: something is in the way.
        MachineError: the disk is full or refuses.
        CrdtMergeError: whatever `execute` raises.
    """
    with output.filled(layout) as (writer, finish):
        digests = execute(
            plan,
            source,
            writer,
            executor=executor,
            threads=threads,
            memory=memory,
            report=report,
        )
        if check is not None:
            check()
        resolution = make_resolution(
            plan,
            model_tensors(plan, digests),
            space=space,
            merge_id=merge_id,
            visible_root=visible_root,
            base=base,
        )
        finish(resolution)
    return resolution
