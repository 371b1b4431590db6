"""Evidence as formulas get it: what values are refused, and what scaling leaves of them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from crdtmerge.digest import blob_id_of
from crdtmerge.errors import ContractError
from crdtmerge.evidence.kinds import KINDS
from crdtmerge.evidence.reading import LARGEST, SLACK, array_of, number_of
from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import Data, Floats, downcast

WIDE: dict[str, np.dtype[Any]] = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4")}


def read(
    kind: str,
    forms: Mapping[str, Any],
    shape: tuple[int, ...] = (3, 4),
    dtype: str = "F64",
) -> Floats:
    """Return what formulas get of stored arrays, for a tensor of this shape."""
    entries: dict[str, TensorEntry] = {}
    held: dict[bytes, bytes] = {}
    for form, values in forms.items():
        array = np.asarray(values, np.float64)
        flat = np.ascontiguousarray(array).reshape(-1)
        data = bytes(downcast(flat, dtype)) if dtype not in WIDE else b""
        data = data or array.astype(WIDE.get(dtype, WIDE["F64"])).tobytes()
        entries[form] = TensorEntry("w", dtype, array.shape, blob_id_of(data))
        held[entries[form].blob] = data

    def bytes_of(entry: TensorEntry) -> Data:
        return held[entry.blob]

    about = TensorEntry("w", "F32", shape, blob_id_of(b"w"))
    found = array_of(kind, entries, about, bytes_of)
    assert found is not None
    return found


def refused(kind: str, forms: Mapping[str, Any], words: str, **more: Any) -> None:
    """Expect a refusal that names the form, the tensor, and what is wrong."""
    with pytest.raises(ContractError, match=words) as caught:
        read(kind, forms, **more)
    assert "'w'" in str(caught.value)
    assert any(repr(form) in str(caught.value) for form in (*forms, kind))


def drawn(*shape: int) -> Floats:
    """Return normal numbers."""
    return np.random.default_rng([*shape]).standard_normal(shape)


def gram_of(rows: Floats) -> Floats:
    """Return X'X, symmetric to the bit."""
    found = rows.T @ rows
    made: Floats = (found + found.T) / 2
    return made


ITEMS = sorted(k.name for k in KINDS.values() if k.scaling == "mean")
SHAPES: dict[str, tuple[int, ...]] = {"items": (3, 4), "columns": (4,), "rows": (3,)}


def stored(kind: str) -> Floats:
    """Return numbers that a kind may have, for a tensor of (3, 4)."""
    if KINDS[kind].shape == "gram":
        return gram_of(drawn(9, 4))
    values = drawn(*SHAPES[KINDS[kind].shape])
    return values if KINDS[kind].signed else values**2


# --- sizes -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ITEMS)
def test_the_mean_of_the_items_is_one(kind: str) -> None:
    """Whatever the author's unit is."""
    values = stored(kind)
    np.testing.assert_allclose(
        read(kind, {kind: values}), values / values.mean(), rtol=1e-14
    )


def test_the_largest_magnitude_is_one() -> None:
    """So that thresholds of a strategy mean something."""
    found = read("magnitude", {"magnitude": [1.0, 4.0, 2.0, 0.0]})
    assert found.tolist() == [0.25, 1.0, 0.5, 0.0]


def test_the_trace_of_a_gram_matrix_is_one() -> None:
    """And but for the slack it is the author's."""
    values = gram_of(drawn(9, 4))
    found = read("gram", {"gram": values})
    assert abs(np.trace(found) - 1.0) < 1e-15
    np.testing.assert_allclose(found, values / np.trace(values), atol=1e-10)


@pytest.mark.parametrize(
    "kind", sorted(k.name for k in KINDS.values() if k.scaling != "none")
)
@pytest.mark.parametrize("power", [-900, -1, 1, 40, 900])
def test_powers_of_two_change_no_bit(kind: str, power: int) -> None:
    """From the smallest numbers to the largest, over- and underflow included."""
    values = stored(kind)
    factor = math.ldexp(1.0, power)
    plain, scaled = read(kind, {kind: values}), read(kind, {kind: values * factor})
    assert plain.tobytes() == scaled.tobytes()


@pytest.mark.parametrize(
    "kind", sorted(k.name for k in KINDS.values() if k.scaling != "none")
)
def test_a_million_times_as_much_says_no_more(kind: str) -> None:
    """But for the rounding of the author's own numbers."""
    values = stored(kind)
    found = read(kind, {kind: values * 10.0**6})
    np.testing.assert_allclose(found, read(kind, {kind: values}), rtol=1e-14)


@pytest.mark.parametrize("power", [-1060, 1015])
def test_numbers_at_the_ends_of_float64_are_finite(power: int) -> None:
    """Sums of them would not be."""
    values = np.full((3, 4), math.ldexp(1.0, power))
    assert read("fisher", {"fisher": values}).tolist() == [[1.0] * 4] * 3


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_means_keep_their_size_within_bounds(kind: str) -> None:
    """Their size means something, so that a large one is refused."""
    values = drawn(*SHAPES[KINDS[kind].shape])
    assert read(kind, {kind: values}).tobytes() == values.tobytes()
    values[1] = -LARGEST
    assert read(kind, {kind: values})[1] == -LARGEST
    values[1] = -LARGEST * 1.001
    refused(kind, {kind: values}, "beyond 65536")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_zeros_stay_zeros(kind: str) -> None:
    """Who attaches nothing but zeros weighs nothing."""
    assert not read(kind, {kind: stored(kind) * 0.0}).any()


def test_no_zero_is_negative() -> None:
    """A sign that no number has would change bits."""
    found = read("inputs", {"inputs": [-0.0, 1.0, -0.0, 0.0]})
    assert not np.signbit(found).any()


@pytest.mark.parametrize("dtype", ["F64", "F32", "BF16", "F16"])
def test_dtypes_say_the_same(dtype: str) -> None:
    """Of numbers that all of them have."""
    values = np.arange(12.0).reshape(3, 4)
    found = read("fisher", {"fisher": values}, dtype=dtype)
    assert found.tobytes() == read("fisher", {"fisher": values}).tobytes()


def test_single_items_and_vectors_have_importances() -> None:
    """A tensor without dimensions too."""
    assert float(read("fisher", {"fisher": 7.0}, shape=())) == 1.0
    assert read("fisher", {"fisher": [1.0, 3.0]}, shape=(2,)).tolist() == [0.5, 1.5]


def test_nothing_stored_is_nothing() -> None:
    """And not zeros."""
    about = TensorEntry("w", "F32", (3, 4), blob_id_of(b"w"))
    assert array_of("fisher", {}, about, lambda _entry: b"") is None


# --- values that are refused -------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(kind: str, bad: float) -> None:
    """Anywhere."""
    values = stored(kind)
    values.reshape(-1)[-1] = bad
    refused(kind, {kind: values}, "NaN or infinity")


@pytest.mark.parametrize("kind", sorted(k.name for k in KINDS.values() if not k.signed))
def test_negative_importances_are_refused(kind: str) -> None:
    """The smallest one too."""
    values = stored(kind)
    values.reshape(-1)[-1] = -5e-324
    refused(kind, {kind: values}, "below zero")


@pytest.mark.parametrize("form", ["adam_columns", "adam_rows"])
def test_negative_sums_are_refused(form: str) -> None:
    """Of rows and of columns."""
    sums = {"adam_rows": [1.0, 1.0, 1.0], "adam_columns": [1.0, 1.0, 1.0, 1.0]}
    sums[form][0] = -1.0
    refused("adam", sums, "below zero")


def test_another_layers_shape_is_refused_when_it_is_read() -> None:
    """Not only from authors who ask before they sign."""
    refused("fisher", {"fisher": drawn(4, 3) ** 2}, "belongs")


# --- Gram matrices -----------------------------------------------------------------------


def test_a_gram_matrix_is_symmetric_to_the_bit() -> None:
    """One unit in the last place is too much."""
    values = gram_of(drawn(9, 4))
    values[0, 3] = np.nextafter(values[0, 3], math.inf)
    refused("gram", {"gram": values}, "not symmetric")


@pytest.mark.parametrize("dtype", ["F64", "F32"])
@pytest.mark.parametrize(("samples", "columns"), [(1, 6), (3, 40), (20, 300)])
def test_fewer_samples_than_columns_are_no_fault(
    dtype: str, samples: int, columns: int
) -> None:
    """Rounded, such a matrix may have eigenvalues a little below zero."""
    values = gram_of(drawn(samples, columns) + 3.0)
    found = read("gram", {"gram": values}, shape=(2, columns), dtype=dtype)
    np.testing.assert_allclose(found, values / np.trace(values), atol=1e-6)
    np.linalg.cholesky(found)


@pytest.mark.parametrize("dtype", ["F64", "F32"])
def test_an_eigenvalue_below_the_slack_is_refused(dtype: str) -> None:
    """And one that rounding explains is not: what is used then is positive definite."""
    slack = SLACK[dtype]
    for below, fine in ((slack / 4, True), (slack * 4, False)):
        values = np.diag([1.0, 1.0, 1.0, -3 * below])
        if fine:
            found = read("gram", {"gram": values}, dtype=dtype)
            assert found[3, 3] > 0
        else:
            refused("gram", {"gram": values}, "semi-definite", dtype=dtype)


@pytest.mark.parametrize(
    "values",
    [
        [[1.0, 2.0], [2.0, 1.0]],
        [[0.0, 1.0], [1.0, 0.0]],
        [[-1.0, 0.0], [0.0, -1.0]],
        [[1.0, 0.0], [0.0, -1.0]],
        [[1e-300, 1e300], [1e300, 1e-300]],
    ],
)
def test_what_is_no_gram_matrix_is_refused(values: list[list[float]]) -> None:
    """Indefinite, negative, of no trace."""
    refused("gram", {"gram": values}, "semi-definite", shape=(3, 2))


def test_a_sketch_is_the_gram_matrix_that_it_stands_for() -> None:
    """S'S over its trace, symmetric to the bit, whatever the size of S."""
    sketch = drawn(2, 4)
    found = read("gram", {"gram_sketch": sketch})
    whole = sketch.T @ sketch
    np.testing.assert_allclose(found, whole / np.trace(whole), atol=1e-15)
    assert np.array_equal(found, found.T)
    again = read("gram", {"gram_sketch": sketch * 2.0**600})
    assert again.tobytes() == found.tobytes()
    assert not read("gram", {"gram_sketch": sketch * 0.0}).any()


# --- moments as sums ---------------------------------------------------------------------


def test_sums_of_rows_and_columns_stand_for_all_items() -> None:
    """Exact where the moments are an outer product; the mean is 1."""
    rows, columns = drawn(3) ** 2, drawn(4) ** 2
    whole = np.multiply.outer(rows, columns)
    sums = {"adam_rows": whole.sum(axis=1), "adam_columns": whole.sum(axis=0)}
    found = read("adam", sums)
    np.testing.assert_allclose(found, whole / whole.mean(), rtol=1e-14)
    scaled = {form: values * 2.0**-700 for form, values in sums.items()}
    assert read("adam", scaled).tobytes() == found.tobytes()


def test_sums_of_a_convolution_stand_for_its_shape() -> None:
    """Columns are all dimensions but the first."""
    sums = {"adam_rows": [1.0, 3.0], "adam_columns": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
    found = read("adam", sums, shape=(2, 2, 3))
    assert found.shape == (2, 2, 3)
    np.testing.assert_allclose(found[1], 3 * found[0], rtol=1e-15)
    assert not read("adam", {**sums, "adam_rows": [0.0, 0.0]}, shape=(2, 2, 3)).any()


def test_one_thing_in_two_forms_is_refused() -> None:
    """One of them would count, and what the other says be checked by nobody."""
    sums = {"adam_rows": [1.0, 1.0, 1.0], "adam_columns": [1.0, 1.0, 1.0, 1.0]}
    refused("adam", {**sums, "adam": drawn(3, 4) ** 2}, "one thing")
    rows = drawn(9, 4)
    refused("gram", {"gram": gram_of(rows), "gram_sketch": rows[:3]}, "one thing")


# --- numbers -----------------------------------------------------------------------------


def number(name: str, value: float) -> float:
    """Return what formulas get of a stored number."""
    data = np.array(value, "<f8").tobytes()
    return number_of(
        name, TensorEntry(name, "F64", (), blob_id_of(data)), lambda _: data
    )


def test_numbers_are_read_as_they_are() -> None:
    """A loss may be negative, a score too."""
    assert number("loss", -0.125) == -0.125
    assert number("score:math", -1e9) == -1e9
    assert number("step", 0.0) == 0.0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("loss", math.nan, "not finite"),
        ("loss", math.inf, "not finite"),
        ("samples", -1.0, "below zero"),
        ("step", -1.0, "below zero"),
        ("score:math", 1.1e9, "beyond"),
        ("score:math", -1.1e9, "beyond"),
        ("accuracy", 1.0, "means nothing"),
    ],
)
def test_numbers_that_are_refused(name: str, value: float, words: str) -> None:
    """Each names which."""
    with pytest.raises(ContractError, match=words) as caught:
        number(name, value)
    assert repr(name) in str(caught.value)
