"""Resolving to a folder that other tools load: weights, companions, resolution.

Owns what the folder holds. Does not own the computation (`execute`), nor how files are
written (`formats`).
"""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path

from crdtmerge.digest import ContentId
from crdtmerge.formats.folder import MODEL_FILE, RESOLUTION_FILE
from crdtmerge.formats.output import OutputFolder
from crdtmerge.formats.progress import Report
from crdtmerge.formats.writer import ModelWriter
from crdtmerge.resolve.execute import execute
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
    out: Path,
    base_files: Sequence[tuple[str, Path | bytes]],
    space: bytes,
    merge_id: bytes,
    visible_root: bytes,
    base: ContentId | None = None,
    executor: Executor | None = None,
    threads: int = 1,
    report: Report | None = None,
    overwrite: bool = False,
    fsync: bool = False,
    check: Callable[[], None] | None = None,
) -> Resolution:
    """Write the merged model of `plan` to the folder `out`; return how it came about.

    `base_files` stand beside the weights: by name, a file of the base's that is copied, or
    bytes that are written.
    `base` stands in the resolution in place of the plan's. `check` may refuse the result
    once it is computed.
    If anything fails, `out` is as it was.

    Raises:
        ConflictError: something is in the way at `out`.
        MachineError: the disk is full or refuses.
        CrdtMergeError: whatever `execute` raises.
    """
    with OutputFolder(out, overwrite=overwrite, fsync=fsync) as folder:
        with ModelWriter(folder / MODEL_FILE, plan.outputs) as writer:
            digests = execute(
                plan, source, writer, executor=executor, threads=threads, report=report
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
        for name, given in base_files:
            if name in {MODEL_FILE, RESOLUTION_FILE}:
                continue
            if isinstance(given, bytes):
                (folder / name).write_bytes(given)
            else:
                shutil.copyfile(given, folder / name)
        (folder / RESOLUTION_FILE).write_bytes(resolution.to_json().encode())
    return resolution
