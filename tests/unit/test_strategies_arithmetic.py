"""Strategies do single operations on items, and leave all else to numerics (ADR 16)."""

import builtins
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crdtmerge.strategies
from crdtmerge.strategies import STRATEGIES
from tests.arithmetic import violations
from tests.strategies import resolve, sample, task

FOLDER = Path(crdtmerge.strategies.__file__).parent
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.glob("**/*.py"))

ALLOWED = """
import math
import numpy as np
from numpy.typing import NDArray
from crdtmerge import numerics

SIZE = 2**16
TINY = 2.0**-54
STEP = Fraction(2) ** SIZE

def formula(rows, table: NDArray[np.float64]):
    order = np.argsort(rows, axis=0, kind="stable")
    best = np.maximum.reduce(np.abs(rows))
    kept = np.where(np.isfinite(best), best, 0.0) / np.sqrt(best + 1.0)
    taken = np.take_along_axis(rows, order, axis=0) * kept - best
    with np.errstate(divide="ignore"):
        return taken * numerics.mean(rows), math.fsum(table.tolist()), rows.max()
"""

FORBIDDEN = (
    "np.sum(a)",
    "np.mean(a)",
    "np.dot(a, b)",
    "np.matmul(a, b)",
    "np.inner(a, b)",
    "np.outer(a, b)",
    "np.einsum('i,i', a, b)",
    "np.tensordot(a, b)",
    "np.power(a, 2)",
    "np.float_power(a, 2)",
    "np.exp(a)",
    "np.log(a)",
    "np.tanh(a)",
    "np.cumsum(a)",
    "np.median(a)",
    "np.quantile(a, 0.5)",
    "np.std(a)",
    "np.average(a)",
    "np.bincount(a, b)",
    "np.partition(a, 3)",
    "np.linalg.norm(a)",
    "np.random.default_rng(0)",
    "np.fft.fft(a)",
    "np.add.reduce(a)",
    "np.multiply.accumulate(a)",
    "np.sqrt.at(a, 0)",
    "np.argsort(a)",
    "np.argsort(a, kind='quicksort')",
    "np",
    "f(np).sqrt(a)",
    "a @ b",
    "a @= b",
    "a ** 2",
    "2 ** a",
    "a **= 2",
    "pow(a, 2)",
    "a.__pow__(2)",
    "getattr(a, 'sum')()",
    "a.sum()",
    "a.mean()",
    "a.dot(b)",
    "a.prod()",
    "a.std()",
    "a[0].T.var()",
    "(a + b).sum(axis=0)",
    "f = a.cumsum",
    "a.argsort()",
    "a.b.mean()",
    "math.exp(a)",
    "math.log(a)",
    "math.sin(a)",
    "math.cos(a)",
    "math.pow(a, 2)",
    "math.hypot(a, b)",
    "math.sumprod(a, b)",
    "math.dist(a, b)",
    "math",
    "import numpy",
    "import numpy as xp",
    "import numpy.linalg as la",
    "import math as m",
    "import random",
    "import statistics",
    "import operator",
    "import scipy.special",
    "import torch",
    "from numpy import sqrt",
    "from numpy.linalg import norm",
    "from math import exp",
    "from operator import matmul",
    "from numba import njit",
)


@pytest.mark.parametrize("name", FILES)
def test_strategies_do_single_operations_only(name: str) -> None:
    """Whatever file lies there, now or later, stays within the list."""
    assert violations((FOLDER / name).read_text()) == []


def test_what_is_allowed_passes() -> None:
    """The list is wide enough for formulas: else the tests below would prove little."""
    assert violations(ALLOWED) == []


@pytest.mark.parametrize("line", FORBIDDEN)
def test_what_is_forbidden_is_found(line: str) -> None:
    """Each of them, as the only thing wrong with a text, by its line."""
    found = violations(f"{ALLOWED}\n{line}\n")
    assert len(found) == 1
    assert found[0].startswith(f"{len(ALLOWED.splitlines()) + 2}: ")


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_plain_sum_never_adds_floats(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.12 and later compensate `sum` of floats, so its bits are no promise.

    Whole numbers and rationals have none to lose.
    """

    def checked(items: Iterable[Any], /, start: Any = 0) -> Any:
        taken = [*items]
        assert all(isinstance(item, int | Fraction) for item in [start, *taken])
        return builtins.sum(taken, start)

    for module in [m for m in sys.modules if m.startswith("crdtmerge.strategies.")]:
        monkeypatch.setattr(sys.modules[module], "sum", checked, raising=False)
    base, tunes = sample(130, 5)
    for dtype in ("F32", "BF16"):
        resolve(name, task(name, dtype, tunes, base))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 31, 64, 65, 257])
def test_the_first_of_equals_is_the_largest(dtype: type[Any], size: int) -> None:
    """`argmax` and `argmin` are on the list: ties go to the first, at any width."""
    for first in range(size):
        values = np.zeros(size, dtype=dtype)
        values[first::3] = 1
        assert np.argmax(values) == first
        assert np.argmin(-values) == first
        columns = np.stack([values, values], axis=1)
        assert np.argmax(columns, axis=0).tolist() == [first, first]
        assert np.argmin(-columns, axis=0).tolist() == [first, first]
