"""The tests that users write: the page's examples do what the page says of them."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from crdtmerge.strategies import find, make_recipe
from nodes.quotas import Quotas
from simulations.checking.checkers import NotConvergedError
from simulations.cluster import Cluster
from simulations.faults import CALM, FAULTS, Faults
from simulations.testing import SwarmRun, check_converges, mixes, runs

PAGE = Path(__file__).parents[2] / "docs" / "simulating.md"
EXAMPLES = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
)
SMALL = SwarmRun(3, 3, 3, CALM)


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """All that the page's examples define."""
    names: dict[str, Any] = {"__name__": "page"}
    for example in EXAMPLES:
        exec(example, names)
    return names


def test_a_strategy_that_is_sound_converges(page: dict[str, Any]) -> None:
    """The first example holds, and the strategy is gone afterwards."""
    page["test_largest_converges"]()
    with pytest.raises(Exception, match=r"no strategy 'acme\.largest'"):
        find("acme.largest")


def test_a_strategy_that_keeps_a_state_is_caught(page: dict[str, Any]) -> None:
    """The second fails, by the bytes, and says how it is done again."""
    test = page["test_broken_converges"]
    # Not made smaller here: each step is a run.
    chosen = settings(max_examples=5, deadline=None, phases=[Phase.generate])
    test._hypothesis_internal_use_settings = chosen
    with pytest.raises(NotConvergedError, match="merges to other bytes") as caught:
        test()
    assert any("check_converges(SwarmRun(" in note for note in caught.value.__notes__)


def test_promises_of_ones_own_are_checked(page: dict[str, Any]) -> None:
    """The third holds; and what its check raises comes out."""
    page["test_nobody_is_thrown_out"]()

    def refuse(cluster: Cluster) -> None:
        raise ValueError(f"{len(cluster.machines)} machines are too many")

    with pytest.raises(ValueError, match="3 machines are too many"):
        check_converges(SMALL, refuse)


def test_equal_runs_are_the_same_run() -> None:
    """Another policy of the nodes is another run."""
    once, again = (check_converges(SMALL) for _ in range(2))
    assert once == again
    tight = SwarmRun(3, 3, 3, CALM, quarantine=True, quotas=Quotas(peer_records=160))
    assert check_converges(tight).log_digest != once.log_digest


@settings(max_examples=30)
@given(mixes("loss", "disk"))
def test_faults_are_of_the_kinds_that_are_named(mix: Faults) -> None:
    """By name, or by area."""
    kinds = {name for name, _ in mix.chances}
    assert kinds <= {"loss", *(n for n, f in FAULTS.items() if f.area == "disk")}


def test_a_kind_that_there_is_not_is_refused() -> None:
    """Before anything is drawn."""
    with pytest.raises(ValueError, match="'losss'"):
        mixes("losss")


TIES = make_recipe("ties", {"density": "0.5"})


@settings(max_examples=3, deadline=None)
@given(runs(recipes=[TIES], nodes=(2, 3), rounds=(1, 3), faults=mixes("cut")))
def test_recipes_are_those_that_are_given(run: SwarmRun) -> None:
    """And nobody changes to another."""
    seen: list[str] = []

    def look(cluster: Cluster) -> None:
        recipe = cluster.owner.spaces.view(cluster.space).recipe
        assert recipe is not None
        seen.append(recipe.strategy)

    check_converges(run, look)
    assert seen == ["ties/1"]
