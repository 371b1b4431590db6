"""Small inputs of the kernels on arrays: elementary functions, draws, sums, choices.

Owns the cases. Does not own any comparison, nor the cases of kernels on stored vectors.
A case calls one function, by its name, of the namespace that it is given; the bytes that
it returns are to be the same for every backend.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.reference.dtypes import Floats, Singles
from crdtmerge.numerics.reference.philox import random_words

ElementCase = tuple[str, str, Callable[[Any], bytes]]
"""The kernel's name, a title, and what runs it on a backend's namespace."""

KEY: Final = b"elements"
SIZES: Final = (1, 2, 63, 64, 65, 4097, 65_535, 65_537)
COUNTS: Final = (0, 1, 3, 4, 4097)
STARTS: Final = (0, 3, 2**34 - 2)
DOMAINS: Final = {
    "sin": (-(2.0**20), 2.0**20),
    "cos": (-(2.0**20), 2.0**20),
    "acos": (-1.0, 1.0),
    "exp": (-746.0, 709.0),
    "log": (5e-324, 2.0),
    "tanh": (-25.0, 25.0),
}


def element_cases(kernel: str = "") -> Iterator[ElementCase]:
    """Yield every case, or those of one kernel."""
    for make, names in _MAKERS.items():
        if not kernel or kernel in names:
            yield from (case for case in make() if kernel in {"", case[0]})


def drawn(items: int, label: int = 0) -> Floats:
    """Return numbers from -1 to 1, made of nothing but hashes."""
    words = random_words(label.to_bytes(8, "little"), items)
    return (words.astype(np.float64) - 2.0**31) * 2.0**-31


def kinds(items: int) -> Iterator[tuple[str, Floats]]:
    """Yield numbers of each kind that a choice might trip over."""
    spread = drawn(items)
    signs = np.where(spread < 0, -1.0, 1.0)
    yield "spread", spread * np.ldexp(1.0, (np.arange(items) % 41) - 30)
    yield "ties", np.rint(spread * 5) / 4
    yield "equal magnitudes", signs / 2
    yield "zeros of both signs", signs * 0.0
    yield "subnormal", np.rint(spread * 9) * 2.0**-149


def _call(name: str, *given: Any) -> Callable[[Any], bytes]:
    def run(backend: Any) -> bytes:
        return np.asarray(getattr(backend, name)(*given)).tobytes()

    return run


def _functions() -> Iterator[ElementCase]:
    tiny = np.ldexp(1.0, -np.arange(0, 1075, 7))
    for name, (least, most) in DOMAINS.items():
        spread = (drawn(3001) + 1) / 2 * (most - least) + least
        ends = np.array([least, most])
        near = np.concatenate([tiny, [1.0]] if name == "log" else [tiny, -tiny])
        quarters = np.arange(1, 65) * (np.pi / 4)
        seams = np.concatenate([quarters, np.nextafter(quarters, 0)])
        inside = seams[seams <= most]
        for title, x in (
            ("its domain", spread),
            ("its ends", ends),
            ("small numbers", near),
            ("its seams", inside),
            ("nothing", np.zeros(0)),
        ):
            yield name, f"{name} of {title}", _call(name, x)
        if name != "log":
            yield name, f"{name} of zeros", _call(name, np.array([0.0, -0.0]))


def _draws() -> Iterator[ElementCase]:
    for start in STARTS:
        for count in COUNTS:
            title = f"{count} from {start}"
            yield (
                "random_words",
                f"words {title}",
                _call("random_words", KEY, count, start),
            )
            yield "normals", f"normals {title}", _call("normals", KEY, count, start)
            for units in (0, DECIMAL_UNIT // 3, DECIMAL_UNIT):
                made = _call("bernoulli", KEY, count, units, start)
                yield "bernoulli", f"mask of {units}, {title}", made


def _sums() -> Iterator[ElementCase]:
    for items in (*SIZES, 3 * 65_536 + 1):
        for dtype in (np.float32, np.float64):
            for title, numbers in kinds(items):
                x, y = numbers.astype(dtype), drawn(items, 1).astype(dtype)
                where = f"{items} {title}, {np.dtype(dtype).name}"
                yield "dot", f"dot of {where}", _call("dot", x, y)
                for name in ("sum_of_squares", "mean", "variance"):
                    yield name, f"{name} of {where}", _call(name, x)
    for name in ("largest", "largest_magnitude"):
        for title, numbers in kinds(65):
            yield name, f"{name} of {title}", _call(name, numbers)
    yield (
        "sum_of_squares",
        "sum_of_squares of nothing",
        _call("sum_of_squares", np.zeros(0)),
    )


def _order_statistics() -> Iterator[ElementCase]:
    for items in SIZES:
        for dtype in (np.float32, np.float64):
            for title, numbers in kinds(items):
                x = numbers.astype(dtype)
                where = f"{items} {title}, {np.dtype(dtype).name}"
                yield "median", f"median of {where}", _call("median", x)
                for numerator, denominator in ((0, 1), (1, 4), (2, 3), (1, 1)):
                    made = _call("quantile", x, numerator, denominator)
                    share = f"{numerator}/{denominator}"
                    yield "quantile", f"quantile {share} of {where}", made


def _choices() -> Iterator[ElementCase]:
    for items in SIZES:
        for title, numbers in kinds(items):
            x: Singles = numbers.astype(np.float32)
            where = f"{items} {title}"
            for length in sorted({1, items}):
                made = _call("rank_in_row", x, length)
                yield "rank_in_row", f"rank in rows of {length}, {where}", made
            for n, m in ((2, 4), (0, 3), (3, 3), (7, 17), (64, 256)):
                made = _call("keep_n_of_m", x, n, m)
                yield "keep_n_of_m", f"{n} of {m}, {where}", made


def _assignments() -> Iterator[ElementCase]:
    for rows, columns in ((0, 0), (0, 3), (1, 1), (7, 7), (20, 33), (65, 65)):
        words = random_words(KEY, rows * columns).astype(np.int64)
        for title, costs in (
            ("spread costs", words),
            ("tied costs", words % 3 - 1),
            ("equal costs", words * 0),
            ("costs near the limit", words << 22),
        ):
            made = _call("assign", costs.reshape(rows, columns))
            yield "assign", f"assign {rows} of {columns}, {title}", made


_SUMS: Final = ("dot", "mean", "sum_of_squares", "variance")
_MAKERS: Final = {
    _functions: tuple(DOMAINS),
    _draws: ("bernoulli", "normals", "random_words"),
    _sums: ("largest", "largest_magnitude", *_SUMS),
    _order_statistics: ("median", "quantile"),
    _choices: ("keep_n_of_m", "rank_in_row"),
    _assignments: ("assign",),
}

ARRAY_KERNELS: Final = tuple(
    sorted(name for names in _MAKERS.values() for name in names)
)
"""The names of the kernels on arrays."""
