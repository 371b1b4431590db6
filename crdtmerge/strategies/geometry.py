"""slerp and nuslerp: along the arc between models, and not along the chord.

Owns `slerp/1`, `nuslerp/1` and the arc in the space of coefficients. Does not own the
weighted sum (`forms`).

Formula (Shoemake 1985; as merge methods in mergekit): with the angle phi between a and b
and t = w_b / (w_a + w_b), out = (sin((1 - t) phi) a + sin(t phi) b) / sin(phi). slerp
takes whole weights, one angle a tensor, and is (1 - t) a + t b where |cos phi| > 0.9995.
nuslerp takes task vectors, or whole weights where there is no base, and is that where
sin(phi) < 10**-8; with `flatten=false` each vector along the last dimension has its own
angle, with `row_wise` those along the first (so mergekit's word means the columns).

Ours: there is no t, weights say it ([ADR 8]). More than two are folded, the k-th taken in
with t = w_k / (w_1 + ... + w_k), in the order of digest(tensor's seed, content id), which
no author chooses. A vector of zeros has no angle, and one that is opposite within 1/256
no arc that is sure: there the chord is taken. Everything happens on the matrix of inner
products (sums along the tree) and on coefficients, in float64 with the contract's sine
and arc cosine; these are rounded half-even to 9 places. Exact: the sum that they then
weigh, on the grid.

[ADR 8]: docs/adr/0008-slerp-without-t.md
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import (
    ITEM_BYTES,
    Data,
    Floats,
    Items,
    acos,
    inner_products,
    sin,
    sums_in_order,
    theta_grid,
    weighted_sum,
)
from crdtmerge.strategies.base import (
    FALSE,
    TRUE,
    Given,
    Inputs,
    Made,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Values,
    Weights,
    never,
    part_by_part,
    whole_of,
)
from crdtmerge.strategies.forms import terms_of
from crdtmerge.strategies.tensors import (
    Term,
    in_drawn_order,
    output_of,
    participants,
    refuse_negative,
    refuse_zero,
    tau_of,
    theta_of,
)

SLERP_COSINE_MAX: Final = 0.9995
NUSLERP_SINE_MIN: Final = 1e-8
OPPOSITE_SINE: Final = 1 / 256
"""An obtuse angle of a smaller sine is taken for opposite: its coefficients explode."""

BAND_ITEMS: Final = 1 << 20
"""Items of many short vectors measured at once; no output bit depends on it."""

FOLD_ITEMS: Final = 1 << 16
"""Terms of squared norms that are made at once; no output bit depends on it."""

IsChord: TypeAlias = Callable[[Floats, Floats], NDArray[np.bool_]]
"""Tells by cosine and sine of an angle where the chord is taken for the arc."""


def _slerp_chord(cosine: Floats, _sine: Floats) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.abs(cosine) > SLERP_COSINE_MAX
    return found


def _nuslerp_chord(cosine: Floats, sine: Floats) -> NDArray[np.bool_]:
    least = np.where(cosine < 0, OPPOSITE_SINE, NUSLERP_SINE_MIN)
    found: NDArray[np.bool_] = sine < least
    return found


@dataclass(frozen=True, slots=True)
class _Arc:
    """One tensor of checked contributions, in the order in which they are folded.

    It is `count` vectors of `length` items each; `on_tau` tells what they are made of.
    """

    inputs: Inputs
    exponent: int
    terms: tuple[Term, ...]
    length: int
    count: int
    on_tau: bool
    is_chord: IsChord

    def emit(self) -> Made:
        """Return the output tensor."""
        if not self.inputs.items:
            return b""  # a plan tries this for each setting: no matrix of nothing
        if self.count == 1:
            (weights,) = self._coefficients(range(1))
            return Parts(self.inputs.items, partial(self._merged, weights))
        return b"".join(
            self._merged(weights, range(row * self.length, (row + 1) * self.length))
            for band in self._bands()
            for row, weights in zip(band, self._coefficients(band), strict=True)
        )

    def _bands(self) -> Iterator[range]:
        step = max(1, BAND_ITEMS // max(1, self.length))
        for start in range(0, self.count, step):
            yield range(start, min(start + step, self.count))

    def _merged(self, weights: Weights, items: range) -> Data:
        """Return some items of the tensors, weighed by coefficients."""
        terms = [replace(t, weight=w) for t, w in zip(self.terms, weights, strict=True)]
        rest = DECIMAL_UNIT - sum(weights) if self.on_tau else 0
        weighed = terms_of(self.inputs, terms, rest)
        grid = theta_grid(self.exponent, self.inputs.dtype)
        return weighted_sum(weighed, DECIMAL_UNIT, grid, output_of(self.inputs, items))

    def _coefficients(self, band: range) -> list[tuple[int, ...]]:
        """Return the coefficients of each vector of `band`, in units.

        SUBTLE: scaled by a power of two, which changes no cosine, so that no product of
        an F64 tensor overflows.
        """
        of = tau_of if self.on_tau else theta_of
        vectors = [of(self.inputs, term) for term in self.terms]
        matrices = inner_products(vectors, self.length, band, self.exponent)
        found = fold(matrices, [term.weight for term in self.terms], self.is_chord)
        return [
            tuple(round(Fraction(c) * DECIMAL_UNIT) for c in row)
            for row in found.tolist()
        ]


def fold(matrices: Floats, weights: Weights, is_chord: IsChord) -> Floats:
    """Return the coefficients, (sets, n), that folding along arcs gives each vector.

    `matrices` are inner products, (sets, n, n), in the order of the fold.
    """
    found = np.zeros(matrices.shape[:2])
    found[:, 0] = 1.0
    total = weights[0]
    for k in range(1, len(weights)):
        before, total = total, total + weights[k]
        ours = found[:, :k]
        product = sums_in_order(ours * matrices[:, :k, k], np.zeros(len(matrices)))
        square = _square(ours, matrices[:, :k, :k])
        norms = np.sqrt(np.maximum(square, 0.0)) * np.sqrt(matrices[:, k, k])
        here, there = _blend(
            product, norms, before / total, weights[k] / total, is_chord
        )
        found[:, :k] = found[:, :k] * here[:, np.newaxis]
        found[:, k] = there
    return found


def _square(coefficients: Floats, matrices: Floats) -> Floats:
    """Return the squared norms of combinations, term by term, row after row."""
    sets, count = coefficients.shape
    rows = max(1, FOLD_ITEMS // (sets * count))
    found = np.zeros(sets)
    for start in range(0, count, rows):
        band = coefficients[:, start : start + rows, np.newaxis]
        terms = band * coefficients[:, np.newaxis] * matrices[:, start : start + rows]
        found = sums_in_order(terms.reshape(sets, -1), found)
    return found


def _blend(
    product: Floats, norms: Floats, s: float, t: float, is_chord: IsChord
) -> tuple[Floats, Floats]:
    """Return the coefficients of a and b, s + t = 1."""
    has_angle = norms > 0
    cosine = np.where(has_angle, product, 0.0) / np.where(has_angle, norms, 1.0)
    cosine = np.minimum(np.maximum(cosine, -1.0), 1.0)
    angle = acos(cosine)
    sine = sin(angle)
    chord = ~has_angle | is_chord(cosine, sine)
    divisor = np.where(chord, 1.0, sine)
    here, there = sin(s * angle) / divisor, sin(t * angle) / divisor
    return np.where(chord, s, here), np.where(chord, t, there)


def _arc(
    inputs: Inputs, strategy: str, length: int, is_chord: IsChord, *, on_tau: bool
) -> _Arc:
    """Check the inputs, and see them as vectors of `length` items.

    Raises:
        ContractError: an input breaks the contract, or a weight is negative.
    """
    refuse_negative(inputs.weights, strategy, inputs.tensor)
    exponent, terms = participants(inputs, inputs.weights)
    refuse_zero(terms, inputs.tensor)
    count = inputs.items // length if length else 1
    ordered = in_drawn_order(inputs, terms)
    return _Arc(inputs, exponent, ordered, length, count, on_tau, is_chord)


def _emit_slerp(inputs: Inputs) -> Made:
    return _arc(inputs, "slerp", inputs.items, _slerp_chord, on_tau=False).emit()


def _emit_nuslerp(inputs: Inputs) -> Made:
    on_tau, shape = inputs.base is not None, inputs.shape
    if inputs.values.flag("flatten") or len(shape) < 2 or not inputs.items:
        length = inputs.items
    else:
        length = shape[0] if inputs.values.flag("row_wise") else shape[-1]
    arc = _arc(inputs, "nuslerp", length, _nuslerp_chord, on_tau=on_tau)
    if arc.count == 1 or not inputs.values.flag("row_wise"):
        return arc.emit()
    made = whole_of(_turned(inputs, arc, length).emit())
    size = ITEM_BYTES[inputs.output_dtype or inputs.dtype]
    return _transposed(np.frombuffer(made, f"<u{size}"), arc.count).tobytes()


def _turned(inputs: Inputs, arc: _Arc, rows: int) -> _Arc:
    """Return the same with tensors transposed: vectors along the first dimension."""

    def turn(given: Given) -> Given:
        if isinstance(given, np.ndarray):
            return _transposed(given, rows)
        if isinstance(given, Items):
            return replace(given, data=turn_bytes(given.data, given.dtype))
        return turn_bytes(given, inputs.dtype)

    def turn_bytes(data: Data, dtype: str) -> bytes:
        items = np.frombuffer(data, f"<u{ITEM_BYTES[dtype]}")
        return _transposed(items, rows).tobytes()

    terms = tuple(replace(term, data=turn(term.data)) for term in arc.terms)
    base = None if inputs.base is None else turn_bytes(inputs.base, inputs.dtype)
    return replace(arc, inputs=replace(inputs, base=base), terms=terms)


def _transposed(flat: NDArray[Any], rows: int) -> NDArray[Any]:
    """Return a flat matrix of `rows` rows, column after column."""
    return np.ascontiguousarray(flat.reshape(rows, -1).T).reshape(-1)


SLERP = Strategy(
    name="slerp",
    version=1,
    summary="Along the arc between models; weights say how far",
    paper="Shoemake 1985, https://doi.org/10.1145/325165.325242",
    needs_base=False,
    shifts=never,
    order_dependent=True,
    memory=Memory(shared=14, each=8),
    held=part_by_part,
    emit=_emit_slerp,
)


def _held(values: Values) -> Memory | None:
    """Keep rows until they are joined, columns with all tensors transposed."""
    if values.flag("flatten"):
        return Memory()
    return None if values.flag("row_wise") else Memory(shared=16)


NUSLERP = Strategy(
    name="nuslerp",
    version=1,
    summary="Along the arc between task vectors (without a base: between models)",
    paper="Shoemake 1985, https://doi.org/10.1145/325165.325242",
    parameters=(
        Parameter(
            "flatten",
            "flag",
            TRUE,
            TRUE,
            "one angle a tensor; mergekit: nuslerp_flatten",
        ),
        Parameter(
            "row_wise",
            "flag",
            FALSE,
            FALSE,
            "else angles of vectors along the first dimension, not the last;"
            " mergekit: nuslerp_row_wise",
        ),
    ),
    needs_base=False,
    prefers_base=True,
    order_dependent=True,
    memory=Memory(shared=20, each=16),
    held=_held,
    emit=_emit_nuslerp,
)
