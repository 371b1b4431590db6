"""Recipes as people write them: YAML or TOML, read to what a recipe is made of.

Owns the words of such a file. Does not own its plain values (`recipe_values`), what
strategies, steps and values may be (`crdtmerge.strategies`), nor which contribution the
start of an id means: a space knows. `recipe_text` is the inverse.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import BadInputError
from crdtmerge.formats.recipe_values import (
    at,
    check_keys,
    count_of,
    items_of,
    listed,
    mapping,
    optional,
    text_of,
    value_of,
    values_of,
)
from crdtmerge.formats.toml_text import read_toml
from crdtmerge.formats.yaml_text import Number, Plain, read_yaml
from crdtmerge.recipe import EVERYWHERE, WEIGHT, Recipe, Rule
from crdtmerge.strategies import make_recipe
from crdtmerge.strategies.extras import EXTRAS
from crdtmerge.strategies.recipes import dtype_named

Wording: TypeAlias = dict[str, object]
"""What makes a recipe, as the verb that sets one takes it: strategy, params, pre, post,
rules (each tensors, models, parameters), output_dtype, seed_scope, extras; all values
texts."""

PATTERNS: Final = ("name", "regex", "tensors")
"""The ways to say which tensors a rule is for; `layers` goes with each or alone."""
SELECTORS: Final = ("content", "author", "tag")
_TOP: Final = (
    "strategy",
    "parameters",
    "pre",
    "post",
    "weights",
    "rules",
    "output_dtype",
    "seed_scope",
    *EXTRAS,
)
_WEIGHTS: Final = (*SELECTORS, WEIGHT)
_RULES: Final = (*PATTERNS, "layers", *SELECTORS, WEIGHT, "parameters")
_READERS: Final = {".yaml": read_yaml, ".yml": read_yaml, ".toml": read_toml}
_START: Final = re.compile(rf"[0-9a-f]{{4,{2 * DIGEST_BYTES}}}")


def read_recipe_file(path: Path) -> Wording:
    """Return what a recipe file asks for, checked but for ids that only a space knows.

    Raises:
        BadInputError: the file cannot be read, or asks for what no recipe can.
        UnknownNameError: a word, strategy, step or parameter is not known; the hint has
            the nearest.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        message = f"{path.name} does not end in {', '.join(_READERS)}"
        raise BadInputError(message, hint="the suffix tells YAML from TOML")
    value = read(path)
    with at(path.name):
        return parse_recipe(value)


def parse_recipe(value: Plain) -> Wording:
    """Return what the plain values of a recipe file ask for.

    Raises:
        BadInputError: they ask for what no recipe can; the message says where.
        UnknownNameError: a word, strategy, step or parameter is not known.
    """
    entry = mapping(value, "")
    if "merge_method" in entry:
        message = "it is a mergekit configuration, and no recipe of a space"
        raise BadInputError(message, hint="`crdtmerge merge` reads it")
    check_keys(entry, _TOP)
    if "strategy" not in entry:
        raise BadInputError("strategy is missing", hint="write strategy: NAME")
    with at("parameters"):
        params = values_of(entry.get("parameters"))
    pre, more = _steps(entry.get("pre"), "pre")
    post, most = _steps(entry.get("post"), "post")
    if twice := (params.keys() & {*more, *most}) | (more.keys() & most):
        raise BadInputError(f"{min(twice)!r} is given twice")
    rules = [*listed(entry.get("weights"), "weights", _weight)]
    rules += listed(entry.get("rules"), "rules", _rule)
    wording: Wording = {
        "strategy": text_of(entry["strategy"], "strategy"),
        "params": {**params, **more, **most},
        "pre": pre,
        "post": post,
        "rules": rules,
        "output_dtype": dtype_named(optional(entry, "output_dtype")),
        "seed_scope": optional(entry, "seed_scope") or "set",
        "extras": values_of({k: v for k, v in entry.items() if k in EXTRAS}),
    }
    _check(wording, len(rules) - count_of(entry.get("rules")))
    return wording


def recipe_of(wording: Wording) -> Recipe:
    """Return the recipe, where every id stands in it in full.

    Raises:
        BadInputError: an id does not, or something else cannot be.
    """
    return _made(wording, [_rule_of(rule) for rule in _rules(wording)])


# --- the parts of a file ---------------------------------------------------------------


def _steps(value: Plain, key: str) -> tuple[list[str], dict[str, str]]:
    """Return the names of steps, and their parameters as a recipe calls them."""
    names: list[str] = []
    params: dict[str, str] = {}
    for place, item in items_of(value, key):
        with at(place):
            if isinstance(item, str):
                names.append(item)
                continue
            if not isinstance(item, dict) or len(item) != 1:
                message = "a step is a name, or a name with its parameters"
                raise BadInputError(message, hint="write `- trim: {density: 0.5}`")
            ((name, given),) = item.items()
            names.append(name)
            plain = name.partition("/")[0]
            params |= {f"{plain}.{k}": text for k, text in values_of(given).items()}
    return names, params


def _weight(entry: Mapping[str, Plain]) -> Wording:
    check_keys(entry, _WEIGHTS)
    models = _selector(entry)
    if not models or entry.get(WEIGHT) is None:
        message = "it is not one of content, author or tag, and a weight"
        raise BadInputError(message, hint="write `- {tag: math, weight: 2}`")
    parameters = {WEIGHT: value_of(entry[WEIGHT], WEIGHT)}
    return {"tensors": EVERYWHERE, "models": models, "parameters": parameters}


def _rule(entry: Mapping[str, Plain]) -> Wording:
    check_keys(entry, _RULES)
    parameters = values_of(entry.get("parameters"))
    if entry.get(WEIGHT) is not None:
        if WEIGHT in parameters:
            raise BadInputError("the weight is given twice")
        parameters[WEIGHT] = value_of(entry[WEIGHT], WEIGHT)
    if not parameters and entry.get("parameters") is None:
        message = "it changes nothing: it has neither parameters nor a weight"
        raise BadInputError(message, hint="write `parameters: {density: 1}`")
    models = _selector(entry)
    return {"tensors": _pattern(entry), "models": models, "parameters": parameters}


def _pattern(entry: Mapping[str, Plain]) -> str:
    """Return the pattern of a rule; of all tensors if it gives none."""
    given = [key for key in PATTERNS if entry.get(key) is not None]
    if len(given) > 1:
        raise BadInputError(f"{given[0]} and {given[1]} say two things")
    inner = ""
    if given:
        (key,) = given
        text = text_of(entry[key], key)
        if not text:
            raise BadInputError(f"{key} is empty", hint="leave it out for all tensors")
        inner = text if key == "tensors" else f"{key}:{text}"
    layers = entry.get("layers")
    if layers is None:
        return inner or EVERYWHERE
    text = layers.text if isinstance(layers, Number) else text_of(layers, "layers")
    return f"layers:{text}:{inner}" if inner else f"layers:{text}"


def _selector(entry: Mapping[str, Plain]) -> str:
    """Return which contributions are meant; all if nothing says."""
    given = [key for key in SELECTORS if entry.get(key) is not None]
    if len(given) > 1:
        raise BadInputError(f"{given[0]} and {given[1]} select two ways at once")
    if not given:
        return ""
    (key,) = given
    value = entry[key]
    # An id of digits alone reads as a number, which keeps its text.
    text = value.text if isinstance(value, Number) else text_of(value, key)
    if key != "tag":
        text = text.lower()
        if not _START.fullmatch(text):
            message = f"{key} {text!r} is not 4 or more characters of an id"
            hint = "ids are hexadecimal, and in lower case; `crdtmerge status` has them"
            raise BadInputError(message, hint=hint)
    return f"{key}:{text}"


# --- checking, part by part, so that errors can say where ------------------------------


def _check(wording: Wording, weights: int) -> None:
    """Refuse what no recipe can say; of the rules, the first `weights` are weights."""
    bare = {**wording, "params": {}, "pre": [], "post": [], "rules": []}
    with at("strategy"):
        _made({**bare, "output_dtype": "", "seed_scope": "set", "extras": {}}, [])
    _made(bare, [])
    with at("pre and post"):
        _made({**wording, "params": {}}, [])
    with at("parameters"):
        _made(wording, [])
    rules = _rules(wording)
    for i, rule in enumerate(rules):
        place = ("weights", i + 1) if i < weights else ("rules", i + 1 - weights)
        with at(f"{place[0]}, number {place[1]}"):
            _made(wording, [_rule_of(_whole(rule))])
    _made(wording, [_rule_of(_whole(rule)) for rule in rules])


def _whole(rule: Mapping[str, object]) -> Mapping[str, object]:
    """Return a rule with an id of full length where it has the start of one."""
    kind, _, rest = str(rule["models"]).partition(":")
    if kind in {"content", "author"}:
        return {**rule, "models": f"{kind}:{rest:0<{2 * DIGEST_BYTES}}"}
    return rule


def _made(wording: Wording, rules: Iterable[Rule]) -> Recipe:
    params, pre, post = wording["params"], wording["pre"], wording["post"]
    extras = wording["extras"]
    assert isinstance(params, dict), "made by parse_recipe"
    assert isinstance(pre, list), "made by parse_recipe"
    assert isinstance(post, list), "made by parse_recipe"
    assert isinstance(extras, dict), "made by parse_recipe"
    return make_recipe(
        str(wording["strategy"]),
        params,
        rules,
        str(wording["output_dtype"]),
        str(wording["seed_scope"]),
        pre=pre,
        post=post,
        extras=extras,
    )


def _rules(wording: Wording) -> list[Mapping[str, object]]:
    rules = wording["rules"]
    assert isinstance(rules, list), "made by parse_recipe"
    return rules


def _rule_of(rule: Mapping[str, object]) -> Rule:
    parameters = rule["parameters"]
    assert isinstance(parameters, dict), "made by parse_recipe"
    return Rule(str(rule["tensors"]), tuple(parameters.items()), str(rule["models"]))
