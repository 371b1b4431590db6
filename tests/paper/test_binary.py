"""Tier 1, phase 1: strategies as raw operations."""

import numpy as np
import pytest

from simulations.paper import binary
from simulations.paper.catalogue import PAPER, catalogue, not_run, paper_names


def kept(name: str) -> dict[str, bool] | None:
    """Return which laws one strategy keeps."""
    (choice,) = catalogue((name,))
    return binary.laws_of(choice).kept


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", (True, False, True)),
        ("task_arithmetic", (True, True, False)),
        ("dare_ties", (False, False, False)),
        ("passthrough", (False, True, True)),
    ],
)
def test_laws_that_can_be_told_by_hand(name: str, expected: tuple[bool, ...]) -> None:
    """A mean commutes; a sum of task vectors associates; masks go by place."""
    assert kept(name) == dict(zip(binary.LAWS, expected, strict=True))


def test_no_strategy_keeps_all_three() -> None:
    """This is what the two layers are for, in the paper and here."""
    found = [binary.laws_of(choice) for choice in catalogue()]
    assert all(not all(raw.kept.values()) for raw in found if raw.kept)
    assert all(raw.refused for raw in found if raw.kept is None)


def test_the_mean_of_two_is_that_of_numpy() -> None:
    """The operation is the strategy, on these tensors, and not something beside it."""
    given = binary.drawn()
    (choice,) = catalogue(("linear",))
    made = binary.operate(choice, given["base"], (given["a"], given["b"]))
    assert np.allclose(made, (given["a"] + given["b"]) / 2, rtol=0, atol=1e-12)


def test_each_of_the_papers_strategies_is_run_or_named() -> None:
    """None is left out in silence."""
    names = paper_names()
    assert len(PAPER) == 26
    assert set(not_run()) == {name for name, ours in names.items() if not ours}
    assert names["weight_average"] == names["linear"] == "linear/1"
    run = {paper for choice in catalogue() for paper in choice.papers}
    assert run | set(not_run()) == set(PAPER)
