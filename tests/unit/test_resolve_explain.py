"""What a check foretells is what a resolve does, for every strategy."""

import pytest

from crdtmerge.errors import BadInputError, ContractError
from crdtmerge.resolve.execute import execute
from crdtmerge.resolve.explain import explain
from crdtmerge.resolve.plan import make_plan
from crdtmerge.strategies import STRATEGIES, make_recipe
from tests.models import UNIT, Merge, make_merge, recipe_of, told, with_evidence
from tests.strategies import NEEDS
from tests.sums import Sink


def refusals(name: str, merge: Merge, *, with_needs: bool) -> list[str]:
    recipe = recipe_of(name) if with_needs else make_recipe(name, {})
    given = told(merge, recipe) if with_needs else merge.contributions
    notes = explain(recipe, merge.base, given).notes
    return [note for note in notes if note.startswith("a resolve is refused")]


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_is_foretold_comes_true(name: str) -> None:
    """With what it needs nothing is foretold; without, a refusal and it comes."""
    merge = make_merge()
    assert refusals(name, merge, with_needs=True) == []
    foretold = refusals(name, merge, with_needs=False)
    recipe = make_recipe(name, {})
    if foretold:
        assert name in NEEDS
        with pytest.raises(ContractError) as caught:
            make_plan(recipe, merge.base, merge.contributions)
        assert str(caught.value) in foretold[0]
        assert caught.value.hint in foretold[0]
        assert "(and of 4 more)" in foretold[0]
    else:
        given = [
            with_evidence(merge, item, recipe, item.content[0])
            for item in merge.contributions
        ]
        execute(make_plan(recipe, merge.base, given), merge.blobs, Sink())


def test_too_few_contributions_are_foretold() -> None:
    """For now: others may come."""
    merge = make_merge((UNIT, UNIT))
    (said,) = refusals("krum", merge, with_needs=False)
    assert "3 contributions" in said
    assert "there are 2" in said
    with pytest.raises(BadInputError, match="needs 3"):
        make_plan(make_recipe("krum", {}), merge.base, merge.contributions)


def test_nothing_is_foretold_of_contributions_that_are_not_known() -> None:
    """A check beside a base alone says what the recipe says."""
    merge = make_merge()
    notes = explain(make_recipe("wsm", {}), merge.base, None).notes
    assert not any("refused" in note for note in notes)
