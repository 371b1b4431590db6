"""Gradients and filters of a configuration, against mergekit's own rule of precedence.

The oracle reads the same YAML with PyYAML and computes, tensor by tensor, what mergekit
0.1.5 would: written from its documented behaviour, and sharing no code with ours.
"""

import hashlib
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from crdtmerge.digest import ContentId
from crdtmerge.errors import BadInputError, CrdtMergeError
from crdtmerge.formats.mergekit import Configuration, read_configuration
from crdtmerge.manifest import Manifest
from crdtmerge.recipe import Rule
from crdtmerge.resolve.settings import Contribution, Settings
from crdtmerge.strategies import check_recipe
from tests.merge_configurations import smallest

LAYERS = 5
KINDS = ("self_attn.q_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight")
OUTSIDE = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
NAMES = [
    *(f"model.layers.{i}.{kind}" for i in range(LAYERS) for kind in KINDS),
    *OUTSIDE,
]


def read(folder: Path, text: str) -> Configuration:
    path = folder / "merge.yml"
    path.write_text(text)
    found = read_configuration(path)
    assert isinstance(found, Configuration), "it has no slices"
    return found


def content_of(name: str) -> ContentId:
    return ContentId(hashlib.sha256(name.encode()).digest())


def given_to(found: Configuration, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return weight and parameters of each tensor and model: what strategies are given."""
    contents = [content_of(m.name) for m in found.models]
    recipe = found.recipe_for(contents, names)
    manifest = Manifest("base", b"", ())
    contributions = [
        Contribution(content, m.weight, manifest, (), m.parameters)
        for content, m in zip(contents, found.models, strict=True)
    ]
    check_recipe(recipe)
    settings = Settings.of(recipe, names, contributions)
    by_content = {content_of(m.name): m.name for m in found.models}
    result: dict[str, dict[str, Any]] = {}
    for name in names:
        setting = settings.of_tensor(name)
        for c, weight, own in zip(
            contributions, setting.weights, setting.own, strict=True
        ):
            result[f"{name} {by_content[c.content]}"] = {
                **dict(setting.values_of(own).parameters),
                "weight": Fraction(weight, 10**9),
            }
    return result


# --- the oracle ------------------------------------------------------------------------


def layer_of(name: str) -> float:
    """Return t: how deep a tensor is, from 0 to 1; 0 outside of layers."""
    if "layers." not in name:
        return 0.0
    return int(name.split("layers.")[1].split(".", maxsplit=1)[0]) / (LAYERS - 1)


def gradient(values: list[float], t: float) -> float:
    place = t * (len(values) - 1)
    low = int(place)
    high = min(len(values) - 1, low + 1)
    return (1 - (place - low)) * values[low] + (place - low) * values[high]


def level(value: Any, name: str) -> Any:
    """Return what one level gives a tensor, None for nothing."""
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list) and (not value or isinstance(value[0], dict)):
        for item in value:
            part = item.get("filter")
            if part is None or part == "*" or part in name:
                return level(item["value"], name)
        return None
    return gradient(value, layer_of(name)) if isinstance(value, list) else value


def mergekits(text: str, word: str, model: str, name: str, default: Any) -> Any:
    """Return mergekit's value: the model's, else the one at the top, else the default."""
    asked = yaml.safe_load(text)
    own = next(
        m.get("parameters") or {} for m in asked["models"] if m["model"] == model
    )
    for block in (own, asked.get("parameters") or {}):
        if word in block:
            found = level(block[word], name)
            if found is not None:
                return found
    return default


# --- precedence ------------------------------------------------------------------------

TWO = "models: [{model: a, parameters: {%s}}, {model: b, parameters: {%s}}]"
HEAD = f"merge_method: ties\nbase_model: base\n{TWO}\nparameters: {{%s}}"
MLP = "{filter: mlp, value: 0.25}"
REST = "{value: 0.75}"


@pytest.mark.parametrize(
    ("a", "b", "top"),
    [
        ("", "", "weight: 1, density: [0.1, 0.9]"),
        ("", "", "weight: [0, 0.5, 1, 0.2], density: 1"),
        ("", "", f"weight: [{MLP}, {REST}]"),
        ("", "", f"weight: [{REST}, {MLP}]"),
        ("", "", "weight: [{filter: '*', value: 0.3}, {filter: mlp, value: 1}]"),
        ("", "", "weight: [{filter: '', value: 0.3}, {filter: mlp, value: 1}]"),
        ("", "", "weight: {filter: mlp, value: 0.5}, weight2: 1"),
        ("", "", ("weight: [{filter: up_proj, value: 0.1}, {filter: mlp, value: 0.2},"
         " {filter: layers.1, value: 0.3}, {value: 1}]")),
        ("", "", ("weight: [{filter: layers.1, value: 0.3}, {filter: mlp, value: 0.2},"
         " {value: [0.125, 0.5]}]")),
        ("", "", "weight: [{filter: mlp, value: [0, 1]}, {value: [1, 0, 1]}]"),
        ("", "", "weight: [{filter: norm, value: [0.5, 1]}, {value: 0.1}]"),
        ("", "", "weight: [{filter: MLP, value: 0.5}, {value: 0.1}]"),
        ("", "", "weight: [{filter: '*.mlp', value: 0.5}, {value: 0.1}]"),
        ("", "", ("weight: [{filter: 'm?p', value: 0.5}, {filter: '[l]ayers',"
         " value: 0.6}, {value: 0.1}]")),
        ("weight: 1", "weight: 2", f"density: [{MLP}, {REST}]"),
        ("weight: [0, 1]", "weight: [1, 0]", "density: 0.5"),
        ("weight: [0, 1]", "weight: 0.5", ""),
        ("weight: [0, 1]", "", "weight: 0.5"),
        (f"weight: [{MLP}]", "", "weight: 0.5"),
        (f"weight: {MLP}", "weight: []", ("weight: [{filter: layers, value: [0.5, 1]},"
         " {value: 0.25}]")),
        (f"density: [{MLP}]", "", "weight: 1, density: [0.2, 0.4]"),
        (f"density: [{MLP}]", "", "weight: 1"),
        (f"density: [{MLP}]", "density: 0.25", "weight: 1, density: 0.25"),
        ("density: 0.3", "density: [{filter: mlp, value: 0.3}]", "weight: 1"),
        ("density: 0.3", "density: [0.3, 0.3]", "weight: 1"),
        ("weight: [1], density: [0.5]", "weight: 1", "density: [0.9, 0.1]"),
        ("density: [{filter: q_proj, value: [0.1, 0.2, 0.9]}, {value: 0.5}]",
         "density: [{filter: lm_head, value: 0.125}]",
         "weight: [{filter: norm, value: 3}, {value: 1}], density: [0.7, 0.6]"),
        ("", "", "weight: [{filter: layers.1, value: -1}, {value: [0.5, -0.5]}]"),
    ],
)  # fmt: skip
def test_values_are_mergekits_for_every_tensor_and_model(
    tmp_path: Path, a: str, b: str, top: str
) -> None:
    """Own before shared, first fitting filter first, gradients over the layers."""
    text = HEAD % (a, b, top)
    if "weight2" in top:
        text = text.replace(", weight2: 1", "").replace("mlp", "''")
    found = given_to(read(tmp_path, text), NAMES)
    assert len(found) == 2 * len(NAMES)
    for name in NAMES:
        for model in "ab":
            got = found[f"{name} {model}"]
            for word, default in (("weight", None), ("density", 1.0)):
                wanted = mergekits(text, word, model, name, default)
                gap = abs(Fraction(got[word]) - Fraction(str(wanted)))
                assert gap <= Fraction(1, 10**9), (name, model, word)


def any_value(rng: random.Random, *, whole: bool) -> Any:
    """Return a value of any form; with `whole` one that no tensor goes without."""

    def plain() -> float:
        return rng.randrange(9) / 8

    def leaf() -> Any:
        return (
            [plain() for _ in range(rng.randint(1, 4))]
            if rng.random() < 0.5
            else plain()
        )

    if rng.random() < 0.4:
        return leaf()
    filters = ["mlp", "layers.1", "q_proj", "norm", "*", "", "head", "absent", None]
    found = [
        {"filter": rng.choice(filters), "value": leaf()}
        for _ in range(rng.randint(0, 4))
    ]
    return [*found, {"value": leaf()}] if whole else found


@pytest.mark.parametrize("seed", range(40))
def test_any_configuration_has_mergekits_values(tmp_path: Path, seed: int) -> None:
    """Forms at random, at both levels, of two parameters and three models."""
    rng = random.Random(seed)
    asked: dict[str, Any] = {
        "merge_method": "ties",
        "base_model": "base",
        "models": [{"model": m, "parameters": {}} for m in "abc"],
        "parameters": {"weight": any_value(rng, whole=True)},
    }
    if rng.random() < 0.6:
        asked["parameters"]["density"] = any_value(rng, whole=False)
    for model in asked["models"]:
        for word in ("weight", "density"):
            if rng.random() < 0.5:
                model["parameters"][word] = any_value(rng, whole=False)
    text = yaml.safe_dump(asked)
    found = given_to(read(tmp_path, text), NAMES)
    for name in NAMES:
        for model in "abc":
            got = found[f"{name} {model}"]
            for word, default in (("weight", None), ("density", 1.0)):
                wanted = mergekits(text, word, model, name, default)
                gap = abs(Fraction(got[word]) - Fraction(str(wanted)))
                assert gap <= Fraction(1, 10**9), (text, name, model, word)


def test_flags_have_filters_and_words_are_turned_in_them(tmp_path: Path) -> None:
    """Rescale and density of dare, which have other words here."""
    text = HEAD.replace("ties", "dare_ties") % (
        "density: [0.2, 0.8]", "", ("weight: 1, density: [{filter: mlp, value: 0.6}],"
        " rescale: [{filter: q_proj, value: false}],"
        " normalize: [{filter: up_proj, value: true}, {filter: '*', value: false}]"),
    )  # fmt: skip
    found = given_to(read(tmp_path, text), NAMES)
    for name in NAMES:
        for model in "ab":
            got = found[f"{name} {model}"]
            density = mergekits(text, "density", model, name, 1.0)
            assert abs(1 - float(got["p"]) - density) < 2e-9
            assert got["rescale"] == ("none" if "q_proj" in name else "l1")
            assert got["normalize"] == ("true" if "up_proj" in name else "false")


@pytest.mark.parametrize(
    "t",
    [
        "[0, 0.5, 0.3, 0.7, 1]",
        (
            "[{filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]},"
            " {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}, {value: 0.5}]"
        ),
        "[{filter: lm_head, value: 1}, {filter: embed, value: 0}, {value: [0.2, 0.4]}]",
    ],
)
def test_slerps_t_is_two_weights_of_every_tensor(tmp_path: Path, t: str) -> None:
    """The base's and the other's, which add up to one exactly."""
    text = smallest("slerp", more=f"t: {t}")
    found = given_to(read(tmp_path, text), NAMES)
    for name in NAMES:
        weights = [found[f"{name} {model}"]["weight"] for model in ("base", "a")]
        assert sum(weights) == 1
        wanted = mergekits(text, "t", "a", name, None)
        assert abs(weights[1] - Fraction(str(wanted))) <= Fraction(1, 10**9)


# --- what is canonical -----------------------------------------------------------------


def test_other_words_for_the_same_merge_are_the_same_recipe(tmp_path: Path) -> None:
    """Order of models, own or shared, spellings of values: one recipe."""
    texts = [
        HEAD % ("weight: 1", "weight: 1", "density: [{filter: mlp, value: 0.5}]"),
        HEAD % (
            "weight: 1, density: {filter: mlp, value: [.5, 0.50]}",
            "weight: 1e0, density: [{filter: mlp, value: 5e-1}, {value: 1.0}]",
            "",
        ),
        HEAD % ("", "", ("weight: [1, 1.0], density: [{filter: mlp, value: 0.5},"
                " {value: 1}, {filter: norm, value: 0.1}]")),
    ]  # fmt: skip
    texts.append(
        texts[0].replace("model: a", "model: c").replace("model: b", "model: a")
    )
    recipes = []
    for text in texts:
        found = read(tmp_path, text)
        contents = [content_of(m.name) for m in found.models]
        recipes.append(found.recipe_for(contents, NAMES))
    assert len(set(recipes)) == 1
    text = HEAD % ("weight: [0, 1]", "weight: [1, 0]", "")
    swapped = HEAD % ("weight: [1, 0]", "weight: [0, 1]", "")
    swapped = (
        swapped.replace("model: a", "model: x").replace("model: b", "model: a")
    ).replace("model: x", "model: b")
    found, other = read(tmp_path, text), read(tmp_path, swapped)
    ids = {m.name: content_of(m.name) for m in found.models}
    assert found.recipe_for(
        [ids[m.name] for m in found.models], NAMES
    ) == other.recipe_for([ids[m.name] for m in other.models], NAMES)


def test_the_recipe_of_the_commonest_slerp(tmp_path: Path) -> None:
    """Written out in full: later rules go over earlier ones, so the last entry is first."""
    t = "[{filter: 'attn[0]', value: [0, 1]}, {filter: mlp, value: 0.3}, {value: [1, 0]}]"
    found = read(tmp_path, smallest("slerp", more=f"t: {t}"))
    contents = [bytes(32), bytes([255] * 32)]
    base, other = (f"content:{content.hex()}" for content in contents)
    recipe = found.recipe_for(contents, NAMES)
    assert recipe.strategy == "slerp/1"
    assert recipe.parameters == ()
    assert recipe.rules == (
        Rule("*", (("weight", "0,1"),), base),
        Rule("*mlp*", (("weight", "0.7"),), base),
        Rule("*attn[[]0]*", (("weight", "1"),), base),
        Rule("*attn[[]0]*", (("weight", "1,0"),), base),
        Rule("*", (("weight", "1,0"),), other),
        Rule("*mlp*", (("weight", "0.3"),), other),
        Rule("*attn[[]0]*", (("weight", "0"),), other),
        Rule("*attn[[]0]*", (("weight", "0,1"),), other),
    )
    assert [m.weight for m in found.models] == [0, 10**9]


def test_one_layer_has_the_last_value_of_a_gradient(tmp_path: Path) -> None:
    """As in mergekit, where t is 1 for the only layer and 0 outside of layers."""
    names = ["model.layers.0.mlp.weight", "lm_head.weight"]
    found = given_to(read(tmp_path, HEAD % ("", "", "weight: [0.25, 0.5, 1]")), names)
    assert [found[f"{name} a"]["weight"] for name in names] == [1, Fraction(1, 4)]
    names.append("head.1.weight")
    with pytest.raises(BadInputError, match="numbered in a stack of one"):
        given_to(read(tmp_path, HEAD % ("", "", "weight: [0, 1]")), names)
    given_to(read(tmp_path, HEAD % ("", "", "weight: 1")), names)


# --- what is refused -------------------------------------------------------------------

MANY = ", ".join(f"{{filter: layers.{i}, value: 0.1}}" for i in range(1025))


@pytest.mark.parametrize(
    ("top", "reason"),
    [
        ("weight: [1, {value: 1}]", "both plain values and conditions"),
        ("weight: [{filter: mlp}]", "a condition lacks its `value`"),
        ("weight: [{filter: mlp, value: {value: 1}}]", "lacks its `value`"),
        ("weight: [{filter: 3, value: 1}]", "a filter is part of a name, as text"),
        ("weight: [{fliter: mlp, value: 1}]", "'fliter' is not known"),
        ("weight: [{filter: mlp, value: []}]", "a gradient of 0 values"),
        (f"weight: [{', '.join(['1', '2'] * 33)}]", "a gradient of 66 values"),
        (f"weight: [{', '.join(['0.123456789', '1'] * 20)}]", "above 256 characters"),
        (f"weight: [{MANY}, {{value: 1}}]", "rules are above the limit of 1024"),
        (f"weight: [{{filter: {'x' * 300}, value: 1}}, {{value: 1}}]", "is too long"),
        ("weight: [1, [2, 3]]", "weight is not a number"),
        ("weight: [1, heavy]", "'heavy', which is not a number"),
        ("weight: 1, density: [0.5, 1.5]", "density is not a number from 0 to 1"),
        ("weight: 1, normalize: [true, false]", "which only a decimal can be"),
        ("weight: 1, rescale: [{filter: mlp, value: true}]", "not supported yet"),
        ("weight: []", "model 'a' has no weight"),
    ],
)
def test_what_no_rule_can_say_is_refused(tmp_path: Path, top: str, reason: str) -> None:
    with pytest.raises(CrdtMergeError, match=reason) as caught:
        read(tmp_path, HEAD % ("", "", top))
    assert str(caught.value).startswith("merge.yml")


def test_a_tensor_without_a_value_it_needs_is_named(tmp_path: Path) -> None:
    """Mergekit fails when it comes to that tensor; we before any is read."""
    found = read(tmp_path, HEAD % ("", "", "weight: [{filter: mlp, value: 1}]"))
    with pytest.raises(
        BadInputError, match="model 'a' has no weight for tensor 'model"
    ):
        given_to(found, NAMES)
    given_to(found, [name for name in NAMES if "mlp" in name])
    near = read(tmp_path, smallest("slerp", more="t: [{filter: mlp, value: 0.5}]"))
    with pytest.raises(BadInputError, match="slerp has no t for tensor"):
        given_to(near, NAMES)


def test_one_content_has_one_set_of_rules(tmp_path: Path) -> None:
    """Rules select by content; two folders of one content cannot have two sets."""
    found = read(tmp_path, HEAD % ("weight: [0, 1]", "weight: 1", ""))
    twice = [content_of("a")] * 2
    with pytest.raises(BadInputError, match="'b' has the tensors of another model"):
        found.recipe_for(twice, NAMES)
    alike = read(tmp_path, HEAD % ("", "", "weight: [0, 1]"))
    assert len(alike.recipe_for(twice, NAMES).rules) == 1


def test_a_strategy_that_measures_the_whole_takes_no_filtered_weight(
    tmp_path: Path,
) -> None:
    text = HEAD.replace("ties", "metagpt") % ("", "", "weight: [0, 1]")
    with pytest.raises(CrdtMergeError, match="holds for the whole model"):
        read(tmp_path, text)
