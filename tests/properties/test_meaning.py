"""Laws of what a set means as it grows: it is what all of its records mean from nothing.

However they come, whatever was asked before of which value, and whatever values were left
behind. The evaluator from nothing has an oracle of its own (`test_visible`).
"""

import random
from typing import Final

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from crdtmerge.bodies import RecordId
from crdtmerge.log import MemoryLog
from crdtmerge.orset import OpSet
from crdtmerge.policy import Meaning, evaluate
from crdtmerge.record import SignedRecord
from tests.properties.histories import (
    COMPACTED,
    FORKING,
    History,
    histories,
    histories_together,
)

Drawn: Final = st.builds(random.Random, st.integers(0, 2**32))
any_history: Final = st.one_of(
    histories(),
    histories(FORKING, quarantine=True),
    histories_together(),
    histories_together(COMPACTED),
)


def growing(history: History, rng: random.Random) -> list[list[SignedRecord]]:
    """Return the living records in batches in which they could have come."""
    left = dict(history.union().signed)
    here: set[bytes] = {b""}
    batches: list[list[SignedRecord]] = []
    while left:
        ready = [key for key, s in left.items() if s.record.auth in here]
        if not batches:
            chosen = ready  # the genesis alone
        else:
            chosen = rng.sample(ready, min(len(ready), rng.choice((1, 1, 1, 2, 7))))
        batches.append([left.pop(key) for key in chosen])
        here.update(chosen)
    return batches


def ask(meaning: Meaning, rng: random.Random) -> None:
    """Ask something of a meaning, or nothing."""
    match rng.randrange(4):
        case 0:
            _ = meaning.view.visible_root
        case 1:
            _ = meaning.view.nodes, meaning.view.pending
        case 2:
            _ = meaning.view.evaluations
        case _:
            pass


@given(any_history, Drawn)
def test_a_meaning_that_grows_is_what_its_records_mean_from_nothing(
    history: History, rng: random.Random
) -> None:
    """Field by field, at every step; and it stays so, when others have grown from it."""
    listing = history.union().listing
    batches = growing(history, rng)
    log = MemoryLog(batches[0])
    meaning = Meaning.of(log, listing)
    left_behind: list[tuple[Meaning, MemoryLog]] = []
    for batch in batches[1:]:
        ask(meaning, rng)
        left_behind.append((meaning, log))
        log = log.extended({s.record.id: s for s in batch})
        meaning = meaning.advanced(log, listing)
        if rng.randrange(3) == 0:
            assert meaning.view == Meaning.of(log, listing).view
    assert meaning.view == evaluate(history.union().records)
    for older, seen in rng.sample(left_behind, min(2, len(left_behind))):
        assert older.view == Meaning.of(seen, listing).view


@given(any_history, Drawn)
def test_a_set_that_grows_means_what_its_records_mean(
    history: History, rng: random.Random
) -> None:
    """Through `OpSet`, where records die: record by record, and at any point."""
    opset = OpSet(history.space)
    for batch in growing(history, rng):
        opset = opset.insert(batch)
        if rng.randrange(2):
            ask(opset.meaning, rng)
        if rng.randrange(4) == 0:
            assert opset.view == evaluate(opset.records)
    assert opset.view == evaluate(opset.records)


@given(any_history, Drawn)
def test_from_one_value_several_may_grow(history: History, rng: random.Random) -> None:
    """A batch is tried, and thrown away, and another one joined: nothing is left of it."""
    opset = OpSet(history.space)
    for batch in growing(history, rng):
        if rng.randrange(2):
            tried = opset.insert(rng.sample(batch, rng.randint(0, len(batch))))
            _ = tried.view.visible if len(tried) else None
        opset = opset.insert(batch)
    assert opset.view == evaluate(opset.records)


@given(any_history, Drawn)
def test_changes_name_each_content_that_is_shown_otherwise(
    history: History, rng: random.Random
) -> None:
    """Whoever looks again at what changed alone misses nothing, or has to look at all."""
    batches = growing(history, rng)
    opset = OpSet(history.space).insert(batches[0])
    for batch in batches[1:]:
        before = opset.view.shown
        opset = opset.insert(batch)
        after = opset.view.shown
        changed = after.changes.since(before.changes)
        if changed is None:
            continue
        for content in {*before.elements, *after.elements}:
            same = before.elements.get(content) == after.elements.get(content)
            assert same or content in changed


def test_histories_change_who_stands_how_beside_plain_records() -> None:
    """The laws see both: steps that keep who stands how, and steps that do not."""
    found: set[str] = set()

    @settings(max_examples=60, derandomize=True, phases=[Phase.generate])
    @given(any_history, Drawn)
    def look(history: History, rng: random.Random) -> None:
        opset = OpSet(history.space)
        last: object = None
        for batch in growing(history, rng):
            opset = opset.insert(batch)
            standing = opset.meaning.rights.standing
            found.add("same" if standing is last else "other")
            found.update({"watched"} if opset.meaning.rights.watched else ())
            shown = opset.meaning.showing
            found.update({"hidden"} if shown.hidden else ())
            found.update({"removes"} if shown.removes else ())
            last = standing

    look()
    assert found == {"same", "other", "watched", "hidden", "removes"}


def effective_ids(opset: OpSet) -> set[RecordId]:
    """Return what takes effect, asked one by one."""
    return {key for key in opset.signed if key in opset.view.effective}


@given(any_history)
def test_effect_is_the_same_asked_for_one_or_for_all(history: History) -> None:
    opset = history.union()
    assert effective_ids(opset) == set(opset.view.effective)
    assert len(opset.view.effective) == len(effective_ids(opset))
    assert effective_ids(opset) == evaluate(opset.records).effective
