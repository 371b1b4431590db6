"""The bytes of a resolve never change: not over releases, instruction sets or threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crdtmerge import numerics
from tests.vectors.resolves import DTYPES, in_some_dtypes, titles, vector

ROOT = Path(__file__).parent.parent.parent
GOLDEN = json.loads((Path(__file__).parent / "resolves.json").read_text())


@pytest.mark.parametrize("title", sorted(GOLDEN))
def test_resolve_writes_the_golden_bytes(title: str) -> None:
    """Each strategy in each dtype gives the model digest that was once written down."""
    assert vector(title) == GOLDEN[title]


@pytest.mark.parametrize("title", in_some_dtypes(GOLDEN))
def test_cpu_backend_writes_the_golden_bytes(title: str) -> None:
    """The compiled kernels give the same models, with nobody to fall back to."""
    with numerics.forced("cpu"):
        assert vector(title) == GOLDEN[title]


def test_every_strategy_and_dtype_has_a_vector() -> None:
    """A new strategy without a vector could change its bits unseen."""
    from crdtmerge.strategies import STRATEGIES

    assert set(GOLDEN) == set(titles())
    assert {f"{name} {dtype}" for name in STRATEGIES for dtype in DTYPES} <= set(GOLDEN)
    assert {f"{name} BF16 delta" for name in STRATEGIES} <= set(GOLDEN)


@pytest.mark.parametrize(
    ("hash_seed", "dtype"), [("0", "F16"), ("1", "BF16"), ("2", "F32")]
)
def test_instruction_set_and_hash_seed_change_no_byte(
    hash_seed: str, dtype: str
) -> None:
    """Without AVX and the like, in another process and hash order, bytes are the same.

    Of one dtype each: what is summed, solved and decomposed is float64 in all.
    """
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    done = subprocess.run(
        [sys.executable, "-m", "tests.vectors.resolves", dtype],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "NPY_DISABLE_CPU_FEATURES": " ".join(found) if hash_seed != "0" else "",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    found_now = json.loads(done.stdout)
    assert len(found_now) > len(GOLDEN) / 6
    assert found_now.items() <= GOLDEN.items()
