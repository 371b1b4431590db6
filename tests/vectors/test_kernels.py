"""The bytes of a kernel never change: not over releases, backends or instruction sets."""

import json
from pathlib import Path

import pytest

from crdtmerge.numerics import backends
from crdtmerge.numerics.cases import KERNELS, cases, cases_of
from tests.vectors.kernels import digests

GOLDEN = json.loads((Path(__file__).parent / "kernels.json").read_text())


def test_reference_gives_the_golden_bytes() -> None:
    """Every case of every kernel has the digest that was once written down."""
    assert digests("reference") == GOLDEN


def test_cpu_backend_gives_the_golden_bytes() -> None:
    """The compiled kernels have the same digests, with nobody to fall back to."""
    found = digests("cpu")
    assert found == {title: GOLDEN[title] for title in found}


def test_cpu_backend_has_a_form_of_the_kernels_of_merges() -> None:
    """A kernel that lost its compiled form would be served by the reference unseen."""
    lacking = {
        case.kernel
        for case in cases()
        if not hasattr(backends.load("cpu"), case.kernel)
    }
    assert lacking == {"largest", "largest_magnitude"}  # NumPy is as fast


def test_titles_of_cases_are_unique() -> None:
    """Two cases of one title would hide each other; each is under its kernel's name."""
    found = {case.title: case.kernel for case in cases()}
    assert len(found) == len(list(cases()))
    titles = {kernel: [case.title for case in cases_of(kernel)] for kernel in KERNELS}
    assert found == {title: name for name, under in titles.items() for title in under}


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernel_has_cases_that_differ(kernel: str) -> None:
    """Cases that all gave one digest would tell nothing apart."""
    found = {GOLDEN[case.title] for case in cases_of(kernel)}
    assert len(found) > 3
