"""Which strategies are run, and the recipe under which each is: our whole catalogue.

Owns the match of the paper's names with ours, and what the few strategies are told that
need to know which contribution is which. Does not own strategies. A strategy that comes
into the catalogue is run from then on, with no change here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from crdtmerge.errors import CrdtMergeError
from crdtmerge.recipe import EVERYWHERE, Recipe, Rule
from crdtmerge.strategies import STRATEGIES, Strategy, find, make_recipe

PAPER: Final[Mapping[str, tuple[str, ...]]] = {
    "ada_merging": ("adamerging",),
    "adarank": (),
    "dam": (),
    "dare": (),
    "dare_ties": (),
    "della": (),
    "dual_projection": (),
    "emr": (),
    "evolutionary_merge": ("evolutionary",),
    "fisher_merge": ("fisher",),
    "genetic_merge": ("genetic",),
    "led_merge": ("led", "led_merging"),
    "linear": (),
    "model_breadcrumbs": (),
    "negative_merge": ("negative",),
    "regression_mean": ("regmean",),
    "representation_surgery": ("surgery",),
    "safe_merge": (),
    "slerp": (),
    "split_unlearn_merge": ("split_unlearn",),
    "star": (),
    "svd_knot_tying": ("knots",),
    "task_arithmetic": (),
    "ties": (),
    "weight_average": (),
    "weight_scope_alignment": ("wsa",),
}
"""The 26 of the paper, and what else we may call one; aliases of ours are found as well."""

Own = Callable[[int], dict[str, str]]

OWN: Final[Mapping[str, Own]] = {
    "layer_swap/1": lambda k: {"part": "outer"} if k % 2 else {},
    "passthrough/1": lambda k: {"select": "true"} if k == 1 else {},
    "pma/1": lambda k: {"step": str(k)},
    "wsm/1": lambda k: {"step": str(k)},
}
"""What contribution k, from 1, is told of its own, where a strategy cannot do without:
which part it is of, that it is the one, or which checkpoint of a training run it is."""


PARAMETERS: Final[Mapping[str, dict[str, str]]] = {
    "layer_swap/1": {"bottom": "1", "top": "1"},
}
"""What is not at our default: MiniLM has six layers, and the defaults are for 32."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A strategy that is run; `papers` are the names that the paper has for it."""

    strategy: Strategy
    papers: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its versioned name."""
        return self.strategy.full_name

    def own(self, number: int) -> dict[str, str]:
        """Return what contribution `number`, from 1, is told of its own."""
        return OWN.get(self.name, _nothing)(number)

    def recipe(self, members: int) -> Recipe:
        """Return its recipe, at our defaults, for contributions tagged by `tag_of`."""
        rules = [
            Rule(EVERYWHERE, tuple(own.items()), f"tag:{tag_of(k)}")
            for k in range(1, members + 1)
            if (own := self.own(k))
        ]
        return make_recipe(self.name, PARAMETERS.get(self.name, {}), rules)


def _nothing(_number: int) -> dict[str, str]:
    return {}


def tag_of(number: int) -> str:
    """Return the tag that contribution `number` bears."""
    return f"member-{number}"


def catalogue(only: tuple[str, ...] = ()) -> tuple[Choice, ...]:
    """Return the strategies of our catalogue, or those with these names, by name."""
    papers = paper_names()
    return tuple(
        Choice(strategy, tuple(p for p, ours in papers.items() if ours == name))
        for name, strategy in sorted(STRATEGIES.items())
        if not only or strategy.name in only
    )


def paper_names() -> dict[str, str]:
    """Return by the paper's name which strategy of ours it is; empty if none."""
    return {name: _ours(name, others) for name, others in PAPER.items()}


def _ours(name: str, others: tuple[str, ...]) -> str:
    for candidate in (name, *others):
        try:
            found = find(candidate).full_name
        except CrdtMergeError:
            continue
        if found in STRATEGIES:
            return found
    return ""


def not_run() -> list[str]:
    """Return the paper's strategies that our catalogue does not have."""
    return [name for name, ours in paper_names().items() if not ours]
