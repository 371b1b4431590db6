"""One tensor's task for any strategy, and running it as if it were a whole model.

Owns what strategies need to be run at all (`NEEDS`). Does not own what they promise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from crdtmerge import numerics
from crdtmerge.digest import ContentId
from crdtmerge.numerics import Data, Floats
from crdtmerge.strategies import (
    Given,
    Inputs,
    Strategy,
    Values,
    Whole,
    find,
    make_recipe,
    whole_of,
)
from tests.evidence import attached, evaluations, numbers

UNIT = 10**9
DTYPES = ("F64", "F32", "BF16", "F16", "F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class Need:
    """What a strategy cannot be run without: parameters, and those of contribution i."""

    parameters: Mapping[str, str]
    own: Callable[[int], Mapping[str, str]] = lambda _place: {}


def _steps(place: int) -> Mapping[str, str]:
    return {"step": str(place + 1)}


def _first(flag: str) -> Callable[[int], Mapping[str, str]]:
    return lambda place: {flag: "false" if place else "true"}


NEEDS: Mapping[str, Need] = {
    "aoe/1": Need({}, _first("main")),
    "layer_swap/1": Need({}, lambda _place: {"part": "outer"}),
    "negative_merge/1": Need({}, _first("forget")),
    "passthrough/1": Need({}, _first("select")),
    "pma/1": Need({}, _steps),
    "safe_merge/1": Need({}, _first("safety")),
    "split_unlearn_merge/1": Need({}, _first("forget")),
    "wsm/1": Need({}, _steps),
}


def task(
    name: str, dtype: str, tunes: list[Floats], base: Floats, **parameters: str
) -> Inputs:
    """One tensor's task, with equal weights; contents ascend."""
    need = NEEDS.get(find(name).full_name, Need({}))
    recipe = make_recipe(name, dict(need.parameters) | parameters)
    shared = dict(recipe.parameters)
    own = tuple(
        Values(tuple(sorted((shared | dict(need.own(i))).items())))
        for i in range(len(tunes))
    )
    return Inputs(
        tensor="w",
        dtype=dtype,
        items=base.size,
        base=numerics.downcast(base.reshape(-1), dtype),
        contributions=tuple(numerics.downcast(t.reshape(-1), dtype) for t in tunes),
        contents=tuple(ContentId(bytes([i]) * 32) for i in range(len(tunes))),
        weights=(UNIT,) * len(tunes),
        seed=b"s" * 32,
        seed_scope="set",
        output_dtype="",
        values=Values(recipe.parameters),
        own=own,
        shape=base.shape,
        evidence=attached(
            find(name), Values(recipe.parameters), base.shape, len(tunes)
        ),
    )


def with_own(inputs: Inputs, *own: Mapping[str, str]) -> Inputs:
    """The task with parameters of each contribution's own."""
    shared = dict(inputs.values.parameters)
    found = [Values(tuple(sorted((shared | dict(pairs)).items()))) for pairs in own]
    return replace(inputs, own=tuple(found))


def resolve(name: str, inputs: Inputs) -> bytes:
    """Map, reduce and emit one tensor as a whole model."""
    return bytes(whole_of(find(name).emit(reduced(find(name), [inputs])[0])))


def reduced(strategy: Strategy, tensors: list[Inputs]) -> list[Inputs]:
    """The tasks of one model after its reduce step, if the strategy has one."""
    first = tensors[0]
    if strategy.reduce is None or not strategy.reduces(first.values):
        return tensors
    measures = [strategy.map(inputs) for inputs in tensors] if strategy.map else []
    whole = settings_of(first)
    scalars = numbers(strategy, first.values, first.contents)
    scores = evaluations(strategy, first.values, first.contents)
    found = strategy.reduce(measures, replace(whole, scalars=scalars, scores=scores))
    return [replace(inputs, coefficients=found) for inputs in tensors]


def settings_of(inputs: Inputs) -> Whole:
    own = inputs.own or (inputs.values,) * len(inputs.contributions)
    return Whole(inputs.contents, inputs.weights, inputs.values, own)


def base_of(inputs: Inputs) -> Data:
    assert inputs.base is not None
    return inputs.base


def data_of(given: Given) -> bytes:
    """The bytes of a contribution that is given as such."""
    assert isinstance(given, bytes | memoryview)
    return bytes(given)


def sample(items: int, count: int, seed: int = 0) -> tuple[Floats, list[Floats]]:
    """A base, and fine-tunes near it."""
    generator = np.random.default_rng([seed, items])
    base = generator.standard_normal(items)
    return base, [base + generator.standard_normal(items) / 16 for _ in range(count)]


def shuffled(inputs: Inputs, order: tuple[int, ...]) -> Inputs:
    """The task with some contributions in this order; each keeps what is its own."""
    return replace(
        inputs,
        contributions=tuple(inputs.contributions[i] for i in order),
        contents=tuple(inputs.contents[i] for i in order),
        weights=tuple(inputs.weights[i] for i in order),
        own=tuple(inputs.own[i] for i in order) if inputs.own else (),
        evidence=tuple(inputs.evidence[i] for i in order) if inputs.evidence else (),
    )


def defaults_of(name: str) -> Values:
    """Return a strategy's parameters at their defaults, and what it cannot do without."""
    need = NEEDS.get(find(name).full_name, Need({}))
    return Values(make_recipe(name, dict(need.parameters)).parameters)
