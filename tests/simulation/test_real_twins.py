"""The stories of real nodes, as they play in the simulation beside them."""

from dataclasses import replace

import pytest

from simulations.real.stories import STORIES
from simulations.real.twin import Twin

NAMES = ("ann", "ben", "cem", "dan")
UNSIMULATED = {"narrow"}
"""What the simulation has no word for, and says so."""


@pytest.mark.parametrize("name", sorted(STORIES.keys() - UNSIMULATED))
def test_a_twin_settles_and_plays_the_same_again(name: str) -> None:
    story = STORIES[name]
    told = []
    for _ in range(2):
        twin = Twin(NAMES, 1, disks=story.own_disk)
        story.tell(twin, 1)
        told.append(twin.settle())
    assert told[0] == told[1]
    assert told[0].contributions > 0
    assert told[0] != replace(told[0], messages=0)


@pytest.mark.parametrize("name", sorted(UNSIMULATED))
def test_what_is_not_simulated_says_so(name: str) -> None:
    with pytest.raises(NotImplementedError):
        STORIES[name].tell(Twin(NAMES, 1), 1)
