"""The steps that a recipe may take before and after its strategy, one literal table.

Owns what a step is, and which there are. Does not own when they run (`pipeline`).

A step takes a task vector in float32 and returns one. Before the strategy each
contribution's goes through, with its own parameters; after it, that of the merged model.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import UnknownNameError
from crdtmerge.numerics import (
    Singles,
    keep_count,
    keep_top,
    rounded,
)
from crdtmerge.strategies.base import Description, Inputs, Parameter, Values

Stage: TypeAlias = Literal["pre", "post"]


@dataclass(frozen=True, slots=True)
class Work:
    """One task vector on its way: float32, and whose it is.

    `inputs` are those of the tensor; `content` is empty after the strategy.
    """

    tau: Singles
    values: Values
    inputs: Inputs
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Step:
    """One step at one version; its parameters are called NAME.PARAMETER in a recipe."""

    name: str
    version: int
    summary: str
    paper: str
    apply: Callable[[Work], Singles]
    parameters: tuple[Parameter, ...] = ()
    stages: tuple[Stage, ...] = ("pre", "post")
    draws: bool = False

    @property
    def full_name(self) -> str:
        """The versioned name that recipes carry, such as `trim/1`."""
        return f"{self.name}/{self.version}"

    def describe(self) -> Description:
        """Return the declaration as plain values."""
        return {
            "name": self.name,
            "full_name": self.full_name,
            "version": self.version,
            "summary": self.summary,
            "paper": self.paper,
            "stages": list(self.stages),
            "draws": self.draws,
            "parameters": [
                parameter.describe() | {"name": f"{self.name}.{parameter.name}"}
                for parameter in self.parameters
            ],
        }


def _trim(work: Work) -> Singles:
    return keep_top(work.tau, keep_count(work.tau.size, work.values.units("density")))


def _scale(work: Work) -> Singles:
    """Multiply each item once in float64, and round it once."""
    by = float(Fraction(work.values.units("by"), DECIMAL_UNIT))
    return rounded(work.tau.astype(np.float64) * by, f"tensor {work.inputs.tensor!r}")


STEPS: Final[Mapping[str, Step]] = MappingProxyType(
    {
        "scale/1": Step(
            "scale",
            1,
            "Multiply a task vector",
            "Ilharco et al. 2023, Task arithmetic, https://arxiv.org/abs/2212.04089",
            _scale,
            (
                Parameter(
                    "by",
                    "decimal",
                    "1",
                    None,
                    "what it is multiplied by",
                    minimum=-100 * DECIMAL_UNIT,
                    maximum=100 * DECIMAL_UNIT,
                    per_model=True,
                ),
            ),
        ),
        "trim/1": Step(
            "trim",
            1,
            "Keep the largest magnitudes of a task vector, per tensor",
            "Yadav et al. 2023, TIES-Merging, https://arxiv.org/abs/2306.01708",
            _trim,
            (
                Parameter(
                    "density",
                    "decimal",
                    "0.2",
                    None,
                    "share of the items that is kept; ties at the threshold stay",
                    maximum=DECIMAL_UNIT,
                    per_model=True,
                ),
            ),
        ),
    }
)


def find_step(name: str, stage: Stage) -> Step:
    """Return the step called `name`, with or without a version.

    Raises:
        UnknownNameError: there is none for this stage; the hint lists those there are.
    """
    plain, slash, version = name.partition("/")
    fitting = [
        step
        for step in STEPS.values()
        if step.name == plain
        and stage in step.stages
        and (not slash or version == str(step.version))
    ]
    if fitting:
        return max(fitting, key=lambda step: step.version)
    place = "before" if stage == "pre" else "after"
    known = [s.name for s in STEPS.values() if stage in s.stages]
    near = difflib.get_close_matches(plain, known, n=1)
    asked = f"did you mean {near[0]!r}? " if near else ""
    message = f"there is no step {name!r} {place} a strategy"
    raise UnknownNameError(message, hint=f"{asked}known: {', '.join(known)}")
