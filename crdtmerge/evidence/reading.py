"""Evidence as formulas are given it: checked value by value, and scaled to one size.

Owns what values are acceptable, and what becomes of them. Does not own which entries there
are (`entries`), nor where bytes come from.

What is stored is the author's word. Its size is scaled away (`Kind.scaling`), so that a
number a million times larger says no more: a power of two before, so that nothing over- or
underflows and factors of two change no bit; then one division an item. What is all zero
stays so, and weighs nothing. Where size means something (`inputs`, `outputs`), magnitudes
above `LARGEST` are refused.

A Gram matrix must be symmetric, to the bit. That it is positive semi-definite cannot be
seen in rounded numbers: rounding by at most u moves an eigenvalue of a matrix of trace 1 by
at most u. So `SLACK` times the trace is added to the diagonal, and what then has a Cholesky
factor is accepted, and used as it is then: no merge meets a matrix that is not positive
definite. SLACK is 4u of float32, 2**-22; of a matrix stored in F64 it is 2**-36: above
pivots that count as rounding (2**-40), and above what sums of many products lose. A sketch
S stands for S'S, which is positive semi-definite by what it is, and is not moved.

Everything is under the numeric contract: equal bytes give equal arrays.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from crdtmerge.errors import ContractError
from crdtmerge.evidence.entries import Forms, check_forms, check_scalar
from crdtmerge.evidence.kinds import KINDS, SCORE, Kind
from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import (
    Data,
    Floats,
    cholesky,
    largest_magnitude,
    matmul,
    mean,
    sum_of_squares,
    upcast,
)

LARGEST: Final = 2.0**16
"""Of inputs and outputs, whose size counts: layers of trained models stay far below it."""

SLACK: Final[Mapping[str, float]] = {"F32": 2.0**-22, "F64": 2.0**-36}

SCORE_LARGEST: Final = 10.0**9

Read = Callable[[TensorEntry], Data]


def array_of(kind: str, forms: Forms, about: TensorEntry, read: Read) -> Floats | None:
    """Return one kind of evidence for a tensor, normalised; None if there is none.

    The shape is as `Kind.shape` says, of a tensor in `about`'s shape; float64.

    Raises:
        ContractError: it does not fit the tensor, or its values are not acceptable.
    """
    if not forms:
        return None
    check_forms(forms, about)
    found = KINDS[kind]
    if found.shape == "gram":
        whole, sketch = found.forms
        if whole in forms:
            return _gram(whole, forms[whole], _values(forms, whole, about, read))
        return _of_sketch(_values(forms, sketch, about, read))
    if "adam_rows" in forms and "adam" not in forms:
        return _of_sums(forms, about, read)
    return _scaled(found, _values(forms, found.forms[0], about, read), about)


def number_of(name: str, entry: TensorEntry, read: Read) -> float:
    """Return a single number.

    Raises:
        ContractError: it has no meaning or no form, or is not acceptable.
    """
    check_scalar(name, entry)
    found = float(np.frombuffer(read(entry), "<f8")[0])
    if not math.isfinite(found):
        raise ContractError(f"the number {name!r} is not finite")
    if name in {"samples", "step"} and found < 0:
        raise ContractError(f"the number {name!r} is below zero")
    if name.startswith(SCORE) and abs(found) > SCORE_LARGEST:
        raise ContractError(f"the number {name!r} is beyond {SCORE_LARGEST:.0e}")
    return found


def _values(forms: Forms, form: str, about: TensorEntry, read: Read) -> Floats:
    """Return stored values in their shape: finite, and of no sign where they have none."""
    entry = forms[form]
    values = upcast(read(entry), entry.dtype).reshape(entry.shape)
    said = f"evidence {form!r} of tensor {about.name!r}"
    if not np.isfinite(values).all():
        raise ContractError(f"{said} holds NaN or infinity")
    signed = any(kind.signed for kind in KINDS.values() if form in kind.forms)
    if not signed and values.size and values.min() < 0:
        raise ContractError(f"{said} holds a number below zero")
    return values + 0.0  # no -0


def _halved(values: Floats) -> Floats:
    """Return the values times a power of two, the largest magnitude in [1/2, 1)."""
    _, exponent = math.frexp(largest_magnitude(values.reshape(-1)))
    first = exponent // 2
    # SUBTLE: in two steps, since one factor could be beyond float64.
    found: Floats = values * math.ldexp(1.0, -first)
    found *= math.ldexp(1.0, first - exponent)
    return found


def _scaled(kind: Kind, values: Floats, about: TensorEntry) -> Floats:
    if kind.scaling == "none":
        if values.size and largest_magnitude(values.reshape(-1)) > LARGEST:
            message = (
                f"evidence {kind.name!r} of tensor {about.name!r} is beyond {LARGEST:g}"
            )
            raise ContractError(message)
        return values
    if not values.any():
        return values
    values = _halved(values)
    flat = values.reshape(-1)
    size = largest_magnitude(flat) if kind.scaling == "largest" else mean(flat)
    found: Floats = values / size
    return found


def _of_sums(forms: Forms, about: TensorEntry, read: Read) -> Floats:
    """Return rows x columns / total, as Adafactor keeps moments (arXiv:1804.04235)."""
    rows = _values(forms, "adam_rows", about, read)
    columns = _values(forms, "adam_columns", about, read)
    if not rows.any() or not columns.any():
        return np.zeros(about.shape)
    product = np.multiply.outer(_halved(rows), _halved(columns)).reshape(about.shape)
    return _scaled(KINDS["adam"], product, about)


def _gram(form: str, entry: TensorEntry, values: Floats) -> Floats:
    said = f"evidence {form!r} of tensor {entry.name!r}"
    if not np.array_equal(values, values.T):
        message = f"{said} is not symmetric"
        raise ContractError(message, hint="store the mean of it and its transpose")
    if not values.any():
        return values
    values = _halved(values)
    trace = _trace(values)
    if not trace > 0:
        raise ContractError(f"{said} is not positive semi-definite: its trace is 0")
    slack = SLACK[entry.dtype]
    values /= trace
    values[np.diag_indices_from(values)] += slack
    try:
        cholesky(values)
    except ContractError as e:
        message = f"{said} is not positive semi-definite"
        raise ContractError(message, hint="a Gram matrix is X'X") from e
    values /= _trace(values)
    return values


def _of_sketch(sketch: Floats) -> Floats:
    if not sketch.any():
        return np.zeros((sketch.shape[1], sketch.shape[1]))
    sketch = _halved(sketch)
    found = matmul(np.ascontiguousarray(sketch.T), sketch)
    trace = sum_of_squares(sketch.reshape(-1))
    found = (found + found.T) / 2
    found /= trace
    return found


def _trace(values: Floats) -> float:
    diagonal = np.ascontiguousarray(np.diagonal(values))
    return mean(diagonal) * diagonal.size
