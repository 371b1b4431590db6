"""Ranks, recipes, nodes and unknown kinds, by example. Bans and removes: test_policy."""

import random
from itertools import permutations

import pytest

from crdtmerge.bodies import Ban, Lift, NodeAddress, RecipeChange, Revoke
from crdtmerge.errors import NotAdmissibleError, WrongSpaceError
from crdtmerge.identity import SigningKey
from crdtmerge.policy import Rank, evaluate
from crdtmerge.recipe import Recipe
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    MAINTAINERS,
    OWNERS,
    READER,
    STRANGER,
    Pen,
    add_of,
    grant_of,
    unknown,
    write,
)

MIA, MAX = MAINTAINERS
OLGA, OMAR = OWNERS
X, Y = CONTENTS[:2]


@pytest.fixture(name="pen")
def fixture_pen() -> Pen:
    """A members space with its cast."""
    return Pen.start()


# --- ranks -----------------------------------------------------------------------------


def test_highest_effective_grant_is_the_rank(pen: Pen) -> None:
    """A later, lower grant does not demote; a higher one promotes."""
    pen.admit(OLGA, MIA, Rank.READER)
    pen.admit(OLGA, CLEO, Rank.MAINTAINER)
    ranks = pen.opset().view.ranks
    assert ranks[MIA.public] is Rank.MAINTAINER
    assert ranks[CLEO.public] is Rank.MAINTAINER
    assert STRANGER.public not in ranks


def test_promotion_undoes_the_judgement_of_former_betters(pen: Pen) -> None:
    """Policy is evaluated from the top: who stands as high cannot be banned from there."""
    pen.write(MIA, Ban("author", CLEO.public))
    pen.add(CLEO, X)
    assert pen.shown() == set()
    pen.admit(OLGA, CLEO, Rank.MAINTAINER)
    assert pen.shown() == {X}


def test_owner_under_a_colleagues_grant_judges_in_time() -> None:
    """A ban that hangs on an equal's grant binds before the next rank is judged.

    Were it admitted late, the banned maintainer's own bans would stay in force, or not,
    by the accident of which owner's key is lower.
    """
    for granted, granting in permutations(OWNERS):
        pen = Pen.start()
        pen.add(CARL, X)
        pen.admit(granting, granted, Rank.MAINTAINER)
        pen.write(granted, Ban("author", MAX.public))
        pen.write(MAX, Ban("content", X))
        view = pen.opset().view
        assert view.rightless == {MAX.public}
        assert pen.shown() == {X}


@pytest.mark.parametrize(
    ("author", "allowed"),
    [
        (READER, {"node", "unknown"}),
        (CLEO, {"add", "node", "unknown"}),
        (MIA, {"add", "node", "unknown", "recipe", "grant", "ban", "lift", "revoke"}),
    ],
)
def test_each_rank_has_its_kinds(
    pen: Pen, author: SigningKey, allowed: set[str]
) -> None:
    """What a rank may not make is refused at the door, not stored without effect."""
    bodies = (
        add_of(X),
        NodeAddress(b"\x01" * 32, ()),
        RecipeChange(Recipe("linear/1"), ()),
        grant_of(STRANGER, Rank.READER),
        Ban("content", X),
        Lift(pen.genesis.record.id),
        Revoke(CARL.public, ()),
        unknown("unknown"),
    )
    opset, taken = pen.opset(), set()
    for body in bodies:
        signed = write(author, pen.grants[author.public], body)
        try:
            opset.insert([signed])
            taken.add(signed.record.kind)
        except NotAdmissibleError:
            assert len(opset) == len(pen.known)
    assert taken == allowed


def test_anybody_contributes_to_an_open_space_and_no_more() -> None:
    """In an open space genesis is a contributor's grant, and not a maintainer's."""
    pen = Pen.start("open")
    pen.add(STRANGER, X)
    view = pen.opset().view
    assert view.ranks[STRANGER.public] is Rank.CONTRIBUTOR
    assert pen.shown() == {X}
    for body in (Ban("content", X), RecipeChange(Recipe("linear/1"), ())):
        with pytest.raises(NotAdmissibleError):
            pen.opset().insert([write(STRANGER, pen.genesis.record, body)])
    pen.write(MIA, Ban("author", STRANGER.public))
    assert pen.shown() == set()


# --- recipe, nodes, unknown ------------------------------------------------------------


def test_recipe_is_the_head_that_nothing_replaces(pen: Pen) -> None:
    """One head serves; of several the lowest id; a successor names all and ends it."""
    assert pen.opset().view.recipe is None
    recipes = {
        pen.write(m, RecipeChange(Recipe(name), ())).record.id: name
        for m, name in ((MIA, "linear/1"), (MAX, "ties/1"))
    }
    view = pen.opset().view
    assert view.recipe_heads == tuple(sorted(recipes))
    assert view.recipe == Recipe(recipes[min(recipes)])
    new = pen.write(OLGA, RecipeChange(Recipe("dare_ties/1"), tuple(sorted(recipes))))
    view = pen.opset().view
    assert view.recipe_heads == (new.record.id,)
    assert view.recipe == Recipe("dare_ties/1")


def test_recipe_of_a_banned_author_replaces_nothing(pen: Pen) -> None:
    """Once its author has no rights, the recipe before it serves again."""
    old = pen.write(OLGA, RecipeChange(Recipe("linear/1"), ())).record.id
    pen.write(MIA, RecipeChange(Recipe("ties/1"), (old,)))
    pen.write(OLGA, Ban("author", MIA.public))
    assert pen.opset().view.recipe_heads == (old,)


def test_merge_id_covers_recipe_and_visible_set(pen: Pen) -> None:
    """Another recipe or another visible set is another merge."""
    one, two = Recipe("linear/1"), Recipe("ties/1")
    before = pen.opset().view
    pen.add(CLEO, X)
    after = pen.opset().view
    merges = [
        view.merge_id(recipe) for view in (before, after) for recipe in (one, two)
    ]
    assert len(set(merges)) == 4


def test_node_counts_while_its_author_has_rights(pen: Pen) -> None:
    """A node's last word serves; nobody talks another's away; a ban ends it."""
    node = b"\x07" * 32
    pen.write(CLEO, NodeAddress(node, ("old:1",)))
    pen.write(CLEO, NodeAddress(node, ("new:1",)))
    pen.write(READER, NodeAddress(node, ("trap:1",)))
    view = pen.opset().view
    assert set(view.nodes[node]) == {"new:1", "trap:1"}
    assert set(view.node_authors[node]) == {CLEO.public, READER.public}
    pen.write(MIA, Ban("author", READER.public))
    last = pen.last[CLEO.public].id
    pen.write(MIA, Revoke(CLEO.public, (last,)))  # accepted, yet it opens no door
    assert last in pen.opset().view.effective
    assert pen.opset().view.nodes == {}


def test_critical_unknown_is_reported_while_its_author_has_rights(pen: Pen) -> None:
    """Resolve will refuse on it; a ban of its author frees the space again."""
    pen.write(CLEO, unknown("minor"))
    assert pen.opset().view.unknown_critical == ()
    pen.write(CLEO, unknown("vital"), critical=True)
    assert pen.opset().view.unknown_critical == ("vital",)
    pen.write(MIA, Ban("author", CLEO.public))
    assert pen.opset().view.unknown_critical == ()


def test_a_space_without_genesis_means_nothing() -> None:
    """No record, no space: an empty set has no view."""
    with pytest.raises(WrongSpaceError):
        evaluate({})


def test_order_of_arrival_is_in_nothing(pen: Pen) -> None:
    """The same records in ten orders of the mapping mean the same."""
    ban = pen.write(MIA, Ban("author", CARL.public)).record.id
    pen.add(CLEO, X)
    pen.add(CARL, Y)
    pen.write(OLGA, Lift(ban))
    pen.write(OMAR, Revoke(MIA.public, (ban,)))
    records = [(i, s.record) for i, s in pen.known.items()]
    views = []
    for seed in range(10):
        random.Random(seed).shuffle(records)
        views.append(evaluate(dict(records)))
    assert all(view == views[0] for view in views)
