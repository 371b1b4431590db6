"""Recipes: which strategy, with which parameters, on which tensors.

Owns the form of a recipe and its digest. Does not own what a strategy accepts: that is
`strategies`, which builds recipes from user input and checks those that arrive.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from crdtmerge.codec import Value
from crdtmerge.digest import Domain, digest_value
from crdtmerge.errors import MalformedRecordError

RULES_MAX: Final = 256
PARAMETERS_MAX: Final = 64
TEXT_CHARACTERS_MAX: Final = 256
OUTPUT_DTYPES: Final = ("", "F64", "F32", "BF16", "F16", "F8_E4M3", "F8_E5M2")
SEED_SCOPES: Final = ("set", "contribution")

Parameters = tuple[tuple[str, str], ...]
"""Sorted (name, value) pairs; values are canonical text, numbers as decimals."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a space is resolved; replicated, hashed, part of every merge id.

    `strategy` is a versioned name such as `ties/1`; `parameters` are complete, so a new
    default in a later version changes nothing. `rules` are (pattern, parameters) pairs: a
    tensor whose name matches the shell pattern takes these parameters instead, a later
    rule over an earlier one. `output_dtype` is empty for the base's own dtypes.
    `seed_scope` is `set` (masks change with the set, no author can grind them) or
    `contribution` (masks keyed by content id alone, stable when the set grows).
    """

    strategy: str
    parameters: Parameters = ()
    rules: tuple[tuple[str, Parameters], ...] = ()
    output_dtype: str = ""
    seed_scope: str = "set"

    def to_value(self) -> Value:
        """Return the plain value that a recipe record carries."""
        return [
            self.strategy,
            [list(pair) for pair in self.parameters],
            [
                [pattern, [list(pair) for pair in pairs]]
                for pattern, pairs in self.rules
            ],
            self.output_dtype,
            self.seed_scope,
        ]

    @property
    def digest(self) -> bytes:
        """Digest of the recipe's content."""
        return digest_value(Domain.RECIPE, self.to_value())

    def merge_id(self, base: bytes, root: bytes) -> bytes:
        """Return what names the model that this recipe makes of what `root` covers.

        The last field is the root of the evaluation records that the strategy reads; no
        strategy of this version reads any.
        """
        return digest_value(Domain.MERGE, [base, self.digest, root, b""])

    def parameters_for(self, tensor: str) -> Parameters:
        """Return the parameters for one tensor, after the per-tensor rules."""
        merged = dict(self.parameters)
        for pattern, pairs in self.rules:
            if fnmatchcase(tensor, pattern):
                merged |= dict(pairs)
        return tuple(sorted(merged.items()))


def recipe_from_value(value: object) -> Recipe:
    """Return the recipe that a record carries.

    Raises:
        MalformedRecordError: the value is not of the form of a recipe.
    """
    match value:
        case [str(strategy), [*pairs], [*rules], str(dtype), str(scope)]:
            parsed = tuple(_rule(rule) for rule in rules)
            recipe = Recipe(strategy, _pairs(pairs), parsed, dtype, scope)
        case _:
            message = "a recipe is not [strategy, parameters, rules, dtype, seed scope]"
            raise MalformedRecordError(message)
    if not 0 < len(strategy) <= TEXT_CHARACTERS_MAX or len(rules) > RULES_MAX:
        message = "a recipe is above its limits"
        raise MalformedRecordError(message)
    if dtype not in OUTPUT_DTYPES or scope not in SEED_SCOPES:
        message = f"a recipe has output dtype {dtype!r} and seed scope {scope!r}"
        raise MalformedRecordError(message)
    return recipe


def _pairs(value: list[object]) -> Parameters:
    pairs: list[tuple[str, str]] = []
    for item in value:
        match item:
            case [str(name), str(text)] if (
                max(len(name), len(text)) <= TEXT_CHARACTERS_MAX
            ):
                pairs.append((name, text))
            case _:
                message = "a parameter is not [name, text]"
                raise MalformedRecordError(message)
    names = [name for name, _ in pairs]
    if names != sorted(set(names)) or len(names) > PARAMETERS_MAX:
        message = "parameters are not sorted and unique, or too many"
        raise MalformedRecordError(message)
    return tuple(pairs)


def _rule(value: object) -> tuple[str, Parameters]:
    match value:
        case [str(pattern), [*pairs]] if 0 < len(pattern) <= TEXT_CHARACTERS_MAX:
            return pattern, _pairs(pairs)
    message = "a rule is not [pattern, parameters]"
    raise MalformedRecordError(message)
