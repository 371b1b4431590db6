"""Where anybody may contribute: a key costs nothing, and gives no more than that."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from crdtmerge.bodies import Ban, Body, RecipeChange, Remove, Revoke
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId
from crdtmerge.errors import NotAdmissibleError
from crdtmerge.policy import Rank
from crdtmerge.recipe import Recipe
from tests.attacks.fortress import Fortress
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    OWNERS,
    STRANGER,
    add_of,
    grant_of,
    key,
    write,
)

ANOTHER: Final = key("the stranger's next key")


@pytest.fixture(name="square")
def fixture_square(tmp_path: Path) -> Iterator[Fortress]:
    """An open space."""
    made = Fortress.at(tmp_path, "open")
    yield made
    made.home.close()


def shown(square: Fortress) -> dict[ContentId, int]:
    """Return the visible contents and their weights."""
    view = square.spaces().view(square.space)
    return {visible.content: visible.weight for visible in view.visible}


BODIES: Final[dict[str, Body]] = {
    "a ban": Ban("author", CLEO.public),
    "a ban of content": Ban("content", CONTENTS[0]),
    "a revocation": Revoke(CLEO.public, ()),
    "a grant": grant_of(STRANGER, Rank.READER),
    "a recipe": RecipeChange(Recipe("linear/1", (), (), "", "set"), ()),
}


@pytest.mark.parametrize("name", BODIES)
def test_open_space_taken_over_by_anybody(square: Fortress, name: str) -> None:
    """Who may add a model may not judge, grant, or choose the recipe."""
    lie = write(STRANGER, square.pen.genesis.record, BODIES[name])
    square.withstands(NotAdmissibleError, lambda siege: siege.feeds(CARL, lie))


def test_open_space_removal_of_anothers_model(square: Fortress) -> None:
    """A remove of another's add is kept, and has no effect."""
    add = square.contribute(CLEO, b"another's")
    before = square.spaces().view(square.space).visible
    body = Remove((add.record.id,))
    said = write(STRANGER, square.pen.genesis.record, body)
    square.takes([said], lambda siege: siege.feeds(CARL, said))
    assert square.spaces().view(square.space).visible == before


def test_open_space_weight(square: Fortress) -> None:
    """Whatever it says, a model of anybody weighs one."""
    body = add_of(CONTENTS[0], weight=1000 * DECIMAL_UNIT)
    said = write(STRANGER, square.pen.genesis.record, body)
    square.takes([said], lambda siege: siege.feeds(CARL, said))
    assert shown(square)[CONTENTS[0]] == DECIMAL_UNIT


def test_open_space_ban_is_shed_by_a_new_key(square: Fortress) -> None:
    """Not promised: a ban of an author falls on its key, and keys cost nothing there.

    A ban of the content holds, whoever adds it.
    """
    root = square.pen.genesis.record
    square.say(OWNERS[0], Ban("author", STRANGER.public))
    square.keep()
    banned, anew = (write(k, root, add_of(CONTENTS[0])) for k in (STRANGER, ANOTHER))
    square.takes([banned], lambda siege: siege.feeds(CARL, banned))
    assert CONTENTS[0] not in shown(square)
    square.takes([anew], lambda siege: siege.feeds(CARL, anew))
    assert CONTENTS[0] in shown(square)
    square.say(OWNERS[0], Ban("content", CONTENTS[0]))
    square.keep()
    assert CONTENTS[0] not in shown(square)
