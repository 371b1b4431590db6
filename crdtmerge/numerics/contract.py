"""The constants of the numeric contract, and the checks of its limits.

Owns every number that can change an output bit and the refusals that keep sums inside
them; docs/adr/0004-numeric-contract.md says why each has its value. Does not own the
arithmetic. Changing a constant here is a new `CONTRACT_VERSION`.
"""

from collections.abc import Iterable
from typing import Final

from crdtmerge.errors import ContractError

CONTRACT_VERSION: Final = 2

HEADROOM_BITS: Final = 6
"""A contribution's values stay below 2**(E + 6), where E is the base's exponent."""

WEIGHT_BITS: Final = 40
"""The sum of |W| of one weighted sum stays below 2**40 units: 1,099 unit weights."""

SUM_BITS: Final = 51
"""A sum on the grid spans at most 2**51 steps, so that float64 adds it exactly."""

LIMB_BITS: Final = 34
"""The second limb's step is 2**34 times finer than the first's."""

TERMS_MAX: Final = 1 << 16
"""Products that one sum may hold, so that the second limb stays exact too."""

EXPONENT_MIN: Final = 0
"""The floor of E: tensors below 1 share the grid of tensors just below 1."""

EXPONENT_MAX: Final = 512
"""The ceiling of E, so that no intermediate of an F64 tensor overflows."""


def check_weights(weights: Iterable[int], name: str = "") -> None:
    """Refuse weights (in units of 10**-9) whose sum of magnitudes leaves the contract.

    Raises:
        ContractError: sum|W| is not below 2**`WEIGHT_BITS`.
    """
    total = sum(abs(weight) for weight in weights)
    if total >= 1 << WEIGHT_BITS:
        message = (
            f"{prefix(name)}the sum of |weights| is {total} units of 10^-9,"
            f" not below 2^{WEIGHT_BITS}"
        )
        hint = "use smaller weights: only their ratios count in a normalised merge"
        raise ContractError(message, hint=hint)


def prefix(name: str) -> str:
    """Return how a message about the thing called `name` begins."""
    return f"{name}: " if name else ""
