"""Tier 1, phase 1: a strategy as a raw binary operation on two tensors, with no set.

Owns the operation and which laws it keeps, within the paper's tolerance. Does not own the
formulas. The operation knows its arguments by their place alone, as in the paper: who is
first and who is second. In a space they are known by their content, and that order is one
for all; what a strategy does here is why that layer is needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId, Domain, digest
from crdtmerge.errors import CrdtMergeError
from crdtmerge.strategies import Inputs, Values, Whole, whole_of

from .catalogue import Choice
from .spaces import SEED

SIDE: Final = 4
TOLERANCE: Final = 1e-5
LAWS: Final = ("commutative", "associative", "idempotent")
DRAWS: Final = ("base", "a", "b", "c")
"""What the seed gives, in this order."""

Floats: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Operation: TypeAlias = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True, slots=True)
class Raw:
    """Which laws one strategy keeps as an operation; None where it takes no two models."""

    choice: Choice
    kept: dict[str, bool] | None
    refused: str = ""

    def facts(self) -> dict[str, object]:
        """Return the row."""
        kept: dict[str, bool | None] = dict.fromkeys(LAWS)
        kept.update(self.kept or {})
        return {
            "strategy": self.choice.name,
            "paper": list(self.choice.papers),
            **kept,
            "all_three": bool(self.kept) and all((self.kept or {}).values()),
            "refused": self.refused,
        }


def drawn() -> dict[str, Floats]:
    """Return the paper's tensors: 4x4, float64, seed 42."""
    rng = np.random.default_rng(SEED)  # noqa: TID251  the paper's generator and seed
    return {name: rng.standard_normal((SIDE, SIDE)) for name in DRAWS}


def laws_of(choice: Choice) -> Raw:
    """Return which laws hold for one strategy."""
    given = drawn()
    base, a, b, c = (given[name] for name in DRAWS)

    def merge(x: Floats, y: Floats) -> Floats:
        return operate(choice, base, (x, y))

    try:
        kept = {
            "commutative": _near(merge(a, b), merge(b, a)),
            "associative": _near(merge(merge(a, b), c), merge(a, merge(b, c))),
            "idempotent": _near(merge(a, a), a),
        }
    except CrdtMergeError as e:
        return Raw(choice, None, str(e))
    return Raw(choice, kept)


def _near(one: Floats, other: Floats) -> bool:
    return bool(np.allclose(one, other, rtol=0.0, atol=TOLERANCE))


def operate(choice: Choice, base: Floats, given: Sequence[Floats]) -> Floats:
    """Return what a strategy makes of tensors, by nothing but their places.

    Raises:
        ContractError: it does not take these.
    """
    strategy, count = choice.strategy, len(given)
    values = Values(choice.recipe(0).parameters)
    own = tuple(_with(values, choice.own(k)) for k in range(1, count + 1))
    inputs = Inputs(
        tensor="weight",
        dtype="F64",
        items=base.size,
        base=base.tobytes(),
        contributions=tuple(x.tobytes() for x in given),
        contents=tuple(_place(k) for k in range(count)),
        weights=(DECIMAL_UNIT,) * count,
        seed=digest(Domain.SEED, b"paper"),
        seed_scope="set",
        output_dtype="",
        values=values,
        own=own,
        shape=base.shape,
    )
    if strategy.map and strategy.reduce and strategy.reduces(values):
        whole = Whole(inputs.contents, inputs.weights, values, own)
        found = strategy.reduce([strategy.map(inputs)], whole)
        inputs = replace(inputs, coefficients=found)
    data = bytes(whole_of(strategy.emit(inputs)))
    return np.frombuffer(data).reshape(base.shape)


def _with(values: Values, own: dict[str, str]) -> Values:
    return Values(tuple(sorted((dict(values.parameters) | own).items())))


def _place(number: int) -> ContentId:
    return ContentId(digest(Domain.CONTENT, number.to_bytes(8, "little")))
