"""What is computed of the kernels: the golden cases, arrays, and both in parts.

Owns calling them. Small cases come from `numerics.cases`; here are whole arrays that are
cut in parts, and vectors larger than any block. An array may lie in any way, stored bytes
only in one. Does not own digests or their comparison.
"""

import pkgutil
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, Final

import numpy as np

from benchmarks.portability.job import ARRAY, Job
from benchmarks.portability.layouts import Laid
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    Difference,
    Items,
    Keep,
    Output,
    Voter,
    Weighed,
    backends,
    draw_limit,
    tau_grid,
    theta_grid,
)
from crdtmerge.numerics.cases import cases
from crdtmerge.numerics.cases.elements import element_cases
from crdtmerge.numerics.cases.making import numbers, stored

LARGE_ITEMS: Final = (1 << 22) + 4099
"""Items of a vector that the largest block cuts, with a rest."""

SMALL_ITEMS: Final = 70_001
ROW_ITEMS: Final = 1031
KEY: Final = bytes(range(8))

Work = Callable[[], bytes]
Parts = list[range]


def works(job: Job) -> Iterator[tuple[str, Work]]:
    """Yield a title and what computes its bytes, for each thing the job asks for."""
    items = LARGE_ITEMS if job.large else SMALL_ITEMS
    step = job.block or items
    parts = [range(i, min(i + step, items)) for i in range(0, items, step)]
    module = backends.load(job.package)
    functions = Functions() if job.backend == "reference" else module
    for title, (names, make) in _ARRAYS.items():
        if all(hasattr(functions, name) for name in names):
            yield f"{ARRAY}{title}", partial(make, _face(functions, job), parts)
    if job.large:
        for title, make_part in _LARGE.items():
            for dtype in ("F32", "BF16"):
                made = partial(make_part, _face(module, job), dtype, parts)
                yield f"large: {title} {dtype}", made
        return
    titles = array_titles() if job.layout == "strided" else None
    for case in cases():
        fits = titles is None or case.title in titles
        if fits and hasattr(module, case.kernel):
            yield case.title, partial(case.run, _face(module, job))


def array_titles() -> set[str]:
    """Return the titles of the cases that take arrays: stored bytes have no gaps."""
    return {title for _, title, _ in element_cases()}


def _face(inner: Any, job: Job) -> Any:
    return inner if job.layout == "plain" else Laid(inner, job.layout)


class Functions:
    """Every public function of the reference, kernel or not, by its name."""

    def __init__(self) -> None:
        package = import_module("crdtmerge.numerics.reference")
        for found in pkgutil.iter_modules(package.__path__):
            module = import_module(f"{package.__name__}.{found.name}")
            named = {n: v for n, v in vars(module).items() if not n.startswith("_")}
            vars(self).update(named)


def _bytes(parts: Iterable[Any]) -> bytes:
    return b"".join(p.tobytes() if isinstance(p, np.ndarray) else p for p in parts)


def _x(parts: Parts, scale: float = 1.0) -> Any:
    return _numbers(parts[-1].stop) * scale


@lru_cache(maxsize=1)
def _numbers(items: int) -> Any:
    return numbers(1, items)


def _cut(x: Any, part: range) -> Any:
    return x[part.start : part.stop]


def _elementwise(
    name: str, scale: float, *, positive: bool
) -> Callable[[Any, Parts], bytes]:
    def compute(functions: Any, parts: Parts) -> bytes:
        x = _x(parts, scale)
        x = np.abs(x) + 2.0**-40 if positive else x
        return _bytes(getattr(functions, name)(_cut(x, part)) for part in parts)

    return compute


def _drawn(name: str, *more: Any) -> Callable[[Any, Parts], bytes]:
    def compute(functions: Any, parts: Parts) -> bytes:
        draw = getattr(functions, name)
        return _bytes(draw(KEY, len(part), *more, part.start) for part in parts)

    return compute


def _conversions(functions: Any, parts: Parts) -> bytes:
    x, found = _x(parts), []
    for dtype in ("F64", "F32", "BF16", "F16"):
        stored_parts = [functions.downcast(_cut(x, part), dtype) for part in parts]
        found += stored_parts
        found += [functions.upcast(data, dtype) for data in stored_parts]
    return _bytes(found)


def _task_vector(functions: Any, parts: Parts) -> bytes:
    x = _x(parts)
    return _bytes(
        functions.task_vector(_cut(x, part), _cut(x[::-1], part)) for part in parts
    )


def _selection(functions: Any, parts: Parts) -> bytes:
    tau = _x(parts).astype(np.float32)
    least = functions.kth_magnitude(tau, -(-tau.size // 5))
    return _bytes(functions.at_least(_cut(tau, part), least) for part in parts)


def _grid_sum(functions: Any, parts: Parts) -> bytes:
    x, found = _x(parts), []
    for part in parts:
        total = functions.GridSum(theta_grid(0, "F32"), len(part))
        for weight in (DECIMAL_UNIT, DECIMAL_UNIT // 3, -7):
            total.add(_cut(x, part), weight, 53)
        found.append(functions.divide(total.total(), DECIMAL_UNIT))
    return _bytes(found)


def _dot(functions: Any, parts: Parts) -> bytes:
    x = _x(parts)
    return np.float64(functions.dot(x, x[::-1])).tobytes()


def _product(functions: Any, parts: Parts) -> bytes:
    x = _x(parts)
    rows = 601 if len(x) > SMALL_ITEMS else 101
    left, right = x[: rows * 300].reshape(rows, 300), x[-300 * 200 :].reshape(300, 200)
    return bytes(functions.matmul(left, right).tobytes())


def _factors(functions: Any, _: Parts) -> bytes:
    matrix = numbers(5, 60 * 40).reshape(60, 40)
    return _bytes(functions.low_rank_factors(matrix, 5, KEY))


_ARRAYS: Final[dict[str, tuple[tuple[str, ...], Callable[[Any, Parts], bytes]]]] = {
    "sin": (("sin",), _elementwise("sin", 9.0, positive=False)),
    "cos": (("cos",), _elementwise("cos", 9.0, positive=False)),
    "acos": (("acos",), _elementwise("acos", 1.0, positive=False)),
    "exp": (("exp",), _elementwise("exp", 80.0, positive=False)),
    "log": (("log",), _elementwise("log", 9.0, positive=True)),
    "tanh": (("tanh",), _elementwise("tanh", 9.0, positive=False)),
    "words": (("random_words",), _drawn("random_words")),
    "mask": (("bernoulli",), _drawn("bernoulli", DECIMAL_UNIT // 3)),
    "normals": (("normals",), _drawn("normals")),
    "conversions": (("upcast", "downcast"), _conversions),
    "task vector": (("task_vector",), _task_vector),
    "selection": (("kth_magnitude", "at_least"), _selection),
    "grid sum": (("GridSum", "divide"), _grid_sum),
    "dot": (("dot",), _dot),
    "product": (("matmul",), _product),
    "factors": (("low_rank_factors",), _factors),
}


@lru_cache(maxsize=2)
def _models(dtype: str, items: int) -> list[Items]:
    return [Items(stored(i, items, dtype, 0.9), dtype) for i in range(3)]


def _difference(dtype: str, items: int) -> Difference:
    base, theta = _models(dtype, items)[:2]
    return Difference(theta.data, base.data, dtype)


def _voters(dtype: str, items: int) -> list[Voter]:
    keeps = (Keep(0.25), Keep(0.0, KEY, draw_limit(DECIMAL_UNIT // 2)))
    tau = _difference(dtype, items)
    return [Voter(tau, keep, DECIMAL_UNIT // 3, DECIMAL_UNIT) for keep in keeps]


def _weighted_sum(module: Any, dtype: str, parts: Parts) -> bytes:
    items, grid = parts[-1].stop, theta_grid(0, dtype)
    terms = [Weighed(model, DECIMAL_UNIT // 3) for model in _models(dtype, items)]
    return _bytes(
        module.weighted_sum(terms, DECIMAL_UNIT, grid, Output(dtype, part))
        for part in parts
    )


def _thinned_sum(module: Any, dtype: str, parts: Parts) -> bytes:
    items, grid = parts[-1].stop, tau_grid(0, dtype)
    base, voters = _models(dtype, items)[0], _voters(dtype, items)
    return _bytes(
        module.thinned_sum(base, voters, DECIMAL_UNIT, grid, Output(dtype, part))
        for part in parts
    )


def _consensus(module: Any, dtype: str, parts: Parts) -> bytes:
    items, grid = parts[-1].stop, tau_grid(0, dtype)
    base, voters = _models(dtype, items)[0], _voters(dtype, items)
    call = partial(module.consensus, base, voters, grid, scale=0.7, normalize=True)
    return _bytes(call(output=Output(dtype, part)) for part in parts)


def _median(module: Any, dtype: str, parts: Parts) -> bytes:
    models, weights = _models(dtype, parts[-1].stop), [5, 3, 9]
    return _bytes(
        module.weighted_median(models, weights, Output(dtype, part)) for part in parts
    )


def _measures(module: Any, dtype: str, parts: Parts) -> bytes:
    items = parts[-1].stop
    tau, (keep, _) = _difference(dtype, items), [v.keep for v in _voters(dtype, items)]
    found = [
        module.kth_largest(tau, -(-items // 5)),
        module.magnitude_sum(tau, keep),
        module.inspect(_models(dtype, items)[0].data, dtype),
    ]
    return repr(found).encode()


def _products(module: Any, dtype: str, parts: Parts) -> bytes:
    items = parts[-1].stop
    vectors, rows = (
        [*_models(dtype, items), _difference(dtype, items)],
        items // ROW_ITEMS,
    )
    step = max(1, len(parts[0]) // ROW_ITEMS)
    whole = module.inner_products(vectors, items, range(1), 0)
    cut = [
        module.inner_products(vectors, ROW_ITEMS, range(i, min(i + step, rows)), 0)
        for i in range(0, rows, step)
    ]
    return _bytes([whole, *cut])


_LARGE: Final[dict[str, Callable[[Any, str, Parts], bytes]]] = {
    "weighted_sum": _weighted_sum,
    "thinned_sum": _thinned_sum,
    "consensus": _consensus,
    "weighted_median": _median,
    "measures": _measures,
    "inner_products": _products,
}
