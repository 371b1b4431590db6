"""Choosing bytes until an id is convenient: what that gains, and what it does not.

Strategies that fold one model after the other take them in the order of H(seed, content),
and the seed covers all of them. So who grinds its content id wins no place that lasts. Who
comes last sees all others, and can still try bytes until it likes its place: that is
stated in docs/threat-model.md, and shown here.
"""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from crdtmerge.digest import ContentId, Domain, digest_value
from crdtmerge.errors import NotAdmissibleError
from crdtmerge.resolve.plan import tensor_seed
from crdtmerge.strategies import make_recipe
from crdtmerge.strategies.tensors import _terms, in_drawn_order
from tests.attacks.fortress import Fortress, add_of, model
from tests.properties.cast import CARL, CLEO, STRANGER, write
from tests.strategies import sample, task

RECIPE: Final = make_recipe("slerp", {})
TRIES: Final = 400


def seed_of(contents: Iterable[ContentId]) -> bytes:
    """Return the seed of the tensor that all of these change."""
    return tensor_seed(RECIPE, "t000", contents)


def drawn(contents: Iterable[ContentId]) -> list[ContentId]:
    """Return contents in the order of a fold, by the formula of the docs."""
    found = list(contents)
    seed = seed_of(found)
    return sorted(found, key=lambda c: digest_value(Domain.ORDER, [seed, c]))


def contents_here(fortress: Fortress) -> list[ContentId]:
    """Return the visible contents."""
    return [v.content for v in fortress.spaces().view(fortress.space).visible]


def ground(count: int, what: str = "try") -> list[ContentId]:
    """Return the content ids of so many models that differ in no way that matters."""
    return [model(f"{what} {n}".encode()).content_id for n in range(count)]


def test_the_formula_is_the_one_of_the_strategies() -> None:
    """What the attacks are counted with is the order that slerp folds in."""
    base, tunes = sample(8, 5)
    contents = tuple(sorted(ground(5)))
    inputs = replace(
        task("slerp", "F32", tunes, base), contents=contents, seed=seed_of(contents)
    )
    terms = in_drawn_order(inputs, _terms(inputs, inputs.weights))
    assert [term.content for term in terms] == drawn(contents)


def test_grinding_for_canonical_position(fortress: Fortress) -> None:
    """The lowest of many content ids is first in the canonical order, and in no fold.

    The ground model comes in as any other does, and every place in the fold is as likely
    for it as for an honest one.
    """
    others = contents_here(fortress)
    lowest = sorted(ground(TRIES))[:60]
    assert all(content < min(others) for content in lowest[:20])
    places = Counter(drawn([*others, content]).index(content) for content in lowest)
    assert set(places) == {0, 1, 2}
    assert max(places.values()) < 40

    models = [model(f"try {n}".encode()) for n in range(TRIES)]
    best = min(models, key=lambda manifest: manifest.content_id)
    said = fortress.next(CARL, add_of(best))
    fortress.takes([said], lambda siege: siege.feeds(CARL, said))
    assert contents_here(fortress)[0] == best.content_id


def test_ground_position_is_lost_to_the_next_comer(fortress: Fortress) -> None:
    """Whoever ground itself a place loses it when anybody adds one more model."""
    others = contents_here(fortress)
    winner = next(c for c in ground(TRIES) if drawn([*others, c])[0] == c)
    later = ground(200, "later")
    kept = sum(drawn([*others, winner, c])[0] == winner for c in later)
    # One in four by chance: of 200, more than 80 or less than 20 is no chance.
    assert 20 < kept < 80


def test_last_mover_grinds_its_place(fortress: Fortress) -> None:
    """It takes about as many tries as there are models: stated, and not prevented."""
    others = contents_here(fortress)
    rng = random.Random(1)
    needed = []
    for _ in range(30):
        start = rng.randrange(10**6)
        tries = (model(f"{start + n}".encode()).content_id for n in range(TRIES))
        needed.append(
            next(n for n, c in enumerate(tries) if drawn([*others, c])[0] == c)
        )
    assert sum(needed) / len(needed) < 2 * (len(others) + 1)


def test_seed_ground_by_who_changes_nothing(fortress: Fortress) -> None:
    """A model that leaves a tensor as the base has it does not enter that one's seed.

    So nobody moves the masks of a tensor by adding copies of the base; and who has no
    right moves nothing at all.
    """
    others = contents_here(fortress)
    assert seed_of(others) == seed_of(reversed(others))
    assert seed_of(others) == seed_of([*others, others[0]])
    lie = write(STRANGER, fortress.pen.genesis.record, add_of(model(b"moves the seed")))
    fortress.withstands(NotAdmissibleError, lambda siege: siege.feeds(CLEO, lie))
    assert seed_of(contents_here(fortress)) == seed_of(others)
