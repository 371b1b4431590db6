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

BROKEN = """
import numpy
from crdtmerge.numerics.reference import polynomials
polynomials.sin = numpy.sin
"""


def run(
    monkeypatch: pytest.MonkeyPatch, folder: Path, made: list[Row], *words: str
) -> tuple[int, dict[str, Any]]:
    """Run the command on these rows, reference only; return its status and its JSON."""
    monkeypatch.setattr(command, "rows", lambda *_: made)
    told = folder / "told.json"
    options = ["--json", str(told), "--work", str(folder), "--backend", "reference"]
    # The names of other platforms do not have this word, so none is made ready.
    status = command.main([*options, "--rows", "seed", *words])
    return status, json.loads(told.read_text())


def test_row_that_computes_otherwise_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kernel that takes NumPy's sine where ours belongs, on one platform alone."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    broken = {"PYTHONHASHSEED": "1", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    made = [
        Row("seed and a sine", "hash order", broken),
        Row("seed alone", "hash order", {"PYTHONHASHSEED": "1"}),
        Row("no other seed", "hash order"),
    ]
    status, told = run(monkeypatch, tmp_path, made, "--only", "sin")
    assert status == 1
    verdicts = {row["row"]: row["verdict"] for row in told["rows"]}
    assert verdicts == {
        "baseline": "EQUAL",
        "seed and a sine": "DIFFERS",
        "seed alone": "EQUAL",
        "no other seed": "INERT",
    }
    (red,) = (row for row in told["rows"] if row["verdict"] == "DIFFERS")
    assert {"sin of its domain", "array: sin"} <= set(red["differing"])
    printed = capsys.readouterr().out
    assert "DIFFERS: array: sin" in printed
    assert "INERT: the canary did not move" in printed


def test_process_that_dies_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A platform that cannot even start is no platform with equal bytes."""
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(3)\n")
    env = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    made = [Row("seed of a crash", "hash order", env)]
    status, told = run(monkeypatch, tmp_path, made, "--only", "sin")
    assert status == 1
    assert told["rows"][-1]["verdict"] == "FAILED"
    assert "exit 3" in told["rows"][-1]["reason"]


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
