"""What a configuration says of the output's tokenizer: `tokenizer`, `tokenizer_source`.

Owns their grammar. Does not own vocabularies (`vocabulary`), nor whether the models named
take part (that is for whoever reads them). The words are those of mergekit 0.1.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.mergekit_grammar import check_keys, mapping, reference
from crdtmerge.formats.vocabulary import MULTIPLE_MAX
from crdtmerge.formats.yaml_text import Number, Plain

KEYS: Final = ("tokenizer", "tokenizer_source")
"""The two keys of a configuration; only one of them may be given."""

UNION: Final = "union"
BASE: Final = "base"
_OPTIONS: Final = ("source", "tokens", "pad_to_multiple_of")
_TOKEN: Final = ("source", "force")
_KINDS: Final = ("model_token", "zero")


@dataclass(frozen=True, slots=True)
class TokenChoice:
    """The row that a token takes: of the model at `model`, or zeros if that is None.

    It is the row of the token itself, or of another one: by its text, or by its id. With
    `force` the models that have the token take it too.
    """

    token: str
    model: Path | None
    other: str | int | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class TokenizerChoice:
    """Whose vocabulary the output has: `union`, `base`, or the model at a path."""

    source: str | Path
    tokens: tuple[TokenChoice, ...] = ()
    multiple: int = 1


def parse_tokenizer(value: Mapping[str, Plain], folder: Path) -> TokenizerChoice | None:
    """Return what a configuration says of the tokenizer, None if it says nothing.

    Paths are taken from `folder`.

    Raises:
        BadInputError: it has no meaning, or one that we cannot serve.
        UnknownNameError: a key is not known.
    """
    given = [key for key in KEYS if value.get(key) is not None]
    if len(given) > 1:
        message = "tokenizer and tokenizer_source are both given"
        raise BadInputError(message, hint="write `tokenizer: {source: ...}` alone")
    if not given:
        return None
    if given == ["tokenizer_source"]:
        return TokenizerChoice(_source(value["tokenizer_source"], given[0], folder))
    options = mapping(value["tokenizer"], "tokenizer", "write `source: union`")
    check_keys(options, _OPTIONS, "tokenizer")
    source = options.get("source")
    tokens = mapping(options.get("tokens") or {}, "tokenizer, tokens")
    return TokenizerChoice(
        UNION if source is None else _source(source, "tokenizer, source", folder),
        tuple(_token(token, item, folder) for token, item in tokens.items()),
        _multiple(options.get("pad_to_multiple_of")),
    )


def _source(value: Plain, place: str, folder: Path) -> str | Path:
    if value in {UNION, BASE}:
        return str(value)
    return _model(value, place, folder)


def _model(value: Plain, place: str, folder: Path) -> Path:
    path, adapter = reference(value, place)
    if adapter:
        message = f"{place}: an adapter has no vocabulary of its own"
        raise BadInputError(message, hint="name the model that it is on")
    return (folder / path).resolve()


def _token(token: str, value: Plain, folder: Path) -> TokenChoice:
    place = f"tokenizer, tokens, {token!r}"
    if not token:
        raise BadInputError("tokenizer, tokens: a token without any character")
    item = mapping(value, place, "write `source: MODEL`")
    check_keys(item, _TOKEN, place)
    force, source = item.get("force") or False, item.get("source")
    if not isinstance(force, bool):
        raise BadInputError(f"{place}: force is not true or false")
    if source is None:
        message = f"{place}: it has no source"
        hint = "name the model whose row it takes, or leave the token out"
        raise BadInputError(message, hint=hint)
    if not isinstance(source, dict) or "kind" not in source:
        return TokenChoice(token, _model(source, place, folder), None, force)
    if source["kind"] == "zero":
        check_keys(source, ("kind",), place)
        return TokenChoice(token, None, None, force)
    if source["kind"] == "model_token":
        other = _other(source, place)
        return TokenChoice(
            token, _model(source.get("model"), place, folder), other, force
        )
    message = f"{place}: the source's kind is none of {', '.join(_KINDS)}"
    raise BadInputError(message)


def _other(source: Mapping[str, Plain], place: str) -> str | int:
    """Return the token that another's row is taken of, by text or by id."""
    check_keys(source, ("kind", "model", "token", "token_id"), place)
    token, number = source.get("token"), source.get("token_id")
    if (token is None) == (number is None):
        raise BadInputError(f"{place}: give either token or token_id")
    if isinstance(token, str):
        return token
    if isinstance(number, Number) and number.text.isdecimal():
        return int(number.text)
    raise BadInputError(f"{place}: token is not a text, or token_id no whole number")


def _multiple(value: Plain) -> int:
    if value is None:
        return 1
    if isinstance(value, Number) and value.text.isdecimal():
        found = int(value.text[:9])
        if 1 <= found <= MULTIPLE_MAX:
            return found
    message = f"tokenizer: pad_to_multiple_of is not a number from 1 to {MULTIPLE_MAX}"
    raise BadInputError(message)
