"""What strategies say of themselves: complete, in one form, and true where measured."""

import gc
import re
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.strategies import (
    STRATEGIES,
    Inputs,
    Parameter,
    Parts,
    Strategy,
    whole_of,
)
from crdtmerge.strategies.gram import MEMORY as OF_PRODUCTS
from tests.strategies import defaults_of, reduced, sample, task

SIDE = 512
ITEMS = SIDE * SIDE
MODELS = 3
BLOCKS = 2 << 20
"""What blocks of fixed size may take beside what grows with the tensor."""

SMALL_SIDE = 256
DECOMPOSE_OFTEN = {"dc_merge/1", "iso_cts/1", "lore/1", "star/1", "tsv_m/1"}
"""Smaller ones serve: under the tracer a decomposition takes the reference a minute."""

FEW_TURNS = {
    "bmm/1": {"anchor": "task_arithmetic"},
    "lore/1": {"iterations": "1"},
}
"""Where the reference would take minutes, and every turn takes the same memory.

What bmm's anchors take is measured with them, and no more than its own bound.
"""

PARAMETERS = {
    f"{name} {parameter.name}": parameter
    for name, strategy in STRATEGIES.items()
    for parameter in strategy.parameters
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_names_its_paper_with_a_link(name: str) -> None:
    """Who, when, and one URL at the end; the summary fits on a line.

    What no paper describes names the program that has it.
    """
    strategy = STRATEGIES[name]
    said, _, link = strategy.paper.rpartition(", ")
    assert said == "mergekit" or re.search(r"\b(19|20)\d\d\b", said)
    assert re.fullmatch(r"https://\S+", link)
    assert 10 <= len(strategy.summary) <= 80
    assert strategy.summary[0].isupper()
    assert not strategy.summary.endswith(".")


def test_no_alias_is_another_strategy() -> None:
    """A name means one thing, and none has a dot, which is for other packages."""
    names = {strategy.name for strategy in STRATEGIES.values()}
    owners: dict[str, str] = {}
    for strategy in STRATEGIES.values():
        for alias in strategy.aliases:
            assert alias not in names
            assert owners.setdefault(alias, strategy.name) == strategy.name
        assert len(set(strategy.aliases)) == len(strategy.aliases)
    for name in (*names, *owners):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_is_explained_and_has_a_usable_default(name: str) -> None:
    """Help, a range, and a default within it, in canonical text."""
    parameter = PARAMETERS[name]
    assert len(parameter.help) >= 10
    assert not parameter.help.endswith(".")
    assert parameter.accepts(parameter.default)
    assert not (parameter.per_model and parameter.whole)
    if parameter.kind == "choice":
        assert len(set(parameter.choices)) >= 2
    elif parameter.kind not in {"flag", "label"}:
        assert parameter.minimum < parameter.maximum


def test_what_a_parameter_accepts_is_canonical() -> None:
    """One text for each value: that is what recipes hold."""
    half = Parameter("t", "decimal", "0", None, "help", maximum=10**9)
    assert [half.accepts(text) for text in ("0.5", "1", "0")] == [True] * 3
    for text in ("0.50", ".5", "1.1", "-0.1", "x", "", "1e-3", "+1"):
        assert not half.accepts(text)
    count = Parameter(
        "n", "integer", "1", None, "help", minimum=10**9, maximum=9 * 10**9
    )
    assert [count.accepts(t) for t in ("1", "9", "0", "1.5", "10")] == [
        *(True, True),
        *(False,) * 3,
    ]
    flag = Parameter("f", "flag", "true", None, "help")
    assert [flag.accepts(t) for t in ("true", "false", "yes")] == [True, True, False]
    choice = Parameter("c", "choice", "a", None, "help", choices=("a", "b"))
    assert [choice.accepts(t) for t in ("a", "b", "A")] == [True, True, False]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_map_has_its_reduce(name: str) -> None:
    """It is of no use alone; a reduce step alone reads numbers and evaluations."""
    strategy = STRATEGIES[name]
    reads = strategy.scalars(strategy.defaults) or strategy.scores(strategy.defaults)
    if strategy.map is not None:
        assert strategy.reduce is not None
    elif strategy.reduce is not None:
        assert reads


def _peak(run: Callable[[], object]) -> int:
    """Return the most memory that was held meanwhile, less the bytes returned."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        made = run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    given_back = memoryview(made).nbytes if isinstance(made, bytes | memoryview) else 0
    return peak - before - given_back


def _others(strategy: Strategy) -> Iterator[dict[str, str]]:
    """Yield every choice and flag at another value than its default: all, or each."""
    other = {
        parameter.name: next(v for v in parameter.accepted if v != parameter.default)
        for parameter in strategy.parameters
        if parameter.kind in {"choice", "flag"}
    }
    if other:
        yield other
    yield from ({name: value} for name, value in other.items())


def _peak_of_tasks(strategy: Strategy, inputs: Inputs) -> int:
    """Return the larger of what map and emit take."""
    of_map = 0
    if strategy.map is not None and strategy.reduces(inputs.values):
        of_map = _peak(partial(strategy.map, inputs))
    (ready,) = reduced(strategy, [inputs])
    return max(of_map, _peak(lambda: whole_of(strategy.emit(ready))))


def _solves(strategy: Strategy) -> bool:
    """Tell whether a task decomposes or solves: minutes on the readable reference."""
    memory = strategy.memory
    squares = (memory.rows, memory.columns, memory.short, memory.columns_each)
    return any(squares) or "emit_matrix" in strategy.emit.__globals__


MEASURED = [
    pytest.param(
        name,
        dtype,
        marks=[pytest.mark.slow] if dtype == "F64" or _solves(strategy) else [],
    )
    for name, strategy in STRATEGIES.items()
    for dtype in ("BF16", "F64")
]

FEW = "3"
"""Steps of what iterates: none takes more memory than the first."""


@pytest.mark.parametrize(("name", "dtype"), MEASURED)
def test_no_task_takes_more_memory_than_declared(name: str, dtype: str) -> None:
    """On the readable reference, map and emit, beside what is given and returned.

    Settings other than the defaults may exclude each other; then they are refused.
    """
    strategy = STRATEGIES[name]
    side = SMALL_SIDE if name in DECOMPOSE_OFTEN else SIDE
    shape = (side, side)
    bound = strategy.memory.bytes_of(side * side, MODELS, shape)
    assert bound > 0, "declare it"
    base, tunes = sample(side * side, MODELS)
    tunes, base = [tune.reshape(shape) for tune in tunes], base.reshape(shape)
    with numerics.forced("reference"):
        few = {"iterations": FEW} if strategy.parameter("iterations") else {}
        few |= FEW_TURNS.get(name, {})
        inputs = task(name, dtype, tunes, base, **few)
        assert _peak_of_tasks(strategy, inputs) <= bound + BLOCKS
        for other in _others(strategy):
            with suppress(ContractError):
                inputs = task(name, dtype, tunes, base, **{**few, **other})
                assert _peak_of_tasks(strategy, inputs) <= bound + BLOCKS
                break


LARGE = 1024
PART = LARGE * LARGE // 4
PARTED = sorted(
    name for name in STRATEGIES if STRATEGIES[name].held(defaults_of(name)) is not None
)


@pytest.mark.parametrize(
    ("name", "models"), [*((name, MODELS) for name in PARTED), ("nearswap/1", 1)]
)
def test_parts_hold_no_more_of_the_tensor_than_declared(name: str, models: int) -> None:
    """What grows with the tensor is what `held` says; the rest is of a part's size."""
    strategy = STRATEGIES[name]
    base, tunes = sample(LARGE * LARGE, models)
    shape = (LARGE, LARGE)
    tunes, base = [tune.reshape(shape) for tune in tunes], base.reshape(shape)
    (inputs,) = reduced(strategy, [task(name, "BF16", tunes, base)])
    held = strategy.held(inputs.values)
    assert held is not None
    # Inner products are of blocks of 2**20 items, whatever a part is.
    items = inputs.items if strategy.memory is OF_PRODUCTS else PART
    bound = held.bytes_of(inputs.items, models)
    bound += strategy.memory.bytes_of(items, models)

    def make() -> None:
        made = strategy.emit(inputs)
        assert isinstance(made, Parts)
        for start in range(0, inputs.items, PART):
            made.make(range(start, start + PART))

    make()  # what a fast backend takes to be loaded and tested is no task's
    assert _peak(make) <= bound + BLOCKS + 2 * PART


@pytest.mark.parametrize("name", PARTED)
def test_parts_have_the_bytes_of_the_whole(name: str) -> None:
    """However a tensor is cut, also within a row, and in any order."""
    strategy = STRATEGIES[name]
    base, tunes = sample(3000, MODELS, seed=8)
    tunes, base = [tune.reshape(30, 100) for tune in tunes], base.reshape(30, 100)
    (inputs,) = reduced(strategy, [task(name, "BF16", tunes, base)])
    made = strategy.emit(inputs)
    assert isinstance(made, Parts)
    cuts = [range(2048, 3000), range(7), range(1000, 2048), range(7, 1000)]
    parts = {cut.start: bytes(made.make(cut)) for cut in cuts}
    assert b"".join(parts[start] for start in sorted(parts)) == bytes(made.whole())


def test_the_measure_sees_arrays() -> None:
    """Else every bound would hold."""
    peak = _peak(lambda: np.zeros(ITEMS).tobytes())
    assert 8 * ITEMS <= peak <= 8 * ITEMS + 10_000
