"""One process of the harness: every case under one forced backend, digests to stdout.

    python -m benchmarks.portability.worker JOB

Owns computing, and what is told about the process. Does not own which platform it is:
its environment was set before it started. It starts no process, for under emulation
it could not.
"""

import platform
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib import metadata
from typing import Any, Final

import numpy as np

from benchmarks.portability import kernels
from benchmarks.portability.blocks import set_blocks
from benchmarks.portability.canaries import CANARIES
from benchmarks.portability.job import TORCH, Job, Report
from benchmarks.portability.layouts import laid
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import BackendError
from crdtmerge.numerics import forced
from tests.vectors import adapters, resolves

LIBRARIES: Final = ("numpy", "numba", "torch")
PACKAGES: Final = ("numpy", "numba", "llvmlite", "blake3", "msgpack", "torch")
SHAPES: Final = {"a.weight": (1031, 1033), "b.bias": (70_001,), "c.scalar": ()}
KIND_SHAPES: Final = {"a.weight": (960, 1300), "b.weight": (640, 640), "c.bias": (7,)}
"""Tensors of large merges, in the place of the golden vectors' small ones."""

Made = Iterable[tuple[str, Callable[[], str]]]


def main(argv: list[str]) -> int:
    """Do one job; return 0 where a report was printed."""
    job = Job.decode(argv[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = run(job, lambda: tuple(f"{w.message}" for w in caught))
    print(report.encode())
    return 0


def run(job: Job, caught: Callable[[], tuple[str, ...]]) -> Report:
    """Return digests first, then which libraries that took, then the canaries."""
    with ExitStack() as stack:
        try:
            _force(job, stack)
        except BackendError as e:
            return Report({}, {}, {}, versions(), (), caught(), missing=str(e))
        _set_up(job, stack)
        found = _digests(_kernels(job), job.only)
        merged = _digests(_strategies(job), job.only)
    loaded = tuple(name for name in LIBRARIES if name in sys.modules)
    told = caught()
    canaries = {name: _canary(name, job) for name in job.canaries}
    return Report(found, merged, canaries, versions(), loaded, told)


def _force(job: Job, stack: ExitStack) -> None:
    """Have every kernel served by the job's backend, or raise.

    Raises:
        BackendError: it cannot be had here.
    """
    if job.backend == TORCH:
        from crdtmerge.numerics.cuda.device import on_device

        stack.enter_context(on_device("cpu"))
    stack.enter_context(forced(job.package, job.threads))


def versions() -> dict[str, str]:
    """Return the versions of what computes here."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    found["libc"] = " ".join(platform.libc_ver())
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    found["blas"] = f"{blas['name']} {blas['version']}"
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _canary(name: str, job: Job) -> str:
    """Return what a canary gives; nothing where its library is not installed."""
    try:
        return CANARIES[name](job)
    except ImportError:
        return ""


def _digests(made: Made, only: str) -> dict[str, str]:
    found = {}
    for title, work in made:
        if only not in title:
            continue
        try:
            found[title] = work()
        except Exception as e:  # noqa: BLE001  # whatever stops a case is its result
            found[title] = f"error: {type(e).__name__}: {e}"
    return found


def _kernels(job: Job) -> Iterator[tuple[str, Callable[[], str]]]:
    for title, work in kernels.works(job):
        yield title, partial(_digest, work)


def _digest(work: Callable[[], bytes]) -> str:
    return blob_id_of(work()).hex()


def _strategies(job: Job) -> Iterator[tuple[str, Callable[[], str]]]:
    if job.layout == "strided":  # a strategy is given bytes, which have no gaps
        return
    for title in resolves.titles():
        if not job.large or title.split()[1] in {"F32", "BF16"}:
            yield title, partial(resolves.vector, title)
    for title, work in adapters.works():
        if not (job.large and title.startswith("adapter")):
            yield f"kinds: {title}", work


def _set_up(job: Job, stack: ExitStack) -> None:
    """Set block sizes, shapes, and an executor; have blobs lie as the job says."""
    if job.block:
        set_blocks(job.package, job.block)
    if job.large:
        vars(resolves)["SHAPES"] = SHAPES
        vars(adapters)["SHAPES"] = KIND_SHAPES
    if job.threads > 1:
        pool = stack.enter_context(ThreadPoolExecutor(job.threads))
        for module, name in (
            (resolves, "execute"),
            (adapters, "execute"),
            (adapters, "execute_adapter"),
        ):
            work = getattr(module, name)
            set_to = partial(work, executor=pool, threads=job.threads)
            vars(module)[name] = set_to
    read = resolves.Blobs.read

    def laid_read(self: resolves.Blobs, blob: BlobId, size: int) -> Any:
        return laid(read(self, blob, size), job.layout)

    resolves.Blobs.read = laid_read  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
