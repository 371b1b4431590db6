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
from crdtmerge.formats.mergekit_chains import Chain
from crdtmerge.formats.mergekit_grammar import check_keys, mapping, method_of
from crdtmerge.formats.mergekit_members import Members
from crdtmerge.formats.mergekit_recipe import Asked, Configuration, Listed, compose
from crdtmerge.formats.mergekit_slices import Sliced, parse_slices
from crdtmerge.formats.mergekit_tokenizer import KEYS, TokenizerChoice, parse_tokenizer
from crdtmerge.formats.mergekit_values import dtype_of
from crdtmerge.formats.yaml_text import Plain, read_yaml

__all__ = ["Configuration", "Listed", "Sliced", "read_configuration"]

MODELS_MAX: Final = 4096

_TOP: Final = (
    "merge_method",
    "base_model",
    "models",
    "slices",
    "modules",
    "parameters",
    "dtype",
    "out_dtype",
    *KEYS,
    "chat_template",
)
_MODEL: Final = ("model", "parameters")
_MODULE: Final = ("models", "slices", "parameters")
_FORMS: Final = ("models", "slices", "modules")
_OTHERS: Final = {
    "experts": "mergekit-moe, which builds a mixture of experts and merges nothing",
    "gate_mode": "mergekit-moe, which builds a mixture of experts and merges nothing",
    "genome": "mergekit-evolve, which searches for a configuration",
}
"""Keys of configurations of mergekit's other commands."""


def read_configuration(path: Path) -> Configuration | Sliced:
    """Return what a configuration asks for; the folders are not looked at.

    Paths are taken from the folder that the file is in. One with slices is complete once
    the names of the models' tensors are known: `Sliced.laid_out`.

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
        found = _Parser(path.parent, value).found()
        if isinstance(found, Sliced):
            return found
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
        for key in _OTHERS.keys() & value.keys():
            message = f"{key} is of a configuration of {_OTHERS[key]}"
            raise BadInputError(message, hint="give one with merge_method and models")
        check_keys(value, _TOP, "")
        self._value = {key: item for key, item in value.items() if item is not None}
        self._members = Members(folder, method_of(self._value))
        self._module: Plain = None
        self._form = self._unfolded()

    def _unfolded(self) -> str:
        """Return which of the forms the file has, that of its only module if it has one."""
        forms: list[str] = [form for form in _FORMS if form in self._value]
        if forms != ["modules"]:
            return _one(forms, "")
        modules = mapping(self._value["modules"], "modules")
        if [*modules] != ["default"]:
            message = f"modules: {', '.join(modules) or 'none'}"
            hint = "only the one called `default` can be merged: a model of one stack"
            raise BadInputError(message, hint=hint)
        inner = mapping(modules["default"], "modules, default")
        check_keys(inner, _MODULE, "modules, default")
        given = {key: item for key, item in inner.items() if item is not None}
        self._module = given.pop("parameters", None)
        self._value |= given
        return _one([*given], "modules, default: ")

    def found(self) -> Configuration | Sliced:
        shared = self._shared()
        value = self._value.get("base_model")
        base = None if value is None else self._members.base(value)
        if self._form == "slices":
            return self._sliced(shared, base)
        base_path = base.path if base else None
        listed = self._listed(base_path)
        models = self._members.taking_part(listed, base)
        method, dtype = self._members.method, self._dtype()
        recipe, complete, needs = compose(method, shared, models, dtype)
        return Configuration(
            recipe,
            base_path,
            complete,
            tuple(self._members.notes),
            needs,
            base.name if base else "",
            self._tokenizer(),
            self._chat_template(),
        )

    def _sliced(self, shared: Mapping[str, Chain], base: Asked | None) -> Sliced:
        cuts, cells = parse_slices(self._value["slices"], self._members, base)
        return Sliced(
            self._members,
            shared,
            cuts,
            cells,
            self._dtype(),
            base,
            self._tokenizer(),
            self._chat_template(),
        )

    def _tokenizer(self) -> TokenizerChoice | None:
        return parse_tokenizer(self._value, self._members.folder)

    def _shared(self) -> dict[str, Chain]:
        """Return what holds for all models: the module's own, then that at the top."""
        top = self._members.shared(self._value.get("parameters"), "parameters")
        own = self._members.shared(self._module, "modules, default, parameters")
        none = Chain()
        return {n: own.get(n, none).then(top.get(n, none)) for n in {**top, **own}}

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
            asked = self._members.asked(entry, place, base)
            if any(asked.path == other.path for other in found):
                raise BadInputError(f"{place}: {asked.path.name} is listed twice")
            found.append(asked)
        return found

    def _dtype(self) -> str:
        """Return the output dtype: out_dtype, else dtype, else none of its own."""
        found = {
            key: dtype_of(self._value[key], key)
            for key in ("dtype", "out_dtype")
            if key in self._value
        }
        if "dtype" in found:
            is_idle = "out_dtype" in found
            does = "changes nothing beside out_dtype" if is_idle else "is the output's"
            self._members.note(
                f"dtype {does}: models are merged as they are, and rounded once"
            )
        return found.get("out_dtype") or found.get("dtype") or ""

    def _chat_template(self) -> str:
        """Return what is asked of the chat template."""
        given = self._value.get("chat_template", "base")
        if not isinstance(given, str) or not given:
            raise BadInputError("chat_template is not text")
        if given in {"auto", "base"} or "{" in given:
            return "" if given == "base" else given
        message = f"chat_template {given!r:.40} is no template"
        hint = (
            "write the template itself (Jinja), auto, or base; mergekit's are not here"
        )
        raise BadInputError(message, hint=hint)


def _one(forms: list[str], prefix: str) -> str:
    """Refuse a file with several ways to say which models, or with none."""
    if len(forms) == 1:
        return forms[0]
    if not forms:
        message = f"{prefix}models is missing"
        raise BadInputError(message, hint="write `models:` or `slices:`, and a list")
    message = f"{prefix}{' and '.join(forms)} stand beside one another"
    raise BadInputError(message, hint="a configuration has one of them")
