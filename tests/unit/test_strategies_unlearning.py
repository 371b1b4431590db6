"""negative_merge and split_unlearn_merge: what is to be forgotten goes."""

from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, sample, shuffled, task, with_own

BOTH = ("negative_merge", "split_unlearn_merge")


def merged(name: str, inputs: Inputs) -> Floats:
    """What is added to a base of zeros."""
    found = resolve(name, replace(inputs, output_dtype="F64"))
    return numerics.upcast(found, "F64").reshape(inputs.shape)


def on_zeros(name: str, forget: str, *taus: object, **parameters: str) -> Inputs:
    """Task vectors; `forget` has an x where one is to be forgotten."""
    arrays = [np.asarray(tau, dtype=np.float64) for tau in taus]
    inputs = task(name, "F64", arrays, np.zeros(arrays[0].shape), **parameters)
    own = [{"forget": "true" if mark == "x" else "false"} for mark in forget]
    return replace(with_own(inputs, *own), exponent=8)


def test_what_is_forgotten_is_subtracted() -> None:
    """And what is kept is added, each times its weight."""
    inputs = on_zeros(
        "negative_merge", "x.", [1, 2, 0], [4, -1, 3], **{"lambda": "0.5"}
    )
    assert merged("negative_merge", inputs).tolist() == [3.5, -2, 3]
    weighing = replace(inputs, weights=(2 * UNIT, 3 * UNIT))
    assert merged("negative_merge", weighing).tolist() == [11, -5, 9]


def test_forgetting_undoes_learning() -> None:
    """The same model kept and forgotten is the base."""
    tau = sample(50, 1)[1][0].astype(np.float32)
    assert not merged(
        "negative_merge", on_zeros("negative_merge", ".x", tau, tau)
    ).any()


def test_consensus_negates_only_where_all_agree() -> None:
    """A zero agrees with nothing; who is kept has no say."""
    inputs = on_zeros(
        "negative_merge", "xx.", [1, 2, -3, 0], [2, -2, -1, 5], [0, 0, 1, -1],
        consensus="true",
    )  # fmt: skip
    assert merged("negative_merge", inputs).tolist() == [-3, 0, 5, -1]
    weightless = replace(inputs, weights=(UNIT, 0, UNIT))
    assert merged("negative_merge", weightless).tolist() == [-1, -2, 4, -1]


def test_without_anybody_to_forget_it_is_task_arithmetic() -> None:
    """With consensus too."""
    base, tunes = sample(64, 3)
    plain = resolve("task_arithmetic", task("task_arithmetic", "F32", tunes, base))
    for consensus in ("true", "false"):
        inputs = task("negative_merge", "F32", tunes, base, consensus=consensus)
        found = resolve("negative_merge", with_own(inputs, {}, {}, {}))
        away = numerics.upcast(found, "F32") - numerics.upcast(plain, "F32")
        assert np.abs(away).max() < 1e-6


def test_the_largest_entries_of_what_is_forgotten_go() -> None:
    """With all that tie; those of who is kept stay, and so does the divisor."""
    inputs = on_zeros(
        "split_unlearn_merge", "x.", [8, -8, 2, 4], [10, 2, 2, 2], q="0.25"
    )
    assert merged("split_unlearn_merge", inputs).tolist() == [5, 1, 2, 3]


@pytest.mark.parametrize(("q", "left"), [("0", [5, 3, 1]), ("1", [1, 1, 1])])
def test_nothing_or_all_of_it_goes(q: str, left: list[float]) -> None:
    inputs = on_zeros("split_unlearn_merge", "x.", [8, 4, 0], [2, 2, 2], q=q)
    assert merged("split_unlearn_merge", inputs).tolist() == left


def test_one_alone_keeps_its_rest() -> None:
    inputs = on_zeros("split_unlearn_merge", "x", [8, 4, -1], q="0.3")
    assert merged("split_unlearn_merge", inputs).tolist() == [0, 4, -1]


def test_who_changes_nothing_has_nothing_to_forget() -> None:
    """All its entries tie at zero."""
    inputs = on_zeros("split_unlearn_merge", "x.", [0, 0, 0], [2, 4, 6])
    assert merged("split_unlearn_merge", inputs).tolist() == [1, 2, 3]
    inputs = on_zeros("negative_merge", "x.", [0, 0, 0], [2, 4, 6], consensus="true")
    assert merged("negative_merge", inputs).tolist() == [2, 4, 6]


@pytest.mark.parametrize("name", BOTH)
def test_the_list_changes_no_bit(name: str) -> None:
    base, tunes = sample(96, 4)
    inputs = with_own(
        task(name, "F32", tunes, base), {"forget": "true"}, {}, {"forget": "true"}, {}
    )
    assert resolve(name, shuffled(inputs, (2, 0, 3, 1))) == resolve(name, inputs)


@pytest.mark.parametrize("name", BOTH)
def test_nobody_of_weight_leaves_the_base_and_less_is_refused(name: str) -> None:
    base, tunes = sample(9, 2)
    inputs = task(name, "F64", tunes, base)
    assert np.array_equal(merged(name, replace(inputs, weights=(0, 0))), base)
    with pytest.raises(ContractError, match="negative weight"):
        resolve(name, replace(inputs, weights=(UNIT, -UNIT)))


@pytest.mark.parametrize("name", BOTH)
def test_an_empty_tensor_stays_empty(name: str) -> None:
    empty = np.zeros((0, 3))
    assert resolve(name, task(name, "F32", [empty, empty], empty)) == b""
