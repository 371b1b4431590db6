"""`python -m tests.fuzz [TARGET ...] --seconds N`: fuzz targets, `--jobs` at a time.

Owns the command line. `--keep` renews the kept inputs afterwards, `--only-keep` does
nothing else; `--add FILE` keeps one input that found a bug. Exit code 1 tells of finds.
"""

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz import corpus, running
from tests.fuzz.targets import TARGETS


def main(arguments: list[str]) -> int:
    """Run what is asked for; return the exit code."""
    asked = _parsed(arguments)
    logging.disable()  # what decoders say of thousands of inputs is not read
    names = asked.targets or list(TARGETS)
    if unknown := sorted(set(names) - set(TARGETS)):
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
        return 2
    if asked.add is not None:
        print(corpus.keep(TARGETS[names[0]], asked.add.read_bytes()))
        return 0
    if not asked.only_keep and find_spec("atheris") is None:
        print("atheris has no wheel for this system and Python: nothing is fuzzed here")
        return 0
    results: list[running.Result] = []
    for result in running.fuzz_all(
        [] if asked.only_keep else names, asked.seconds, asked.jobs
    ):
        results.append(result)
        print(result.line, flush=True)
        _write(asked.json, results, asked.seconds)
    if asked.keep or asked.only_keep:
        for name in names:
            found = (running.WORK / name / "corpus").glob("*")
            count = corpus.renew(TARGETS[name], (path.read_bytes() for path in found))
            print(f"{name:<16} {count} inputs kept", flush=True)
    finds = [(r.target, find) for r in results for find in r.finds]
    for target, find in finds:
        print(f"find: {running.WORK / target / 'finds' / find}")
    return 1 if finds or any(result.failure for result in results) else 0


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--json", type=Path, default=running.WORK / "results.json")
    parser.add_argument("--keep", action="store_true", help="renew the kept inputs")
    parser.add_argument("--only-keep", action="store_true")
    parser.add_argument("--add", type=Path, help="keep this input of a bug")
    return parser.parse_args(arguments)


def _write(path: Path, results: list[running.Result], seconds: int) -> None:
    """Write what is known so far: a run that is broken off has told of its targets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=running.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    value = {
        "command": f"make fuzz FUZZ_SECONDS={seconds}",
        "commit": commit.stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "targets": [result.described() for result in results],
    }
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
