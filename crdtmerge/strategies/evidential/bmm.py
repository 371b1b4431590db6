"""bmm: a regression on all models' inputs that begins with a merge as its belief.

Owns `bmm/1`. Does not own evidence (`given`), the solve (`systems`), nor the merges that
it begins with.

Formula (Bayesian Model Merging, Li et al. 2026, arXiv:2605.12843): of a linear layer, out x
in, with models W_i, Gram matrices G_i of their inputs and a Gaussian belief around an
anchor W_a, which is another merge of the same models, the most likely layer is
out = (sum W_i G_i + lambda W_a) (sum G_i + lambda I)^-1. Without data (`gram=task`)
G_i = tau_i' tau_i / |tau_i|^2 stands for the inputs: gradients of a layer are made of them.

Ours: it is solved as W_a + (sum (W_i - W_a) G_i) (sum G_i + lambda I)^-1, which is the
same. G_i has a trace of 1, whatever its author gave, and is multiplied by the weight over
the mean weight. lambda is `lambda` times the mean of tr(G_i) / d; the paper searches one
for each layer on held-out data, which a merge without a server has not: rules for single
tensors can set it. The anchor is as its strategy makes it, at its defaults and with the
same weights; what it adds to the base is multiplied by `scale`. Its choices are those of
the paper (`wudi` by its closed form), and the weighted mean. Where there is no Gram matrix,
for vectors and where nobody attaches any, the belief is all there is: out = W_a. A
contribution that leaves a matrix as it is has no Gram matrix of its own with `gram=task`,
and counts for keeping the base with `gram=evidence`. mergekit has no bmm.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import numpy as np

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.numerics import Floats, row_products, sum_of_squares, values_of
from crdtmerge.strategies.base import (
    Inputs,
    Memory,
    Parameter,
    Parts,
    Strategy,
    Values,
    whole_of,
)
from crdtmerge.strategies.evidential.given import LACKING, Told, told
from crdtmerge.strategies.evidential.systems import away_of, moved, regression, shared
from crdtmerge.strategies.linear import LINEAR
from crdtmerge.strategies.spectral.matrices import base_alone, matrix_shape
from crdtmerge.strategies.spectral.task_singular import TSV_M
from crdtmerge.strategies.spectral.wudi import WUDI
from crdtmerge.strategies.task_arithmetic import TASK_ARITHMETIC
from crdtmerge.strategies.tensors import (
    Term,
    base_of,
    participants,
    refuse_negative,
    tau_of,
)

NAME: Final = "bmm"
GRAM: Final = "gram"
LAMBDA: Final = "lambda"
SCALE: Final = "scale"

ANCHORS: Final[Mapping[str, Strategy]] = MappingProxyType(
    {
        "mean": LINEAR,
        "task_arithmetic": TASK_ARITHMETIC,
        "tsv_m": TSV_M,
        "wudi": WUDI,
    }
)
"""The merges that a regression can begin with: none draws, nor reads evidence."""


def _emit(inputs: Inputs) -> Parts:
    refuse_negative(inputs.weights, NAME, inputs.tensor)
    _, terms = participants(inputs, inputs.weights)
    if not terms:
        return base_alone(inputs)
    anchor, shape = _anchor(inputs), matrix_shape(inputs.shape)
    found = _found(inputs, terms, shape) if shape else ()
    if shape is None or not found:
        return moved(inputs, anchor, np.zeros(inputs.items))
    pairs = _pairs(inputs, found, anchor.reshape(shape))
    ridge = inputs.values.real(LAMBDA) / len(found)  # of the sum's mean diagonal
    return moved(inputs, anchor, regression(inputs, pairs, ridge).reshape(-1))


def _anchor(inputs: Inputs) -> Floats:
    """Return what another strategy makes of the same, in float64: (items,)."""
    strategy = ANCHORS[inputs.values.choice("anchor")]
    own = replace(
        inputs, values=strategy.defaults, own=(), evidence=(), output_dtype="F64"
    )
    merged = np.frombuffer(whole_of(strategy.emit(own)), "<f8")
    base, scale = values_of(base_of(inputs)), inputs.values.real(SCALE)
    scaled: Floats = merged if scale == 1.0 else base + (merged - base) * scale
    return scaled


def _found(
    inputs: Inputs, terms: Sequence[Term], shape: tuple[int, int]
) -> tuple[Told, ...]:
    """Return who takes part: with a Gram matrix, or with the task matrix that makes one."""
    if inputs.values.choice(GRAM) == "evidence":
        return told(inputs, terms, GRAM)
    pairs = [(t, values_of(tau_of(inputs, t)).reshape(shape)) for t in terms]
    return tuple(Told(term, tau) for term, tau in pairs if tau.any())


def _pairs(
    inputs: Inputs, found: Sequence[Told], anchor: Floats
) -> Iterator[tuple[Floats, Floats]]:
    """Yield each model's distance to the anchor, and its Gram matrix."""
    of_task = inputs.values.choice(GRAM) == "task"
    for one, share in shared(found):
        away = away_of(inputs, one.term, anchor.reshape(-1)).reshape(anchor.shape)
        yield away, (_gram_of(one.array) if of_task else one.array) * share


def _gram_of(tau: Floats) -> Floats:
    """Return tau' tau / |tau|^2."""
    size = sum_of_squares(tau.reshape(-1))
    return row_products(np.ascontiguousarray(tau.T)) / size


def _reads(values: Values) -> tuple[str, ...]:
    return (GRAM,) if values.choice(GRAM) == "evidence" else ()


BMM = Strategy(
    name=NAME,
    version=1,
    summary="Regress on all models' inputs, with another merge as what is believed",
    paper="Li et al. 2026, Bayesian Model Merging, https://arxiv.org/abs/2605.12843",
    parameters=(
        Parameter(
            "anchor",
            "choice",
            default="tsv_m",
            mergekit_default=None,
            help="the merge that is believed where Gram matrices tell nothing",
            choices=tuple(sorted(ANCHORS)),
        ),
        Parameter(
            GRAM,
            "choice",
            default="evidence",
            mergekit_default=None,
            help="Gram matrices of inputs, or those that task vectors make",
            choices=("evidence", "task"),
        ),
        LACKING,
        Parameter(
            LAMBDA,
            "decimal",
            default="0.1",
            mergekit_default=None,
            help="how firmly the anchor is believed, beside the mean input's square",
            minimum=1000,
            maximum=1000 * DECIMAL_UNIT,
        ),
        Parameter(
            SCALE,
            "decimal",
            default="1",
            mergekit_default=None,
            help="what the anchor's change to the base is multiplied by",
            maximum=100 * DECIMAL_UNIT,
        ),
    ),
    evidence=_reads,
    memory=Memory(shared=210, each=8, columns=80),
    emit=_emit,
)
