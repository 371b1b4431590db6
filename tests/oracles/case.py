"""One tensor's merge as oracles see it: plain float64 arrays, weights, settings.

Owns what all oracles read. Shares no code with the library, and owns no formula.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]


class Scored(NamedTuple):
    """What one author says of one model: a metric on some data."""

    content: bytes
    metric: str
    data: str
    value: float
    author: bytes


@dataclass(frozen=True)
class Case:
    """Base and models in their shape, (n, ...); weights as numbers, not units.

    `own` has each model's settings, complete. `strategy`, `tensor`, `seed` and `contents`
    are what draws hang on; `layer` is (number, how many). `evidence` and `scalars` are what
    each model attaches, normalised; `scores` what members say of it.
    """

    base: Floats
    thetas: Floats
    weights: Floats
    settings: Mapping[str, str]
    own: Sequence[Mapping[str, str]]
    contents: Sequence[bytes]
    strategy: str
    tensor: str
    seed: bytes
    layer: tuple[int, int] | None = None
    evidence: Sequence[Mapping[str, Floats]] = ()
    scalars: Sequence[Mapping[str, float]] = ()
    scores: Sequence[Scored] = ()

    @property
    def count(self) -> int:
        """How many models."""
        return len(self.thetas)

    @property
    def taus(self) -> Floats:
        """Task vectors: differences in single precision, as the contract has them."""
        return (self.thetas - self.base).astype(np.float32).astype(np.float64)

    @property
    def shares(self) -> Floats:
        """Weights whose sum is 1."""
        shares: Floats = self.weights / self.weights.sum()
        return shares

    def real(self, name: str) -> float:
        """A setting that is a number."""
        return float(self.settings[name])

    def flag(self, name: str) -> bool:
        """A setting that is true or false."""
        return self.settings[name] == "true"

    def reals(self, name: str) -> list[float]:
        """Each model's own setting."""
        return [float(own[name]) for own in self.own]

    def mean(self, rows: Floats) -> Floats:
        """The average by weight of one array a model."""
        return weighed(self.shares, rows)


def weighed(coefficients: Floats, rows: Floats) -> Floats:
    """The sum of coefficients times arrays."""
    return np.tensordot(np.asarray(coefficients), rows, axes=1)


def lengths(rows: Floats) -> Floats:
    """The Euclidean length of each model's array."""
    flat = rows.reshape(len(rows), -1)
    found: Floats = np.sqrt((flat * flat).sum(axis=1))
    return found


def products(rows: Floats) -> Floats:
    """The matrix of inner products of all pairs."""
    flat = rows.reshape(len(rows), -1)
    found: Floats = flat @ flat.T
    return found


def elected(coefficients: Floats, rows: Floats) -> Floats:
    """The sign of the weighed sum, 1 or -1; what cancels out but for rounding is +."""
    total, size = weighed(coefficients, rows), weighed(abs(coefficients), abs(rows))
    return np.where(total >= -1e-12 * size, 1.0, -1.0)
