"""The verb `doctor`: which backend serves each kernel on this machine, and how fast.

Owns the examination and its measurements. Does not own the backends (`numerics`), nor
time (the caller's). It tests and so compiles every kernel: what it leaves behind makes
later commands start warm.
"""

import platform
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import numpy as np

from crdtmerge import __version__, numerics
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import BackendError
from crdtmerge.numerics import CONTRACT_VERSION, backends
from crdtmerge.numerics.cases import KERNELS
from crdtmerge.numerics.cases.making import stored
from crdtmerge.numerics.reference.philox import draw_limit

from .live import Answer, Tell

ITEMS: Final = 1 << 20
"""Items of a measured vector."""

REPEATS: Final = 3
DTYPE: Final = "BF16"
PACKAGES: Final = ("numpy", "numba", "torch")

Clock = Callable[[], float]
Work = tuple[int, Callable[[Any], object]]
"""Bytes of input, and what computes on them with a backend's kernels."""


def doctor(tell: Tell, clock: Clock) -> Answer:
    """Return facts about this machine's backends; `clock` gives seconds."""
    copy = 2 * _copy_bytes() / _seconds(_copy, clock) / 1e9
    works, kernels = _works(), []
    for place, kernel in enumerate(KERNELS):
        tell({"work": "examining", "done": place, "total": len(KERNELS)})
        kernels.append(_examined(kernel, works.get(kernel), clock))
    return {
        "crdtmerge": __version__,
        "contract": CONTRACT_VERSION,
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "packages": {name: _version(name) for name in PACKAGES},
        "chosen": backends.chosen(),
        "backends": [_loaded(name) for name in backends.BACKENDS],
        "machine_code": _machine_code(),
        "memory_copy_gb_s": round(copy, 2),
        "kernels": kernels,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _machine_code() -> str | None:
    """Return the folder of compiled kernels, None if nothing is kept."""
    try:
        from crdtmerge.numerics.cpu.compiling import machine_code
    except ImportError:
        return None
    folder = machine_code()
    return None if folder is None else str(folder)


def _loaded(name: str) -> Answer:
    try:
        backends.load(name)
    except BackendError as e:
        return {"name": name, "works": False, "reason": str(e)}
    return {"name": name, "works": True, "reason": ""}


def _examined(kernel: str, work: Work | None, clock: Clock) -> Answer:
    """Test one kernel of the chosen backend; measure what serves, and the reference."""
    chosen = backends.chosen()
    reason = backends.why_not(chosen, kernel)
    serves = backends.REFERENCE if reason else chosen
    found: Answer = {"kernel": kernel, "served_by": serves, "reason": reason}
    found["gb_s"] = found["reference_gb_s"] = None
    if work is not None:
        found["gb_s"] = _rate(serves, work, clock)
        found["reference_gb_s"] = _rate(backends.REFERENCE, work, clock)
    return found


def _rate(backend: str, work: Work, clock: Clock) -> float:
    size, run = work
    module = backends.load(backend)
    return float(f"{size / _seconds(lambda: run(module), clock) / 1e9:.3g}")


def _seconds(run: Callable[[], object], clock: Clock) -> float:
    """Return the best of a few runs, after one that warms up."""
    run()
    best = float("inf")
    for _ in range(REPEATS):
        start = clock()
        run()
        best = min(best, clock() - start)
    return max(best, 1e-9)


_SOURCE: Final = np.zeros(1 << 25, np.uint8)
_TARGET: Final = np.empty_like(_SOURCE)


def _copy_bytes() -> int:
    return _SOURCE.nbytes


def _copy() -> None:
    np.copyto(_TARGET, _SOURCE)


def _works() -> dict[str, Work]:
    """Return what is measured, for each kernel on stored vectors."""
    base, *tuned = (stored(label, ITEMS, DTYPE) for label in range(4))
    items = [numerics.Items(data, DTYPE) for data in tuned]
    taus = [numerics.Difference(data, base, DTYPE) for data in tuned]
    output = numerics.Output(DTYPE, range(ITEMS))
    terms = [numerics.Weighed(item, DECIMAL_UNIT) for item in items]
    grid, keep = numerics.theta_grid(0, DTYPE), numerics.Keep(0.5)
    drawn = numerics.Keep(key=b"measured", limit=draw_limit(DECIMAL_UNIT // 2))
    root = numerics.Items(base, DTYPE)

    def voters(rule: numerics.Keep) -> list[numerics.Voter]:
        return [numerics.Voter(t, rule, DECIMAL_UNIT, DECIMAL_UNIT) for t in taus]

    tau_grid, one = numerics.tau_grid(0, DTYPE), len(base)
    return {
        "inspect": (one, lambda b: b.inspect(base, DTYPE)),
        "weighted_sum": (
            3 * one,
            lambda b: b.weighted_sum(terms, 3 * DECIMAL_UNIT, grid, output),
        ),
        "thinned_sum": (
            3 * one,
            lambda b: b.thinned_sum(
                root, voters(drawn), DECIMAL_UNIT, tau_grid, output
            ),
        ),
        "consensus": (
            3 * one,
            lambda b: b.consensus(
                root, voters(keep), tau_grid, output, scale=1.0, normalize=True
            ),
        ),
        "weighted_median": (
            3 * one,
            lambda b: b.weighted_median(items, [DECIMAL_UNIT] * 3, output),
        ),
        "kth_largest": (one, lambda b: b.kth_largest(taus[0], (ITEMS // 5,))),
        "inner_products": (
            3 * one,
            lambda b: b.inner_products(items, ITEMS, range(1), 0),
        ),
        "magnitude_sum": (one, lambda b: b.magnitude_sum(taus[0], keep)),
    }
