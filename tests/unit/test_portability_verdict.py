"""The portability harness cannot call a row equal that shows nothing, or less."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.portability.blocks import CONSTANTS
from benchmarks.portability.canaries import CANARIES
from benchmarks.portability.harness import Harness, golden_digests
from benchmarks.portability.job import Job, Report
from benchmarks.portability.layouts import Laid, laid
from benchmarks.portability.platforms import Platform
from benchmarks.portability.rows import HERE, SWITCHES, Row, rows
from benchmarks.portability.verdict import FAILING, Expected, Verdict, judge
from crdtmerge.numerics import Items, backends

ROW = Row("a switch", "blas", {"A_SWITCH": "1"}, "numba")
FOUND = Report(
    kernels={"k 1": "aa", "k 2": "bb"},
    strategies={"linear": "cc"},
    canaries={"blas": "moved"},
    versions={},
    loaded=("numpy", "numba"),
)
GOLDEN = Expected(FOUND.kernels, FOUND.strategies)
BEFORE = {"blas": "as it was"}


def verdict(report: Report, row: Row = ROW, backend: str = "cpu") -> Verdict:
    return judge(row, backend, report, GOLDEN, BEFORE).verdict


def test_equal_bytes_with_a_moved_canary_count() -> None:
    """All digests golden, the library used, the canary moved: this is what counts."""
    outcome = judge(ROW, "cpu", FOUND, GOLDEN, BEFORE)
    assert outcome.verdict is Verdict.EQUAL
    assert (str(outcome.kernels), str(outcome.strategies)) == ("2/2", "1/1")
    assert outcome.moved


@pytest.mark.parametrize(
    "kernels",
    [
        {"k 1": "aa", "k 2": "other"},
        {"k 1": "aa"},
        {"k 1": "aa", "k 2": "bb", "k 3": "dd"},
        {"k 1": "aa", "k 2": "error: ValueError: no"},
    ],
    ids=["another digest", "one missing", "one unexpected", "an error"],
)
def test_kernel_that_is_not_golden_fails_the_row(kernels: dict[str, str]) -> None:
    """Another digest, no digest, an unknown one and an error are each a difference."""
    assert verdict(replace(FOUND, kernels=kernels)) is Verdict.DIFFERS
    assert Verdict.DIFFERS in FAILING


def test_strategy_that_is_not_golden_fails_the_row() -> None:
    """A merge whose bytes moved is a difference, too, and is named."""
    report = replace(FOUND, strategies={"linear": "moved"})
    outcome = judge(ROW, "cpu", report, GOLDEN, BEFORE)
    assert outcome.verdict is Verdict.DIFFERS
    assert "linear" in outcome.reason


def test_canary_that_stays_makes_the_row_inert_but_hides_no_difference() -> None:
    """Who knows whether the switch did anything; unless the bytes say so."""
    still = replace(FOUND, canaries=dict(BEFORE))
    assert verdict(still) is Verdict.INERT
    assert Verdict.INERT not in FAILING
    assert verdict(replace(still, kernels={})) is Verdict.DIFFERS


def test_switch_of_a_library_that_was_not_loaded_counts_for_nothing() -> None:
    """A moved canary shows that the switch works, not that we were under it."""
    report = replace(FOUND, loaded=("numpy",))
    assert verdict(report, backend="reference") is Verdict.UNUSED


def test_backend_that_did_not_load_its_library_fell_back() -> None:
    """Equal bytes from the reference say nothing about the compiled loops."""
    report = replace(FOUND, loaded=("numpy",))
    assert verdict(report, backend="cpu") is Verdict.FELL_BACK
    assert Verdict.FELL_BACK in FAILING


def test_nothing_computed_is_no_success() -> None:
    """A word that no title has must not give a green table."""
    empty = replace(FOUND, kernels={}, strategies={})
    found = judge(ROW, "cpu", empty, Expected({}, {}), BEFORE)
    assert found.verdict is Verdict.FAILED


def test_dependency_that_cannot_be_loaded_fails_and_torch_is_skipped() -> None:
    """Numba comes with crdtmerge, torch need not be there."""
    gone = replace(FOUND, missing="cannot be loaded")
    assert verdict(gone, backend="cpu") is Verdict.FAILED
    assert verdict(gone, backend="cuda") is Verdict.SKIPPED


def test_every_row_has_a_canary_that_exists_and_a_switch_that_is_cleared() -> None:
    """A switch that the caller's environment sets would make the baseline another one."""
    made = list(rows(["X86_V3", "X86_V4"], {"elsewhere": "machine"}))
    assert {row.canary for row in made} <= set(CANARIES)
    assert {name for row in made for name in row.env} <= set(SWITCHES)
    assert len({row.name for row in made}) == len(made)
    disabled = [row.env.get("NPY_DISABLE_CPU_FEATURES") for row in made]
    assert [v for v in disabled if v] == ["X86_V4", "X86_V3 X86_V4"]


def test_reference_that_cannot_start_leaves_nothing_to_compare_with(
    tmp_path: Path,
) -> None:
    """Each baseline fails by itself, and no row is run against nothing."""
    harness = Harness({HERE: Platform(("false",))}, tmp_path)
    found = list(harness.run(("reference", "cpu"), [ROW]))
    assert {outcome.verdict for outcome in found} == {Verdict.FAILED}
    assert {outcome.row.name for outcome in found} == {"baseline"}
    assert all("exit 1" in outcome.reason for outcome in found)


def test_platform_that_is_not_ready_is_skipped_with_its_reason(tmp_path: Path) -> None:
    """Nothing is started there; the line says why."""
    harness = Harness({"away": "no such machine"}, tmp_path)
    outcome = harness.outcome(Row("away", "machine", platform="away"), "reference")
    assert (outcome.verdict, outcome.reason) == (Verdict.SKIPPED, "no such machine")


def test_jobs_and_reports_survive_the_way_to_a_process() -> None:
    """What is asked, and what was found, arrive as they were."""
    job = Job("cpu", 2, 4096, "offset", large=True, only="F32", canaries=("blas",))
    assert Job.decode(job.encode()) == job
    assert Report.decode(FOUND.encode()) == FOUND


def test_golden_digests_are_those_of_the_vectors() -> None:
    """The table compares with the files that `make vectors` writes."""
    arrays = replace(FOUND, kernels={"array: sin": "dd", "k 1": "aa"})
    expected = golden_digests(arrays, "F32")
    assert "array: sin" not in expected.kernels
    assert "linear/1 F32" in expected.strategies
    assert "kinds: linear F32" in expected.strategies
    assert golden_digests(arrays, "").kernels["array: sin"] == "dd"
    assert "k 1" not in golden_digests(arrays, "").kernels
    json.dumps(dict(expected.kernels))


def test_inputs_lie_at_an_odd_address_or_with_gaps() -> None:
    """Bytes within the kernels' own types are moved as well; values stay."""
    items = laid(Items(b"\1\2\3\4", "F32"), "offset")
    assert np.frombuffer(items.data, np.uint8).ctypes.data % 2
    assert bytes(items.data) == b"\1\2\3\4"
    array = np.arange(12.0).reshape(3, 4)
    for layout in ("offset", "strided"):
        found = laid(array, layout)
        assert np.array_equal(found, array)
        assert found.flags.aligned == (layout != "offset")
        assert found.flags.c_contiguous == (layout != "strided")


def test_laid_backend_gives_what_the_backend_gives() -> None:
    """The face changes where arguments lie, in calls and in what calls return."""
    face = Laid(backends.load("reference"), "offset")
    data = np.array([1.5, -2.0], np.float32).tobytes()
    assert face.inspect(data, "F32") == backends.load("reference").inspect(data, "F32")


def test_block_constants_are_still_there() -> None:
    """A constant that was renamed would be set to no effect."""
    from importlib import import_module

    for module, name, _, _ in (c for found in CONSTANTS.values() for c in found):
        assert isinstance(getattr(import_module(module), name), int)
