"""Strategies: pure functions of ordered tensors, one row of one table each.

Owns the formulas, their parameters and defaults, and what makes a recipe acceptable.
Does not own arithmetic on weights (`numerics`), nor which tensors a task sees
(`resolve`). Integer and boolean tensors never come here: they are the base's.
"""

from crdtmerge.strategies.base import (
    Given,
    Inputs,
    Parameter,
    Strategy,
    Values,
    Whole,
)
from crdtmerge.strategies.recipes import (
    check_recipe,
    has_reduce,
    make_recipe,
    steps_of,
)
from crdtmerge.strategies.table import STRATEGIES, find
from crdtmerge.strategies.texts import parse_weight

__all__ = [
    "STRATEGIES",
    "Given",
    "Inputs",
    "Parameter",
    "Strategy",
    "Values",
    "Whole",
    "check_recipe",
    "find",
    "has_reduce",
    "make_recipe",
    "parse_weight",
    "steps_of",
]
