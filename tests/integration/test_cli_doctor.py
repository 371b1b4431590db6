"""`crdtmerge doctor`, and the option that names a backend."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crdtmerge.numerics.cases import KERNELS


def run(
    *words: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "nodes.cli", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_doctor_tells_what_serves_each_kernel_and_how_fast() -> None:
    """Every kernel is there; those of merges are served by the compiled form, measured."""
    done = run("doctor", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    rows = {row["kernel"]: row for row in facts["kernels"]}
    assert tuple(rows) == KERNELS
    assert rows["largest"]["served_by"] == "reference"
    merges = [row for row in rows.values() if row["gb_s"] is not None]
    assert len(merges) >= 8
    assert {row["served_by"] for row in merges} == {"cpu"}
    assert all(row["gb_s"] > 0 and row["reference_gb_s"] > 0 for row in merges)
    assert facts["packages"]["numba"] is not None
    text = run("doctor", "--backend", "reference").stdout
    assert "backend reference (chosen): works" in text
    assert "weighted_sum" in text


@pytest.mark.parametrize(
    ("name", "words"), [("gpu", "no backend 'gpu'"), ("cuda", "no CUDA device")]
)
def test_a_backend_that_cannot_serve_is_refused_before_work(
    name: str, words: str, tmp_path: Path
) -> None:
    """The user asked for it: no silent other one; what there is stands in the hint."""
    if name == "cuda":
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("this machine has one")
    done = run("merge", "none.yaml", str(tmp_path / "out"), "--backend", name)
    assert done.returncode == 6
    assert words in done.stderr
    assert not (tmp_path / "out").exists()
