"""How an output is made: where, in which files, on how many threads, in how much memory.

Owns what is asked of that, and what is answered. Does not own what is computed, nor the
folder (`crdtmerge.resolve`).
"""

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.shards import SHARD_BYTES
from crdtmerge.resolve.memory import MEMORY_DEFAULT
from crdtmerge.resolve.model import Resolved
from crdtmerge.resolve.output import Output
from crdtmerge.resolve.pool import THREADS_MAX

from . import arguments as given
from .live import Answer, Arguments

THREADS_DEFAULT_MAX: Final = 8


def work_facts(made: Resolved) -> Answer:
    """Return what making a model took, and what was there already."""
    tally, read = made.tally, made.read
    return {
        "computed": {"tensors": tally.computed, "bytes": tally.computed_bytes},
        "reused": {"tensors": tally.reused, "bytes": tally.reused_bytes},
        "resumed": {"tensors": tally.kept, "bytes": tally.kept_bytes},
        "tasks": tally.tasks,
        "sums": {
            "tensors": tally.summed,
            "read_bytes": made.sums.read,
            "written_bytes": made.sums.written,
        },
        "read_bytes": read.total
        + tally.reused_bytes
        + tally.kept_bytes
        + made.sums.read,
        "read": {"base": read.base, "contributions": read.contributions},
        "written_bytes": tally.computed_bytes + tally.reused_bytes,
    }


def output_asked(asked: Arguments, out: Path) -> Output:
    """Return what is asked of an output; what goes beside the tensors is left open."""
    force, fsync = given.flag(asked, "force"), given.flag(asked, "fsync")
    return Output(out, overwrite=force, fsync=fsync)


def shard_bytes_of(asked: Arguments) -> int:
    """Return how many bytes of tensors were asked for in a file."""
    return given.count(asked, "shard_size", SHARD_BYTES)


def threads_of(asked: Arguments) -> int:
    """Return how many threads were asked for, else one a processor up to a bound."""
    threads = given.count(asked, "threads", min(_processors(), THREADS_DEFAULT_MAX))
    if threads <= THREADS_MAX:
        return threads
    raise BadInputError(f"{threads} threads are above the limit of {THREADS_MAX}")


def memory_of(asked: Arguments) -> int:
    """Return how many bytes tasks may take together, beside what is mapped."""
    return given.count(asked, "memory", MEMORY_DEFAULT)


def workers(threads: int) -> Executor:
    """Return that many threads, to be used as a context."""
    return ThreadPoolExecutor(threads, "resolve")


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
