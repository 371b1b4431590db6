"""What the experiments need of the machine: a clock, processes, memory, and what it is.

Owns every reading of a clock or of the system in this package. Does not own any experiment.
"""

import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Tell = Callable[[str], None]

POLL_S: Final = 0.02
STATUS: Final = Path("/proc/self/status")


@dataclass(slots=True)
class Watch:
    """Seconds since it was made, or since the last lap.

    `cpu` are the seconds that the last lap took of processors, by all threads of this
    process: on a machine with other work they tell more than the clock.
    """

    cpu: float = 0.0
    _begun: float = field(default_factory=time.perf_counter)
    _cpu_begun: float = field(default_factory=time.process_time)

    @property
    def seconds(self) -> float:
        """The seconds since the last lap."""
        return time.perf_counter() - self._begun

    def lap(self) -> float:
        """Return the seconds since the last lap, and begin another."""
        now, cpu = time.perf_counter(), time.process_time()
        took, self._begun = now - self._begun, now
        self.cpu, self._cpu_begun = cpu - self._cpu_begun, cpu
        return took


def tell(line: str) -> None:
    """Say how far things are, to whoever watches: not on standard output."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def in_processes(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    processes: int,
    *,
    apart: bool = False,
) -> Iterator[Result]:
    """Yield what `work` makes of each item, in their order, on so many processes.

    Each is a new interpreter: none inherits what another has computed. One is this one,
    unless it must be `apart`.
    """
    if processes == 1 and not apart:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, items)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


# --- memory -------------------------------------------------------------------------------


@dataclass(slots=True)
class Memory:
    """The most memory that this process had while it was watched, in bytes.

    `resident` is the system's own peak of the whole life of the process, mapped files
    among it; `anonymous` is looked at every 20 ms, and is what the process must have.
    """

    resident: int = 0
    anonymous: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and take the last figures."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self.resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            self.anonymous = max(self.anonymous, _anonymous())


def _anonymous() -> int:
    """Return the anonymous bytes of this process now; 0 where the system does not say."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(found[0]) * 1024 if found else 0


# --- what it ran on -----------------------------------------------------------------------


def machine() -> dict[str, object]:
    """Return what the figures were seen on; `load` is that of others too, at the begin."""
    return {
        "processor": _processor(),
        "cores": processors(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * _pages() / (1 << 30), 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "load_at_begin": load(),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def load() -> float:
    """Return how many processes wanted a processor in the last minute."""
    return round(os.getloadavg()[0], 2)


def _pages() -> int:
    return os.sysconf("SC_PHYS_PAGES")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def commit() -> str:
    """Return the commit that runs, marked if files differ; empty if that is unknown."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=8", "--exclude=*"]
    try:
        said = subprocess.run(  # noqa: S603  constant words
            command, cwd=here, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""
