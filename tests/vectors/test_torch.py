"""The CUDA backend's operations, run on torch's CPU device, give the golden bytes.

The same on a GPU: `tests/gpu/test_cuda.py`.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from crdtmerge.digest import blob_id_of
from crdtmerge.numerics import backends
from crdtmerge.numerics.cases import KERNELS as NAMES
from crdtmerge.numerics.cases import cases_of
from crdtmerge.numerics.cuda.device import on_device
from crdtmerge.numerics.cuda.formats import Faults
from tests.vectors.resolves import in_some_dtypes, vector

FOLDER = Path(__file__).parent
KERNELS = json.loads((FOLDER / "kernels.json").read_text())
RESOLVES = json.loads((FOLDER / "resolves.json").read_text())
WITHOUT = {
    "assign", "cholesky", "finish_sum", "finish_thinned", "finish_votes", "low_rank",
    "low_rank_factors", "polar_factor", "row_products", "solve_spd", "sum_planes",
    "svd", "symmetric_eigen", "thinned_planes", "vote_planes",
}  # fmt: skip
"""What has no form in torch yet, or (assign) has steps that wait for each other."""

KERNEL_NAMES = sorted(set(NAMES) - WITHOUT)


@pytest.fixture(scope="module", autouse=True)
def torch_serves() -> Iterator[None]:
    """Every kernel is served by torch, with nobody to fall back to.

    On one thread: small operations would spend their time waiting for a second one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with on_device("cpu"), backends.forced("cuda"):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that left its work to the reference would be compared with itself."""
    true_any = Faults.any

    def any_(faults: Faults) -> bool:
        assert not true_any(faults), "the reference was asked"
        return False

    monkeypatch.setattr(Faults, "any", any_)


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
def test_kernel_has_the_golden_bytes(kernel: str) -> None:
    """Each case of each kernel has the digest that was once written down."""
    module = backends.load("cuda")
    found = {c.title: blob_id_of(c.run(module)).hex() for c in cases_of(kernel)}
    assert found == {title: KERNELS[title] for title in found}


@pytest.mark.parametrize("title", in_some_dtypes(RESOLVES))
def test_resolve_writes_the_golden_bytes(title: str) -> None:
    """Each strategy in each dtype gives the model digest that was once written down."""
    assert vector(title) == RESOLVES[title]


def test_torch_has_a_form_of_every_other_kernel() -> None:
    """A kernel that lost its form would be served by the reference unseen."""
    module = backends.load("cuda")
    assert {name for name in NAMES if not hasattr(module, name)} == WITHOUT
