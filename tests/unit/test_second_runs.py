"""Which tests are run a second time where they fail: those of real machines, and named."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.integration import conftest

FAILS_FIRST = """
from pathlib import Path

def test_fails_first():
    ran = Path(__file__).with_suffix(".ran")
    before = ran.exists()
    ran.touch()
    assert before

def test_fails_always():
    raise AssertionError
"""


def test_integration_tests_alone_are_run_again_and_named(tmp_path: Path) -> None:
    """Side by side as in `make test`; what fails twice has failed."""
    folders = [tmp_path / "tests" / name for name in ("integration", "unit")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / f"test_{folder.name}.py").write_text(FAILS_FIRST)
    shutil.copy(conftest.__file__, folders[0])
    options = ["-raR", "--import-mode=importlib", "-p", "no:cacheprovider"]
    side_by_side = ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *side_by_side, "tests"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    said = re.findall(r"^(RERUN|FAILED) tests/(\S+)", done.stdout, re.MULTILINE)
    assert sorted(set(said)) == [
        ("FAILED", "integration/test_integration.py::test_fails_always"),
        ("FAILED", "unit/test_unit.py::test_fails_always"),
        ("FAILED", "unit/test_unit.py::test_fails_first"),
        ("RERUN", "integration/test_integration.py::test_fails_always"),
        ("RERUN", "integration/test_integration.py::test_fails_first"),
    ], done.stdout + done.stderr
    assert "1 passed" in done.stdout
