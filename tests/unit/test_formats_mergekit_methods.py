"""The methods of a configuration: all of mergekit's, their words and defaults; and ours."""

from pathlib import Path

import pytest

from crdtmerge.formats.mergekit import Configuration, read_configuration
from crdtmerge.formats.mergekit_methods import (
    MERGEKIT_METHODS,
    find_method,
    method_names,
)
from crdtmerge.strategies import STRATEGIES
from tests.merge_configurations import MERGEKITS, smallest

UNIT = 10**9


def read(folder: Path, text: str) -> Configuration:
    path = folder / "merge.yml"
    path.write_text(text)
    found = read_configuration(path)
    assert isinstance(found, Configuration), "it has no slices"
    return found


def parameters(found: Configuration) -> dict[str, str]:
    return dict(found.recipe.parameters)


def test_all_of_mergekits_methods_are_there() -> None:
    """The 20 of mergekit 0.1.5, and every strategy that we have beside them."""
    assert set(MERGEKIT_METHODS) == set(MERGEKITS)
    assert len(MERGEKITS) == 20
    ours = {strategy.name for strategy in STRATEGIES.values()}
    assert set(method_names()) == ours
    assert {find_method(name).strategy for name in ours} == set(STRATEGIES)


@pytest.mark.parametrize("name", MERGEKITS)
def test_defaults_are_those_that_strategies_tell(tmp_path: Path, name: str) -> None:
    """A bare configuration has the parameters that `strategies NAME` calls mergekit's."""
    found = read(tmp_path, smallest(name))
    strategy = STRATEGIES[found.recipe.strategy]
    assert strategy.name == name
    wanted = {
        p.name: p.default if p.mergekit_default is None else p.mergekit_default
        for p in strategy.parameters
    }
    if name == "nearswap":  # mergekit has no default
        wanted["t"] = "0.03125"
    if name == "multislerp":  # mergekit's 10**-8 is below what we take
        wanted["eps"] = "0.00390625"
    assert parameters(found) == wanted
    assert found.recipe.output_dtype == ""
    assert found.notes == ()


DEFAULTS = {
    "linear": {"normalize": "true"},
    "slerp": {},
    "nuslerp": {"flatten": "true", "row_wise": "false"},
    "multislerp": {"normalize": "true"},
    "karcher": {"max_iter": "10", "tol": "0.00001"},
    "model_stock": {"filter_wise": "false"},
    "passthrough": {"scale": "1"},
    "nearswap": {},
    "arcee_fusion": {},
    "task_arithmetic": {"lambda": "1", "normalize": "false"},
    "ties": {"density": "1", "lambda": "1", "normalize": "true"},
    "dare_linear": {"p": "0", "lambda": "1", "normalize": "false", "rescale": "l1"},
    "dare_ties": {"p": "0", "lambda": "1", "normalize": "false", "rescale": "l1"},
    "della": {
        "density": "1",
        "epsilon": "0.15",
        "lambda": "1",
        "normalize": "true",
        "rescale": "l1",
    },
    "della_linear": {
        "density": "1",
        "epsilon": "0.15",
        "lambda": "1",
        "normalize": "false",
        "rescale": "l1",
    },
    "breadcrumbs": {
        "density": "1",
        "gamma": "0.01",
        "lambda": "1",
        "normalize": "false",
    },
    "breadcrumbs_ties": {
        "density": "1",
        "gamma": "0.01",
        "lambda": "1",
        "normalize": "false",
    },
    "sce": {"select_topk": "1"},
    "ram": {"epsilon": "0.00001"},
    "ramplus_tl": {"epsilon": "0.00001", "r": "0.1", "alpha": "0.2"},
}
"""mergekit 0.1.5's, from its own definitions of methods, in our words."""


@pytest.mark.parametrize("name", MERGEKITS)
def test_defaults_are_those_of_mergekit(tmp_path: Path, name: str) -> None:
    """Written down here a second time, so that no table can agree with itself alone."""
    found = parameters(read(tmp_path, smallest(name)))
    assert {key: found[key] for key in DEFAULTS[name]} == DEFAULTS[name]


@pytest.mark.parametrize("name", sorted(set(method_names()) - set(MERGEKITS)))
def test_our_strategies_have_our_words_and_defaults(tmp_path: Path, name: str) -> None:
    """What mergekit has not is written in the same way: `weight`, and parameters."""
    strategy = STRATEGIES[find_method(name).strategy]
    own = {p.name: p.default for p in strategy.parameters if p.per_model}
    text = ", ".join(f"{key}: {value}" for key, value in own.items())
    models = f"[{{model: a, parameters: {{weight: 3, {text}}}}}, {{model: b}}]"
    found = read(tmp_path, f"merge_method: {name}\nbase_model: base\nmodels: {models}")
    assert parameters(found) == {p.name: p.default for p in strategy.parameters}
    assert [m.weight for m in found.models] == [3 * UNIT, UNIT]
    assert [m.parameters for m in found.models] == [(), ()]


def test_bounds_of_words_are_those_of_parameters() -> None:
    """A value that a word accepts is one that the recipe accepts."""
    for method in map(find_method, method_names()):
        strategy = STRATEGIES[method.strategy]
        for word in method.words:
            parameter = strategy.parameter(word.ours or "")
            if parameter is None:
                assert word.ours in {None, "weight"}, (method.name, word.name)
                continue
            assert word.per_model <= parameter.per_model
            if parameter.kind in {"decimal", "integer"}:
                assert word.kind == parameter.kind
                if word.ours != "p":  # density, the other way round
                    assert word.maximum <= parameter.maximum


@pytest.mark.parametrize(
    ("method", "more", "name", "text"),
    [
        ("multislerp", "eps: 1e-8", "eps", "0.00390625"),
        ("multislerp", "eps: 0.5, normalize_weights: false", "eps", "0.5"),
        ("multislerp", "normalize_weights: false", "normalize", "false"),
        ("karcher", "tol: 1e-9", "tol", "0.000000001"),
        ("karcher", "max_iter: 2.0e+1", "max_iter", "20"),
        ("model_stock", "filter_wise: true", "filter_wise", "true"),
        ("nearswap", "t: 1e-4", "t", "0.0001"),
        ("passthrough", "scale: -0.5", "scale", "-0.5"),
        ("della", "epsilon: 0.1", "epsilon", "0.1"),
        ("della_linear", "rescale: false", "rescale", "none"),
        ("breadcrumbs", "gamma: 0", "gamma", "0"),
        ("breadcrumbs_ties", "normalize: true", "normalize", "true"),
        ("sce", "select_topk: .1", "select_topk", "0.1"),
        ("ram", "epsilon: 1e-5", "epsilon", "0.00001"),
        ("ramplus_tl", "r: 1, alpha: 5", "alpha", "5"),
    ],
)
def test_words_of_mergekit_become_ours(
    tmp_path: Path, method: str, more: str, name: str, text: str
) -> None:
    """In any spelling of a number; nothing else changes."""
    found = parameters(read(tmp_path, smallest(method, more=more)))
    plain = parameters(read(tmp_path, smallest(method)))
    assert found[name] == text
    assert len(found.items() - plain.items()) <= more.count(":")


@pytest.mark.parametrize(
    ("method", "models", "taken"),
    [
        ("karcher", "{model: a}", ["a", "base"]),
        ("karcher", "{model: base}, {model: a}", ["base", "a"]),
        ("passthrough", "{model: base}", ["base"]),
        ("arcee_fusion", "{model: base}, {model: a}", ["a"]),
        ("model_stock", "{model: base}, {model: a}, {model: b}", ["a", "b"]),
        ("sce", "{model: a}, {model: base}", ["a"]),
        ("krum", "{model: a}, {model: base}", ["a"]),
        ("trimmed_mean", "{model: a}, {model: base}", ["a", "base"]),
    ],
)
def test_who_takes_part(
    tmp_path: Path, method: str, models: str, taken: list[str]
) -> None:
    """A base is a model, or what task vectors are from, as the method has it."""
    text = f"merge_method: {method}\nbase_model: base\nmodels: [{models}]"
    assert [m.name for m in read(tmp_path, text).models] == taken
