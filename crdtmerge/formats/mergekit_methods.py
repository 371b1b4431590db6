"""The merge methods of mergekit that we have: their words, defaults, and ours for them.

Owns one table. Does not own reading a file (`mergekit`), nor formulas (`strategies`).
Where we have a strategy that mergekit has not (metagpt, median), its words are made in
the same way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from crdtmerge.codec import DECIMAL_UNIT, format_decimal, parse_decimal
from crdtmerge.errors import BadInputError

WEIGHT_MAX: Final = 1000 * DECIMAL_UNIT


def _same(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Word:
    """One parameter: its name there and here, its default there, and what it turns into.

    `ours` is None where it is no parameter of the recipe. `is_idle` words are accepted,
    because they change no meaning. A decimal's bounds are in units of 10**-9.
    """

    name: str
    kind: Literal["decimal", "flag"] = "flag"
    default: str = "false"
    ours: str | None = None
    per_model: bool = False
    minimum: int = 0
    maximum: int = DECIMAL_UNIT
    is_idle: bool = False
    turned: Callable[[str], str] = _same


@dataclass(frozen=True, slots=True)
class Method:
    """One merge method, and the part of the base in it.

    `base`: `skipped`, a model of the list that is the base takes no part; `counts`, the
    base is a model, listed or not; `required`, it is one of the two ends; `listed`, it
    is a model if it is listed. `models` is the number of others that there must be, 0 for
    any. `weight_default` is None where a model must have a weight.
    """

    name: str
    strategy: str
    words: tuple[Word, ...]
    base: Literal["skipped", "counts", "required", "listed"] = "skipped"
    needs_base: bool = True
    models: int = 0
    weight_default: int | None = None


def _p_of(density: str) -> str:
    """Return the chance to be dropped for the share that is kept."""
    if density == "0":
        message = "a density of 0 drops everything"
        raise BadInputError(
            message, hint="give the model the weight 0, or leave it out"
        )
    return format_decimal(DECIMAL_UNIT - parse_decimal(density))


def _not_rescaled(rescale: str) -> str:
    if rescale == "true":
        message = "rescale=true is not supported yet for ties"
        raise BadInputError(message, hint="leave it out: mergekit's default is false")
    return rescale


def _rescale_of(rescale: str) -> str:
    """Return ours: mergekit rescales to the sum of magnitudes before dropping."""
    return "l1" if rescale == "true" else "none"


_WEIGHT: Final = Word(
    "weight",
    "decimal",
    "1",
    None,
    per_model=True,
    minimum=-WEIGHT_MAX,
    maximum=WEIGHT_MAX,
)
_LAMBDA: Final = Word("lambda", "decimal", "1", "lambda", maximum=100 * DECIMAL_UNIT)
_INT8_MASK: Final = Word("int8_mask", is_idle=True)
_DENSITY: Final = Word("density", "decimal", "1", "density", per_model=True)
_DARE: Final = (
    _WEIGHT,
    Word("density", "decimal", "1", "p", per_model=True, turned=_p_of),
    _LAMBDA,
    Word("normalize", ours="normalize"),
    Word("rescale", default="true", ours="rescale", turned=_rescale_of),
    _INT8_MASK,
)

METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method("dare_linear", "dare_linear/1", _DARE),
            Method("dare_ties", "dare_ties/1", _DARE),
            Method(
                "linear",
                "linear/1",
                (_WEIGHT, Word("normalize", default="true", ours="normalize")),
                base="counts",
                needs_base=False,
            ),
            Method(
                "median",
                "median/1",
                (_WEIGHT,),
                base="listed",
                needs_base=False,
                weight_default=DECIMAL_UNIT,
            ),
            Method("metagpt", "metagpt/1", (_WEIGHT,), weight_default=DECIMAL_UNIT),
            Method(
                "nuslerp",
                "nuslerp/1",
                (
                    _WEIGHT,
                    Word("nuslerp_flatten", default="true", ours="flatten"),
                    Word("nuslerp_row_wise", ours="row_wise"),
                ),
                needs_base=False,
                models=2,
            ),
            Method(
                "slerp", "slerp/1", (Word("t", "decimal"),), base="required", models=1
            ),
            Method(
                "task_arithmetic",
                "task_arithmetic/1",
                (
                    _WEIGHT,
                    _LAMBDA,
                    Word("normalize", ours="normalize"),
                    Word("density", "decimal", "1", per_model=True, is_idle=True),
                    Word("rescale", is_idle=True),
                    _INT8_MASK,
                ),
            ),
            Method(
                "ties",
                "ties/1",
                (
                    _WEIGHT,
                    _DENSITY,
                    _LAMBDA,
                    Word("normalize", default="true", ours="normalize"),
                    Word("rescale", turned=_not_rescaled),
                    _INT8_MASK,
                ),
            ),
        )
    }
)

FOREIGN_METHODS: Final = frozenset(
    {
        "arcee_fusion",
        "breadcrumbs",
        "breadcrumbs_ties",
        "della",
        "della_linear",
        "karcher",
        "model_stock",
        "multislerp",
        "nearswap",
        "passthrough",
        "ram",
        "ramplus_tl",
        "sce",
    }
)
"""What mergekit has and we have not."""
