"""Recipes as YAML text that reads back to the same recipe.

Owns the order of its lines and the quoting. Does not own reading it (`recipe_file`).

The text is ASCII: what else a pattern holds is escaped, so nothing of a peer's recipe
reaches a terminal or an editor but plain letters.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from crdtmerge.formats.recipe_file import PATTERNS
from crdtmerge.recipe import EVERYWHERE, WEIGHT, Parameters, Recipe, Rule

_PLAIN: Final = re.compile(r"[a-z][a-z0-9_]*(?:[./][a-z0-9_]+)*|-?\d+(?:\.\d+)?")
_LAYERS: Final = re.compile(
    r"layers:(?P<layers>[-.0-9]+)(?::(?P<inner>.+))?", re.DOTALL
)
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "null", "none"})
"""What YAML of some version takes for no text; quoted as keys and as values."""
_FLAGS: Final = frozenset({"true", "false"})


def recipe_to_yaml(recipe: Recipe) -> str:
    """Return the recipe as YAML for people."""
    steps = {
        name.partition("/")[0]: _under(name, recipe)
        for name in recipe.pre + recipe.post
    }
    taken = {f"{step}.{key}" for step, own in steps.items() for key, _ in own}
    rest = tuple(pair for pair in recipe.parameters if pair[0] not in taken)
    lines = [f"strategy: {scalar(recipe.strategy)}"]
    lines += [f"parameters: {_flow(_pairs(rest))}"] if rest else []
    for key, names in (("pre", recipe.pre), ("post", recipe.post)):
        entries = [_step(name, steps[name.partition("/")[0]]) for name in names]
        lines += _block(key, entries)
    weights = _leading_weights(recipe.rules)
    lines += _block("weights", (_flow(_rule(rule)) for rule in weights))
    lines += _block("rules", (_flow(_rule(r)) for r in recipe.rules[len(weights) :]))
    if recipe.output_dtype:
        lines += [f"output_dtype: {scalar(recipe.output_dtype)}"]
    lines += [f"seed_scope: {scalar(recipe.seed_scope)}"]
    lines += [f"{_key(name)}: {scalar(text)}" for name, text in recipe.extras]
    return "\n".join(lines) + "\n"


def _under(name: str, recipe: Recipe) -> Parameters:
    """Return the parameters of a step, by their own names."""
    prefix = name.partition("/")[0] + "."
    return tuple(
        (key.removeprefix(prefix), text)
        for key, text in recipe.parameters
        if key.startswith(prefix)
    )


def _step(name: str, own: Parameters) -> str:
    return f"{_key(name)}: {_flow(_pairs(own))}" if own else scalar(name)


def _leading_weights(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return the rules at the front that only give contributions their weight."""
    found: list[Rule] = []
    for rule in rules:
        names = [name for name, _ in rule.parameters]
        if not rule.models or rule.tensors != EVERYWHERE or names != [WEIGHT]:
            break
        found.append(rule)
    return tuple(found)


def _rule(rule: Rule) -> dict[str, str]:
    """Return the entries of a rule, their values already as YAML."""
    kind, _, text = rule.models.partition(":")
    entries = _pattern(rule.tensors) | ({kind: _quoted(text)} if kind else {})
    values = dict(rule.parameters)
    weight = values.pop(WEIGHT, None)
    if weight is not None:
        entries[WEIGHT] = _value(weight)
    if values or weight is None:
        entries["parameters"] = _flow(_pairs(values.items()))
    return entries


def _pattern(text: str) -> dict[str, str]:
    """Return a pattern in words, or as it stands where words would not give it back."""
    if text == EVERYWHERE:
        return {}
    match = _LAYERS.fullmatch(text)
    inner = (match["inner"] or "") if match else text
    found = {"layers": _quoted(match["layers"])} if match else {}
    if not inner:
        return found
    kind, colon, rest = inner.partition(":")
    if colon and rest and kind in PATTERNS and kind != "tensors":
        return {kind: _quoted(rest)} | found
    return {"tensors": _quoted(inner)} | found


def _pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: _value(text) for name, text in pairs}


def _value(text: str) -> str:
    """Return a parameter's value; a gradient is a list."""
    if "," in text:
        return f"[{', '.join(map(scalar, text.split(',')))}]"
    return text if text in _FLAGS else scalar(text)


def _block(key: str, items: Iterable[str]) -> list[str]:
    lines = [f"  - {item}" for item in items]
    return [f"{key}:", *lines] if lines else []


def _flow(entries: Mapping[str, str]) -> str:
    return f"{{{', '.join(f'{_key(k)}: {value}' for k, value in entries.items())}}}"


def _key(text: str) -> str:
    return _quoted(text) if text in _FLAGS else scalar(text)


def scalar(text: str) -> str:
    """Return a text as YAML: as it is where it is read as that, else in quotes."""
    return text if _PLAIN.fullmatch(text) and text not in _WORDS else _quoted(text)


def _quoted(text: str) -> str:
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if " " <= character <= "~":
        return character
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
