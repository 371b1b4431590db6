"""On a GPU: every kernel and strategy gives the golden bytes, with nobody to fall back to.

`python -m pytest -m gpu tests/gpu -s` runs it and prints what it ran on.
"""

import json
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from crdtmerge.digest import blob_id_of
from crdtmerge.numerics import backends
from crdtmerge.numerics.cases import KERNELS as NAMES
from crdtmerge.numerics.cases import cases_of
from crdtmerge.numerics.cuda.formats import Faults
from crdtmerge.numerics.reference import gemm, philox
from tests.vectors.resolves import vector

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1200)]

FOLDER = Path(__file__).parent.parent / "vectors"
KERNELS = json.loads((FOLDER / "kernels.json").read_text())
WITHOUT = {
    "assign", "cholesky", "finish_sum", "finish_thinned", "finish_votes", "low_rank",
    "low_rank_factors", "polar_factor", "row_products", "solve_spd", "sum_planes",
    "svd", "symmetric_eigen", "thinned_planes", "vote_planes",
}  # fmt: skip
"""What has no form in torch yet, or (assign) has steps that wait for each other."""

RESOLVES = json.loads((FOLDER / "resolves.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def gpu_serves() -> Iterator[None]:
    """Every kernel is served by the GPU, or its test fails; where there is none as well."""
    device = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    print(f"\ndevice: {device}")
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}")
    with backends.forced("cuda"):
        yield


@pytest.fixture(autouse=True)
def no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that left its work to the reference would be compared with itself."""
    true_any = Faults.any

    def any_(faults: Faults) -> bool:
        assert not true_any(faults), "the reference was asked"
        return False

    monkeypatch.setattr(Faults, "any", any_)


KERNEL_NAMES = sorted(set(NAMES) - WITHOUT)


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
def test_kernel_has_the_golden_bytes(kernel: str) -> None:
    """Each case has the digest that was once written down."""
    module = backends.load("cuda")
    found = {c.title: blob_id_of(c.run(module)).hex() for c in cases_of(kernel)}
    assert found == {title: KERNELS[title] for title in found}


@pytest.mark.parametrize("title", sorted(RESOLVES))
def test_resolve_writes_the_golden_bytes(title: str) -> None:
    """Each strategy in each dtype gives the model digest that was once written down."""
    assert vector(title) == RESOLVES[title]


@pytest.mark.parametrize("shape", [(5, 7, 3), (300, 4096, 200), (1000, 1000, 1000)])
def test_products_of_matrices_have_the_bytes_of_the_reference(
    shape: tuple[int, int, int],
) -> None:
    """On the device's own library, whichever units it multiplies on."""
    rows, inner, columns = shape
    left = np.ldexp(_drawn(1, rows * inner).reshape(rows, inner), 20)
    right = _drawn(2, inner * columns).reshape(inner, columns)
    found = backends.load("cuda").matmul(left, right)
    assert found.tobytes() == (gemm.matmul(left, right) + 0.0).tobytes()


def _drawn(label: int, count: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return philox.normals(label.to_bytes(8, "little"), count)
