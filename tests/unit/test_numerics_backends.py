"""Choosing a backend: tested before it serves, left with one warning, forced in tests."""

import subprocess
import sys
import types
import warnings
from typing import Any

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import BackendError
from crdtmerge.numerics import backends
from crdtmerge.numerics.cases import cases_of

LONG = np.zeros(backends.FAST_ITEMS, np.float32)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> backends._State:
    """A process that has found out nothing yet."""
    state = backends._State()
    monkeypatch.setattr(backends, "_state", state)
    return state


def broken(monkeypatch: pytest.MonkeyPatch, inspect: Any) -> None:
    """Have a backend whose `inspect` is another."""
    true_load = backends.load
    fake = types.SimpleNamespace(inspect=inspect)

    def load(name: str) -> Any:
        return fake if name == "cpu" else true_load(name)

    monkeypatch.setattr(backends, "load", load)


def test_long_vectors_go_to_the_fast_backend_and_short_ones_do_not(
    fresh: backends._State,
) -> None:
    """What a fast backend costs to load is more than a short vector takes."""
    assert backends.serving("inspect", 10).__name__.endswith("reference.kernels")
    assert not fresh.reasons
    assert backends.serving("inspect", LONG.size).__name__.endswith("cpu.kernels")
    assert fresh.reasons == {("cpu", "inspect"): ""}


def test_wrong_bits_are_found_before_they_serve(
    fresh: backends._State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit off in one case: the reference serves, and one warning says so."""

    def wrong(data: numerics.Data, dtype: str) -> numerics.TensorFacts:
        found = numerics.inspect(data, dtype)
        return numerics.TensorFacts(found.finite, found.exponent + (len(data) > 999))

    broken(monkeypatch, wrong)
    with pytest.warns(numerics.BackendWarning, match="its bits differ"):
        assert numerics.inspect(LONG.data, "F32").exponent == 0
    assert (
        numerics.inspect(LONG.data, "F32").exponent == 0
    )  # a warning is an error here


def test_a_backend_that_fails_is_left(
    fresh: backends._State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception of a backend's own stops no merge."""

    def fails(*_: object) -> None:
        raise OSError("no machine code today")

    broken(monkeypatch, fails)
    with pytest.warns(numerics.BackendWarning, match="no machine code today"):
        assert numerics.inspect(LONG.data, "F32").finite


def test_a_second_kernel_that_fails_warns_no_more(
    fresh: backends._State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user is told once a process; `why_not` knows all reasons."""

    def fails(*_: object) -> None:
        raise OSError("no machine code today")

    broken(monkeypatch, fails)
    backends.load("cpu").kth_largest = fails
    with pytest.warns(numerics.BackendWarning):
        backends.serving("inspect", LONG.size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backends.serving("kth_largest", LONG.size)
    assert "no machine code" in backends.why_not("cpu", "kth_largest")


def test_forced_backend_does_not_fall_back(
    fresh: backends._State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test of a backend must not compare the reference with itself."""

    def fails(*_: object) -> None:
        raise OSError("no machine code today")

    broken(monkeypatch, fails)
    with (
        numerics.forced("cpu"),
        pytest.warns(numerics.BackendWarning),
        pytest.raises(BackendError, match="cannot serve inspect"),
    ):
        numerics.inspect(b"", "F32")


def test_forced_ends_with_its_block(fresh: backends._State) -> None:
    """What was chosen before is chosen again, after an error too."""
    numerics.choose("reference")
    with numerics.forced("cpu", threads=2):
        assert backends.threads() == 2
    with pytest.raises(ZeroDivisionError), numerics.forced("cpu"):
        raise ZeroDivisionError
    assert numerics.chosen() == "reference"
    assert backends.threads() == 1


def test_unknown_backend_is_refused_by_name() -> None:
    """The error lists what there is."""
    with pytest.raises(BackendError, match="no backend 'gpu'") as caught:
        numerics.choose("gpu")
    assert "cuda" in caught.value.hint


def test_import_and_short_vectors_load_neither_numba_nor_torch() -> None:
    """Start-up counts: a small merge pays for no compiler."""
    program = (
        "import sys, crdtmerge.numerics as n;"
        "n.inspect(bytes(40), 'F32');"
        "print('numba' in sys.modules, 'torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kernel", ["weighted_sum", "consensus", "inner_products"])
def test_threads_of_a_kernel_change_no_byte(kernel: str, threads: int) -> None:
    """How a vector is cut over threads is no part of the result."""
    module, reference = backends.load("cpu"), backends.load("reference")
    with numerics.forced("cpu", threads=threads):
        for case in cases_of(kernel):
            assert case.run(module) == case.run(reference), case.title
