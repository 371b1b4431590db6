"""Every strategy against a second reading of its formula, in float64 by plain NumPy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.numerics import Floats
from crdtmerge.strategies import STRATEGIES, Inputs, Values
from tests.evidence import evaluations, numbers
from tests.oracles import ORACLES
from tests.oracles.case import Case, Scored
from tests.strategies import UNIT, base_of, data_of, resolve, task

TOLERANCE = 1e-5
"""Of the largest entry of what is merged: the task vector where there is a base."""

TOLERANCES: Mapping[str, float] = {}
"""Others, and by whose conditioning."""

DTYPES = (
    "F32",
    "BF16",
    pytest.param("F16", marks=pytest.mark.slow),
)
"""As strategies see them all are float64; that they are read aright is tested elsewhere."""


@dataclass(frozen=True)
class Setting:
    """Parameters that differ from the defaults, and those of each model."""

    shared: Mapping[str, str]
    own: tuple[Mapping[str, str], ...] = ()


def setting(*own: Mapping[str, str], **shared: str) -> Setting:
    return Setting({k.removesuffix("_"): v for k, v in shared.items()}, own)


OUTER, INNER = {"part": "outer"}, {"part": "inner"}
MAIN, OTHER = {"main": "true"}, {"main": "false"}
SELECTED, LEFT = {"select": "true"}, {"select": "false"}
FORGOTTEN, RETAINED = {"forget": "true"}, {"forget": "false"}
SAFE, UNSAFE = {"safety": "true"}, {"safety": "false"}
STEPS = tuple({"step": step} for step in ("70", "30", "40", "10", "60"))
VOTES = (
    setting(p="0.3", lambda_="0.7"),
    setting({"p": "0.1"}, {"p": "0.5"}, rescale="l1", normalize="true"),
    setting(p="0.5", rescale="none"),
)
RANKED = (
    setting(),
    setting({"density": "0.6"}, {"density": "0.4", "epsilon": "0.2"}, rescale="l1"),
    setting({"density": "1"}, {"density": "0.7"}, rescale="none", lambda_="0.7"),
)
BANDS = (
    setting(),
    setting({"density": "0.3"}, {"density": "0.6"}, gamma="0.1", normalize="true"),
    setting({"gamma": "0.2"}, {"gamma": "0"}, density="0.85", lambda_="0.7"),
)

SETTINGS: Mapping[str, tuple[Setting, ...]] = {
    "aoe/1": (
        setting(MAIN, *[OTHER] * 4),
        setting(*[OTHER] * 5, delta="0.1"),
        setting(OTHER, MAIN, *[OTHER] * 3, delta="1.5"),
        setting(MAIN, *[OTHER] * 4, merge="false"),
    ),
    "bmm/1": (
        setting(),
        setting(gram="task", lambda_="2", scale="0.3"),
        setting(anchor="task_arithmetic", lambda_="0.7"),
        setting(anchor="wudi", lambda_="0.7"),
        setting(anchor="mean", lambda_="0.001"),
    ),
    "breadcrumbs/1": BANDS,
    "breadcrumbs_ties/1": BANDS,
    "bulyan/1": (setting(), setting(scope="tensor", f="1")),
    "cabs/1": (
        setting(n="3", m="16"),
        setting(n="16", m="100", lambda_="0.5"),
        setting(n="7", m="16", overlap="true"),
    ),
    "centered_clip/1": (
        setting(),
        setting(rho="3", scope="tensor"),
        setting(start="mean", iterations="3"),
    ),
    "consensus/1": (setting(), setting(lambda_t="0.2", k="1", alpha="1")),
    "dare_linear/1": VOTES,
    "dare_ties/1": VOTES,
    "dc_merge/1": (
        setting(),
        setting(top="1"),
        setting(top="0.2", mask="none", alpha="0.7"),
        setting(top="0.5", smoothing="average"),
    ),
    "della/1": RANKED,
    "della_linear/1": RANKED,
    "doge/1": (
        setting(),
        setting(subspace="2", density="0.7", lambda_="2", iterations="40"),
        setting(lr="0.01", density="1", iterations="30", subspace="90"),
    ),
    "drm/1": (
        setting(),
        setting(direction="v", lambda_="0.7"),
        setting(p="0.8", cut="0.3"),
        setting(p="0", direction="v", cut="0.2"),
    ),
    "dual_projection/1": (
        setting(),
        setting(rank="0.3", stability="1", lambda_="0.7"),
        setting(rank="1", stability="0.3"),
        setting(rank="0", stability="0.9"),
        setting(stability="0"),
    ),
    "fisher/1": (setting(), setting(floor="0.5")),
    "geometric_median/1": (setting(), setting(scope="tensor", iterations="3")),
    "iso_c/1": (setting(), setting(alpha="1.3")),
    "iso_cts/1": (
        setting(),
        setting(common="0.5", alpha="0.7"),
        setting(common="0"),
        setting(common="1"),
    ),
    "karcher/1": (setting(), setting(max_iter="1"), setting(tol="0.001")),
    "knots/1": (
        setting(),
        setting({"density": "0.6"}, {"density": "0.4"}, lambda_="0.7", cut="2.5"),
        setting(density="1", normalize="false"),
        setting({"p": "0.1"}, {"p": "0.5"}, votes="dare_ties"),
        setting({"p": "0.3"}, {"p": "0.6"}, votes="dare_ties", rescale="l1"),
        setting(p="0.3", votes="dare_ties", rescale="none", normalize="false"),
    ),
    "krum/1": (setting(), setting(scope="tensor", f="1")),
    "layer_swap/1": tuple(
        setting(OUTER, INNER, bottom=bottom, top=top, transition=transition)
        for bottom, top, transition in ("421", "311", "211", "032", "031", "252", "002")
    ),
    "linear/1": (setting(), setting(normalize="false")),
    "lm_cocktail/1": (
        setting(),
        setting(alpha="0", temperature="0.3"),
        setting(alpha="1"),
        setting(source="evaluations", metric="b", temperature="3"),
    ),
    "lore/1": (
        setting(),
        setting(mu="3", lambda_="0.7"),
        setting(mu="1.7", iterations="3"),
    ),
    "lot/1": (setting(), setting(ridge="0.5")),
    "magmax/1": (setting(), setting(scale="1")),
    "mats/1": (
        setting(),
        setting(iterations="3"),
        setting(matrix="fisher", iterations="7"),
        # Of 200 eigenvalues; by 50 steps a basis is no longer orthogonal in float64.
        setting(matrix="fisher", iterations="20"),
    ),
    "model_stock/1": (setting(), setting(filter_wise="true")),
    "multi_krum/1": (setting(), setting(m="2", f="1", scope="tensor")),
    "multislerp/1": (setting(), setting(normalize="false")),
    "mwa/1": (
        setting(),
        setting(by="step", p="2", most="1.5"),
        setting(by="score", metric="b", p="3"),
        setting(source="evaluations", p="2"),
        setting(source="evaluations", by="score", metric="c", data="d"),
    ),
    "nearswap/1": (setting(), setting(t="0.1")),
    "negative_merge/1": (
        setting(),
        setting(FORGOTTEN, RETAINED, lambda_="0.7"),
        setting(FORGOTTEN, RETAINED, consensus="true"),
        setting(FORGOTTEN, FORGOTTEN, RETAINED, consensus="true", lambda_="2"),
        setting(forget="true", consensus="true"),
    ),
    "nuslerp/1": (
        setting(),
        setting(flatten="false"),
        setting(flatten="false", row_wise="true"),
    ),
    "ada_merging/1": (setting(), setting(ridge="0.5", fallback="0.7")),
    "adarank/1": (setting(), setting(energy="0.5", lambda_="0.4")),
    "dam/1": (setting(), setting(floor="0.5")),
    "representation_surgery/1": (setting(), setting(ridge="1")),
    "led_merge/1": (
        setting(),
        setting(density="0.6", lambda_="0.5"),
        setting({"density": "0.2"}, {"density": "0.5"}, elect="either"),
    ),
    "ota_ffg/1": (
        setting(),
        setting({"density": "0.2"}, {"density": "0.9"}, p="0.25", epsilon="0.1"),
        setting(density="1", p="1"),
    ),
    "soce/1": (
        setting(),
        setting(threshold="2"),
        setting(metric="b"),
        setting(source="evaluations", data="d", threshold="0"),
    ),
    "optmerge/1": (setting(), setting(scale="1.5", ridge="0.01")),
    "stf/1": (setting(), setting(lambda_="0.7", ridge="0.1")),
    "wudi/1": (
        setting(),
        setting(scale="0.5", ridge="0.1"),
        setting(solver="adam", iterations="25", lr="0.001"),
    ),
    "opcm/1": (
        setting(),
        setting(alpha="0.9", lambda_="0.7"),
        setting(alpha="0"),
    ),
    "passthrough/1": (
        setting(SELECTED, *[LEFT] * 4),
        setting(LEFT, SELECTED | {"scale": "-0.7"}, *[LEFT] * 3),
    ),
    "pcb/1": (setting(), setting(r="0.4", clamp="0.05", lambda_="1")),
    "pma/1": tuple(setting(*STEPS, average=kind) for kind in ("sma", "wma", "ema")),
    "ram/1": (setting(), setting(epsilon="0.0625")),
    "ramplus_tl/1": (setting(), setting(epsilon="0.05", r="0.5", alpha="900")),
    "regmean/1": (
        setting(),
        setting(alpha="1", ridge="0.000000001"),
        setting(alpha="0", ridge="0.5"),
    ),
    "regmean_pp/1": (
        setting(),
        setting(alpha="1", ridge="0.000000001"),
        setting(alpha="0", ridge="0.5"),
    ),
    "safe_merge/1": (
        setting(),
        setting(SAFE, *[UNSAFE] * 4),
        setting(UNSAFE, SAFE, *[UNSAFE] * 3, importance="fisher", q="0.3"),
        setting(SAFE, *[UNSAFE] * 4, importance="snip", revert="base"),
        setting(SAFE, *[UNSAFE] * 4, revert="base", q="0.37"),
    ),
    "sce/1": (
        setting(),
        setting(select_topk="0.3"),
        setting(select_topk="0.7", uniform_below="1"),
    ),
    "split_unlearn_merge/1": (
        setting(),
        setting(FORGOTTEN, RETAINED, lambda_="0.7"),
        setting(FORGOTTEN, FORGOTTEN, RETAINED, q="0.37"),
        setting(forget="true", q="0.9"),
    ),
    "star/1": (setting(), setting(eta="0.83"), setting(eta="1"), setting(eta="0")),
    "task_arithmetic/1": (setting(), setting(lambda_="0.3", normalize="true")),
    "ties/1": (
        setting(),
        setting({"density": "0.6"}, {"density": "0.4"}, lambda_="0.7"),
        setting(density="1", normalize="false"),
    ),
    "trimmed_mean/1": (setting(), setting(beta="0.34")),
    "tsv_m/1": (setting(), setting(alpha="0.7")),
    "ubgm/1": (setting(), setting(h0="zero", alpha="0.7"), setting(delta="0.5")),
    "widen/1": (setting(), setting(t="0.7", s="0.4")),
    "wsm/1": tuple(setting(*STEPS, decay=d) for d in ("linear", "cosine", "sqrt")),
}
"""Where the defaults alone do not reach every branch."""


def far_apart(count: int) -> tuple[Floats, Floats]:
    """Changes as large as the base, in all directions."""
    made = np.random.default_rng(1).standard_normal((count + 1, 12, 16))
    return made[0], made[0] + made[1:]


def one_dimension(count: int) -> tuple[Floats, Floats]:
    """Small changes, of which many are none and some are alike, and opposite ones."""
    generator = np.random.default_rng(2)
    base = generator.standard_normal(300)
    taus = generator.standard_normal((count, 300)) / 16
    taus[:, ::5] = 0
    taus[1, ::3] = taus[0, ::3]
    taus[2, 1::7] = -taus[0, 1::7]
    taus[1:, 2::11] = 0
    taus[2:, 3::13] = 0
    base[4::17], taus[0, 4::17] = 0.5, 0.0625  # exactly a threshold of some settings
    return base, base + taus


def one_way(count: int) -> tuple[Floats, Floats]:
    """Changes with much in common, and rows of very different sizes."""
    generator = np.random.default_rng(3)
    base = generator.standard_normal((12, 16)) / 4
    common, *others = generator.standard_normal((count + 1, 12, 16)) / 4
    sizes = np.linspace(0.05, 1, 12)[:, np.newaxis]
    return base, base + np.stack([(common + other) * sizes for other in others])


def opposed(count: int) -> tuple[Floats, Floats]:
    """Changes against each other, at an obtuse angle."""
    base, *made = np.random.default_rng(4).standard_normal((count + 2, 12, 16)) / 2
    signs = [(-1) ** place for place in range(count)]
    pairs = zip(signs, made[1:], strict=True)
    return base, base + np.stack([s * made[0] + other for s, other in pairs])


Made: TypeAlias = Callable[[int], tuple[Floats, Floats]]

INPUTS: Mapping[Made, int] = {far_apart: 3, one_dimension: 4, one_way: 5, opposed: 2}
CROWDS: Mapping[Made, int] = {far_apart: 7, one_dimension: 6, one_way: 5, opposed: 5}
WEIGHTS = (UNIT, UNIT // 4, 2 * UNIT, UNIT // 2, 3 * UNIT // 4, UNIT // 3, UNIT)
EQUAL = (UNIT,) * 7
COUNTS: Mapping[str, Mapping[Made, int]] = {
    "bulyan/1": dict.fromkeys(INPUTS, 7),
    "krum/1": CROWDS,
    "multi_krum/1": CROWDS,
}
"""How many models there are: some methods need a crowd."""

EACH = [
    pytest.param(name, made, place, id=f"{name}-{made.__name__}-{place}")
    for name in ORACLES
    for made in INPUTS
    for place in range(len(SETTINGS.get(name, (setting(),))))
]


def inputs_of(
    name: str,
    dtype: str,
    base: Floats,
    tunes: Floats,
    s: Setting,
    weights: tuple[int, ...],
) -> Inputs:
    """The task of these models, asked for in F64 whatever their dtype."""
    inputs = task(name, dtype, list(tunes), base, **s.shared)
    own = [dict(values.parameters) for values in inputs.own]
    for place, found in enumerate(own):
        found.update(s.own[place % len(s.own)] if s.own else {})
    return replace(
        inputs,
        weights=weights[: len(tunes)],
        own=tuple(Values(tuple(sorted(found.items()))) for found in own),
        output_dtype="F64",
        layer=(3, 8),
    )


def case_of(name: str, inputs: Inputs) -> Case:
    """What the oracle sees: the values that the dtype has left."""
    tensors = [
        numerics.upcast(bytes(data), inputs.dtype).reshape(inputs.shape)
        for data in (base_of(inputs), *map(data_of, inputs.contributions))
    ]
    return Case(
        base=tensors[0],
        thetas=np.stack(tensors[1:]),
        weights=np.array(inputs.weights) / UNIT,
        settings=dict(inputs.values.parameters),
        own=[dict(values.parameters) for values in inputs.own],
        contents=list(inputs.contents),
        strategy=name,
        tensor=inputs.tensor,
        seed=inputs.seed,
        layer=inputs.layer,
        evidence=inputs.evidence,
        scalars=numbers(STRATEGIES[name], inputs.values, inputs.contents),
        scores=scores_of(name, inputs),
    )


def scores_of(name: str, inputs: Inputs) -> list[Scored]:
    """What evaluations say, as plain values."""
    said = evaluations(STRATEGIES[name], inputs.values, inputs.contents)
    return [Scored(s.content, s.metric, s.data, s.value / UNIT, s.author) for s in said]


@pytest.mark.parametrize("weights", [WEIGHTS, EQUAL], ids=["weights", "equal"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "made", "place"), EACH)
def test_a_strategy_is_its_formula(
    name: str, made: Made, place: int, dtype: str, weights: tuple[int, ...]
) -> None:
    """No entry is off by more than 10**-5 of the largest one, or what `TOLERANCES` says."""
    base, tunes = made(COUNTS.get(name, INPUTS)[made])
    chosen = SETTINGS.get(name, (setting(),))[place]
    inputs = inputs_of(name, dtype, base, tunes, chosen, weights)
    case = case_of(name, inputs)
    got = numerics.upcast(resolve(name, inputs), "F64").reshape(inputs.shape)
    expected = ORACLES[name](case)
    start = case.base if STRATEGIES[name].needs_base else 0
    largest = np.abs(expected - start).max()
    tolerance = TOLERANCES.get(name, TOLERANCE)
    assert np.abs(got - expected).max() <= tolerance * largest


def test_every_strategy_has_an_oracle() -> None:
    """And no oracle stands for what is not there."""
    assert STRATEGIES.keys() == ORACLES.keys()
