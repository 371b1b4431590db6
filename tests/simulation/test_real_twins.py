"""The stories of real nodes, as they play in the simulation beside them."""

import pytest

from simulations.real.playing import twin_of
from simulations.real.stories import STORIES

NAMES = ("ann", "ben", "cem", "dan")


@pytest.mark.parametrize("name", sorted(STORIES))
def test_a_twin_settles_and_plays_the_same_again(name: str) -> None:
    story = STORIES[name]
    told = []
    for _ in range(2):
        twin = twin_of(story, NAMES, 1)
        story.tell(twin, 1)
        told.append(twin.settle())
    assert told[0] == told[1]
    assert told[0].contributions > 0
