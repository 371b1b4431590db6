"""mergekit's YAML configurations: which models, which strategy, which parameters.

Owns the grammar of a configuration and what it means under our recipes. Does not own YAML
(`yaml_text`), the folders that it names, nor formulas. The words and their defaults are
those of mergekit 0.1 (Arcee AI, https://github.com/arcee-ai/mergekit). Whatever is not
understood is refused, with the nearest word: mergekit passes over a parameter that its
method does not know, and then merges something else than was meant.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import BadInputError, CrdtMergeError, UnknownNameError
from crdtmerge.formats.mergekit_methods import FOREIGN_METHODS, METHODS, Method
from crdtmerge.formats.mergekit_values import dtype_of, units_of, value_text
from crdtmerge.formats.yaml_text import Plain, read_yaml
from crdtmerge.recipe import Parameters, Recipe
from crdtmerge.strategies import make_recipe
from crdtmerge.strategies.table import suggestion

MODELS_MAX: Final = 4096

_TOP: Final = (
    "merge_method",
    "base_model",
    "models",
    "parameters",
    "dtype",
    "out_dtype",
)
_TOP_NOT_YET: Final = (
    "slices",
    "modules",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
)
_MODEL: Final = ("model", "parameters")
_REFERENCE: Final = ("model", "lora", "override_architecture")


@dataclass(frozen=True, slots=True)
class Listed:
    """One model that takes part: what it is called, weighs, and has of its own.

    `name` is as the file has it, `weight` in units of 10**-9; `parameters` are those in
    which it differs from the recipe. With `adapter`, `path` is that of an adapter of the
    base_model.
    """

    name: str
    path: Path
    weight: int
    parameters: Parameters = ()
    adapter: bool = False


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file asks for. `base` is None where models are merged without one.

    `notes` tell what was accepted although it changes nothing, or not what mergekit does.
    """

    recipe: Recipe
    base: Path | None
    models: tuple[Listed, ...]
    notes: tuple[str, ...] = ()


def read_configuration(path: Path) -> Configuration:
    """Return what a configuration asks for; the folders are not looked at.

    Paths are taken from the folder that the file is in.

    Raises:
        BadInputError: the file is no configuration, or asks for what we cannot do.
        UnknownNameError: a key, strategy or parameter is not known; the hint has the
            nearest.
    """
    value = read_yaml(path)
    if not isinstance(value, dict):
        message = f"{path.name} is not a mapping with merge_method and models"
        raise BadInputError(message, hint="see mergekit's README for the form")
    try:
        return _Parser(path.parent, value).configuration()
    except CrdtMergeError as e:
        # The message says where in the file; this says in which.
        raise type(e)(f"{path.name}: {e}", hint=e.hint) from e


class _Parser:
    """One configuration while it is read."""

    def __init__(self, folder: Path, value: Mapping[str, Plain]) -> None:
        self._folder = folder
        _check_keys(value, _TOP, "", not_yet=_TOP_NOT_YET)
        self._value = {key: item for key, item in value.items() if item is not None}
        self._method = _method(self._value)
        self._notes: list[str] = []
        self._adapters: set[Path] = set()

    def configuration(self) -> Configuration:
        shared = _mapping(self._value.get("parameters", {}), "parameters")
        words = self._method.words
        _check_keys(shared, [w.name for w in words], f"{self._method.name}, parameters")
        base = self._value.get("base_model")
        base_path = None if base is None else self._path(base, "base_model")
        listed = self._listed(base_path)
        given = {
            word.name: value_text(shared[word.name], word, "parameters")
            for word in words
            if shared.get(word.name) is not None
        }
        self._note_idle(given)
        models = self._weighed(listed, given, base_path)
        recipe, complete = self._recipe(given, models)
        return Configuration(recipe, base_path, complete, tuple(self._notes))

    # --- models ----------------------------------------------------------------------

    def _listed(self, base: Path | None) -> list[tuple[str, Path, dict[str, str]]]:
        """Return name, path and own parameters of each model in the list."""
        items = self._value.get("models")
        if not isinstance(items, list) or not items:
            message = "models is not a list of models"
            raise BadInputError(message, hint="write `- model: FOLDER` for each")
        if len(items) > MODELS_MAX:
            message = f"{len(items)} models are above the limit of {MODELS_MAX}"
            raise BadInputError(message)
        found: list[tuple[str, Path, dict[str, str]]] = []
        for i, item in enumerate(items, start=1):
            place = f"models, number {i}"
            entry = _mapping(item, place)
            _check_keys(entry, _MODEL, place)
            if entry.get("model") is None:
                raise BadInputError(f"{place}: it lacks `model`")
            path = self._adapted(entry["model"], place, base)
            name, adapter = _reference(entry["model"], place)
            name += f"+{adapter}" if adapter else ""
            if any(path == other for _, other, _ in found):
                raise BadInputError(f"{place}: {path.name} is listed twice")
            is_base = self._method.base == "skipped" and path == base
            own = self._own(entry.get("parameters"), place, ignored=is_base)
            found.append((name, path, own))
        return found

    def _own(self, value: Plain, place: str, *, ignored: bool) -> dict[str, str]:
        """Return the parameters of one model; those of a base that is skipped are none."""
        entry = _mapping({} if value is None else value, f"{place}, parameters")
        words = {word.name: word for word in self._method.words}
        own = [name for name, word in words.items() if word.per_model]
        if shared := sorted(entry.keys() & (words.keys() - set(own))):
            message = f"{place}: {shared[0]} holds for the whole merge"
            hint = "give it under the parameters at the top, not of one model"
            raise BadInputError(message, hint=hint)
        _check_keys(entry, own, f"{place}, parameters of {self._method.name}")
        found = {
            name: value_text(item, words[name], place)
            for name, item in entry.items()
            if item is not None
        }
        if ignored and found:
            self._notes.append(f"the parameters of the base, {place}, play no part")
        else:
            self._note_idle(found)
        return {} if ignored else found

    def _path(self, value: Plain, place: str) -> Path:
        """Return the folder that a reference names, seen from the file's folder."""
        model, adapter = _reference(value, place)
        if adapter:
            message = f"{place}: an adapter changes a model, and this is to be one"
            raise BadInputError(message, hint="list MODEL+ADAPTER among the models")
        return (self._folder / model).resolve()

    def _adapted(self, value: Plain, place: str, base: Path | None) -> Path:
        """Return the folder of a model, or of an adapter on the base_model."""
        model, adapter = _reference(value, place)
        if not adapter:
            return self._path(value, place)
        if (self._folder / model).resolve() != base:
            message = f"{place}: the adapter {adapter!r} is not on the base_model"
            hint = "merge it into its model with PEFT, and list that"
            raise BadInputError(message, hint=hint)
        path = (self._folder / adapter).resolve()
        self._adapters.add(path)
        return path

    def _weighed(
        self,
        listed: list[tuple[str, Path, dict[str, str]]],
        shared: Mapping[str, str],
        base: Path | None,
    ) -> list[Listed]:
        """Return who takes part with which weight, by the rule of the method."""
        method = self._method
        if method.base == "required" or (
            method.base == "skipped" and method.needs_base
        ):
            self._require_base(base)
        if method.name == "slerp":
            return self._two_ends(listed, shared, base)
        if method.base == "counts" and base and all(p != base for _, p, _ in listed):
            name, _ = _reference(self._value["base_model"], "base_model")
            listed = [*listed, (name, base, {})]
        rest = [item for item in listed if method.base != "skipped" or item[1] != base]
        if not rest:
            raise BadInputError("the base is the only model listed")
        if method.models not in {0, len(rest)}:
            message = f"{method.name} merges exactly {method.models} models"
            raise BadInputError(f"{message} beside the base, not {len(rest)}")
        return [
            Listed(name, path, self._weight(name, own, shared), _sorted(own))
            for name, path, own in rest
        ]

    def _require_base(self, base: Path | None) -> None:
        if base is None:
            message = f"{self._method.name} needs a base_model, and none is given"
            raise BadInputError(message, hint="name the model that all were tuned from")

    def _two_ends(
        self,
        listed: list[tuple[str, Path, dict[str, str]]],
        shared: Mapping[str, str],
        base: Path | None,
    ) -> list[Listed]:
        """Return the base and the other model of slerp, with the weights 1 - t and t."""
        others = [item for item in listed if item[1] != base]
        if len(others) != 1:
            message = "slerp merges the base_model with one other model"
            hint = "list the base and one other; for weights use nuslerp"
            raise BadInputError(f"{message}, not with {len(others)}", hint=hint)
        if "t" not in shared:
            message = "slerp needs `t` in the parameters"
            raise BadInputError(message, hint="0 is the base_model, 1 the other")
        t = units_of(shared["t"])
        assert base is not None, "slerp was refused without a base"
        name, _ = _reference(self._value["base_model"], "base_model")
        return [
            Listed(name, base, DECIMAL_UNIT - t),
            Listed(others[0][0], others[0][1], t),
        ]

    def _weight(self, name: str, own: dict[str, str], shared: Mapping[str, str]) -> int:
        """Take the weight of a model out of its own parameters."""
        text = own.pop("weight", None) or shared.get("weight")
        if text is not None:
            return units_of(text)
        if self._method.weight_default is not None:
            return self._method.weight_default
        message = f"model {name!r} has no weight, which {self._method.name} needs"
        hint = "give `parameters: {weight: ...}` to each model, or once for all"
        if self._method.base == "counts" and "base_model" in self._value:
            hint += f"; {self._method.name} counts the base_model as a model"
        raise BadInputError(message, hint=hint)

    # --- parameters ------------------------------------------------------------------

    def _recipe(
        self, shared: Mapping[str, str], models: list[Listed]
    ) -> tuple[Recipe, tuple[Listed, ...]]:
        """Return the recipe, and the models with what is theirs alone.

        What all models have alike goes to the recipe: files that ask for the same merge
        in other words make the same merge.
        """
        method = self._method
        parameters: dict[str, str] = {}
        own: list[dict[str, str]] = [{} for _ in models]
        for word in method.words:
            value = shared.get(word.name, word.default)
            if word.ours is None:
                word.turned(value)  # may refuse it
                continue
            values = [dict(m.parameters).get(word.name, value) for m in models]
            common = values[0] if len(set(values)) == 1 else value
            parameters[word.ours] = word.turned(common)
            for mine, text in zip(own, values, strict=True):
                if text != common:
                    mine[word.ours] = word.turned(text)
        recipe = make_recipe(method.strategy, parameters, output_dtype=self._dtype())
        complete = [_canonical(recipe, method.strategy, mine) for mine in own]
        return recipe, tuple(
            Listed(m.name, m.path, m.weight, mine, m.path in self._adapters)
            for m, mine in zip(models, complete, strict=True)
        )

    def _dtype(self) -> str:
        """Return the output dtype: out_dtype, else dtype, else none of its own."""
        found = {
            key: dtype_of(self._value[key], key)
            for key in ("dtype", "out_dtype")
            if key in self._value
        }
        if "dtype" in found:
            self._notes.append(
                "dtype is that of the output: models are merged as they are,"
                " and rounded once"
            )
        return found.get("out_dtype") or found.get("dtype") or ""

    def _note_idle(self, given: Mapping[str, str]) -> None:
        """Note what mergekit's method takes and does nothing with."""
        for word in self._method.words:
            if word.is_idle and word.name in given:
                note = f"{word.name} changes nothing in {self._method.name}"
                if note not in self._notes:
                    self._notes.append(note)


def _method(value: Mapping[str, Plain]) -> Method:
    name = value.get("merge_method")
    if name is None:
        hint = f"one of {', '.join(sorted(METHODS))}"
        raise BadInputError("merge_method is missing", hint=hint)
    if not isinstance(name, str):
        raise BadInputError("merge_method is not a name")
    if name in METHODS:
        return METHODS[name]
    if name in FOREIGN_METHODS:
        message = f"merge_method {name!r} is mergekit's, and not supported yet"
        raise BadInputError(message, hint=f"there is {', '.join(sorted(METHODS))}")
    message = f"there is no merge_method {name!r}"
    raise UnknownNameError(message, hint=suggestion(name, METHODS, sorted(METHODS)))


def _check_keys(
    value: Mapping[str, Plain],
    known: Iterable[str],
    place: str,
    not_yet: tuple[str, ...] = (),
) -> None:
    """Refuse a key that is not known, or that we know and cannot serve."""
    listed, prefix = list(known), f"{place}: " if place else ""
    for key, item in value.items():
        if key in not_yet and item is not None:
            message = f"{prefix}{key} is mergekit's, and not supported yet"
            raise BadInputError(message, hint=f"leave {key} out; it is never ignored")
        if key not in listed and key not in not_yet:
            message = f"{prefix}{key!r} is not known"
            raise UnknownNameError(message, hint=suggestion(key, listed, listed))


def _mapping(value: Plain, place: str) -> dict[str, Plain]:
    if isinstance(value, dict):
        return value
    raise BadInputError(f"{place}: not a mapping of names to values")


def _reference(value: Plain, place: str) -> tuple[str, str]:
    """Return the paths in a reference: of a model, and of an adapter on it or nothing."""
    if isinstance(value, dict):
        _check_keys(value, _REFERENCE[:2], place, not_yet=_REFERENCE[2:])
        model, inner = _reference(value.get("model"), place)
        lora = value.get("lora")
        if lora is None:
            return model, inner
        adapter, more = _reference(lora, f"{place}, lora")
        if inner or more:
            raise BadInputError(f"{place}: it asks for two adapters at once")
        return model, adapter
    if not isinstance(value, str) or not value or not value.isprintable():
        raise BadInputError(f"{place}: the model is not the path of a folder, as text")
    if "@" in value:
        message = f"{place}: {value!r} asks for a revision (MODEL@REVISION)"
        hint = "there is no hub here: download it, and give its folder"
        raise BadInputError(message, hint=hint)
    model, plus, adapter = value.partition("+")
    if plus and not (model and adapter):
        raise BadInputError(f"{place}: {value!r} is not MODEL+ADAPTER")
    return model, adapter


def _sorted(own: Mapping[str, str]) -> Parameters:
    return tuple(sorted(own.items()))


def _canonical(recipe: Recipe, strategy: str, own: Mapping[str, str]) -> Parameters:
    """Return own parameters checked as those of the recipe are, in canonical text."""
    made = make_recipe(strategy, dict(recipe.parameters) | dict(own))
    return tuple((name, text) for name, text in made.parameters if name in own)
