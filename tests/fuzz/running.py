"""Fuzzing targets one after the other, each in processes of its own, and what came of it.

Owns the time of a target, restarts after an input that ended its process, and reading
what libFuzzer says. Does not own the search (`engine`) nor the kept inputs (`corpus`).
"""

import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
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


def fuzz(name: str, seconds: int) -> Result:
    """Fuzz one target for so long; an input that ends the process is a find, and noted."""
    result, folder = Result(name, seconds), WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    before = set(_finds(folder))
    left = seconds
    while left > 0 and result.restarts <= RESTARTS_MAX:
        spent, whole = _run(name, left, folder, result)
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


def _run(name: str, seconds: int, folder: Path, result: Result) -> tuple[float, bool]:
    """Run one process; return how long it tried inputs, and whether it came to its end."""
    kept = corpus.FOLDER / name
    given = [str(kept)] if kept.is_dir() else []
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.engine",
        name,
        str(seconds),
        str(folder),
    ]
    log = folder / "log"
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen([*command, *given], cwd=ROOT, stdout=out, stderr=out)
        try:
            process.wait(seconds + START_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
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
