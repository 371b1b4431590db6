"""The steps that a recipe may take before and after its strategy, one literal table.

Owns what a step is, and which there are. Does not own when they run (`pipeline`).

A step takes a task vector in float32 and returns one. Before the strategy each
contribution's goes through, with its own parameters; after it, that of the merged model.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import UnknownNameError
from crdtmerge.numerics import (
    Keep,
    Singles,
    kept_of,
    largest_magnitude,
    rounded,
    singles_of,
    sum_of_squares,
    sum_over,
)
from crdtmerge.strategies.base import (
    Description,
    Inputs,
    Parameter,
    Strategy,
    Values,
)
from crdtmerge.strategies.breadcrumbs import BREADCRUMBS
from crdtmerge.strategies.dare import DARE_LINEAR
from crdtmerge.strategies.della import DELLA, check_chances
from crdtmerge.strategies.sparsify import (
    band,
    draw_key,
    drop,
    matched,
    prune,
    trim,
)
from crdtmerge.strategies.task_arithmetic import TASK_ARITHMETIC
from crdtmerge.strategies.tensors import (
    Term,
    participants,
    row_length,
    tau_of,
    vector_of,
)
from crdtmerge.strategies.ties import TIES

Stage: TypeAlias = Literal["pre", "post"]


@dataclass(frozen=True, slots=True)
class Work:
    """One task vector on its way: float32, and whose it is.

    `inputs` are those of the tensor, before any step; `term` is the contribution, None
    after the strategy.
    """

    tau: Singles
    values: Values
    inputs: Inputs
    term: Term | None = None

    @property
    def label(self) -> str:
        """What errors call it."""
        return self.term.label if self.term else f"tensor {self.inputs.tensor!r}"


@dataclass(frozen=True, slots=True)
class Step:
    """One step at one version; its parameters are called NAME.PARAMETER in a recipe.

    `evidence` names the kinds of evidence that it reads (`crdtmerge.evidence.kinds`).
    """

    name: str
    version: int
    summary: str
    paper: str
    apply: Callable[[Work], Singles]
    parameters: tuple[Parameter, ...] = ()
    stages: tuple[Stage, ...] = ("pre", "post")
    draws: bool = False
    evidence: tuple[str, ...] = ()

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
            "evidence": list(self.evidence),
            "parameters": [
                parameter.describe() | {"name": f"{self.name}.{parameter.name}"}
                for parameter in self.parameters
            ],
        }


def _kept(tau: Singles, keep: Keep) -> Singles:
    """Return the task vector with what does not stay set to +0."""
    return kept_of(vector_of(tau), keep)


def _times(tau: Singles, factor: Fraction, label: str) -> Singles:
    """Multiply each item once in float64, and round it once to float32."""
    if factor == 1:
        return tau
    return rounded(tau.astype(np.float64) * float(factor), label)


def _scale(work: Work) -> Singles:
    by = Fraction(work.values.units("by"), DECIMAL_UNIT)
    return _times(work.tau, by, work.label)


def _trim(work: Work) -> Singles:
    keep = trim(vector_of(work.tau), work.values.units("density"))
    return _kept(work.tau, keep)


def _breadcrumbs(work: Work) -> Singles:
    values = work.values
    keep = band(vector_of(work.tau), values.units("density"), values.units("gamma"))
    return _kept(work.tau, keep)


def _drop(work: Work) -> Singles:
    assert work.term is not None, "a draw is keyed by a contribution"
    chance = DECIMAL_UNIT - work.values.units("p")
    keep = drop(draw_key(work.inputs, "step drop/1", work.term), chance)
    return _scaled(work, keep, Fraction(DECIMAL_UNIT, chance))


def _magprune(work: Work) -> Singles:
    assert work.term is not None, "a draw is keyed by a contribution"
    density, epsilon = (work.values.units(name) for name in ("density", "epsilon"))
    if density == DECIMAL_UNIT or not work.tau.size:
        return work.tau
    check_chances(density, epsilon, work.label)
    rescaled = work.values.choice("rescale") == "paper"
    key = draw_key(work.inputs, "step magprune/1", work.term)
    keep = prune(row_length(work.inputs), density, epsilon, key, rescaled=rescaled)
    return _scaled(work, keep, Fraction(1))


def _scaled(work: Work, keep: Keep, paper: Fraction) -> Singles:
    """Return what stays, times what `rescale` says; `paper` is the paper's factor."""
    factor, rescale = Fraction(1), work.values.choice("rescale")
    if rescale == "l1":
        keep, factor = matched(vector_of(work.tau), keep)
    elif rescale == "paper":
        factor = paper
    return _times(_kept(work.tau, keep), factor, work.label)


def _match_norm(work: Work) -> Singles:
    """Give the merged task vector the mean norm of those that made it."""
    _, terms = participants(work.inputs, work.inputs.weights)
    total = sum(abs(term.weight) for term in terms)
    norm = math.sqrt(sum_of_squares(work.tau))
    if not norm or not total:
        return work.tau
    taus = [singles_of(tau_of(work.inputs, term)) for term in terms]
    norms = [math.sqrt(sum_of_squares(tau)) for tau in taus]
    shares = [abs(t.weight) * n for t, n in zip(terms, norms, strict=True)]
    return _times(work.tau, Fraction(math.fsum(shares) / total / norm), work.label)


def _aim(work: Work) -> Singles:
    """Shrink what is changed of the base's busy input channels.

    `magnitude` is each contributor's measure of the base on its own data, its largest 1;
    those of weight above zero count by weight, so that none decides alone.
    """
    inputs = work.inputs
    told = [
        (weight, found["magnitude"])
        for weight, found in zip(inputs.weights, inputs.evidence, strict=False)
        if weight > 0 and "magnitude" in found
    ]
    if not told or not work.tau.size:
        return work.tau
    weights = np.array([[weight] for weight, _ in told], np.float64)
    busy = sum_over(weights * np.stack([array for _, array in told]))
    largest = largest_magnitude(busy)
    if not largest:
        return work.tau
    shrunk = 1.0 - (busy / largest) * (1.0 - work.values.real("omega"))
    table = work.tau.astype(np.float64).reshape(-1, busy.size) * shrunk
    return rounded(np.ascontiguousarray(table).reshape(-1), work.label)


def _own(strategy: Strategy, *names: str) -> tuple[Parameter, ...]:
    """Return parameters as a strategy has them; mergekit has no steps."""
    found = [p for p in strategy.parameters if p.name in names]
    return tuple(replace(p, mergekit_default=None) for p in found)


_BY: Final = Parameter(
    "by",
    "decimal",
    "1",
    None,
    "what it is multiplied by",
    minimum=-100 * DECIMAL_UNIT,
    maximum=100 * DECIMAL_UNIT,
    per_model=True,
)

STEPS: Final[Mapping[str, Step]] = MappingProxyType(
    {
        step.full_name: step
        for step in (
            Step(
                "aim",
                1,
                "Shrink changes of the input channels that the base uses most",
                "Nobari et al. 2025, AIM, https://arxiv.org/abs/2502.02421",
                _aim,
                (
                    Parameter(
                        "omega",
                        "decimal",
                        "0.4",
                        None,
                        "what is left of the change where the base's inputs are largest",
                        maximum=DECIMAL_UNIT,
                    ),
                ),
                stages=("post",),
                evidence=("magnitude",),
            ),
            Step(
                "breadcrumbs",
                1,
                "Zero the largest and the smallest magnitudes, per tensor",
                BREADCRUMBS.paper,
                _breadcrumbs,
                _own(BREADCRUMBS, "density", "gamma"),
            ),
            Step(
                "drop",
                1,
                "Drop items at random and rescale what is left",
                DARE_LINEAR.paper,
                _drop,
                _own(DARE_LINEAR, "p", "rescale"),
                stages=("pre",),
                draws=True,
            ),
            Step(
                "magprune",
                1,
                "Drop items at random, small ones sooner, and rescale what is left",
                DELLA.paper,
                _magprune,
                _own(DELLA, "density", "epsilon", "rescale"),
                stages=("pre",),
                draws=True,
            ),
            Step(
                "match_norm",
                1,
                "Give the merged task vector the weighted mean norm of the contributions'",
                "Tang et al. 2025, OPCM, https://arxiv.org/abs/2501.09522",
                _match_norm,
                stages=("post",),
            ),
            Step(
                "scale",
                1,
                "Multiply a task vector",
                TASK_ARITHMETIC.paper,
                _scale,
                (_BY,),
            ),
            Step(
                "trim",
                1,
                "Keep the largest magnitudes of a task vector, per tensor",
                TIES.paper,
                _trim,
                _own(TIES, "density"),
            ),
        )
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
