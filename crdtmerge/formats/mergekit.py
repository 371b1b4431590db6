"""mergekit's YAML configurations: which models, which strategy, which parameters.

Owns the keys of a configuration and which models take part. Does not own YAML
(`yaml_text`), the folders that it names, what parameters come to (`mergekit_recipe`), nor
formulas. The words and their defaults are those of mergekit 0.1.5 (Arcee AI,
https://github.com/arcee-ai/mergekit). Whatever is not understood is refused, with the
nearest word: mergekit passes over a parameter that its method does not know, and then
merges something else than was meant.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from crdtmerge.digest import DIGEST_BYTES
from crdtmerge.errors import BadInputError, CrdtMergeError
from crdtmerge.formats.mergekit_chains import Chain, parse_chain
from crdtmerge.formats.mergekit_grammar import (
    check_keys,
    mapping,
    method_of,
    reference,
)
from crdtmerge.formats.mergekit_recipe import Asked, Configuration, Listed, compose
from crdtmerge.formats.mergekit_tokenizer import KEYS, parse_tokenizer
from crdtmerge.formats.mergekit_values import dtype_of
from crdtmerge.formats.yaml_text import Plain, read_yaml

__all__ = ["Configuration", "Listed", "read_configuration"]

MODELS_MAX: Final = 4096

_TOP: Final = (
    "merge_method",
    "base_model",
    "models",
    "parameters",
    "dtype",
    "out_dtype",
    *KEYS,
)
_TOP_NOT_YET: Final = (
    "slices",
    "modules",
    "chat_template",
)
_MODEL: Final = ("model", "parameters")


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
        found = _Parser(path.parent, value).configuration()
        # Contents are not known yet; whatever they are, the rules must be usable.
        contents = [i.to_bytes(DIGEST_BYTES, "big") for i in range(len(found.models))]
        found.recipe_for(contents, ())
    except CrdtMergeError as e:
        # The message says where in the file; this says in which.
        raise type(e)(f"{path.name}: {e}", hint=e.hint) from e
    return found


class _Parser:
    """One configuration while it is read."""

    def __init__(self, folder: Path, value: Mapping[str, Plain]) -> None:
        self._folder = folder
        check_keys(value, _TOP, "", not_yet=_TOP_NOT_YET)
        self._value = {key: item for key, item in value.items() if item is not None}
        self._method = method_of(self._value)
        self._notes: list[str] = []

    def configuration(self) -> Configuration:
        shared = mapping(self._value.get("parameters", {}), "parameters")
        words = self._method.words
        check_keys(shared, [w.name for w in words], f"{self._method.name}, parameters")
        base = self._value.get("base_model")
        base_path = None if base is None else self._path(base, "base_model")
        listed = self._listed(base_path)
        given = {
            word.name: parse_chain(shared[word.name], word, "parameters")
            for word in words
            if shared.get(word.name) is not None
        }
        self._note_idle(given)
        models = self._taking_part(listed, base_path)
        recipe, complete, needs = compose(self._method, given, models, self._dtype())
        notes = tuple(self._notes)
        name = "" if base is None else reference(base, "base_model")[0]
        tokenizer = parse_tokenizer(self._value, self._folder)
        return Configuration(recipe, base_path, complete, notes, needs, name, tokenizer)

    # --- models ----------------------------------------------------------------------

    def _listed(self, base: Path | None) -> list[Asked]:
        """Return the models in the list, each with its own parameters."""
        items = self._value.get("models")
        if not isinstance(items, list) or not items:
            message = "models is not a list of models"
            raise BadInputError(message, hint="write `- model: FOLDER` for each")
        if len(items) > MODELS_MAX:
            message = f"{len(items)} models are above the limit of {MODELS_MAX}"
            raise BadInputError(message)
        found: list[Asked] = []
        for i, item in enumerate(items, start=1):
            place = f"models, number {i}"
            entry = mapping(item, place, "write `- model: FOLDER`")
            check_keys(entry, _MODEL, place)
            if entry.get("model") is None:
                raise BadInputError(f"{place}: it lacks `model`")
            path = self._adapted(entry["model"], place, base)
            name, adapter = reference(entry["model"], place)
            name += f"+{adapter}" if adapter else ""
            if any(path == other.path for other in found):
                raise BadInputError(f"{place}: {path.name} is listed twice")
            is_base = self._method.base == "skipped" and path == base
            own = self._own(entry.get("parameters"), place, ignored=is_base)
            found.append(Asked(name, path, own, adapter=bool(adapter)))
        return found

    def _own(self, value: Plain, place: str, *, ignored: bool) -> dict[str, Chain]:
        """Return the parameters of one model; those of a base that is skipped are none."""
        entry = mapping({} if value is None else value, f"{place}, parameters")
        words = {word.name: word for word in self._method.words}
        own = [name for name, word in words.items() if word.per_model]
        if shared := sorted(entry.keys() & (words.keys() - set(own))):
            message = f"{place}: {shared[0]} holds for the whole merge"
            hint = "give it under the parameters at the top, not of one model"
            raise BadInputError(message, hint=hint)
        check_keys(entry, own, f"{place}, parameters of {self._method.name}")
        found = {
            name: parse_chain(item, words[name], place)
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
        model, adapter = reference(value, place)
        if adapter:
            message = f"{place}: an adapter changes a model, and this is to be one"
            raise BadInputError(message, hint="list MODEL+ADAPTER among the models")
        return (self._folder / model).resolve()

    def _adapted(self, value: Plain, place: str, base: Path | None) -> Path:
        """Return the folder of a model, or of an adapter on the base_model."""
        model, adapter = reference(value, place)
        if not adapter:
            return self._path(value, place)
        if (self._folder / model).resolve() != base:
            message = f"{place}: the adapter {adapter!r} is not on the base_model"
            hint = "merge it into its model with PEFT, and list that"
            raise BadInputError(message, hint=hint)
        return (self._folder / adapter).resolve()

    def _taking_part(self, listed: list[Asked], base: Path | None) -> list[Asked]:
        """Return who takes part, by the rule of the method."""
        method = self._method
        if base is None:
            if method.needs_base:
                message = f"{method.name} needs a base_model, and none is given"
                hint = "name the model that all were tuned from"
                raise BadInputError(message, hint=hint)
            return self._counted(listed)
        others = [item for item in listed if item.path != base]
        if method.base == "end":
            return [self._base(base), *self._other_end(others)]
        if method.base == "counts" and len(others) == len(listed):
            return self._counted([*listed, self._base(base)])
        return self._counted(others if method.base == "skipped" else listed)

    def _base(self, path: Path) -> Asked:
        name, _ = reference(self._value["base_model"], "base_model")
        return Asked(name, path)

    def _other_end(self, others: list[Asked]) -> list[Asked]:
        if len(others) == 1:
            return others
        message = f"{self._method.name} merges the base_model with one other model"
        hint = "list the base and one other; for weights use nuslerp"
        raise BadInputError(f"{message}, not with {len(others)}", hint=hint)

    def _counted(self, models: list[Asked]) -> list[Asked]:
        """Refuse a number of models that the method does not merge."""
        method, count = self._method, len(models)
        if not models:
            raise BadInputError("the base is the only model listed")
        if count < method.least or 0 < method.most < count:
            which = (
                f"exactly {method.most}" if method.most else f"{method.least} or more"
            )
            what = "model" if method.most == 1 else "models"
            what += " beside the base" if method.base == "skipped" else ""
            message = f"{method.name} merges {which} {what}, not {count}"
            counts = f"{method.name} counts the base_model as a model"
            raise BadInputError(message, hint=counts if method.base == "counts" else "")
        return models

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

    def _note_idle(self, given: Mapping[str, Chain]) -> None:
        """Note what mergekit's method takes and does nothing with."""
        for word in self._method.words:
            if word.is_idle and word.name in given:
                note = f"{word.name} changes nothing in {self._method.name}"
                if note not in self._notes:
                    self._notes.append(note)
