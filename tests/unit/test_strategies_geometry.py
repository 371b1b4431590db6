"""Arcs between models, against plain vectors and angles of the standard library."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crdtmerge import numerics
from crdtmerge.digest import ContentId, Domain, digest_value
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.numerics.reference import reading
from crdtmerge.strategies import Inputs, Values, find, geometry, make_recipe, whole_of

UNIT = 10**9
SHAPE = (6, 5, 7)
NEAR = {"F64": 1e-8, "F32": 1e-6, "BF16": 1e-2, "F16": 2e-3}
"""What rounding coefficients to 9 places and items to the dtype may change."""


def far_apart(
    count: int, shape: tuple[int, ...] = SHAPE
) -> tuple[Floats, list[Floats]]:
    """A base, and models in all directions from it."""
    generator = np.random.default_rng([count, *shape])
    made = generator.standard_normal((count + 1, *shape))
    return made[0] / 4, [base / 2 for base in made[1:]]


def task(
    name: str,
    base: Floats | None,
    tunes: list[Floats],
    weights: tuple[int, ...],
    dtype: str = "F64",
    **parameters: str,
) -> Inputs:
    recipe = make_recipe(name, parameters)
    return Inputs(
        tensor="w",
        dtype=dtype,
        items=tunes[0].size,
        base=None if base is None else numerics.downcast(base.reshape(-1), dtype),
        contributions=tuple(numerics.downcast(t.reshape(-1), dtype) for t in tunes),
        contents=tuple(ContentId(bytes([9 - i]) * 32) for i in range(len(tunes))),
        weights=weights,
        seed=b"s" * 32,
        seed_scope="set",
        output_dtype="",
        values=Values(recipe.parameters),
        shape=tunes[0].shape,
    )


def emit(inputs: Inputs, name: str) -> Floats:
    output = whole_of(find(name).emit(inputs))
    found: Floats = numerics.upcast(output, inputs.dtype).reshape(inputs.shape)
    return found


def stored(values: Floats, dtype: str) -> Floats:
    found: Floats = numerics.upcast(
        numerics.downcast(values.reshape(-1), dtype), dtype
    ).reshape(values.shape)
    return found


def arc(a: Floats, b: Floats, t: float, chord_above: float = 1.0) -> Floats:
    """The textbook's formula, summed with full precision."""
    product, left, right = (
        math.fsum((x * y).reshape(-1).tolist()) for x, y in ((a, b), (a, a), (b, b))
    )
    cosine = product / math.sqrt(left) / math.sqrt(right)
    if abs(cosine) > chord_above:
        return (1 - t) * a + t * b
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


def fold(vectors: list[Floats], weights: list[int], chord_above: float = 1.0) -> Floats:
    found, total = vectors[0], weights[0]
    for vector, weight in zip(vectors[1:], weights[1:], strict=True):
        total += weight
        found = arc(found, vector, weight / total, chord_above)
    return found


def order(inputs: Inputs) -> list[int]:
    """The order of digests over seed and content."""
    digests = [digest_value(Domain.ORDER, [inputs.seed, c]) for c in inputs.contents]
    return sorted(range(len(digests)), key=lambda i: digests[i])


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("weights", [(UNIT, UNIT), (3 * UNIT, UNIT), (1, 999)])
def test_slerp_of_two_is_the_textbooks_arc(
    dtype: str, weights: tuple[int, int]
) -> None:
    """The second weight's share is t; the base plays no part."""
    base, tunes = far_apart(2)
    a, b = (stored(tune, dtype) for tune in tunes)
    expected = arc(a, b, weights[1] / sum(weights))
    for ground in (base, None):
        got = emit(task("slerp", ground, tunes, weights, dtype), "slerp")
        assert np.abs(got - expected).max() < NEAR[dtype]


@pytest.mark.parametrize("count", [3, 4, 5])
@pytest.mark.parametrize("name", ["slerp", "nuslerp"])
def test_more_than_two_are_folded_in_the_order_of_digests(
    name: str, count: int
) -> None:
    """Each comes in with its share of the weight so far."""
    base, tunes = far_apart(count)
    weights = tuple((i + 1) * UNIT // 3 for i in range(count))
    inputs = task(name, base, tunes, weights)
    start = base if name == "nuslerp" else np.zeros(SHAPE)
    for seed in range(4):
        inputs = replace(inputs, seed=bytes([seed]) * 32)
        places = order(inputs)
        vectors = [tunes[i] - start for i in places]
        expected = start + fold(vectors, [weights[i] for i in places])
        assert np.abs(emit(inputs, name) - expected).max() < 1e-6
    orders = {tuple(order(replace(inputs, seed=bytes([i]) * 32))) for i in range(20)}
    assert len(orders) > 3


def test_fine_tunes_that_are_near_take_the_chord() -> None:
    """Above a cosine of 0.9995 slerp is the average, exactly; nuslerp still turns."""
    base, tunes = far_apart(2)
    near = [base + tune / 200 for tune in tunes]
    inputs = task("slerp", base, near, (UNIT, UNIT))
    averaged = replace(inputs, values=Values((("normalize", "true"),)))
    mean = whole_of(find("linear").emit(averaged))
    assert whole_of(find("slerp").emit(inputs)) == mean
    turned = task("nuslerp", base, near, (UNIT, UNIT))
    expected = base + arc(near[0] - base, near[1] - base, 0.5)
    assert np.abs(emit(turned, "nuslerp") - expected).max() < 1e-9
    assert np.abs(expected - (near[0] + near[1]) / 2).max() > 1e-4


@pytest.mark.parametrize("name", ["slerp", "nuslerp"])
def test_where_there_is_no_arc_the_chord_is_taken(name: str) -> None:
    """A vector of zeros, the same one, its opposite, and one all but opposite."""
    base = np.zeros(40)
    one = np.linspace(-1, 1, 40)
    off = one + 1e-4 * np.cos(np.arange(40))
    for other in (np.zeros(40), one, -one, -off):
        inputs = task(name, base, [one, other], (UNIT, 3 * UNIT))
        assert np.abs(emit(inputs, name) - (one + 3 * other) / 4).max() < 1e-8


@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize("weights", [(UNIT, UNIT), (UNIT, 4 * UNIT)])
@pytest.mark.parametrize("shape", [SHAPE, (8, 5), (1, 5), (5, 1), (13,), ()])
def test_nuslerp_gives_each_vector_its_angle(
    shape: tuple[int, ...], weights: tuple[int, int], with_base: bool
) -> None:
    """All items, or vectors along the last dimension, or along the first."""
    base, tunes = far_apart(2, shape)
    start = base if with_base else np.zeros(shape)
    a, b = (tune - start for tune in tunes)
    t = weights[1] / sum(weights)

    def along(axis: int) -> Floats:
        if not shape:
            return arc(a, b, t, 1 - 1e-15)
        pairs = [np.moveaxis(x, axis, -1).reshape(-1, shape[axis]) for x in (a, b)]
        rows = [arc(x, y, t, 1 - 1e-15) for x, y in zip(*pairs, strict=True)]
        moved = np.moveaxis(a, axis, -1).shape
        return np.moveaxis(np.array(rows).reshape(moved), -1, axis)

    ways: list[tuple[dict[str, str], Any]] = [
        ({}, arc(a, b, t, 1 - 1e-15)),
        ({"row_wise": "true"}, arc(a, b, t, 1 - 1e-15)),
        ({"flatten": "false"}, along(-1)),
        ({"flatten": "false", "row_wise": "true"}, along(0)),
    ]
    for parameters, expected in ways:
        inputs = task(
            "nuslerp", base if with_base else None, tunes, weights, **parameters
        )
        assert np.abs(emit(inputs, "nuslerp") - (start + expected)).max() < 1e-6


@pytest.mark.parametrize("row_wise", ["true", "false"])
@pytest.mark.parametrize("dtype", NEAR)
def test_a_row_is_a_tensor_of_its_own_on_the_grid_of_the_whole(
    dtype: str, row_wise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, however many rows are worked on at once."""
    base, tunes = far_apart(3, (9, 70))
    base[0, 0] = 30.0  # the exponent of the grid; row 0 has it on both sides
    weights = (UNIT, UNIT // 3, 2 * UNIT)
    inputs = task(
        "nuslerp", base, tunes, weights, dtype, flatten="false", row_wise=row_wise
    )
    whole = emit(inputs, "nuslerp")
    axis = 0 if row_wise == "true" else 1
    lines = [np.moveaxis(x, axis, -1) for x in (base, *tunes)]
    for i in range(lines[0].shape[0]):
        # One item more holds the exponent up, and is the same in all models.
        row, *others = (np.append(line[i], 30.0) for line in lines)
        alone = emit(task("nuslerp", row, others, weights, dtype), "nuslerp")
        assert np.moveaxis(whole, axis, -1)[i].tolist() == alone[:-1].tolist()
    for items in (1, 80, 10**6):
        monkeypatch.setattr(geometry, "BAND_ITEMS", items)
        monkeypatch.setattr(reading, "BLOCK_ITEMS", items)
        assert emit(inputs, "nuslerp").tolist() == whole.tolist()


def test_rows_of_task_vectors_are_turned_too() -> None:
    """A contribution given as its task vector has the same columns."""
    generator = np.random.default_rng(1)
    base = generator.integers(-64, 64, (8, 5)) / 64
    tunes = [base + generator.integers(-64, 64, (8, 5)) / 64 for _ in range(2)]
    inputs = task(
        "nuslerp", base, tunes, (UNIT, UNIT), "F32", flatten="false", row_wise="true"
    )
    taus: tuple[NDArray[np.float32], ...] = tuple(
        (tune - base).astype(np.float32).reshape(-1) for tune in tunes
    )
    given = replace(inputs, contributions=taus)
    assert emit(given, "nuslerp").tolist() == emit(inputs, "nuslerp").tolist()


def test_models_of_the_largest_values_do_not_overflow() -> None:
    """Squares of 2**511 would: cosines are those of scaled vectors."""
    base, tunes = far_apart(2)
    scale = 2.0**510
    inputs = task("slerp", base * scale, [t * scale for t in tunes], (UNIT, UNIT))
    small = task("slerp", base, tunes, (UNIT, UNIT))
    found = emit(inputs, "slerp") / scale
    assert np.abs(found - emit(small, "slerp")).max() < 1e-12


def test_one_contribution_is_itself() -> None:
    """Whatever it weighs, and beside others of weight zero."""
    base, tunes = far_apart(2)
    for name in ("slerp", "nuslerp"):
        inputs = task(name, base, tunes, (0, 7), "F32")
        assert whole_of(find(name).emit(inputs)) == inputs.contributions[1]


def test_a_poisoned_tensor_is_named_before_it_is_turned() -> None:
    """Bytes of another length are refused, not reshaped."""
    base, tunes = far_apart(2, (4, 3))
    inputs = task(
        "nuslerp", base, tunes, (UNIT, UNIT), flatten="false", row_wise="true"
    )
    bad = replace(inputs, contributions=(inputs.contributions[0], b"12345678"))
    with pytest.raises(ContractError, match="contribution 080808080808, tensor 'w'"):
        find("nuslerp").emit(bad)


@pytest.mark.parametrize(("sets", "count"), [(1, 2), (1, 70), (3, 20), (300, 4)])
def test_a_fold_adds_its_terms_one_after_the_other(sets: int, count: int) -> None:
    """However many are made at once, they are summed as the formula names them."""
    rng = np.random.default_rng(count)
    vectors = rng.standard_normal((sets, count, 9))
    matrices = np.einsum("sik,sjk->sij", vectors, vectors)
    weights = [int(w) for w in rng.integers(1, 10**9, count)]
    found = geometry.fold(matrices, weights, geometry._slerp_chord)
    k = count - 1
    ours = geometry.fold(matrices[:, :k, :k], weights[:k], geometry._slerp_chord)
    product, square = np.zeros(sets), np.zeros(sets)
    for i in range(k):
        product = product + ours[:, i] * matrices[:, i, k]
        for j in range(k):
            square = square + ours[:, i] * ours[:, j] * matrices[:, i, j]
    norms = np.sqrt(np.maximum(square, 0.0)) * np.sqrt(matrices[:, k, k])
    total = sum(weights)
    here, there = geometry._blend(
        product,
        norms,
        (total - weights[k]) / total,
        weights[k] / total,
        geometry._slerp_chord,
    )
    assert np.array_equal(found[:, :k], ours * here[:, np.newaxis])
    assert np.array_equal(found[:, k], there)
