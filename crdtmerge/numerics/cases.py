"""Small inputs of every kernel, made of nothing but hashes.

Owns the cases on which backends are found equal at start-up, and whose digests are
golden (`tests/vectors/kernels.json`). Does not own any comparison. A case calls a kernel
of the module that it is given, straight: no check, no choice of backend.

Sizes cross the blocks of every backend and of the sums' tree; values include both zeros,
subnormals, ties, and magnitudes that leave the first limb.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.cases_elements import ARRAY_KERNELS, element_cases
from crdtmerge.numerics.reference.dtypes import (
    ITEM_BYTES,
    Data,
    Floats,
    downcast,
)
from crdtmerge.numerics.reference.grid import tau_grid, theta_grid
from crdtmerge.numerics.reference.philox import draw_limit, random_words
from crdtmerge.numerics.vectors import (
    Difference,
    Items,
    Keep,
    Output,
    Shifted,
    Tau,
    Vector,
    Voter,
    Weighed,
)

DTYPES: Final = tuple(ITEM_BYTES)
SIZES: Final = (0, 1, 7, 2049, 5003)
TREE_ITEMS: Final = 70_001
"""More than one block of the tree."""

SAMPLED_ITEMS: Final = 140_001
"""Enough for a backend to look at a sample first."""

WEIGHTS: Final = (DECIMAL_UNIT, DECIMAL_UNIT // 3, -DECIMAL_UNIT // 7, 123_456_789_012)
INFINITY: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Case:
    """One call of one kernel: `run` makes it on a backend's module, as bytes."""

    kernel: str
    title: str
    run: Callable[[Any], bytes]


def cases() -> Iterator[Case]:
    """Yield every case of every kernel."""
    for make in _MAKERS.values():
        yield from make()
    yield from _on_arrays()


def cases_of(kernel: str) -> Iterator[Case]:
    """Yield the cases of one kernel."""
    if kernel in _MAKERS:
        return _MAKERS[kernel]()
    return _on_arrays(kernel)


def _on_arrays(kernel: str = "") -> Iterator[Case]:
    return (Case(*parts) for parts in element_cases(kernel))


def numbers(label: int, count: int, scale: float = 1.0) -> Floats:
    """Return `count` numbers below `scale`: about a fifth zeros, some of them tiny."""
    words = random_words(label.to_bytes(8, "little"), count)
    drawn = (words.astype(np.float64) - 2.0**31) * (2.0**-31 * scale)
    tiny = np.where(words % 7 == 1, drawn * 2.0**-30, drawn)
    return np.where(words % 5 == 0, np.copysign(0.0, drawn), tiny)


def stored(label: int, count: int, dtype: str, scale: float = 1.0) -> bytes:
    """Return such numbers as items of `dtype`; some zeros are -0."""
    values = numbers(label, count, scale)
    width = ITEM_BYTES[dtype]
    items = np.frombuffer(downcast(values, dtype), np.uint8).reshape(count, width)
    negative = np.zeros((count, width), np.uint8)
    negative[::11, -1] = np.where(values[::11] == 0, 0x80, 0)
    return (items | negative).tobytes()


def subnormal(count: int, dtype: str) -> bytes:
    """Return the smallest magnitudes that a dtype has, of both signs."""
    width = ITEM_BYTES[dtype]
    signs = (1 << (8 * width - 1), 0)
    items = ((i % 5) | signs[i % 2] for i in range(count))
    return b"".join(item.to_bytes(width, "little") for item in items)


def _model(label: int, count: int, dtype: str) -> Items:
    return Items(stored(label, count, dtype), dtype)


def _taus(count: int, dtype: str, number: int) -> list[Tau]:
    """Return task vectors: differences to one base, and one given as such."""
    base = stored(1, count, dtype)
    found: list[Tau] = [
        Difference(stored(2 + i, count, dtype), base, dtype) for i in range(number - 1)
    ]
    return [*found, Items(stored(90, count, "F32", 0.5), "F32")]


def _whole(count: int, dtype: str) -> Output:
    return Output(dtype, range(count), "a case")


def _inspect() -> Iterator[Case]:
    def run(data: Data, dtype: str) -> Callable[[Any], bytes]:
        def facts(backend: Any) -> bytes:
            found = backend.inspect(data, dtype)
            return f"{found.finite} {found.exponent}".encode()

        return facts

    for dtype in DTYPES:
        for count in SIZES:
            data = stored(count, count, dtype, 3.0 * 2 ** (count % 5))
            yield Case("inspect", f"inspect {dtype} {count}", run(data, dtype))
        data = subnormal(33, dtype)
        yield Case("inspect", f"inspect {dtype} subnormal", run(data, dtype))


def _weighted_sum() -> Iterator[Case]:
    def run(
        terms: list[Weighed], divisor: int, dtype: str, output: Output
    ) -> Callable[[Any], bytes]:
        grid = theta_grid(0, dtype)
        return lambda backend: bytes(backend.weighted_sum(terms, divisor, grid, output))

    for dtype in DTYPES:
        for count in SIZES:
            terms = [
                Weighed(_model(i, count, dtype), weight)
                for i, weight in enumerate(WEIGHTS)
            ]
            terms.append(Weighed(Items(stored(9, count, "F32", 0.1), "F32"), -77))
            made = run(terms, 3 * DECIMAL_UNIT, dtype, _whole(count, dtype))
            yield Case("weighted_sum", f"weighted_sum {dtype} {count}", made)
        items = Items(subnormal(37, dtype), dtype)
        same = [Weighed(items, DECIMAL_UNIT)] * 3
        made = run(same, 3 * DECIMAL_UNIT, dtype, _whole(37, dtype))
        yield Case("weighted_sum", f"weighted_sum {dtype} subnormal", made)
        few = [Weighed(_model(i, 13, dtype), DECIMAL_UNIT) for i in range(5)]
        many = few * 200
        made = run(many, 1000 * DECIMAL_UNIT, dtype, _whole(13, dtype))
        yield Case("weighted_sum", f"weighted_sum {dtype} of 1000", made)
        part = Output("F32", range(1001, 4999), "a case")
        terms = [Weighed(_model(i, 5003, dtype), DECIMAL_UNIT // 3) for i in (1, 2)]
        made = run(terms, DECIMAL_UNIT, dtype, part)
        yield Case("weighted_sum", f"weighted_sum {dtype} a part, to F32", made)


def _keeps() -> list[Keep]:
    half = draw_limit(DECIMAL_UNIT // 2)
    drawn = Keep(key=b"\x01\x02\x03\x04\x05\x06\x07\x08", limit=half)
    return [Keep(0.25), drawn, Keep(), Keep(0.125, b"8 bytes!", half), Keep(INFINITY)]


def _voters(count: int, dtype: str) -> list[Voter]:
    keeps = _keeps()
    taus = _taus(count, dtype, len(keeps))
    weights = (DECIMAL_UNIT, DECIMAL_UNIT // 3, -DECIMAL_UNIT // 7, 5, 7)
    return [
        Voter(tau, keep, weight, weight * 3)
        for tau, keep, weight in zip(taus, keeps, weights, strict=True)
    ]


def _parts(count: int, dtype: str) -> Iterator[tuple[str, Output]]:
    yield f"{dtype} {count}", _whole(count, dtype)
    if count > 5000:
        yield f"{dtype} a part", Output("BF16", range(1003, 4997), "a case")


def _thinned_sum() -> Iterator[Case]:
    def run(count: int, dtype: str, output: Output) -> Callable[[Any], bytes]:
        base, voters = _model(1, count, dtype), _voters(count, dtype)
        grid = tau_grid(0, dtype)
        return lambda backend: bytes(
            backend.thinned_sum(base, voters, 2 * DECIMAL_UNIT, grid, output)
        )

    for dtype in DTYPES:
        for count in SIZES:
            for title, output in _parts(count, dtype):
                made = run(count, dtype, output)
                yield Case("thinned_sum", f"thinned_sum {title}", made)


def _consensus() -> Iterator[Case]:
    def run(
        count: int, dtype: str, output: Output, *, normalize: bool
    ) -> Callable[[Any], bytes]:
        base, voters = _model(1, count, dtype), _voters(count, dtype)
        grid = tau_grid(0, dtype)
        return lambda backend: bytes(
            backend.consensus(
                base, voters, grid, output, scale=0.7, normalize=normalize
            )
        )

    for dtype in DTYPES:
        for count in SIZES:
            for title, output in _parts(count, dtype):
                for normalize in (True, False):
                    made = run(count, dtype, output, normalize=normalize)
                    word = "mean" if normalize else "sum"
                    yield Case("consensus", f"consensus {title} {word}", made)


def _weighted_median() -> Iterator[Case]:
    def run(
        vectors: list[Vector], weights: list[int], output: Output
    ) -> Callable[[Any], bytes]:
        return lambda backend: bytes(backend.weighted_median(vectors, weights, output))

    for dtype in DTYPES:
        for count in SIZES:
            base = stored(1, count, dtype)
            vectors: list[Vector] = [_model(i % 3, count, dtype) for i in range(4)]
            tau = stored(9, count, "F32", 0.1)
            for number in (1, 2, 5):
                used = [Shifted(tau, base, dtype), *vectors][:number]
                weights = [DECIMAL_UNIT * (1 + i % 3) for i in range(number)]
                made = run(used, weights, _whole(count, dtype))
                title = f"weighted_median {dtype} {count} of {number}"
                yield Case("weighted_median", title, made)


def _kth_largest() -> Iterator[Case]:
    def run(tau: Tau, k: int) -> Callable[[Any], bytes]:
        return lambda backend: np.float32(backend.kth_largest(tau, k)).tobytes()

    for dtype in DTYPES:
        for count in (1, 7, 2049, TREE_ITEMS):
            tau = _taus(count, dtype, 2)[0]
            for k in sorted({1, -(-count // 5), count}):
                title = f"kth_largest {dtype} {k} of {count}"
                yield Case("kth_largest", title, run(tau, k))
    count = SAMPLED_ITEMS
    drawn = _taus(count, "BF16", 2)[0]
    ties = Items(np.full(count, 0.5, np.float32).tobytes(), "F32")
    zeros = Items(bytes(4 * count), "F32")
    ramp = Items(np.arange(count, dtype=np.float32).tobytes(), "F32")
    named = {"drawn": drawn, "ties": ties, "zeros": zeros, "a ramp": ramp}
    for word, tau in named.items():
        for k in (1, 12_345, count - 1):
            yield Case("kth_largest", f"kth_largest {k} of {word}", run(tau, k))


def _inner_products() -> Iterator[Case]:
    def run(
        vectors: list[Vector], length: int, sets: range, exponent: int
    ) -> Callable[[Any], bytes]:
        return lambda backend: backend.inner_products(
            vectors, length, sets, exponent
        ).tobytes()

    for dtype in DTYPES:
        for count in (0, 1, 63, 65, TREE_ITEMS):
            base, tau = stored(1, count, dtype), stored(9, count, "F32", 0.1)
            vectors: list[Vector] = [
                _model(2, count, dtype),
                Difference(stored(3, count, dtype), base, dtype),
                Shifted(tau, base, dtype),
            ]
            made = run(vectors, count, range(1), 1)
            yield Case("inner_products", f"inner_products {dtype} {count}", made)
        rows: list[Vector] = [_model(i, 4690, dtype) for i in range(2)]
        made = run(rows, 67, range(3, 70), 0)
        yield Case("inner_products", f"inner_products {dtype} rows", made)


def _magnitude_sum() -> Iterator[Case]:
    def run(tau: Tau, keep: Keep) -> Callable[[Any], bytes]:
        return lambda backend: np.float64(backend.magnitude_sum(tau, keep)).tobytes()

    for dtype in DTYPES:
        for count in (0, 1, 2049, TREE_ITEMS):
            tau = _taus(count, dtype, 2)[0]
            for place, keep in enumerate(_keeps()):
                title = f"magnitude_sum {dtype} {count} keep {place}"
                yield Case("magnitude_sum", title, run(tau, keep))


_MAKERS: Final = {
    "inspect": _inspect,
    "weighted_sum": _weighted_sum,
    "thinned_sum": _thinned_sum,
    "consensus": _consensus,
    "weighted_median": _weighted_median,
    "kth_largest": _kth_largest,
    "inner_products": _inner_products,
    "magnitude_sum": _magnitude_sum,
}

KERNELS: Final = (*_MAKERS, *ARRAY_KERNELS)
"""The names of all kernels."""
