"""Kernels and strategies write the same bytes on every platform that can be had here.

The quick tests show that the harness can fail; the slow ones run all of it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.portability import command
from benchmarks.portability.platforms import ROOT
from benchmarks.portability.rows import Row

SINE = """
import numpy
from crdtmerge.numerics.reference import polynomials
polynomials.sin = numpy.sin
"""


@pytest.mark.slow
def test_row_that_computes_otherwise_or_dies_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kernel takes NumPy's sine where ours belongs, on one platform; one cannot start."""
    for name, text in (("sine", SINE), ("crash", "import os\nos._exit(3)\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "sitecustomize.py").write_text(text)
    seed = {"PYTHONHASHSEED": "1"}
    made = [
        Row("seed alone", "hash order", seed),
        Row("no other seed", "hash order"),
        Row("seed, sine", "hash order", {"PYTHONPATH": f"{ROOT}:{tmp_path}/sine"}),
        Row("seed, crash", "hash order", {"PYTHONPATH": f"{ROOT}:{tmp_path}/crash"}),
    ]
    monkeypatch.setattr(command, "rows", lambda *_: made)
    told = tmp_path / "told.json"
    # The names of other platforms do not have the word, so none is made ready.
    where = ["--json", str(told), "--work", str(tmp_path)]
    which = ["--backend", "reference", "--rows", "seed", "--only", "sin of"]
    assert command.main([*where, *which]) == 1
    rows = {row["row"]: row for row in json.loads(told.read_text())["rows"]}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "baseline": "EQUAL",
        "seed alone": "EQUAL",
        "no other seed": "INERT",
        "seed, sine": "DIFFERS",
        "seed, crash": "FAILED",
    }
    assert "sin of its domain" in rows["seed, sine"]["differing"]
    assert "exit 3" in rows["seed, crash"]["reason"]
    printed = capsys.readouterr().out
    assert "DIFFERS: sin of" in printed
    assert "INERT: the canary did not move" in printed


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Every row, run once; other platforms are made ready where packages can be had."""
    told = tmp_path_factory.mktemp("table") / "told.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "portability"),
            *("--prepare-arm", "--json", str(told)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr)
    rows: list[dict[str, Any]] = json.loads(told.read_text())["rows"]
    assert (done.returncode != 0) == any(row["verdict"] in FAILING for row in rows)
    return rows


FAILING = {"DIFFERS", "FELL_BACK", "FAILED"}


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_no_platform_writes_another_byte(table: list[dict[str, Any]]) -> None:
    """Threads, instruction sets, libraries, seeds, blocks, layouts: none moves a bit."""
    assert [row for row in table if row["verdict"] in FAILING] == []


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(
    "family", ["threads", "PYTHONHASHSEED", "blocks of", "offset inputs", "strided"]
)
def test_family_of_rows_counts_on_any_machine(
    table: list[dict[str, Any]], family: str, backend: str
) -> None:
    """These need no special CPU, so some row of each shows equal bytes for real."""
    found = [
        r for r in table if r["row"].startswith(family) and r["backend"] == backend
    ]
    assert "EQUAL" in {row["verdict"] for row in found}


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("word", ["python3", "numpy", "arm64"])
def test_platform_that_can_be_made_ready_is_equal(
    table: list[dict[str, Any]], word: str, backend: str
) -> None:
    """Another Python, another NumPy, another CPU; skipped only where none can be had."""
    (row,) = (r for r in table if r["row"].startswith(word) and r["backend"] == backend)
    if row["verdict"] == "SKIPPED":
        pytest.skip(row["reason"])
    assert row["verdict"] == "EQUAL"
