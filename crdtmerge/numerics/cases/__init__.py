"""Small inputs of every kernel, made of nothing but hashes.

Owns the cases on which backends are found equal at start-up, and whose digests are
golden (`tests/vectors/kernels.json`). Does not own any comparison. A case calls a kernel
of the module that it is given, straight: no check, no choice of backend.
"""

from collections.abc import Iterator
from typing import Final

from crdtmerge.numerics.cases.elements import ARRAY_KERNELS, element_cases
from crdtmerge.numerics.cases.making import Case
from crdtmerge.numerics.cases.planes import ACCUMULATING_KERNELS, accumulating_cases
from crdtmerge.numerics.cases.vectors import MAKERS

__all__ = ["KERNELS", "Case", "cases", "cases_of"]

KERNELS: Final = (*MAKERS, *ACCUMULATING_KERNELS, *ARRAY_KERNELS)
"""The names of all kernels."""


def cases() -> Iterator[Case]:
    """Yield every case of every kernel."""
    for kernel in KERNELS:
        yield from cases_of(kernel)


def cases_of(kernel: str) -> Iterator[Case]:
    """Yield the cases of one kernel."""
    if kernel in MAKERS:
        yield from MAKERS[kernel]()
    yield from accumulating_cases(kernel)
    yield from (Case(*parts) for parts in element_cases(kernel))
