"""Slices of a configuration: what each tensor of the output is, and the values in it.

The oracle reads the same YAML with PyYAML and computes, tensor by tensor, what mergekit
0.1.5 would: written from its documented and observed behaviour, sharing no code with ours.
"""

import random
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from crdtmerge.digest import ContentId
from crdtmerge.errors import BadInputError, CrdtMergeError
from crdtmerge.formats.mergekit import Configuration, Sliced, read_configuration
from crdtmerge.manifest import Manifest
from crdtmerge.resolve.settings import Contribution, Settings
from crdtmerge.strategies import check_recipe

DEPTH = 6
KINDS = ("self_attn.q_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight")
FIRST = ("model.embed_tokens.weight",)
LAST = ("model.norm.weight", "lm_head.weight")
NAMES = [
    *(f"model.layers.{i}.{kind}" for i in range(DEPTH) for kind in KINDS),
    *FIRST,
    *LAST,
]
MODELS = ("base", "a", "b", "c")
LINEAR = "merge_method: linear\n"
TIES = "merge_method: ties\nbase_model: base\n"


def sliced(folder: Path, text: str) -> Sliced:
    path = folder / "merge.yml"
    path.write_text(text)
    found = read_configuration(path)
    assert isinstance(found, Sliced), "it has slices"
    return found


def read(folder: Path, text: str, depth: int = DEPTH) -> Configuration:
    """Return a configuration of models that all have the same layers."""
    names = [n for n in NAMES if layer_of(n) < depth]
    found = sliced(folder, text)
    return found.laid_out({path: names for _, path in found.references})


def refused(folder: Path, text: str) -> CrdtMergeError:
    with pytest.raises(CrdtMergeError) as caught:
        read(folder, text)
    return caught.value


def layer_of(name: str) -> int:
    """Return the number of a layer, -1 outside of them."""
    if "layers." not in name:
        return -1
    return int(name.split("layers.")[1].split(".", maxsplit=1)[0])


def given_to(found: Configuration) -> dict[tuple[str, str], dict[str, Any]]:
    """Return weight and parameters of each tensor of the output, by the source's tensor."""
    assert found.layout is not None
    contents = [ContentId(bytes([i + 1]) * 32) for i in range(len(found.models))]
    names = list(found.layout.origins)
    recipe = found.recipe_for(contents, names)
    check_recipe(recipe)
    manifest = Manifest("base", b"", ())
    contributions = [
        Contribution(content, m.weight, manifest, (), m.parameters)
        for content, m in zip(contents, found.models, strict=True)
    ]
    settings = Settings.of(recipe, names, contributions)
    result: dict[tuple[str, str], dict[str, Any]] = {}
    for name in names:
        setting = settings.of_tensor(name)
        for slot, (weight, own) in enumerate(
            zip(setting.weights, setting.own, strict=True)
        ):
            span = found.layout.span(name, slot)
            if span is None:
                assert weight == 0, "who gives nothing has no weight"
                continue
            source = found.layout.origins[name].name_in(span)
            result[name, f"{span.name} {source}"] = {
                **dict(setting.values_of(own).parameters),
                "weight": Fraction(weight, 10**9),
            }
    return result


# --- the oracle ------------------------------------------------------------------------


def level(value: Any, name: str, t: Fraction) -> Any:
    """Return what one level gives a tensor, None for nothing."""
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list) and (not value or isinstance(value[0], dict)):
        for item in value:
            part = item.get("filter")
            if part is None or part == "*" or part in name:
                return level(item["value"], name, t)
        return None
    if not isinstance(value, list):
        return value
    place = t * (len(value) - 1)
    low = int(place)
    high = min(len(value) - 1, low + 1)
    ends = Fraction(str(value[low])), Fraction(str(value[high]))
    return (1 - (place - low)) * ends[0] + (place - low) * ends[1]


def first_of(blocks: list[Any], word: str, name: str, t: Fraction, default: Any) -> Any:
    for block in blocks:
        if word in (block or {}):
            found = level(block[word], name, t)
            if found is not None:
                return found
    return default


def expected(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what mergekit gives each source of each tensor of the output."""
    asked = yaml.safe_load(text)
    base, top = asked.get("base_model"), asked.get("parameters")
    result = {}
    above = 0
    slices = asked["slices"]
    for number, item in enumerate(slices):
        start, stop = item["sources"][0]["layer_range"]
        count = stop - start
        rows = [(i, kind) for i in range(count) for kind in KINDS]
        rows += [(-1, name) for name in FIRST] if number == 0 else []
        rows += [(-1, name) for name in LAST] if number == len(slices) - 1 else []
        for layer, kind in rows:
            t = (
                Fraction(max(layer, 0), count - 1)
                if count > 1
                else Fraction(layer >= 0)
            )
            for source in item["sources"]:
                if source["model"] == base:
                    continue
                taken = source["layer_range"][0] + layer
                inner = f"model.layers.{taken}.{kind}" if layer >= 0 else kind
                outer = f"model.layers.{above + layer}.{kind}" if layer >= 0 else kind
                blocks = [source.get("parameters"), item.get("parameters"), top]
                result[outer, f"{source['model']} {inner}"] = {
                    "weight": Fraction(str(first_of(blocks, "weight", inner, t, None))),
                    "density": first_of(blocks, "density", inner, t, 1),
                    "lambda": first_of(blocks[1:], "lambda", outer, t, 1),
                    "normalize": first_of(blocks[1:], "normalize", outer, t, True),
                }
        above += count
    return result


def a_value(rng: random.Random) -> Any:
    def plain() -> Any:
        if rng.random() < 0.4:
            return [rng.choice([0.25, 0.5, 0.75, 1]) for _ in range(rng.randint(1, 4))]
        return rng.choice([0.25, 0.5, 1])

    if rng.random() < 0.4:
        return plain()
    filters = ["self_attn", "mlp", "layers.1", "layers.3.mlp", "lm_head", "embed", "5"]
    found = [
        {"filter": part, "value": plain()}
        for part in rng.sample(filters, rng.randint(1, 3))
    ]
    return [*found, {"value": plain()}] if rng.random() < 0.5 else found


def a_configuration(rng: random.Random) -> str:
    """Return a ties merge of one to four slices of up to three models and the base."""

    def block(words: tuple[str, ...], chance: float) -> dict[str, Any]:
        return {word: a_value(rng) for word in words if rng.random() < chance}

    slices = []
    for _ in range(rng.randint(1, 4)):
        count = rng.randint(1, 4)
        taken = ["base", *rng.sample(MODELS[1:], rng.randint(1, 3))]
        rng.shuffle(taken)
        sources = []
        for model in taken:
            first = rng.randint(0, DEPTH - count)
            source: dict[str, Any] = {
                "model": model,
                "layer_range": [first, first + count],
            }
            if model != "base":
                source["parameters"] = block(("weight", "density"), 0.4)
            sources.append(source)
        shared = block(("weight", "density", "lambda"), 0.2)
        if rng.random() < 0.2:
            shared["normalize"] = False
        slices.append({"sources": sources, "parameters": shared})
    top = block(("density", "lambda"), 0.5) | {"weight": rng.choice([0.5, [1, 2]])}
    asked = {
        "slices": slices,
        "merge_method": "ties",
        "base_model": "base",
        "parameters": top,
    }
    return yaml.safe_dump(asked)


NINE_PLACES = Fraction(1, 10**9)


@pytest.mark.parametrize("seed", range(40))
def test_values_are_mergekits_for_every_tensor_and_source(
    tmp_path: Path, seed: int
) -> None:
    """Sources before slices before the top; filters by the names on either side."""
    text = a_configuration(random.Random(seed))
    found = read(tmp_path, text)
    if found.layout is None:
        pytest.skip("all layers stay where they are")
    ours, theirs = given_to(found), expected(text)
    assert ours.keys() == theirs.keys()
    for key, values in theirs.items():
        for word, value in values.items():
            if word == "normalize":
                assert ours[key][word] == str(value).lower(), (key, word)
            else:
                gap = abs(Fraction(ours[key][word]) - Fraction(str(value)))
                assert gap <= NINE_PLACES, (key, word, ours[key][word], value)


# --- layout ----------------------------------------------------------------------------


def test_layers_are_numbered_anew_and_ends_are_of_the_outer_slices(
    tmp_path: Path,
) -> None:
    """What embeds is of the first slice's model; the last norm and head of the last's."""
    found = read(
        tmp_path,
        "slices:\n- sources: [{model: a, layer_range: [0, 2]}]\n"
        "- sources: [{model: b, layer_range: [1, 2]}]\nmerge_method: passthrough",
    )
    assert found.layout is not None
    made = {}
    for name, origin in found.layout.origins.items():
        span = found.layout.span(name, 0)
        assert span is not None
        made[name] = f"{span.name} {origin.name_in(span)}"
    assert made == {
        "model.embed_tokens.weight": "a model.embed_tokens.weight",
        **{
            f"model.layers.{i}.{kind}": f"{model} model.layers.{j}.{kind}"
            for i, model, j in ((0, "a", 0), (1, "a", 1), (2, "b", 1))
            for kind in KINDS
        },
        "model.norm.weight": "b model.norm.weight",
        "lm_head.weight": "b lm_head.weight",
    }
    assert found.base is None
    assert [m.name for m in found.models] == ["a[0:2] b[1:2]"]
    assert found.recipe.rules == ()


@pytest.mark.parametrize(
    "weight", ["0.5", "[0.25, 1]", "[{filter: mlp, value: 2}, {value: 1}]"]
)
def test_slices_that_move_nothing_are_a_merge_of_models(
    tmp_path: Path, weight: str
) -> None:
    """In the same recipe, so the same merge has one id in both forms."""
    more = f"parameters: {{weight: {weight}}}"
    listed = "models: [{model: a}, {model: b}]\n"
    path = tmp_path / "models.yml"
    path.write_text(f"{LINEAR}{listed}{more}")
    whole = read_configuration(path)
    assert isinstance(whole, Configuration)
    both = ", ".join(f"{{model: {m}, layer_range: [0, {DEPTH}]}}" for m in "ab")
    text = f"{LINEAR}slices: [{{sources: [{both}]}}]\n{more}"
    found = read(tmp_path, text)
    assert found.layout is None
    assert found.models == whole.models
    ids = [b"1" * 32, b"2" * 32]
    assert found.recipe_for(ids, NAMES) == whole.recipe_for(ids, NAMES)


def test_a_model_keeps_its_contribution(tmp_path: Path) -> None:
    """Whatever its place in the list; one that is missing in a slice has no weight."""
    found = read(
        tmp_path,
        f"{LINEAR}parameters: {{weight: 1}}\nslices:\n"
        "- sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 2]}]\n"
        "- sources: [{model: b, layer_range: [2, 4]}, {model: a, layer_range: [2, 4]}]\n"
        "- sources: [{model: b, layer_range: [4, 5]}]",
    )
    assert [m.name for m in found.models] == ["a[0:2] a[2:4]", "b[0:2] b[2:4] b[4:5]"]
    weights = {key: values["weight"] for key, values in given_to(found).items()}
    assert set(weights.values()) == {1}


def test_the_one_module_is_the_model(tmp_path: Path) -> None:
    """Its parameters go before those at the top."""
    inner = (
        "slices: [{sources: [{model: a, layer_range: [0, 2]}]}], parameters: {scale: 2}"
    )
    text = "merge_method: passthrough\nparameters: {scale: 3}\n"
    found = read(tmp_path, f"{text}modules: {{default: {{{inner}}}}}")
    assert dict(found.recipe.parameters)["scale"] == "2"


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        (LINEAR + "slices: []", "slices is not a list of 1 to", "layer_range"),
        (LINEAR + "slices: [{sources: []}]", "number 1: sources is not a list", ""),
        (
            LINEAR
            + "slices: [{sources: [{model: a, layer_range: [0, 2]}], weight: 1}]",
            "slices, number 1: 'weight' is not known",
            "sources",
        ),
        (
            LINEAR + "slices: [{sources: [{model: a, layers: [0, 2]}]}]",
            "source 1: 'layers' is not known",
            "layer_range",
        ),
        *(
            (
                LINEAR + f"slices: [{{sources: [{{model: a, layer_range: {r}}}]}}]",
                "layer_range is not a first layer and the one to stop before",
                "0 to 15",
            )
            for r in ("[3, 1]", "[2, 2]", "[-2, 4]", "[1]", "[0, 1.5]", "3", "null")
        ),
        (
            LINEAR + "slices: [{sources: [{model: a, layer_range: [4, 7]}]}]",
            "model 'a' has 6 layers, not 7",
            "",
        ),
        (
            LINEAR + "slices: [{sources: [{model: a, layer_range: [0, 2]},"
            " {model: b, layer_range: [0, 3]}]}]",
            "its sources have 2 and 3 layers",
            "equally many",
        ),
        (
            LINEAR + "slices: [{sources: [{model: a, layer_range: [0, 2]},"
            " {model: a, layer_range: [2, 4]}]}]",
            "a is a source of this slice already",
            "once in a slice",
        ),
        (
            LINEAR + "slices: [{sources: [{model: base+l, layer_range: [0, 2]}]}]\n"
            "base_model: base",
            "'base\\+l' is an adapter",
            "PEFT",
        ),
        (
            TIES + "slices: [{sources: [{model: a, layer_range: [0, 2]}]}]",
            "ties measures from the base_model, which is no source of it",
            "among the sources",
        ),
        (
            LINEAR.replace("linear", "passthrough")
            + "slices: [{sources: [{model: a, layer_range: [0, 2]},"
            " {model: b, layer_range: [0, 2]}]}]",
            "passthrough merges exactly 1 model, not 2",
            "",
        ),
        (
            TIES + "slices: [{sources: [{model: base, layer_range: [0, 2]}, {model: a,"
            " layer_range: [0, 2]}]}]",
            "has no weight",
            "",
        ),
        (
            LINEAR + "slices: [{sources: [{model: a, layer_range: [0, 2], parameters: "
            "{weight: {filter: mlp, value: 1}}}]},"
            " {sources: [{model: a, layer_range: [0, 2], parameters: {weight: 1}}]}]",
            "linear has no weight for tensor 'model.embed_tokens",
            "end the list",
        ),
        (LINEAR + "slices: [a]\nmodels: [{model: a}]", "beside one another", "one of"),
        (LINEAR + "parameters: {weight: 1}", "models is missing", "slices"),
        (
            LINEAR + "modules: {text: {models: [{model: a}]}}",
            "modules: text",
            "default",
        ),
        (
            "base_model: a\ngate_mode: hidden\nexperts: [{source_model: a}]",
            "(experts|gate_mode) is of a configuration of mergekit-moe",
            "merge_method",
        ),
        (
            LINEAR
            + "models: [{model: a, parameters: {weight: 1}}]\nchat_template: chatml",
            "'chatml' is no template",
            "Jinja",
        ),
    ],
)
def test_what_is_no_slice_is_refused(
    tmp_path: Path, text: str, said: str, hint: str
) -> None:
    """Which slice and source, what is wrong, and what to write."""
    error = refused(tmp_path, text)
    assert re.search(said, str(error)), str(error)
    assert hint in error.hint


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["embed.weight", "head.weight"], "0 stacks of layers"),
        ([*NAMES, "vision.blocks.0.weight"], "2 stacks of layers"),
        (["model.layers.00.weight"], "zeros in front"),
    ],
)
def test_models_without_one_stack_are_refused(
    tmp_path: Path, names: list[str], said: str
) -> None:
    """Which of several stacks is meant, nobody can tell."""
    found = sliced(
        tmp_path,
        "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 1]}]}]",
    )
    with pytest.raises(BadInputError, match=said):
        found.laid_out({path: names for _, path in found.references})
