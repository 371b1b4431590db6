"""The merge methods of a configuration: their words, defaults, and ours for them.

Owns one table: the 20 methods of mergekit 0.1.5 with mergekit's words and defaults, and
every other strategy with its own. Does not own reading a file (`mergekit`), values
(`mergekit_values`, `mergekit_chains`), nor formulas (`strategies`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal

from crdtmerge.codec import DECIMAL_UNIT, format_decimal, parse_decimal
from crdtmerge.errors import BadInputError, UnknownNameError
from crdtmerge.recipe import WEIGHT
from crdtmerge.strategies import plugins
from crdtmerge.strategies.base import Strategy
from crdtmerge.strategies.table import STRATEGIES, find, suggestion

WEIGHT_MAX: Final = 1000 * DECIMAL_UNIT
_HUNDRED: Final = 100 * DECIMAL_UNIT
_EPS_MIN: Final = parse_decimal("0.00390625")


def _same(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Word:
    """One parameter: its name there and here, its default there, and what it turns into.

    `default` is None where a value must be given. `ours` is None where it is no parameter
    of the recipe. `is_idle` words are accepted, because they change no meaning. A number's
    bounds are in units of 10**-9.
    """

    name: str
    kind: Literal["decimal", "integer", "flag", "choice", "label"] = "flag"
    default: str | None = "false"
    ours: str | None = None
    per_model: bool = False
    minimum: int = 0
    maximum: int = DECIMAL_UNIT
    is_idle: bool = False
    turned: Callable[[str], str] = _same
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """One merge method, and the part of the base in it.

    `base`: `skipped`, a model of the list that is the base takes no part; `counts`, the
    base is a model, listed or not; `end`, it is one of two ends, and `t` is the way from
    it to the other; `listed`, it is a model if it is listed. `least` and `most` bound how
    many models take part, beside a base that is skipped; a `most` of 0 is no bound.
    """

    name: str
    strategy: str
    words: tuple[Word, ...]
    base: Literal["skipped", "counts", "end", "listed"] = "skipped"
    needs_base: bool = True
    least: int = 1
    most: int = 0


def _p_of(density: str) -> str:
    """Return the chance to be dropped for the share that is kept."""
    if density == "0":
        message = "a density of 0 drops everything"
        raise BadInputError(
            message, hint="give the model the weight 0, or leave it out"
        )
    return format_decimal(DECIMAL_UNIT - parse_decimal(density))


def _rescale_of(rescale: str) -> str:
    """Return ours: mergekit rescales to the sum of magnitudes before dropping."""
    return "l1" if rescale == "true" else "none"


def _wide_enough(eps: str) -> str:
    """Return what multislerp takes for mergekit's 10**-8: see there."""
    return format_decimal(max(parse_decimal(eps), _EPS_MIN))


def _not_rescaled(method: str) -> Word:
    """Return the word `rescale` of a method that is not rescaled here."""

    def turned(rescale: str) -> str:
        if rescale == "true":
            message = f"rescale=true is not supported yet for {method}"
            raise BadInputError(
                message, hint="leave it out: mergekit's default is false"
            )
        return rescale

    return Word("rescale", turned=turned)


_WEIGHT: Final = Word(
    WEIGHT,
    "decimal",
    None,
    WEIGHT,
    per_model=True,
    minimum=-WEIGHT_MAX,
    maximum=WEIGHT_MAX,
)
_LAMBDA: Final = Word("lambda", "decimal", "1", "lambda", maximum=_HUNDRED)
_INT8_MASK: Final = Word("int8_mask", is_idle=True)
_DENSITY: Final = Word("density", "decimal", "1", "density", per_model=True)
_GAMMA: Final = Word("gamma", "decimal", "0.01", "gamma", per_model=True)
_HALF_WIDTH: Final = Word(
    "epsilon", "decimal", "0.15", "epsilon", per_model=True, maximum=DECIMAL_UNIT // 2
)
_RESCALE: Final = Word("rescale", default="true", ours="rescale", turned=_rescale_of)
_SUM: Final = Word("normalize", ours="normalize")
_MEAN: Final = replace(_SUM, default="true")
_SMALLEST: Final = Word("epsilon", "decimal", "0.00001", "epsilon")
_DARE: Final = (
    _WEIGHT,
    Word("density", "decimal", "1", "p", per_model=True, turned=_p_of),
    _LAMBDA,
    _SUM,
    _RESCALE,
    _INT8_MASK,
)
_DELLA: Final = (_WEIGHT, _DENSITY, _HALF_WIDTH, _LAMBDA, _RESCALE, _INT8_MASK)


def _trimming(method: str, *more: Word) -> Method:
    words = (_WEIGHT, _DENSITY, _LAMBDA, _not_rescaled(method), _INT8_MASK, *more)
    return Method(method, f"{method}/1", words)


def _mergekits() -> Iterable[Method]:
    yield Method("arcee_fusion", "arcee_fusion/1", (), most=1)
    yield _trimming("breadcrumbs", _GAMMA, _SUM)
    yield _trimming("breadcrumbs_ties", _GAMMA, _SUM)
    yield Method("dare_linear", "dare_linear/1", _DARE)
    yield Method("dare_ties", "dare_ties/1", _DARE)
    yield Method("della", "della/1", (*_DELLA, _MEAN))
    yield Method("della_linear", "della_linear/1", (*_DELLA, _SUM))
    karcher = (
        Word("max_iter", "integer", "10", "max_iter", maximum=1000 * DECIMAL_UNIT),
        Word("tol", "decimal", "0.00001", "tol"),
    )
    yield Method("karcher", "karcher/1", karcher, base="counts", needs_base=False)
    yield Method(
        "linear", "linear/1", (_WEIGHT, _MEAN), base="counts", needs_base=False
    )
    stock = (Word("filter_wise", ours="filter_wise"),)
    yield Method("model_stock", "model_stock/1", stock, least=2)
    multislerp = (
        _WEIGHT,
        Word("normalize_weights", default="true", ours="normalize"),
        Word("eps", "decimal", "0.00000001", "eps", turned=_wide_enough),
    )
    yield Method("multislerp", "multislerp/1", multislerp, needs_base=False, least=2)
    near = (Word("t", "decimal", None, "t", minimum=1, maximum=WEIGHT_MAX),)
    yield Method("nearswap", "nearswap/1", near, most=1)
    nuslerp = (
        _WEIGHT,
        Word("nuslerp_flatten", default="true", ours="flatten"),
        Word("nuslerp_row_wise", ours="row_wise"),
    )
    yield Method("nuslerp", "nuslerp/1", nuslerp, needs_base=False, least=2, most=2)
    scale = Word(
        "scale",
        "decimal",
        "1",
        "scale",
        True,
        -_HUNDRED,
        _HUNDRED,
    )
    yield Method(
        "passthrough",
        "passthrough/1",
        (scale,),
        base="counts",
        needs_base=False,
        most=1,
    )
    yield Method("ram", "ram/1", (_SMALLEST,))
    plus = (
        _SMALLEST,
        Word("r", "decimal", "0.1", "r", maximum=_HUNDRED),
        Word("alpha", "decimal", "0.2", "alpha", maximum=WEIGHT_MAX),
    )
    yield Method("ramplus_tl", "ramplus_tl/1", plus)
    sce = (Word("select_topk", "decimal", "1", "select_topk"), _INT8_MASK)
    yield Method("sce", "sce/1", sce)
    yield Method("slerp", "slerp/1", (Word("t", "decimal", None),), base="end")
    arithmetic = (
        _WEIGHT,
        _LAMBDA,
        _SUM,
        Word("density", "decimal", "1", per_model=True, is_idle=True),
        Word("rescale", is_idle=True),
        _INT8_MASK,
    )
    yield Method("task_arithmetic", "task_arithmetic/1", arithmetic)
    yield _trimming("ties", _MEAN)


def _ours(strategy: Strategy) -> Method:
    """Return the method of a strategy that mergekit has not: our words and defaults."""
    words = (
        Word(
            name=p.name,
            kind=p.kind,
            default=p.default,
            ours=p.name,
            per_model=p.per_model,
            minimum=p.minimum,
            maximum=p.maximum,
            choices=p.choices,
        )
        for p in strategy.parameters
    )
    return Method(
        strategy.name,
        strategy.full_name,
        (replace(_WEIGHT, default="1"), *words),
        base="skipped" if strategy.needs_base or strategy.prefers_base else "listed",
        needs_base=strategy.needs_base,
    )


MERGEKIT_METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {method.name: method for method in _mergekits()}
)
"""The 20 methods of mergekit 0.1.5."""


def find_method(name: str) -> Method:
    """Return the method of a name: mergekit's, else that of a strategy we know.

    Raises:
        UnknownNameError: there is none; the hint has the nearest, and all.
    """
    if name in MERGEKIT_METHODS:
        return MERGEKIT_METHODS[name]
    known = method_names()
    if name not in known:
        message = f"there is no merge_method {name!r}"
        raise UnknownNameError(message, hint=suggestion(name, known, known))
    return _ours(find(name))


def method_names() -> list[str]:
    """Return all that `merge_method` may be, those of other packages too; no aliases."""
    every = (*STRATEGIES, *plugins.installed())
    return sorted({*MERGEKIT_METHODS, *(name.partition("/")[0] for name in every)})
