"""Small inputs of the kernels that stop halfway: the sums onto planes, and from them.

Owns these cases, in the sizes and with the numbers of `cases`. Does not own any
comparison.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics.cases.making import (
    DTYPES,
    SIZES,
    WEIGHTS,
    Case,
    model,
    parts,
    ranked_voters,
    stored,
    voters_of,
)
from crdtmerge.numerics.reference import accumulating
from crdtmerge.numerics.reference.grid import tau_grid, theta_grid
from crdtmerge.numerics.vectors import Items, Output, Planes, Weighed


def accumulating_cases(kernel: str = "") -> Iterator[Case]:
    """Yield the cases of `*_planes` and `finish_*`, or those of one kernel."""
    for make, names in _MAKERS.items():
        if kernel and kernel not in names:
            continue
        for dtype in DTYPES:
            for count in SIZES:
                for title, output in parts(count, dtype):
                    made = make(title, count, dtype, output)
                    yield from (case for case in made if kernel in {"", case.kernel})


def _case(kernel: str, title: str, run: Callable[[Any], Any]) -> Case:
    def bytes_of(backend: Any) -> bytes:
        return bytes(run(backend))

    return Case(kernel, f"{kernel} {title}", bytes_of)


def _sums(title: str, count: int, dtype: str, output: Output) -> Iterator[Case]:
    grid, part = theta_grid(0, dtype), output.part
    terms = [Weighed(model(i, count, dtype), w) for i, w in enumerate(WEIGHTS)]
    terms.append(Weighed(Items(stored(9, count, "F32", 0.1), "F32"), -77))
    rest, planes = terms[:1], accumulating.sum_planes(terms[1:], grid, part)
    divisor = 3 * DECIMAL_UNIT
    yield _case("sum_planes", title, lambda to: to.sum_planes(terms, grid, part))
    yield _case(
        "finish_sum",
        title,
        lambda to: to.finish_sum(planes, rest, divisor, grid, output),
    )


def _thinned(title: str, count: int, dtype: str, output: Output) -> Iterator[Case]:
    grid, part = tau_grid(0, dtype), output.part
    base, voters = model(1, count, dtype), voters_of(count, dtype)
    planes = accumulating.thinned_planes(voters, grid, part)
    divisor = 2 * DECIMAL_UNIT
    yield _case(
        "thinned_planes", title, lambda to: to.thinned_planes(voters, grid, part)
    )
    if dtype == "BF16" and count == max(SIZES):
        ranked = ranked_voters(count, count, dtype)
        yield _case(
            "thinned_planes",
            f"{title} by rank",
            lambda to: to.thinned_planes(ranked, grid, part),
        )
    yield _case(
        "finish_thinned",
        title,
        lambda to: to.finish_thinned(base, planes, divisor, grid, output),
    )


def _votes(title: str, count: int, dtype: str, output: Output) -> Iterator[Case]:
    grid, part = tau_grid(0, dtype), output.part
    base, voters = model(1, count, dtype), voters_of(count, dtype)
    planes: Planes = accumulating.vote_planes(voters, grid, part)
    yield _case("vote_planes", title, lambda to: to.vote_planes(voters, grid, part))
    if dtype == "BF16" and count == max(SIZES):
        ranked = ranked_voters(count, count, dtype)
        yield _case(
            "vote_planes",
            f"{title} by rank",
            lambda to: to.vote_planes(ranked, grid, part),
        )
    for normalize in (True, False):
        word = "mean" if normalize else "sum"

        def run(backend: Any, normalize: bool = normalize) -> Any:
            return backend.finish_votes(
                base, planes, grid, output, scale=0.7, normalize=normalize
            )

        yield _case("finish_votes", f"{title} {word}", run)


_MAKERS: Final = {
    _sums: ("finish_sum", "sum_planes"),
    _thinned: ("finish_thinned", "thinned_planes"),
    _votes: ("finish_votes", "vote_planes"),
}

ACCUMULATING_KERNELS: Final = tuple(
    sorted(name for names in _MAKERS.values() for name in names)
)
"""The names of these kernels."""
