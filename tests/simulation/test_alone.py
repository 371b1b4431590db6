"""Each kind of fault strikes in a story of its own, and all agree once it is over."""

import pytest

from simulations.checking.checkers import NotConvergedError
from simulations.faults import CALM, FAULTS, Faults
from simulations.stories import alone
from simulations.stories.scenarios import ALONE, run_scenario

SEEDS = range(8)
DEFAULT_SEEDS = 1
NODES = 5


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=() if seed < DEFAULT_SEEDS else pytest.mark.slow)
        for seed in SEEDS
    ],
)
@pytest.mark.parametrize("name", ALONE)
def test_every_kind_strikes_alone_and_all_agree(name: str, seed: int) -> None:
    """It strikes as often as is promised, and nothing else goes wrong beside it."""
    outcome = run_scenario(name, seed, NODES)
    kind = ALONE[name]
    assert outcome.injected.keys() == {kind}
    assert outcome.injected[kind] >= alone.KINDS[kind].strikes


def test_stories_are_of_kinds_that_there_are() -> None:
    """And a kind is found by its own name, however it is written."""
    assert set(ALONE.values()) == alone.KINDS.keys() <= FAULTS.keys()
    outcome = run_scenario("fault-power_loss", 0, NODES)
    assert outcome.command == "fault-power-loss --nodes 5 --seed 0"


def test_a_kind_that_never_strikes_fails_its_story(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fault that is not injected shows nothing, and its story says so."""
    monkeypatch.setattr(alone, "ROUNDS_MOST", 12)
    monkeypatch.setattr(Faults, "of", lambda *_args, **_chances: CALM)
    with pytest.raises(NotConvergedError, match="crash struck 0 times, not 5"):
        run_scenario("fault-crash", 0, NODES)
