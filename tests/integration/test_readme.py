"""The session in the README does what the README says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("bash")
    or not Path(sys.executable).with_name("crdtmerge").exists(),
    reason="the session is for bash and an installed crdtmerge",
)
def test_the_session_ends_with_the_same_digest_twice(tmp_path: Path) -> None:
    """Pasted as it stands, with only the folder of the programs given."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (session,) = (block for block in blocks if "space join" in block)
    programs = str(Path(sys.executable).parent)
    session = session.replace("$PWD/.venv/bin", programs)
    done = subprocess.run(
        ["bash", "-e"],
        input=session,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    digests = re.findall(r"model digest +([0-9a-f]{64})", done.stdout)
    assert len(digests) == 3
    assert len(set(digests)) == 1
    assert "the same bytes" in done.stdout
