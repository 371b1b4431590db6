"""Fuzzing targets one after the other, each in processes of its own, and what came of it.

Owns the time of a target, restarts after an input that ended its process, and reading
what libFuzzer says. Does not own the search (`engine`) nor the kept inputs (`corpus`).
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from tests.fuzz import corpus

ROOT: Final = Path(__file__).parent.parent.parent
WORK: Final = ROOT / ".fuzz"
"""What runs find lies here, ignored by git, and the next run begins with it."""
START_S_MAX: Final = 600
"""Time for the imports, before any input, on a busy machine, and for the last input."""
RESTARTS_MAX: Final = 5

_LINE: Final = re.compile(
    r"^#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)/(\d+)([KM]?)b", re.MULTILINE
)
_DONE: Final = re.compile(r"^Done (\d+) runs in (\d+) second", re.MULTILINE)
_TOOK: Final = re.compile(r"stat::number_of_executed_units: (\d+)")
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20}


@dataclass
class Result:
    """What one target's run came to; `seconds` is how long inputs were really tried."""

    target: str
    asked_s: int
    seconds: float = 0.0
    executions: int = 0
    coverage: int = 0
    features: int = 0
    inputs: int = 0
    input_bytes: int = 0
    restarts: int = 0
    finds: list[str] = field(default_factory=list)
    failure: str = ""
    """Why nothing was tried, if so."""

    @property
    def line(self) -> str:
        """What is told of it, on one line."""
        rate = self.executions / self.seconds if self.seconds else 0
        return (
            f"{self.target:<16} {self.seconds:6.0f} s {self.executions:>10,} runs"
            f" {rate:>8,.0f}/s  cov {self.coverage:>5} ft {self.features:>6}"
            f"  corpus {self.inputs:>5} ({self.input_bytes:,} bytes)"
            f"  finds {len(self.finds)}  {self.failure}"
        ).rstrip()

    def described(self) -> dict[str, object]:
        """Return it as JSON can carry it."""
        return asdict(self)


class Engine:
    """A process that begins the processes of targets, one after the other."""

    def __init__(self) -> None:
        """Begin it, when it is first asked for something."""
        self._process: subprocess.Popen[str] | None = None

    def run(self, name: str, seconds: int, folder: Path, given: Sequence[str]) -> None:
        """Fuzz a target until its time is over, or an input ended its process."""
        process = self._process or self._begun()
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps([name, seconds, str(folder), given]) + "\n")
        process.stdin.flush()
        timer = threading.Timer(seconds + START_S_MAX, self.end)
        timer.start()
        if not process.stdout.readline():  # it died, or was ended
            self.end()
        timer.cancel()

    def _begun(self) -> subprocess.Popen[str]:
        WORK.mkdir(exist_ok=True)
        with (WORK / "engine.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.engine"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        return self._process

    def end(self) -> None:
        """End it, with the process of the target that it waits for."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def fuzz_all(names: Sequence[str], seconds: int, jobs: int) -> Iterator[Result]:
    """Fuzz targets, so many at a time; yield what came of each as it ends."""
    engines: SimpleQueue[Engine] = SimpleQueue()
    for engine in (made := [Engine() for _ in range(jobs)]):
        engines.put(engine)

    def one(name: str) -> Result:
        engine = engines.get()
        try:
            return fuzz(engine, name, seconds)
        finally:
            engines.put(engine)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            for done in as_completed([pool.submit(one, name) for name in names]):
                yield done.result()
    finally:
        for engine in made:
            engine.end()


def fuzz(engine: Engine, name: str, seconds: int) -> Result:
    """Fuzz one target for so long; an input that ends the process is a find, and noted."""
    result, folder = Result(name, seconds), WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    before = set(_finds(folder))
    left = seconds
    while left > 0 and result.restarts <= RESTARTS_MAX:
        spent, whole = _run(engine, name, left, folder, result)
        left -= max(1, round(spent))
        if whole:
            break
        result.restarts += 1
    result.finds = [path.name for path in _finds(folder) if path not in before]
    return result


def _finds(folder: Path) -> list[Path]:
    found = (folder / "finds").glob("*")
    kinds = ("find-", "timeout-", "oom-", "crash-", "leak-")
    return sorted(p for p in found if p.name.startswith(kinds) and p.suffix != ".txt")


def _run(
    engine: Engine, name: str, seconds: int, folder: Path, result: Result
) -> tuple[float, bool]:
    """Run one process; return how long it tried inputs, and whether it came to its end."""
    kept = corpus.FOLDER / name
    given = [str(kept)] if kept.is_dir() else []
    log, began = folder / "log", time.monotonic()
    log.unlink(missing_ok=True)
    engine.run(name, seconds, folder, given)
    if not log.exists():
        log.write_text(f"{WORK / 'engine.log'} says why\n")
    text = log.read_text(errors="replace")
    lines = _LINE.findall(text)
    if not lines:
        result.failure = f"it did not begin; {log} says why"
        return seconds, True
    done, took = _DONE.search(text), _TOOK.search(text)
    runs = int(done[1] if done else took[1] if took else lines[-1][0])
    spent = float(done[2]) if done else min(seconds, time.monotonic() - began)
    _, coverage, features, inputs, size, unit = lines[-1]
    result.executions += runs
    result.seconds += spent
    result.coverage, result.features = int(coverage), int(features)
    result.inputs, result.input_bytes = int(inputs), int(size) * _UNITS[unit]
    return spent, done is not None
