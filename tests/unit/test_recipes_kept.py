"""Rules by tag and content where sums are kept: the bytes of a fresh resolve."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from crdtmerge.recipe import Rule
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import find, make_recipe
from crdtmerge.strategies.table import SUMS
from tests.sums import UNIT, Store, World

WORLD = World.make(7)
OFFERS = WORLD.offers([(m, UNIT * (1 + m % 2)) for m in range(7)])


OTHERS = {"density": "0.7", "epsilon": "0.2", "gamma": "0.1", "p": "0.7"}
"""Values of parameters that contributions may have of their own."""


def tagged(offers: Sequence[Contribution], *places: int) -> list[Contribution]:
    """Return the offers, those at `places` with the tag that rules select."""
    return [
        replace(offer, tags=("math",)) if place in places else offer
        for place, offer in enumerate(offers)
    ]


def rules(name: str) -> list[Rule]:
    """Return rules of every kind that a strategy takes."""
    own = [
        Rule("*.weight", ((p.name, OTHERS[p.name]),), "tag:math")
        for p in find(name).parameters
        if p.per_model
    ]
    content = OFFERS[1].content.hex()
    return [
        Rule("*", (("weight", "3"),), "tag:math"),
        Rule("embed*", (("weight", "0"),), f"content:{content}"),
        Rule("name:head.bias", (("weight", "0.25"),), "tag:math"),
        *own,
    ]


@pytest.mark.parametrize("name", sorted(SUMS))
def test_kept_sums_follow_tags_and_members(name: str) -> None:
    """A tag that moves re-weighs two contributions, in sums as in a whole resolve."""
    recipe = make_recipe(name, {}, rules(name), seed_scope="contribution")
    store = Store()
    for offers in (
        tagged(OFFERS[:4], 0),
        tagged(OFFERS[:4], 1, 2),
        tagged(OFFERS[1:], 0, 1),
        tagged(OFFERS[2:5]),
        tagged(OFFERS, 0, 1, 2, 3, 4, 5, 6),
    ):
        outcome, sink = WORLD.again(recipe, offers, store)
        whole = WORLD.whole(recipe, offers)
        assert {name: whole[name] for name in sink.held} == sink.held
        assert set(outcome.digests) == set(whole)
    plain = WORLD.whole(make_recipe(name, {}, seed_scope="contribution"), OFFERS)
    assert whole != plain
