"""Evidence as strategies are given it: made up, checked and normalised as the real one is.

Owns made-up evidence for one tensor, as strategies see it and as manifests store it, and
made-up numbers. Does not own how real evidence is read (`crdtmerge.evidence`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from crdtmerge.digest import BlobId, ContentId
from crdtmerge.evidence.entries import FORMS, LINEAR_FORMS
from crdtmerge.evidence.kinds import KINDS, SCALAR
from crdtmerge.manifest import EvidenceEntry, TensorEntry
from crdtmerge.numerics import Floats, downcast
from crdtmerge.recipe import Recipe
from crdtmerge.strategies import (
    Evidence,
    Scalars,
    Score,
    Strategy,
    Values,
    check_recipe,
    evidence_of,
)

SKETCHED = 5
"""Rows of the sketches that stand for Gram matrices in manifests."""


def attached(
    strategy: Strategy, values: Values, shape: tuple[int, ...], count: int
) -> tuple[Evidence, ...]:
    """What each of `count` contributions attaches for a tensor of this shape."""
    kinds = strategy.evidence(values)
    if not kinds or not math.prod(shape):
        return ()
    return tuple(
        {kind: made(kind, shape, place) for kind in kinds if _fits(kind, shape)}
        for place in range(count)
    )


def _fits(kind: str, shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 or not KINDS[kind].linear


def made(kind: str, shape: tuple[int, ...], place: int) -> Floats:
    """Return one normalised array of a kind; another for each place."""
    rng = np.random.default_rng([place, *kind.encode(), *shape])
    rows, columns = (shape[0] if shape else 1), math.prod(shape[1:])
    form = KINDS[kind].shape
    if form == "gram":
        factor = rng.standard_normal((columns + 3, columns))
        gram = factor.T @ factor
        return _scaled(kind, (gram + gram.T) / 2)
    size = {"items": shape, "columns": (columns,), "rows": (rows,)}[form]
    drawn = rng.standard_normal(size)
    found: Floats = np.asarray(drawn if KINDS[kind].signed else drawn**2)
    return _scaled(kind, found)


def _scaled(kind: str, array: Floats) -> Floats:
    sizes: dict[str, Callable[[Floats], Any]] = {
        "mean": np.mean,
        "trace": np.trace,
        "largest": np.max,
        "none": lambda _array: 1.0,
    }
    found: Floats = array / sizes[KINDS[kind].scaling](array)
    return found


def numbers(
    strategy: Strategy, values: Values, contents: Sequence[bytes]
) -> tuple[Scalars, ...]:
    """What each contribution attaches as numbers, by the first byte of its name."""
    if not strategy.scalars(values):
        return ()
    return tuple(numbers_of(content[0]) for content in contents)


def numbers_of(place: int) -> dict[str, float]:
    """What one contribution attaches as numbers."""
    return {
        "loss": 0.5 + 0.25 * place,
        "samples": 100.0 + 50 * place,
        "score:a": 0.9 - 0.1 * place,
        "score:b": 0.2 + 0.15 * place,
        "score:c": 0.5 + 0.1 * (3 * place % 5),
        "step": 10.0 * (place + 1),
    }


def stored(
    recipe: Recipe,
    shapes: Mapping[str, tuple[int, ...]],
    place: int,
    draw: Callable[[str, int], Floats],
    put: Callable[[bytes], BlobId],
) -> tuple[EvidenceEntry, ...]:
    """What a manifest lists of all that the recipe's merge reads, in F32.

    `draw` gives numbers by a label and their count; `put` keeps bytes.
    """
    strategy = check_recipe(recipe)
    values = Values(recipe.for_the_whole(()).parameters)
    found = []
    for kind in evidence_of(strategy, recipe, values):
        form = f"{kind}_sketch" if KINDS[kind].shape == "gram" else kind
        for name, shape in sorted(shapes.items()):
            if not math.prod(shape) or (form in LINEAR_FORMS and len(shape) < 2):
                continue
            size = _stored_shape(form, shape)
            drawn = draw(f"{place}/{kind}/{name}", math.prod(size))
            data = downcast(drawn if KINDS[kind].signed else abs(drawn), "F32")
            found.append(EvidenceEntry(form, TensorEntry(name, "F32", size, put(data))))
    if strategy.scalars(values):
        for name, number in numbers_of(place).items():
            blob = put(downcast(np.array([number]), "F64"))
            found.append(EvidenceEntry(SCALAR, TensorEntry(name, "F64", (), blob)))
    return tuple(sorted(found, key=lambda entry: (entry.kind, entry.tensor.name)))


def _stored_shape(form: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    columns = math.prod(shape[1:])
    return {
        "items": shape,
        "sketch": (min(SKETCHED, columns), columns),
        "columns": (columns,),
        "rows": shape[:1] or (1,),
    }[FORMS[form]]


def evaluations(
    strategy: Strategy, values: Values, contents: Sequence[ContentId]
) -> tuple[Score, ...]:
    """What three members say of each contribution, the last of them far off."""
    if not strategy.scores(values):
        return ()
    return tuple(
        Score(content, metric, "d", round(value * 10**9), bytes([author]) * 32)
        for content in contents
        for metric, value in _evaluated(content[0]).items()
        for author, value in enumerate((value, value * 1.125, value * 64))
    )


def _evaluated(place: int) -> Scalars:
    return {
        "a": 0.9 - 0.1 * place,
        "b": 0.2 + 0.15 * place,
        "c": 0.5 + 0.1 * (3 * place % 5),
        "loss": 0.5 + 0.25 * place,
        "score": 0.9 - 0.1 * place,
        "step": 10.0 * (place + 1),
    }
