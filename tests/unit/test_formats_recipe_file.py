"""Recipe files: what people may write, where errors are, and text that reads back."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.codec import format_decimal
from crdtmerge.errors import BadInputError, UnknownNameError
from crdtmerge.formats.recipe_file import (
    parse_recipe,
    read_recipe_file,
    recipe_of,
)
from crdtmerge.formats.recipe_text import recipe_to_yaml
from crdtmerge.formats.toml_text import parse_toml
from crdtmerge.formats.yaml_text import parse_yaml
from crdtmerge.recipe import OUTPUT_DTYPES, Recipe, Rule
from crdtmerge.rules import parse_pattern
from crdtmerge.strategies import STRATEGIES, Parameter, check_recipe, make_recipe

ID = "3f2a" * 16

YAML = f"""
strategy: ties
parameters: {{density: 0.30, lambda: 1, normalize: no}}
pre:
  - trim: {{density: 0.5}}
post:
  - scale/1: {{by: 0.8}}
weights:
  - {{tag: math, weight: 2}}
  - {{content: {ID}, weight: .5}}
rules:
  - {{tensors: "*.bias", parameters: {{density: 1}}}}
  - {{layers: 0..7, parameters: {{density: [0.1, 0.50]}}}}
  - {{layers: 3, tensors: "*.mlp.*", weight: [0, 1]}}
  - {{name: model.norm.weight, parameters: {{trim.density: 1}}}}
  - {{regex: '.*(q|k)_proj.*', author: {ID}, weight: -0.5}}
output_dtype: bf16
seed_scope: contribution
"""
TOML = f"""
strategy = "ties"
parameters = {{density = 0.30, lambda = 1, normalize = false}}
pre = [{{trim = {{density = 0.5}}}}]
post = [{{"scale/1" = {{by = 0.8}}}}]
weights = [{{tag = "math", weight = 2}}, {{content = "{ID}", weight = 0.5}}]
output_dtype = "bf16"
seed_scope = "contribution"
[[rules]]
tensors = "*.bias"
parameters = {{density = 1}}
[[rules]]
layers = "0..7"
parameters = {{density = [0.1, 0.50]}}
[[rules]]
layers = 3
tensors = "*.mlp.*"
weight = [0, 1]
[[rules]]
name = "model.norm.weight"
parameters = {{"trim.density" = 1}}
[[rules]]
regex = '.*(q|k)_proj.*'
author = "{ID}"
weight = -0.5
"""
RECIPE = Recipe(
    "ties/1",
    (
        ("density", "0.3"),
        ("lambda", "1"),
        ("normalize", "false"),
        ("scale.by", "0.8"),
        ("trim.density", "0.5"),
    ),
    (
        Rule("*", (("weight", "2"),), "tag:math"),
        Rule("*", (("weight", "0.5"),), f"content:{ID}"),
        Rule("*.bias", (("density", "1"),)),
        Rule("layers:0..7", (("density", "0.1,0.5"),)),
        Rule("layers:3:*.mlp.*", (("weight", "0,1"),)),
        Rule("name:model.norm.weight", (("trim.density", "1"),)),
        Rule("regex:.*(q|k)_proj.*", (("weight", "-0.5"),), f"author:{ID}"),
    ),
    "BF16",
    "contribution",
    ("trim/1",),
    ("scale/1",),
)


@pytest.mark.parametrize(
    ("suffix", "text"), [("yaml", YAML), ("yml", YAML), ("YAML", YAML), ("toml", TOML)]
)
def test_both_languages_say_the_same(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"recipe.{suffix}"
    path.write_text(text)
    assert recipe_of(read_recipe_file(path)) == RECIPE


def test_the_least_is_a_strategy() -> None:
    """What is left out has the same defaults as on the command line."""
    found = recipe_of(parse_recipe(parse_yaml("strategy: soup")))
    assert found == make_recipe("linear", {})


@pytest.mark.parametrize(
    "text", ["0.123456789", "1000", "0.000000001", ".5", "+0.25", "-3"]
)
@pytest.mark.parametrize("form", ["yaml", "toml"])
def test_decimals_are_exact(form: str, text: str) -> None:
    """As they were written: nothing passes through a float."""
    if form == "yaml":
        value = parse_yaml(f"{{strategy: linear, rules: [{{weight: {text}}}]}}")
    else:
        number = f"0{text}" if text.startswith(".") else text
        value = parse_toml(f'strategy = "linear"\nrules = [{{weight = {number}}}]')
    (rule,) = recipe_of(parse_recipe(value)).rules
    assert rule == make_recipe("linear", {}, [Rule("*", (("weight", text),))]).rules[0]


def test_the_start_of_an_id_is_left_for_the_space() -> None:
    """An id of digits alone is a number to YAML, and its text is kept."""
    text = "{strategy: linear, weights: [{content: 0123, weight: 1}]}"
    assert parse_recipe(parse_yaml(text))["rules"] == [
        {"tensors": "*", "models": "content:0123", "parameters": {"weight": "1"}}
    ]


MISTAKES: list[tuple[str, type[BadInputError], str]] = [
    ("[]", BadInputError, "a recipe is not a mapping"),
    ("", BadInputError, "a recipe is not a mapping|strategy: NAME"),
    ("{}", BadInputError, "strategy is missing"),
    ("merge_method: ties", BadInputError, "mergekit|crdtmerge merge"),
    ("strategy: 3", BadInputError, "strategy is not a text"),
    (
        "strategy: tise",
        UnknownNameError,
        "strategy: there is no strategy 'tise'|'ties'",
    ),
    ("{strategy: ties, rule: []}", UnknownNameError, "'rule' is not known|'rules'"),
    ("{strategy: ties, rules: {}}", BadInputError, "rules: it is not a list"),
    (
        "{strategy: ties, parameters: {densty: 1}}",
        UnknownNameError,
        "parameters: |'densty'|'density'",
    ),
    (
        "{strategy: ties, parameters: {density: 2}}",
        BadInputError,
        "parameters: density='2' is not a number, 0 to 1",
    ),
    ("{strategy: ties, parameters: {density: 1e-1}}", BadInputError, "exponent"),
    ("{strategy: ties, parameters: {density: null}}", BadInputError, "has no value"),
    ("{strategy: ties, parameters: {density: [1]}}", BadInputError, "two values"),
    ("{strategy: ties, parameters: {density: [[1]]}}", BadInputError, "gradient"),
    ("{strategy: ties, parameters: {normalize: [0, 1]}}", BadInputError, "decimal"),
    ("{strategy: ties, pre: [trimm]}", UnknownNameError, "pre and post: |'trimm'|trim"),
    ("{strategy: ties, pre: [{trim: {}, scale: {}}]}", BadInputError, "pre, number 1"),
    ("{strategy: ties, pre: [trim], post: [trim]}", BadInputError, "twice"),
    (
        "{strategy: ties, pre: [{trim: {density: 1}}], parameters: {trim.density: 1}}",
        BadInputError,
        "'trim.density' is given twice",
    ),
    (
        "{strategy: ties, pre: [{trim: {densty: 1}}]}",
        UnknownNameError,
        "'trim.densty'|'trim.density'",
    ),
    (
        "{strategy: ties, weights: [{tag: a, weight: 1}, {tag: b}]}",
        BadInputError,
        "weights, number 2",
    ),
    ("{strategy: ties, weights: [{weight: 1}]}", BadInputError, "weights, number 1"),
    (
        "{strategy: ties, weights: [{tag: a, content: abcd, weight: 1}]}",
        BadInputError,
        "two ways",
    ),
    ("{strategy: ties, weights: [{tag: a b, weight: 1}]}", BadInputError, "number 1"),
    (
        "{strategy: ties, weights: [{content: xyz, weight: 1}]}",
        BadInputError,
        "weights, number 1: |'xyz'|hexadecimal",
    ),
    (
        "{strategy: ties, weights: [{tag: a, weight: 2000}]}",
        BadInputError,
        "weights, number 1: weight='2000'|-1000 to 1000",
    ),
    (
        "{strategy: ties, weights: [{tag: a, weight: 1}], rules: [{tensrs: x}]}",
        UnknownNameError,
        "rules, number 1: 'tensrs'|'tensors'",
    ),
    (
        "{strategy: ties, rules: [{weight: 1}, {parameters: {density: 3}}]}",
        BadInputError,
        "rules, number 2: density",
    ),
    ("{strategy: ties, rules: [{tensors: x}]}", BadInputError, "changes nothing"),
    (
        "{strategy: ties, rules: [{weight: 1, parameters: {weight: 1}}]}",
        BadInputError,
        "twice",
    ),
    (
        "{strategy: ties, rules: [{name: a, regex: b, weight: 1}]}",
        BadInputError,
        "two things",
    ),
    ("{strategy: ties, rules: [{regex: '(', weight: 1}]}", BadInputError, "number 1"),
    (
        "{strategy: ties, rules: [{layers: 0-7, weight: 1}]}",
        BadInputError,
        "rules, number 1: |range of layers",
    ),
    ("{strategy: ties, rules: [{tensors: '', weight: 1}]}", BadInputError, "empty"),
    (
        "{strategy: metagpt, rules: [{layers: 1, weight: 2}]}",
        BadInputError,
        "rules, number 1: weight|whole model",
    ),
    ("{strategy: ties, output_dtype: i8}", BadInputError, "output dtype"),
    ("{strategy: ties, seed_scope: all}", BadInputError, "seed scope"),
    ("{strategy: ties, strategy: ties}", BadInputError, "twice"),
]


@pytest.mark.parametrize(("text", "error", "said"), MISTAKES)
def test_a_mistake_is_refused_with_its_place(
    tmp_path: Path, text: str, error: type[BadInputError], said: str
) -> None:
    """The file, the place in it, and the nearest word where one is near."""
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(error) as caught:
        read_recipe_file(path)
    told = f"{caught.value} {caught.value.hint}"
    assert "mine.yaml" in told
    assert all(part in told for part in said.split("|")), told


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r.json", "{}", "does not end in"),
        ("r.toml", "strategy = ", "is not TOML"),
        ("r.toml", "strategy = 2026-01-01", "not plain"),
        ("r.toml", "x = " + "[" * 500 + "]" * 500, "r.toml"),
        ("r.toml", "x = 1" + "0" * 99, "above all limits"),
        ("r.toml", "x = 1" + "0" * 9999, "r.toml"),
        ("r.yaml", "a: [", "is not YAML"),
        ("r.yaml", "#" * (256 << 10) + "\n", "above the limit"),
        ("r.toml", "#" * (256 << 10) + "\n", "above the limit"),
    ],
)
def test_a_file_that_is_none_is_refused(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInputError, match=said):
        read_recipe_file(tmp_path / name)


@pytest.mark.parametrize("name", ["gone.yaml", "gone.toml"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match="cannot read"):
        read_recipe_file(tmp_path / name)
    (tmp_path / name).write_bytes(b"\xff\xfe")
    with pytest.raises(BadInputError):
        read_recipe_file(tmp_path / name)


# --- text that reads back --------------------------------------------------------------

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30
).filter(lambda text: len(text.strip()) > 0)
LAYERS = st.sampled_from(["layers:3", "layers:0..7", "layers:..-2", "layers:-4.."])
NAMED = st.one_of(
    st.just("*"),
    st.sampled_from(["*.bias", "regex:.*(q|k)_proj.*", 'regex:\\d+\\."x"', "name:a.b"]),
    TEXTS,
    TEXTS.map(lambda text: f"name:{text}"),
)
PATTERNS = st.one_of(
    NAMED,
    LAYERS,
    LAYERS.map(lambda text: f"{text}:"),
    st.tuples(LAYERS, NAMED).map(":".join),
)
SELECTORS = st.one_of(
    st.just(""),
    st.sampled_from(["tag:math", "tag:1", "tag:on", "tag:null", "tag:1e5", "tag:0x1"]),
    st.binary(min_size=32, max_size=32).map(lambda b: f"content:{b.hex()}"),
    st.binary(min_size=32, max_size=32).map(lambda b: f"author:{b.hex()}"),
)
DECIMALS = st.integers(-(10**12), 10**12).map(format_decimal)
WEIGHTS = st.one_of(DECIMALS, st.lists(DECIMALS, min_size=2, max_size=5).map(",".join))


STAGES: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((), ()),
    (("trim",), ()),
    (("scale", "trim"), ()),
    (("trim",), ("scale",)),
]


def is_pattern(text: str) -> bool:
    try:
        parse_pattern(text)
    except BadInputError:
        return False
    return True


def values_of(parameter: Parameter, *, in_rule: bool) -> st.SearchStrategy[str]:
    """Return texts of values that a parameter accepts."""
    if parameter.kind in {"flag", "choice"}:
        return st.sampled_from(parameter.accepted)
    if parameter.kind == "integer":
        return st.just(parameter.default)
    plain = st.integers(parameter.minimum, parameter.maximum).map(format_decimal)
    if not in_rule or parameter.whole:
        return plain
    return st.one_of(plain, st.lists(plain, min_size=2, max_size=4).map(",".join))


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Draw a recipe that this version accepts."""
    strategy = draw(st.sampled_from(sorted(STRATEGIES.values(), key=lambda s: s.name)))
    parameters = {
        p.name: draw(values_of(p, in_rule=False))
        for p in strategy.parameters
        if draw(st.booleans())
    }
    stages = draw(
        st.sampled_from(
            [((), ()), (("trim",), ()), (("scale", "trim"), ()), ((), ("scale",))]
        )
    )
    if "scale" in stages[0] + stages[1]:
        parameters["scale.by"] = draw(st.sampled_from(["-0.5", "2", "0.000000001"]))
    changeable = [p for p in strategy.parameters if not p.whole]
    rules = []
    for _ in range(draw(st.integers(0, 4))):
        pattern = draw(PATTERNS.filter(is_pattern))
        pairs = {
            p.name: draw(values_of(p, in_rule=True))
            for p in changeable
            if draw(st.booleans())
        }
        models = draw(SELECTORS)
        if models:
            pairs = {
                p.name: pairs[p.name]
                for p in changeable
                if p.per_model and p.name in pairs
            }
        if strategy.reduce is None and draw(st.booleans()):
            pairs["weight"] = draw(WEIGHTS)
        rules.append(Rule(pattern, tuple(pairs.items()), models))
    dtype = draw(st.sampled_from(OUTPUT_DTYPES))
    scope = draw(st.sampled_from(["set", "contribution"]))
    return make_recipe(
        strategy.full_name,
        parameters,
        rules,
        dtype,
        scope,
        pre=stages[0],
        post=stages[1],
    )


@given(recipes())
def test_the_text_of_a_recipe_reads_back(recipe: Recipe) -> None:
    """Every recipe that can be set can be written, edited and set again."""
    text = recipe_to_yaml(recipe)
    assert text.isascii()
    assert recipe_of(parse_recipe(parse_yaml(text))) == recipe
    check_recipe(recipe)


@given(recipes())
def test_other_readers_of_yaml_read_the_text_too(recipe: Recipe) -> None:
    """PyYAML's own loader finds the same words, so the text is plain YAML."""
    found = yaml.safe_load(recipe_to_yaml(recipe))
    assert found["strategy"] == recipe.strategy
    rules = [*found.get("weights", []), *found.get("rules", [])]
    assert len(rules) == len(recipe.rules)


def test_a_hostile_pattern_is_written_without_what_a_terminal_obeys() -> None:
    recipe = make_recipe("linear", {}, [Rule("\x1b[2J\u202e\n", (("weight", "1"),))])
    text = recipe_to_yaml(recipe)
    assert text.isascii()
    assert all(c.isprintable() or c == "\n" for c in text)
    assert recipe_of(parse_recipe(parse_yaml(text))) == recipe
