"""Trials: a strategy that reads what it does not declare is found out."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest

from crdtmerge.errors import PluginError
from crdtmerge.numerics import Data
from crdtmerge.strategies import STRATEGIES, Inputs, Strategy, whole_of
from crdtmerge.strategies.trials import trial_digest

LINEAR = STRATEGIES["linear/1"]


Reader: TypeAlias = Callable[[Inputs], bool]

READERS: Mapping[str, tuple[Reader, str]] = {
    "a tensor's layer": (lambda inputs: inputs.layer is None, "by_layer"),
    "a tensor's name": (lambda inputs: inputs.tensor[0] == "x", "draws"),
    "the seed": (lambda inputs: inputs.seed == bytes(32), "order_dependent"),
    "content ids": (lambda inputs: bytes(32) in inputs.contents, "draws"),
}
"""What tells a changed trial, and what a strategy has to declare to read it."""


def reading(reader: Reader, declared: str = "") -> Strategy:
    """The average, but zeros where `reader` says so."""

    def emit(inputs: Inputs) -> Data:
        made = whole_of(LINEAR.emit(inputs))
        return bytes(memoryview(made).nbytes) if reader(inputs) else made

    return Strategy(
        name="reader",
        version=1,
        summary=LINEAR.summary,
        paper=LINEAR.paper,
        parameters=LINEAR.parameters,
        needs_base=False,
        emit=emit,
        draws=declared == "draws",
        order_dependent=declared == "order_dependent",
        by_layer=declared == "by_layer",
    )


@pytest.mark.parametrize("what", READERS)
def test_what_is_read_and_not_declared_is_found(what: str) -> None:
    """Two tasks of one key would have two results; whoever says so may read it."""
    reader, declared = READERS[what]
    with pytest.raises(PluginError, match=f"reads {what} and does not say so"):
        trial_digest(reading(reader))
    assert trial_digest(reading(reader, declared))
