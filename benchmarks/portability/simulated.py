"""`python -m benchmarks simulated`: are runs of one seed the same under other Pythons?

Owns the table: a digest over the log digests of some seeds, under each Python and three
hash seeds. Does not own what a run is (`simulations`). Exit status: 0 if all are equal,
else 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from benchmarks.portability.platforms import (
    CONSTRAINTS,
    ROOT,
    UnreadyError,
    here,
    interpreter,
    prepare,
)
from simulations.checkout import commit

PYTHONS: Final = ("python3.11", "python3.13")
HASH_SEEDS: Final = ("0", "1", "4242")
SEEDS_DEFAULT: Final = 20
PROGRAM: Final = "from simulations.cli import build; build()()"
"""The command by itself: nothing is installed but what it imports."""


def main(argv: Sequence[str]) -> int:
    """Run the seeds everywhere; print a row for each, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks simulated")
    parser.add_argument("--json", type=Path, help="where the whole result goes")
    parser.add_argument("--work", type=Path, default=ROOT / ".portability")
    parser.add_argument("--seeds", type=int, default=SEEDS_DEFAULT)
    parser.add_argument("--nodes", type=int, default=6)
    options = parser.parse_args(argv)
    rows = []
    for name in PYTHONS:
        try:
            python = _python(options.work, name)
        except UnreadyError as e:
            print(f"{name:<12} not here: {e}", file=sys.stderr)
            return 1
        for hash_seed in HASH_SEEDS:
            found = _run(python, hash_seed, options.seeds, options.nodes)
            rows.append({"python": _version(python), "hash_seed": hash_seed, **found})
            print("{python:<8} {hash_seed:<6} {events:>9} {digest}".format(**rows[-1]))
    equal = len({row["digest"] for row in rows}) == 1
    print("equal" if equal else "DIFFERENT")
    if options.json:
        document = {"commit": commit(), "equal": equal, "rows": rows}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if equal else 1


def _python(work: Path, name: str) -> str:
    """Return a Python of that version with the pinned packages; make it if it is new."""
    if name == f"python{sys.version_info.major}.{sys.version_info.minor}":
        return here().command[0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"]
    key = sha256(f"{name} {wanted} {CONSTRAINTS.read_text()}".encode()).hexdigest()
    folder = work / "environments" / f"simulated-{key[:12]}"
    found = folder / "bin" / "python"
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        prepare([interpreter(name), "-m", "venv", "--clear", str(folder)])
        install = [str(found), "-m", "pip", "install", "--quiet"]
        prepare([*install, "-c", str(CONSTRAINTS), *wanted])
        (folder / "ready").touch()
    return str(found)


def _version(python: str) -> str:
    code = "import platform; print(platform.python_version())"
    return subprocess.check_output([python, "-c", code], text=True).strip()


def _run(python: str, hash_seed: str, seeds: int, nodes: int) -> dict[str, object]:
    words = ["swarm", "--seeds", seeds, "--nodes", nodes, "--shrink", 0, "--json"]
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-c", PROGRAM, *map(str, words)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:
        raise ChildProcessError(f"exit {done.returncode}: {done.stderr[-400:]}")
    found = json.loads(done.stdout)
    return {key: found[key] for key in ("digest", "runs", "failed", "events")}
