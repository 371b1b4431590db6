"""What a set means is the same whether it was found at once or as the set grew."""

import random

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.errors import MissingAuthorityError
from crdtmerge.orset import OpSet
from crdtmerge.policy import View, evaluate
from crdtmerge.record import SignedRecord
from tests.properties.cast import wire
from tests.properties.histories import (
    CALM,
    COMPACTED,
    FORKING,
    History,
    histories,
    histories_together,
)

Chance = st.integers(0, 2**32).map(random.Random)
FOUND = (
    *("genesis", "ranks", "rightless", "recipe", "recipe_heads", "nodes"),
    *("node_authors", "bans", "revocations", "faults", "forks", "quarantined"),
    *("unknown_critical", "chains", "lines", "contested", "endings", "pending", "acts"),
)


def same(view: View, whole: View) -> None:
    """Check each field of a view that grew against one that was found at once."""
    for name in FOUND:
        assert getattr(view, name) == getattr(whole, name), name
    assert set(view.effective) == whole.effective
    assert len(view.effective) == len(whole.effective)
    assert view.visible == whole.visible
    assert view.visible_root == whole.visible_root


def agrees(opset: OpSet) -> None:
    """Check a set against the evaluation of its records in another order."""
    records = dict(sorted(opset.records.items()))
    same(opset.view, evaluate(records))
    assert all(
        (key in opset.view.effective) == (key in set(opset.view.effective))
        for key in records
    )


def grown(opset: OpSet, records: list[SignedRecord], rng: random.Random) -> OpSet:
    """Insert records in batches, in any order, and ask now and then what they mean."""
    waiting = records
    while waiting:
        size = rng.choice([1, 1, 1, 3, 8])
        batch, waiting = waiting[:size], waiting[size:]
        before = opset
        try:
            opset = opset.insert([wire(signed) for signed in batch])
        except MissingAuthorityError:
            waiting += batch
            rng.shuffle(waiting)
            continue
        match rng.randrange(6):
            case 0 | 1:
                agrees(opset)
            case 2:
                assert opset.view.nodes is not None
            case 3:
                agrees(opset)
                agrees(before)
            case _:
                pass
    return opset


def check(history: History, rng: random.Random) -> None:
    """Grow a set from one replica's, on two ways that part, and compare all."""
    start = history.opset(0)
    if rng.random() < 0.5:
        agrees(start)
    records = list(history.all.values())
    rng.shuffle(records)
    half = records[: len(records) // 2]
    ways = (
        [grown(start, list(some), rng) for some in (records, half)]
        if _closed(start, half)
        else [grown(start, records, rng)]
    )
    for way in ways:
        agrees(way)
    agrees(start)


def _closed(start: OpSet, some: list[SignedRecord]) -> bool:
    """Tell whether all that `some` hang on is there."""
    here = {signed.record.id for signed in some} | set(start.signed)
    return all(not s.record.auth or s.record.auth in here for s in some)


@given(histories(), Chance)
def test_meaning_grows_to_what_it_is_at_once(
    history: History, rng: random.Random
) -> None:
    """Adds, removes, judgements, lifts, recipes, nodes, faults: in any order, any batch."""
    check(history, rng)


@given(histories(actions=CALM), Chance)
def test_the_same_where_nobody_is_judged(history: History, rng: random.Random) -> None:
    """As above, with more adds and removes that meet."""
    check(history, rng)


@given(histories(actions=FORKING, quarantine=True), Chance)
def test_the_same_where_forks_count(history: History, rng: random.Random) -> None:
    """As above, where what a forked author said after its fork has no effect."""
    check(history, rng)


@given(histories_together(actions=COMPACTED), Chance)
def test_the_same_where_owners_share_and_compact(
    history: History, rng: random.Random
) -> None:
    """As above, with approvals, successions, and records that are dead."""
    check(history, rng)
