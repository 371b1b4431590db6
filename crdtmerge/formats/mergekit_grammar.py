"""The grammar of a configuration below its keys: known words, methods, references.

Owns how each is refused. Does not own which keys there are (`mergekit`), nor YAML.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from crdtmerge.errors import BadInputError, UnknownNameError
from crdtmerge.formats.mergekit_methods import Method, find_method, method_names
from crdtmerge.formats.yaml_text import Plain
from crdtmerge.strategies.table import suggestion

_REFERENCE: Final = ("model", "lora", "override_architecture")


def method_of(value: Mapping[str, Plain]) -> Method:
    """Return the method that a configuration names.

    Raises:
        BadInputError: it names none.
        UnknownNameError: there is none of that name; the hint has the nearest.
    """
    name = value.get("merge_method")
    if name is None:
        hint = f"one of {', '.join(method_names())}"
        raise BadInputError("merge_method is missing", hint=hint)
    if not isinstance(name, str):
        raise BadInputError("merge_method is not a name")
    return find_method(name)


def check_keys(
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


def mapping(value: Plain, place: str, hint: str = "") -> dict[str, Plain]:
    """Return a mapping, once it is one; `hint` says how one is written there."""
    if isinstance(value, dict):
        return value
    raise BadInputError(f"{place}: not a mapping of names to values", hint=hint)


def reference(value: Plain, place: str) -> tuple[str, str]:
    """Return the paths in a reference: of a model, and of an adapter on it or nothing."""
    if isinstance(value, dict):
        check_keys(value, _REFERENCE[:2], place, not_yet=_REFERENCE[2:])
        model, inner = reference(value.get("model"), place)
        lora = value.get("lora")
        if lora is None:
            return model, inner
        adapter, more = reference(lora, f"{place}, lora")
        if inner or more:
            raise BadInputError(f"{place}: it asks for two adapters at once")
        return model, adapter
    if not isinstance(value, str) or not value or not value.isprintable():
        raise BadInputError(f"{place}: the model is not the path of a folder, as text")
    if "@" in value:
        message = f"{place}: {value!r} asks for a revision (MODEL@REVISION)"
        hint = (
            "there is no hub here: `hf download MODEL --revision REVISION --local-dir DIR`"
            " fetches it; then give DIR"
        )
        raise BadInputError(message, hint=hint)
    model, plus, adapter = value.partition("+")
    if plus and not (model and adapter):
        raise BadInputError(f"{place}: {value!r} is not MODEL+ADAPTER")
    return model, adapter
