"""Evaluations in a resolve: what is read is merged by, and names what is remembered."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from crdtmerge.resolve.plan import Plan, make_plan
from crdtmerge.resolve.settings import Contribution
from crdtmerge.strategies import Score, make_recipe
from tests.models import UNIT, Merge, make_merge, resolve

READING = {"source": "evaluations", "by": "score", "metric": "accuracy"}
LINEAR = make_recipe("linear", {})


def scored(items: Sequence[Contribution], *values: int, author: int = 0) -> list[Score]:
    """One author's word on some of the contributions."""
    return [
        Score(item.content, "accuracy", "held-out", value * UNIT, bytes([author]) * 32)
        for item, value in zip(items, values, strict=False)
    ]


def planned(merge: Merge, scores: Sequence[Score], **more: str) -> Plan:
    recipe = make_recipe("mwa", {"source": "evaluations", "metric": "accuracy", **more})
    return make_plan(recipe, merge.base, merge.contributions, scores=scores)


def reduce_key(plan: Plan) -> bytes:
    (task,) = [task for task in plan.tasks if task.kind == "reduce"]
    return task.key


def test_scores_weigh_as_the_same_weights_would(tmp_path: Path) -> None:
    """A merge by scores has the bytes of the plain mean with those weights."""
    merge = make_merge((UNIT,) * 3)
    scores = scored(merge.contributions, 1, 3, 4)
    by_score = resolve(
        merge, tmp_path / "a", make_recipe("mwa", READING), scores=scores
    )
    weighed = tuple(
        replace(item, weight=times * UNIT)
        for item, times in zip(merge.contributions, (1, 3, 4), strict=True)
    )
    plain = resolve(replace(merge, contributions=weighed), tmp_path / "b", LINEAR)
    assert by_score.model_digest == plain.model_digest


def test_no_tensor_is_read_to_find_weights() -> None:
    """The reduce step needs no map, and each emit needs it."""
    merge = make_merge((UNIT,) * 3)
    plan = planned(merge, scored(merge.contributions, 1, 3, 4))
    assert "map" not in {task.kind for task in plan.tasks}
    key = reduce_key(plan)
    needing = {task.tensor for task in plan.tasks if key in task.needs}
    assert needing == {e.name for e in merge.base.tensors if e.name != "positions"}


def test_what_is_remembered_goes_by_what_was_said_of_whom() -> None:
    """Another value, author, or contribution in another place is another reduce task."""
    merge = make_merge((UNIT,) * 3)
    items = sorted(merge.contributions, key=lambda item: item.content)
    one = scored(items, 1, 3, 4)
    keys = [
        reduce_key(planned(merge, scores))
        for scores in (
            one,
            scored(items, 1, 3, 5),
            scored(items, 1, 3, 4, author=1),
            [*one, *scored(items, 1, 3, 4, author=1)],
        )
    ]
    assert len(set(keys)) == len(keys)
    assert reduce_key(planned(merge, one[::-1])) == keys[0]


def test_who_has_no_score_has_a_place() -> None:
    """The same scores of the same contributions, among others: places differ."""
    merge = make_merge((UNIT,) * 4)
    items = sorted(merge.contributions, key=lambda item: item.content)
    scores = [*scored(items[1:3], 1, 3)]
    fewer = [
        reduce_key(
            planned(
                replace(merge, contributions=tuple(some)), scores, lacking="leave_out"
            )
        )
        for some in (items[:3], items[1:])
    ]
    assert all(a != b for a, b in pairwise(fewer))
