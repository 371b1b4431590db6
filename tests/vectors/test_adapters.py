"""Adapters have golden bytes, whatever library multiplies, with however many threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.vectors.adapters import vectors

ROOT = Path(__file__).parent.parent.parent
GOLDEN = json.loads((Path(__file__).parent / "adapters.json").read_text())

BARE = " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))


def test_merges_of_unlike_kinds_write_the_golden_bytes() -> None:
    """A full model, a delta and adapters, merged and factored as once written down."""
    assert dict(vectors()) == GOLDEN


@pytest.mark.parametrize(
    "changed",
    [
        {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "4"},
        {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": BARE},
    ],
)
def test_kernels_of_the_blas_change_no_byte(changed: dict[str, str]) -> None:
    """Other kernels sum in other orders, with and without fused multiply-adds."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.vectors.adapters"],
        cwd=ROOT,
        env={**os.environ, **changed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == GOLDEN
