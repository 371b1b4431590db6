"""Exact selection by magnitude, on integer bit patterns.

Owns thresholds and what they keep. Does not own why a strategy trims. The tie rule: all
items at the threshold are kept, so the outcome does not depend on any order of indices.
The bits of a float32 without the sign order as the magnitudes do, and -0 equals +0.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import ContractError
from crdtmerge.numerics.reference.dtypes import Singles

_MAGNITUDE: Final = np.uint32(0x7FFF_FFFF)


def keep_count(items: int, density_units: int) -> int:
    """Return ceil(density * items), exactly; the density is in units of 10**-9."""
    return -(-density_units * items // DECIMAL_UNIT)


def kth_magnitude(tau: Singles, k: int) -> float:
    """Return the k-th largest magnitude of `tau`, counted from 1.

    Raises:
        ContractError: `tau` has no k-th item.
    """
    check_place(k, tau.size)
    place = tau.size - k
    bits = tau.view(np.uint32) & _MAGNITUDE
    bits.partition(place)  # the value at a place is unique, whatever the algorithm
    return float(bits[place : place + 1].view(np.float32)[0])


def check_place(k: int, items: int) -> None:
    """Refuse a place that so many items do not have.

    Raises:
        ContractError: k is not 1 to `items`.
    """
    if not 1 <= k <= items:
        message = f"there is no {k}-th largest of {items} items"
        raise ContractError(message)


def threshold(tau: Singles, k: int) -> float:
    """Return the magnitude from which items are kept; infinity if k is 0."""
    return kth_magnitude(tau, k) if k else float("inf")


def at_least(tau: Singles, magnitude: float) -> NDArray[np.bool_]:
    """Tell which items have this magnitude or more; both sides are exact float32."""
    kept: NDArray[np.bool_] = np.abs(tau) >= np.float32(magnitude)
    return kept


def keep_top(tau: Singles, k: int) -> Singles:
    """Return `tau` with all but its k largest magnitudes set to +0, ties kept.

    Raises:
        ContractError: k is negative or above the number of items.
    """
    return np.where(at_least(tau, threshold(tau, k)), tau, np.float32(0))
