"""The cases of kernels on stored vectors.

Owns the cases. Does not own any comparison.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.cases.making import (
    DTYPES,
    SAMPLED_ITEMS,
    SIZES,
    TREE_ITEMS,
    WEIGHTS,
    Case,
    keeps_of_cases,
    mixed_taus,
    mixed_voters,
    model,
    numbers,
    parts,
    ranked_voters,
    rules_of_cases,
    stored,
    subnormal,
    taus_of,
    voters_of,
    whole,
)
from crdtmerge.numerics.reference.dtypes import Data
from crdtmerge.numerics.reference.grid import tau_grid, theta_grid
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

MIXED_DTYPES: Final = ("BF16", "F16")
"""Dtypes of a base on which models of every dtype are tried."""


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

    mixed = [
        Weighed(model(i, 2049, dtype), DECIMAL_UNIT // 3)
        for i, dtype in enumerate(DTYPES)
    ]
    made = run(mixed, DECIMAL_UNIT, "BF16", whole(2049, "BF16"))
    yield Case("weighted_sum", "weighted_sum of every dtype", made)
    for dtype in DTYPES:
        for count in SIZES:
            terms = [
                Weighed(model(i, count, dtype), weight)
                for i, weight in enumerate(WEIGHTS)
            ]
            terms.append(Weighed(Items(stored(9, count, "F32", 0.1), "F32"), -77))
            made = run(terms, 3 * DECIMAL_UNIT, dtype, whole(count, dtype))
            yield Case("weighted_sum", f"weighted_sum {dtype} {count}", made)
        items = Items(subnormal(37, dtype), dtype)
        same = [Weighed(items, DECIMAL_UNIT)] * 3
        made = run(same, 3 * DECIMAL_UNIT, dtype, whole(37, dtype))
        yield Case("weighted_sum", f"weighted_sum {dtype} subnormal", made)
        few = [Weighed(model(i, 13, dtype), DECIMAL_UNIT) for i in range(5)]
        many = few * 200
        made = run(many, 1000 * DECIMAL_UNIT, dtype, whole(13, dtype))
        yield Case("weighted_sum", f"weighted_sum {dtype} of 1000", made)
        part = Output("F32", range(1001, 4999), "a case")
        terms = [Weighed(model(i, 5003, dtype), DECIMAL_UNIT // 3) for i in (1, 2)]
        made = run(terms, DECIMAL_UNIT, dtype, part)
        yield Case("weighted_sum", f"weighted_sum {dtype} a part, to F32", made)


def _by_rank() -> Iterator[tuple[str, list[Voter], int, Output]]:
    """Yield voters that draw by rank, how many items they have, and outputs of all."""
    for row, count in ((7, 6993), (300, 6000)):
        voters = ranked_voters(row, count, "BF16")
        yield f"by rank in {row}", voters, count, whole(count, "BF16")
        part = Output("BF16", range(1003, count - 5), "a case")
        yield f"by rank in {row}, a part", voters, count, part


def _thinned_sum() -> Iterator[Case]:
    def run(
        count: int, dtype: str, output: Output, voters: list[Voter]
    ) -> Callable[[Any], bytes]:
        base, grid = model(1, count, dtype), tau_grid(0, dtype)
        return lambda backend: bytes(
            backend.thinned_sum(base, voters, 2 * DECIMAL_UNIT, grid, output)
        )

    for dtype in MIXED_DTYPES:
        made = run(2049, dtype, whole(2049, dtype), mixed_voters(2049, dtype))
        yield Case("thinned_sum", f"thinned_sum of every dtype on {dtype}", made)
    for dtype in DTYPES:
        for count in SIZES:
            for title, output in parts(count, dtype):
                made = run(count, dtype, output, voters_of(count, dtype))
                yield Case("thinned_sum", f"thinned_sum {title}", made)
    for title, voters, count, output in _by_rank():
        made = run(count, "BF16", output, voters)
        yield Case("thinned_sum", f"thinned_sum {title}", made)


def _consensus() -> Iterator[Case]:
    def run(
        count: int,
        dtype: str,
        output: Output,
        voters: list[Voter],
        *,
        normalize: bool,
    ) -> Callable[[Any], bytes]:
        base, grid = model(1, count, dtype), tau_grid(0, dtype)
        return lambda backend: bytes(
            backend.consensus(
                base, voters, grid, output, scale=0.7, normalize=normalize
            )
        )

    for dtype in MIXED_DTYPES:
        taken, output = mixed_voters(2049, dtype), whole(2049, dtype)
        made = run(2049, dtype, output, taken, normalize=True)
        yield Case("consensus", f"consensus of every dtype on {dtype}", made)
    for dtype in DTYPES:
        for count in SIZES:
            for title, output in parts(count, dtype):
                for normalize in (True, False):
                    taken = voters_of(count, dtype)
                    made = run(count, dtype, output, taken, normalize=normalize)
                    word = "mean" if normalize else "sum"
                    yield Case("consensus", f"consensus {title} {word}", made)
    for title, voters, count, output in _by_rank():
        made = run(count, "BF16", output, voters, normalize=True)
        yield Case("consensus", f"consensus {title}", made)


def _weighted_median() -> Iterator[Case]:
    def run(
        vectors: list[Vector], weights: list[int], output: Output
    ) -> Callable[[Any], bytes]:
        return lambda backend: bytes(backend.weighted_median(vectors, weights, output))

    for dtype in DTYPES:
        for count in SIZES:
            base = stored(1, count, dtype)
            vectors: list[Vector] = [model(i % 3, count, dtype) for i in range(4)]
            tau = stored(9, count, "F32", 0.1)
            for number in (1, 2, 5):
                used = [Shifted(tau, base, dtype), *vectors][:number]
                weights = [DECIMAL_UNIT * (1 + i % 3) for i in range(number)]
                made = run(used, weights, whole(count, dtype))
                title = f"weighted_median {dtype} {count} of {number}"
                yield Case("weighted_median", title, made)
            # Half of the weight ends at an item: the two medians are not one.
            for units in ((1, 1, 1, 1), (2, 1, 1)):
                weights = [DECIMAL_UNIT * unit for unit in units]
                made = run(vectors[: len(units)], weights, whole(count, dtype))
                title = f"weighted_median {dtype} {count} weighing {units}"
                yield Case("weighted_median", title, made)


def _kth_largest() -> Iterator[Case]:
    def run(tau: Tau, *places: int) -> Callable[[Any], bytes]:
        def found(backend: Any) -> bytes:
            return np.array(backend.kth_largest(tau, places), np.float32).tobytes()

        return found

    for dtype in DTYPES:
        for count in (1, 7, 2049, TREE_ITEMS):
            tau = taus_of(count, dtype, 2)[0]
            for k in sorted({1, -(-count // 5), count}):
                title = f"kth_largest {dtype} {k} of {count}"
                yield Case("kth_largest", title, run(tau, k))
    for place, tau in enumerate(mixed_taus(2049, "BF16")):
        title = f"kth_largest on BF16 of another dtype, {place}"
        yield Case("kth_largest", title, run(tau, 400))
    count = SAMPLED_ITEMS
    drawn = taus_of(count, "BF16", 2)[0]
    ties = Items(np.full(count, 0.5, np.float32).tobytes(), "F32")
    zeros = Items(bytes(4 * count), "F32")
    ramp = Items(np.arange(count, dtype=np.float32).tobytes(), "F32")
    named = {"drawn": drawn, "ties": ties, "zeros": zeros, "a ramp": ramp}
    for word, tau in named.items():
        for k in (1, 12_345, count - 1):
            yield Case("kth_largest", f"kth_largest {k} of {word}", run(tau, k))
        places = (1, count // 100 + 1, count // 2, count // 2 + 1, count)
        title = f"kth_largest of {word} at {len(places)} places"
        yield Case("kth_largest", title, run(tau, *places))


ROWS: Final = ((1, 999), (7, 6993), (300, 6000), (5003, 5003))
"""Lengths of rows that ranks are found in, and items that are whole rows of them."""


def _ranked() -> Iterator[tuple[str, Tau, Keep]]:
    """Yield task vectors and what stays of them, with titles."""
    for row, count in ROWS:
        tau = taus_of(count, "BF16", 2)[0]
        few = np.rint(numbers(row, count) * 3).astype(np.float32)
        tied = Items(few.tobytes(), "F32")
        for word, keep in rules_of_cases(row).items():
            yield f"{word} in rows of {row}", tau, keep
            yield f"{word} of ties in rows of {row}", tied, keep


def _kept_of() -> Iterator[Case]:
    def run(tau: Tau, keep: Keep, part: range) -> Callable[[Any], bytes]:
        return lambda backend: backend.kept_of(tau, keep, part).tobytes()

    for title, tau, keep in _ranked():
        made = run(tau, keep, range(tau.count))
        yield Case("kept_of", f"kept_of {title}", made)
        made = run(tau, keep, range(tau.count // 3, tau.count - 1))
        yield Case("kept_of", f"kept_of {title}, a part", made)
    for dtype in DTYPES:
        tau = taus_of(2049, dtype, 2)[0]
        for place, keep in enumerate(keeps_of_cases()):
            made = run(tau, keep, range(5, 2049))
            yield Case("kept_of", f"kept_of {dtype} keep {place}", made)


def _settle() -> Iterator[Case]:
    def run(tau: Tau, keep: Keep) -> Callable[[Any], bytes]:
        def settled(backend: Any) -> bytes:
            found = backend.settle(tau, keep)
            part = range(tau.count // 3, tau.count)
            left = backend.kept_of(tau, found.keep, part).tobytes()
            sums = np.array([found.before, found.after]).tobytes()
            return b"".join([found.keep.mask, sums, left])

        return settled

    for title, tau, keep in _ranked():
        if not keep.changes:
            yield Case("settle", f"settle {title}", run(tau, keep))
    for count in (0, 1, 2049, TREE_ITEMS):
        tau = taus_of(count, "BF16", 2)[0]
        for place, keep in enumerate(keeps_of_cases()):
            title = f"settle {count} keep {place}"
            yield Case("settle", title, run(tau, keep))


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
                model(2, count, dtype),
                Difference(stored(3, count, dtype), base, dtype),
                Shifted(tau, base, dtype),
            ]
            made = run(vectors, count, range(1), 1)
            yield Case("inner_products", f"inner_products {dtype} {count}", made)
        mixed: list[Vector] = [*mixed_taus(65, dtype)]
        made = run(mixed, 65, range(1), 1)
        yield Case("inner_products", f"inner_products of every dtype on {dtype}", made)
        rows: list[Vector] = [model(i, 4690, dtype) for i in range(2)]
        made = run(rows, 67, range(3, 70), 0)
        yield Case("inner_products", f"inner_products {dtype} rows", made)


def _magnitude_sum() -> Iterator[Case]:
    def run(tau: Tau, keep: Keep) -> Callable[[Any], bytes]:
        return lambda backend: np.float64(backend.magnitude_sum(tau, keep)).tobytes()

    for dtype in DTYPES:
        for count in (0, 1, 2049, TREE_ITEMS):
            tau = taus_of(count, dtype, 2)[0]
            for place, keep in enumerate(keeps_of_cases()):
                title = f"magnitude_sum {dtype} {count} keep {place}"
                yield Case("magnitude_sum", title, run(tau, keep))


MAKERS: Final = {
    "inspect": _inspect,
    "weighted_sum": _weighted_sum,
    "thinned_sum": _thinned_sum,
    "consensus": _consensus,
    "weighted_median": _weighted_median,
    "kth_largest": _kth_largest,
    "kept_of": _kept_of,
    "settle": _settle,
    "inner_products": _inner_products,
    "magnitude_sum": _magnitude_sum,
}
