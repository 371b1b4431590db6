"""Other Pythons: made ready once, then asked to do a job in a process.

Owns virtual environments with the pinned packages, and starting workers. Does not own an
emulated machine (`arm`). Whatever cannot be made ready is a reason, not a failure.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from benchmarks.portability.job import Job, Report
from benchmarks.portability.rows import SWITCHES

ROOT: Final = Path(__file__).parent.parent.parent
PACKAGES: Final = (
    "numpy",
    "numba",
    "blake3",
    "msgpack",
    "cryptography",
    "safetensors",
    "pyyaml",
    "platformdirs",
)
"""What the vectors import; their versions are those of constraints.txt."""

CONSTRAINTS: Final = ROOT / "constraints.txt"
WORKER_SECONDS_MAX: Final = 1800
PREPARE_SECONDS_MAX: Final = 600
_STDERR_TAIL: Final = 400


class UnreadyError(Exception):
    """A platform cannot be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Platform:
    """How to start Python there, and what to set for it besides the row's switches."""

    command: tuple[str, ...]
    paths: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def here() -> Platform:
    """Return the Python that runs this."""
    return Platform((sys.executable,))


def do(platform: Platform, job: Job, env: Mapping[str, str], cache: Path) -> Report:
    """Have a process there do a job.

    Raises:
        ChildProcessError: it died, or took too long.
    """
    outer = {name: v for name, v in os.environ.items() if name not in SWITCHES}
    paths = os.pathsep.join([str(ROOT), *platform.paths])
    code = _cache_key(platform, job, env)
    given = {"PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(cache / code)}
    try:
        done = subprocess.run(
            [*platform.command, "-m", "benchmarks.portability.worker", job.encode()],
            cwd=ROOT,
            env={**outer, **given, **platform.env, **env},
            capture_output=True,
            text=True,
            timeout=WORKER_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        raise ChildProcessError(f"no answer in {WORKER_SECONDS_MAX} s") from e
    if done.returncode != 0:
        raise ChildProcessError(f"exit {done.returncode}: {_tail(done.stderr)}")
    return Report.decode(done.stdout)


def interpreter(name: str) -> str:
    """Return the path of a Python: on PATH, or installed beside the one that runs this."""
    beside = Path(sys.base_prefix).parent
    version = name.removeprefix("python")
    found = sorted(beside.glob(f"{version}*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name) or name


def environment(work: Path, python: str, numpy: str = "") -> Platform:
    """Return a virtual environment of `python` with the pinned packages; make it if new.

    `numpy` is a version in the place of the pinned one.

    Raises:
        UnreadyError: it cannot be made.
    """
    pins = CONSTRAINTS.read_text()
    if numpy:
        kept = [p for p in pins.splitlines() if not p.startswith("numpy==")]
        pins = "\n".join([*kept, f"numpy=={numpy}", ""])
    key = sha256(f"{python} {PACKAGES} {pins}".encode()).hexdigest()[:12]
    folder = work / "environments" / key
    found = folder / "bin" / "python"
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        prepare([python, "-m", "venv", "--clear", str(folder)])
        chosen = folder / "constraints.txt"
        chosen.write_text(pins)
        install = [str(found), "-m", "pip", "install", "--quiet", "-c", str(chosen)]
        prepare([*install, *PACKAGES])
        (folder / "ready").touch()
    return Platform((str(found),))


def prepare(command: list[str]) -> None:
    """Run one step of making a platform ready.

    Raises:
        UnreadyError: it failed, or the program is not there.
    """
    try:
        subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PREPARE_SECONDS_MAX,
            check=True,
        )
    except FileNotFoundError as e:
        raise UnreadyError(f"there is no {command[0]}") from e
    except subprocess.TimeoutExpired as e:
        raise UnreadyError(f"{command[0]}: not done in time") from e
    except subprocess.CalledProcessError as e:
        raise UnreadyError(f"{Path(command[0]).name}: {_tail(e.stderr)}") from e


def _cache_key(platform: Platform, job: Job, env: Mapping[str, str]) -> str:
    """Return the name of the folder for machine code: one for each that may differ."""
    named = [f"{name}={env[name]}" for name in sorted(env) if "NUMBA_CPU" in name]
    text = "\0".join([repr(platform.command), str(job.block), *named])
    return sha256(text.encode()).hexdigest()[:16]


def _tail(text: str) -> str:
    """Return the last words of an error, on one line."""
    return " ".join(text.split())[-_STDERR_TAIL:]
