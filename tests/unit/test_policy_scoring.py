"""Evaluations: which count, which a recipe reads, and that those name another merge."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import pytest

from crdtmerge.bodies import Ban, Evaluation, RecordId, Remove, Revoke
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId, Domain, digest_value
from crdtmerge.errors import NotAdmissibleError
from crdtmerge.identity import SigningKey
from crdtmerge.policy import View, evaluate
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.strategies import Parameter, Strategy, find, plugins
from crdtmerge.trie import Trie
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    HEIRS,
    MAINTAINERS,
    OWNERS,
    READER,
    STRANGER,
    Pen,
)

MIA: Final = MAINTAINERS[0]
X, Y, GONE = CONTENTS[:3]


def _word(name: str) -> Parameter:
    return Parameter(name, "label", "", None, "which evaluations", whole=True)


SCORED: Final = replace(
    find("linear"),
    name="acme.scored",
    aliases=(),
    parameters=(_word("data"), _word("metric")),
    scores=lambda values: values.choice("metric") != "none",
)


@pytest.fixture(autouse=True)
def _scored() -> Iterator[None]:
    with plugins.offered(SCORED):
        yield


@pytest.fixture
def pen() -> Pen:
    """A space in which Cleo has contributed twice."""
    made = Pen.start()
    made.add(CLEO, X)
    made.add(CLEO, Y)
    return made


def by(metric: str = "", data: str = "", strategy: Strategy = SCORED) -> Recipe:
    """Return a recipe that reads this metric on this data."""
    return Recipe(strategy.full_name, (("data", data), ("metric", metric)))


def said(
    pen: Pen,
    author: SigningKey,
    result: int,
    *,
    content: ContentId = X,
    metric: str = "accuracy",
    data: str = "digits",
) -> RecordId:
    """Let an author score a contribution; return the record."""
    body = Evaluation("content", content, metric, data, result * DECIMAL_UNIT)
    return pen.write(author, body).record.id


def counting(view: View) -> list[int]:
    """Return the results that count, in order."""
    return sorted(one.said.result // DECIMAL_UNIT for one in view.evaluations)


def test_of_one_author_the_last_word_of_one_thing_counts(pen: Pen) -> None:
    """Another contribution, metric, data or author is another thing."""
    said(pen, READER, 9)
    said(pen, READER, 1)
    said(pen, READER, 2, content=Y)
    said(pen, READER, 3, metric="loss")
    said(pen, READER, 4, data="words")
    said(pen, CARL, 5)
    pen.write(READER, Evaluation("model", X, "accuracy", "digits", 6 * DECIMAL_UNIT))
    assert counting(pen.opset().view) == [1, 2, 3, 4, 5, 6]


def test_what_was_said_before_is_as_large_as_what_is_said_after(pen: Pen) -> None:
    """The number decides, not the result and not the id: a lower score may be the last."""
    for result in (3, 9, 5, 1, 7, 2):
        said(pen, READER, result)
        assert counting(pen.opset().view) == [result]


def test_keys_of_one_identity_are_one_author(pen: Pen) -> None:
    """Whoever follows a key does not count twice, and its word is the later one."""
    for number in (1, 2, 3):
        said(pen, CLEO, number)
    pen.name(CLEO, HEIRS[0])
    said(pen, HEIRS[0], 7)
    assert counting(pen.opset().view) == [7]
    (last,) = pen.opset().view.evaluations
    assert last.author == CLEO.public  # of other data too it would be one voice


def test_nothing_counts_of_who_has_no_rights(pen: Pen) -> None:
    """Of a banned author nothing; of a revoked one what was accepted, as of adds."""
    said(pen, READER, 1)
    kept = said(pen, CARL, 2)
    said(pen, CARL, 3)
    assert counting(pen.opset().view) == [1, 3]
    pen.write(MIA, Ban("author", READER.public))
    assert counting(pen.opset().view) == [3]
    pen.write(MIA, Revoke(CARL.public, (kept,)))
    assert counting(pen.opset().view) == [2]


def test_strangers_score_nothing(pen: Pen) -> None:
    """Whoever has no rank is not let in at all."""
    said(pen, STRANGER, 4)
    with pytest.raises(NotAdmissibleError):
        pen.opset()


def test_evaluations_that_are_read_are_in_the_merge_id(pen: Pen) -> None:
    """Each new one makes another merge; by what is not read, none is made."""
    plain = Recipe("linear/1", find("linear").defaults.parameters)
    ids, others = [], []
    for result in (1, 2, 3):
        view = pen.opset().view
        ids.append(view.merge_id(by("accuracy", "digits")))
        others += [view.merge_id(by("none")), view.merge_id(plain)]
        said(pen, READER, result)
    assert len(set(ids)) == 3
    assert len(set(others)) == 2
    view, who = pen.opset().view, [item.who for item in pen.opset().view.visible]
    read = [one.record for one in view.read_by(by())]
    assert view.merge_id(by()) == by().merge_id(view.base, view.visible_root, who, read)
    parts = [view.base, by().digest, view.visible_root, Trie.build(read).root]
    assert view.merge_id(by()) == digest_value(Domain.MERGE, parts)


def test_a_recipe_reads_its_metric_and_data_of_what_is_visible(pen: Pen) -> None:
    """An empty word means any. Merged models, and what is gone, are not read."""
    add = pen.add(CLEO, GONE)
    scored = [
        said(pen, READER, 1),
        said(pen, READER, 2, metric="loss"),
        said(pen, READER, 3, data="words"),
        said(pen, READER, 4, content=Y),
    ]
    said(pen, READER, 5, content=GONE)
    pen.write(CLEO, Remove((add,)))
    pen.write(READER, Evaluation("model", X, "accuracy", "digits", 6))
    view = pen.opset().view

    def read(metric: str, data: str) -> set[int]:
        found = view.read_by(by(metric, data))
        return {scored.index(one.record) for one in found}

    assert read("", "") == {0, 1, 2, 3}
    assert read("accuracy", "") == {0, 2, 3}
    assert read("", "digits") == {0, 1, 3}
    assert read("loss", "digits") == {1}
    assert read("loss", "words") == set()
    assert {one.said.target for one in view.without([X]).read_by(by())} == {Y}


def test_a_rule_for_everything_changes_what_is_read(pen: Pen) -> None:
    """What holds for the whole model decides, as in the plan."""
    said(pen, READER, 1)
    ruled = replace(by("loss"), rules=(Rule("*", (("metric", "accuracy"),)),))
    assert pen.opset().view.read_by(by("loss")) == ()
    assert len(pen.opset().view.read_by(ruled)) == 1


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("shiny/9"),
        Recipe("acme.scored/1"),
        Recipe("acme.scored/1", (("data", ""), ("metric", "NO WORD"))),
    ],
)
def test_a_recipe_that_is_not_usable_here_reads_nothing(
    pen: Pen, recipe: Recipe
) -> None:
    """Of another version, or malformed: a view never breaks by what somebody set."""
    before = pen.opset().view.merge_id(recipe)
    said(pen, READER, 1)
    assert pen.opset().view.merge_id(recipe) == before


def test_evaluations_come_and_go_as_the_set_grows(pen: Pen) -> None:
    """Asked at each step, what is found from what is new is what all records mean."""
    opset = pen.opset()
    steps: list[Callable[[], object]] = [
        lambda: said(pen, READER, 1),
        lambda: pen.add(CARL, GONE),
        lambda: said(pen, READER, 2),
        lambda: said(pen, CARL, 3),
        lambda: pen.write(MIA, Ban("author", CARL.public)),
        lambda: pen.name(READER, HEIRS[0]),
        lambda: said(pen, HEIRS[0], 4),
        lambda: pen.write(OWNERS[0], Ban("author", READER.public)),
    ]
    seen = []
    for step in steps:
        step()
        opset = opset.insert(list(pen.known.values()))
        assert opset.view.evaluations == evaluate(opset.records).evaluations
        seen.append(counting(opset.view))
    assert seen == [[1], [1], [2], [2, 3], [2], [2], [4], []]


def test_a_plain_record_leaves_the_evaluations_the_very_same_value(pen: Pen) -> None:
    """What came says nothing of them: they are not gone through again."""
    said(pen, READER, 1)
    opset = pen.opset()
    before = opset.view.evaluations
    pen.add(CARL, GONE)
    opset = opset.insert(list(pen.known.values()))
    assert opset.view.evaluations is before
