"""Apply each kept patch to a copy of the tree; each must turn its named test red.

Each `*.patch` beside this file breaks one promise on purpose. Its first line names the
test that must notice: `test: tests/unit/test_x.py::test_y`. A patch that no longer applies,
a named test that fails without the patch, or one that passes with it, fails the run.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def main() -> int:
    """Run every mutant; return 0 if all were caught."""
    patches = sorted(HERE.glob("*.patch"))
    named = {patch: _test_of(patch) for patch in patches}
    with tempfile.TemporaryDirectory() as scratch:
        clean = _copy(Path(scratch) / "clean")
        if _run_tests(clean, sorted(set(named.values()))) != 0:
            print("FAIL the named tests do not pass without any patch")
            return 1
        escaped = [p for p in patches if not _caught(p, named[p], Path(scratch))]
    print(f"{len(patches) - len(escaped)} of {len(patches)} mutants caught")
    return 1 if escaped or not patches else 0


def _test_of(patch: Path) -> str:
    first = patch.read_text().splitlines()[0]
    word, _, test = first.partition(": ")
    if word != "test":
        raise SystemExit(f"{patch.name}: its first line is not 'test: ID'")
    return test


def _caught(patch: Path, test: str, scratch: Path) -> bool:
    tree = _copy(scratch / patch.stem)
    subprocess.run(["git", "apply", "--unsafe-paths", str(patch)], cwd=tree, check=True)
    # Exit code 1 is "tests ran and some failed"; a broken collection does not count.
    caught = _run_tests(tree, [test]) == 1
    print(f"{'ok  ' if caught else 'FAIL'} {patch.stem}: {test}", flush=True)
    return caught


def _copy(target: Path) -> Path:
    """Copy the files that git knows, or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


def _run_tests(tree: Path, tests: list[str]) -> int:
    # A mutant that is caught at times only shall not have a second chance to escape.
    plugins = ["-p", "no:cacheprovider", "-p", "no:rerunfailures"]
    command = [sys.executable, "-m", "pytest", "-q", "-x", *plugins]
    quiet = subprocess.run(
        [*command, *tests],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    if quiet.returncode > 1:
        print(quiet.stdout[-2000:], quiet.stderr[-2000:])
    return quiet.returncode


if __name__ == "__main__":
    sys.exit(main())
