"""Trials: small fixed merges that any strategy can be run on, and the digest of its bytes.

Owns the inputs, which come from one recurrence of whole numbers, what every trial is
checked for, and the digest. Does not own where strategies come from (`plugins`).

The trials are as fixed as a format: another input gives every strategy another digest.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Final, TypeAlias, TypeVar

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT, Value
from crdtmerge.digest import ContentId, Domain, digest, digest_value
from crdtmerge.errors import ContractError, PluginError
from crdtmerge.numerics import ITEM_BYTES, Floats, downcast, inspect
from crdtmerge.recipe import Parameters
from crdtmerge.strategies.base import Given, Inputs, Strategy, Values, Whole, whole_of

Tensor: TypeAlias = tuple[str, tuple[int, ...]]
"""Dtype and shape."""

Outcome: TypeAlias = list[bytes] | None
"""The tensors of a merged model; None where the strategy refuses the trial."""

_T = TypeVar("_T")

_MULTIPLIER: Final = 6364136223846793005
_INCREMENT: Final = 1442695040888963407
_STATES: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Trial:
    """One merge: tensors, weights (units), and how models are given.

    `as_tau` tells that the first contribution is given as task vectors.
    """

    tensors: tuple[Tensor, ...]
    weights: tuple[int, ...]
    on_base: bool = True
    as_tau: bool = False


_WIDE: Final[tuple[Tensor, ...]] = (
    ("F32", (7, 19)),
    ("F32", (0,)),
    ("F32", (1,)),
    ("F64", (8, 8)),
)
_NARROW: Final[tuple[Tensor, ...]] = (
    ("BF16", (129,)),
    ("F16", (3, 2, 2, 5)),
    ("F8_E4M3", (33,)),
    ("F8_E5M2", (5, 13)),
)
_EQUAL: Final = (DECIMAL_UNIT,) * 3
_UNEQUAL: Final = (DECIMAL_UNIT, DECIMAL_UNIT // 4, 2 * DECIMAL_UNIT)

TRIALS: Final = (
    Trial(_WIDE, _EQUAL),
    Trial(_NARROW, _UNEQUAL),
    Trial(_WIDE, _UNEQUAL, as_tau=True),
    Trial((("F32", (9, 9)), ("BF16", (65,))), (*_UNEQUAL, DECIMAL_UNIT // 3, 7)),
    Trial((("F32", (5, 4)),), _EQUAL[:2]),
    Trial((("BF16", (20,)),), _EQUAL[:1]),
    Trial((("F32", (11, 6)), ("BF16", (70,))), _UNEQUAL, on_base=False),
)


def trial_digest(strategy: Strategy, parameters: Parameters = ()) -> str:
    """Return the digest of what a strategy makes of all trials, in hexadecimal.

    `parameters` are set over the strategy's defaults.

    Raises:
        PluginError: it breaks a promise that every strategy makes, or refuses each trial.
    """
    values = Values(_complete(strategy, parameters))
    outcomes = [_outcome(strategy, trial, values) for trial in TRIALS]
    if not any(outcomes):
        message = f"{strategy.full_name} refuses every trial"
        hint = "name the parameters that it cannot run without"
        raise PluginError(message, hint=hint)
    told: list[Value] = [list(made or ()) for made in outcomes]
    named: list[Value] = [list(pair) for pair in values.parameters]
    return digest_value(Domain.TRIALS, [strategy.full_name, named, told]).hex()


def _complete(strategy: Strategy, parameters: Parameters) -> Parameters:
    """Return all parameters, defaults included.

    Raises:
        PluginError: one is not declared, or not the canonical text of an allowed value.
    """
    found = {p.name: p.default for p in strategy.parameters} | dict(parameters)
    for name, text in sorted(found.items()):
        parameter = strategy.parameter(name)
        if parameter is None or not parameter.accepts(text):
            message = f"{strategy.full_name} cannot have {name}={text!r}"
            raise PluginError(message, hint="write values as canonical text")
    return tuple(sorted(found.items()))


def _outcome(strategy: Strategy, trial: Trial, values: Values) -> Outcome:
    """Return what a strategy makes of a trial, checked.

    Raises:
        PluginError: the order of the contributions shows, or what the strategy does not
            say that it reads; or an output is none.
    """
    tasks = [*_tasks(trial, values)]
    made = _made(strategy, tasks)
    for turned in ([_turned(t, 1) for t in tasks], [_turned(t, -1) for t in tasks]):
        if _made(strategy, turned) != made:
            message = f"{strategy.full_name} depends on the order of the contributions"
            raise PluginError(message, hint="a set has none; sort, or sum in no order")
    for what, changed in _undeclared(strategy, tasks):
        if _made(strategy, changed) != made:
            message = f"{strategy.full_name} reads {what} and does not say so"
            hint = (
                "declare draws, order_dependent or by_layer, so that task keys have it"
            )
            raise PluginError(message, hint=hint)
    for task, output in zip(tasks, made or (), strict=made is not None):
        _check_output(strategy, task, output)
    return made


def _undeclared(
    strategy: Strategy, tasks: list[Inputs]
) -> Iterator[tuple[str, list[Inputs]]]:
    """Yield the tasks with another of each thing that task keys then leave out."""
    if not strategy.by_layer:
        yield "a tensor's layer", [replace(task, layer=None) for task in tasks]
    if strategy.draws or strategy.order_dependent:
        return
    yield (
        "a tensor's name",
        [replace(task, tensor=f"x.{task.tensor}") for task in tasks],
    )
    yield "the seed", [replace(task, seed=bytes(32)) for task in tasks]
    for_content = {c: bytes([i]) * 32 for i, c in enumerate(sorted(tasks[0].contents))}
    others = tuple(ContentId(for_content[c]) for c in tasks[0].contents)
    yield "content ids", [replace(task, contents=others) for task in tasks]


def _check_output(strategy: Strategy, task: Inputs, output: bytes) -> None:
    size = task.items * ITEM_BYTES[task.dtype]
    if len(output) != size:
        message = f"{strategy.full_name} gives {len(output)} bytes where {size} belong"
        raise PluginError(message)
    if not inspect(output, task.dtype).finite:
        message = f"{strategy.full_name} makes NaN or infinity of finite models"
        raise PluginError(message)


def _made(strategy: Strategy, tasks: list[Inputs]) -> Outcome:
    try:
        if strategy.map and strategy.reduce and strategy.reduces(tasks[0].values):
            measures = [strategy.map(task) for task in tasks]
            found = strategy.reduce(measures, _whole(tasks[0]))
            tasks = [replace(task, coefficients=found) for task in tasks]
        return [bytes(whole_of(strategy.emit(task))) for task in tasks]
    except ContractError:
        return None


def _whole(task: Inputs) -> Whole:
    own = (task.values,) * len(task.contents)
    return Whole(task.contents, task.weights, task.values, own)


def _turned(task: Inputs, step: int) -> Inputs:
    """Return the task with its contributions moved on by one, or in reverse order."""

    def turn(items: tuple[_T, ...]) -> tuple[_T, ...]:
        return items[::-1] if step < 0 else items[step:] + items[:step]

    return replace(
        task,
        contributions=turn(task.contributions),
        contents=turn(task.contents),
        weights=turn(task.weights),
    )


def _tasks(trial: Trial, values: Values) -> Iterator[Inputs]:
    """Yield the tasks of one trial, one for each tensor."""
    count = len(trial.weights)
    for number, (dtype, shape) in enumerate(trial.tensors):
        items = prod(shape)
        base = _recurrence(number, items)
        tunes = [
            base + _recurrence(64 * (k + 1) + number, items) / 16.0
            for k in range(count)
        ]
        given: list[Given] = [downcast(tune, dtype) for tune in tunes]
        if trial.as_tau:
            given[0] = (tunes[0] - base).astype(np.float32)
        yield Inputs(
            tensor=f"layers.{number}.weight",
            dtype=dtype,
            items=items,
            base=downcast(base, dtype) if trial.on_base else None,
            contributions=tuple(given),
            contents=tuple(_content(k) for k in range(count)),
            weights=trial.weights,
            seed=digest(Domain.SEED, bytes([number])),
            seed_scope="set",
            output_dtype="",
            values=values,
            shape=shape,
            layer=(number, len(trial.tensors)),
        )


def _content(number: int) -> ContentId:
    return ContentId(digest(Domain.CONTENT, bytes([number])))


def _recurrence(start: int, count: int) -> Floats:
    """Return multiples of 2**-10 from -2 up to 2, every fifth one zero."""
    state, found = start, np.zeros(count)
    for i in range(count):
        state = (state * _MULTIPLIER + _INCREMENT) % _STATES
        if i % 5 != 4:
            found[i] = ((state >> 33) % 4096 - 2048) / 1024.0
    return found
