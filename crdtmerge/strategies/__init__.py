"""Strategies: pure functions of ordered tensors, one row of one table each.

Owns the formulas, their parameters and defaults, what makes a recipe acceptable, and which
strategies of other packages are let in (`plugins`).
Does not own arithmetic on weights (`numerics`), nor which tensors a task sees
(`resolve`). Integer and boolean tensors never come here: they are the base's.
"""

from crdtmerge.strategies import plugins
from crdtmerge.strategies.base import (
    NO_EVIDENCE,
    Evidence,
    Given,
    Inputs,
    Made,
    Parameter,
    Parts,
    Scalars,
    Score,
    Strategy,
    Values,
    Whole,
    whole_of,
)
from crdtmerge.strategies.plugins import Plugin
from crdtmerge.strategies.recipes import (
    check_recipe,
    check_shared,
    evidence_of,
    has_reduce,
    make_recipe,
    steps_of,
)
from crdtmerge.strategies.table import STRATEGIES, find
from crdtmerge.strategies.texts import parse_weight

__all__ = [
    "NO_EVIDENCE",
    "STRATEGIES",
    "Evidence",
    "Given",
    "Inputs",
    "Made",
    "Parameter",
    "Parts",
    "Plugin",
    "Scalars",
    "Score",
    "Strategy",
    "Values",
    "Whole",
    "check_recipe",
    "check_shared",
    "evidence_of",
    "find",
    "has_reduce",
    "make_recipe",
    "parse_weight",
    "plugins",
    "steps_of",
    "whole_of",
]
