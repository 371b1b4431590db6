"""Reading `resolution.json`, which may come from anybody.

Owns the refusal of what is not of the form. Does not own the form (`resolution`). The
inverse of `Resolution.to_json`: whatever differs from what that would write is refused,
stated digests included, so no field can say one thing and its digest another.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Final, TypeVar

from crdtmerge.codec import parse_decimal
from crdtmerge.digest import DIGEST_BYTES, BlobId, ContentId
from crdtmerge.errors import (
    BadInputError,
    EncodingError,
    MalformedRecordError,
    VerificationError,
)
from crdtmerge.formats.adapter_config import RANK_MAX
from crdtmerge.manifest import ITEM_BYTES, TensorEntry
from crdtmerge.recipe import Recipe, recipe_from_value
from crdtmerge.resolve.resolution import (
    VERSION,
    Adapted,
    MadeFrom,
    Piece,
    Resolution,
    Source,
    Unread,
    root_without_space,
)

Item = TypeVar("Item", Source, TensorEntry, bytes)

RESOLUTION_BYTES_MAX: Final = 256 << 20
"""A manifest of 64 MiB names as many tensors as fit here as text."""


def parse_resolution(text: str) -> Resolution:
    """Return the resolution that `text` says.

    Raises:
        BadInputError: it is not a `resolution.json` of a version that we know.
        VerificationError: a digest in it is not that of what it stands beside.
    """
    try:
        value = json.loads(text)
        resolution = _resolution(value)
        written = resolution.to_json()
    except (ValueError, RecursionError, EncodingError, MalformedRecordError) as e:
        message = f"resolution.json is damaged: {e}"
        raise BadInputError(message) from e
    _check_digests(value, resolution)
    # SUBTLE: compared as text, since to Python true, 1 and 1.0 are equal.
    if json.dumps(value, sort_keys=True, indent=2) + "\n" != written:
        message = "resolution.json has fields that this version does not know"
        raise BadInputError(message, hint="upgrade crdtmerge, or resolve again")
    return resolution


def _check_digests(value: dict[str, object], resolution: Resolution) -> None:
    """Refuse a digest that its neighbours do not have."""
    recipe = value.get("recipe")
    stated = recipe.get("digest") if isinstance(recipe, dict) else None
    if stated != resolution.recipe.digest.hex():
        message = "the recipe digest in resolution.json is not that of its recipe"
        raise VerificationError(message)
    if value.get("model_digest") != resolution.model_digest.hex():
        message = "the model digest in resolution.json is not that of its tensors"
        raise VerificationError(message)
    root = root_without_space(resolution.contributions)
    if not resolution.space and resolution.visible_root != root:
        message = "the root in resolution.json is not that of its contributions"
        raise VerificationError(message)


def _resolution(value: object) -> Resolution:
    match value:
        case {"version": int(version)} if version != VERSION:
            message = f"version {version} is not {VERSION}"
        case {
            "crdtmerge": str(made_by),
            "contract": int(contract),
            "space": str(space),
            "merge_id": str(merge_id),
            "visible_root": str(visible_root),
            "base": str(base),
            "recipe": recipe,
            "contributions": [*sources],
            "adapter": adapter,
            "seeds": dict(seeds),
            "tensors": [*tensors],
            **rest,
        } if type(contract) is int:
            resolution = Resolution(
                made_by,
                contract,
                _hex(space) if space else b"",
                _hex(merge_id),
                _hex(visible_root),
                ContentId(_hex(base) if base or space else b""),
                _recipe(recipe),
                _sources(map(_source, sources), unique=bool(space)),
                tuple(sorted((name, _hex(seed)) for name, seed in seeds.items())),
                _ascending(map(_tensor, tensors), lambda item: item.name),
                _adapted(adapter),
                _made_from(rest.get("made_from", {})),
                _ascending(
                    [_hex(record) for record in _listed(rest.get("evaluations", []))],
                    lambda record: record,
                ),
            )
            known = {source.content for source in resolution.contributions}
            if (
                {content for content, _ in resolution.made_from}
                - known
                - {resolution.base}
            ):
                raise ValueError(
                    "it tells what something is made of that is no part of it"
                )
            return resolution
        case _:
            message = "it lacks a field, or a field is of another type"
    raise ValueError(message)


def _adapted(value: object) -> Adapted | None:
    match value:
        case None:
            return None
        case {"rank": int(rank), "config": config} if 1 <= rank <= RANK_MAX:
            return Adapted(rank, BlobId(_hex(config)))
        case _:
            message = "its adapter is not a rank and the digest of a config"
    raise ValueError(message)


def _listed(value: object) -> list[object]:
    if isinstance(value, list):
        return value
    raise ValueError("its evaluations are no list")


def _made_from(value: object) -> MadeFrom:
    match value:
        case dict(by_content):
            return tuple(
                (ContentId(_hex(content)), tuple(map(_piece, pieces)))
                for content, pieces in sorted(by_content.items())
                if isinstance(pieces, list)
            )
        case _:
            message = "made_from is not by content"
    raise ValueError(message)


def _piece(value: object) -> Piece:
    match value:
        case {
            "model": model,
            "layer_range": [int(first), int(stop)],
            "at": int(at),
        } if (
            all(type(n) is int for n in (first, stop, at))
            and 0 <= first < stop
            and at >= 0
        ):
            return Piece(ContentId(_hex(model)), first, stop - first, at)
        case _:
            message = "a piece is not model, layer_range and at"
    raise ValueError(message)


def _recipe(value: object) -> Recipe:
    match value:
        case {
            "strategy": strategy,
            "parameters": dict(parameters),
            "rules": [*rules],
            "output_dtype": dtype,
            "seed_scope": scope,
            **rest,
        }:
            parsed = [_rule(rule) for rule in rules]
            steps = [rest[key] for key in ("pre", "post") if key in rest]
            value = [strategy, _pairs(parameters), parsed, dtype, scope, *steps]
            return recipe_from_value([*value, *_extras(rest)])
        case _:
            message = "its recipe lacks a field"
    raise ValueError(message)


def _extras(rest: Mapping[object, object]) -> list[object]:
    match rest:
        case {"extras": dict(extras)}:
            return [_pairs(extras)]
        case {"extras": _}:
            raise ValueError("its recipe has extras that are no texts by name")
        case _:
            return []


def _rule(value: object) -> list[object]:
    match value:
        case {"pattern": pattern, "parameters": dict(parameters), **rest}:
            models = [rest["models"]] if "models" in rest else []
            return [pattern, _pairs(parameters), *models]
        case _:
            message = "a rule lacks a field"
    raise ValueError(message)


def _pairs(parameters: dict[str, object]) -> list[list[object]]:
    return [list(pair) for pair in sorted(parameters.items())]


def _source(value: object) -> Source:
    match value:
        case {
            "content": str(content),
            "weight": str(weight),
            "authors": [*authors],
            "parameters": dict(parameters),
            **rest,
        } if all(isinstance(text, str) for text in parameters.values()):
            tags = rest.get("tags", [])
            if not isinstance(tags, list) or not all(isinstance(t, str) for t in tags):
                raise ValueError("tags are not a list of texts")
            if tags != sorted(set(tags)):
                raise ValueError("tags are not sorted and unique")
            return Source(
                ContentId(_hex(content)),
                parse_decimal(weight),
                tuple(_hex(author) for author in authors),
                tuple(sorted(parameters.items())),
                tuple(tags),
                _unread(rest.get("unread")),
                _hex(rest["evidence"]) if "evidence" in rest else b"",
            )
        case _:
            message = "a contribution is not content, weight, authors and parameters"
    raise ValueError(message)


def _unread(value: object) -> Unread | None:
    match value:
        case None:
            return None
        case {"tensors": tensors, "bytes": size, "digest": digest} if (
            # SUBTLE: to Python, true is an int.
            type(tensors) is type(size) is int and tensors > 0 < size
        ):
            return Unread(tensors, size, _hex(digest))
        case _:
            raise ValueError("what is unread is not tensors, bytes and a digest")


def _sources(items: Iterable[Source], *, unique: bool) -> tuple[Source, ...]:
    """Return the contributions; without a space, one model may stand there twice."""
    if unique:
        return _ascending(items, lambda item: item.content)
    found = tuple(items)
    keys = [(item.content, item.weight, item.parameters) for item in found]
    if keys != sorted(keys):
        message = "contributions are not sorted"
        raise ValueError(message)
    return found


def _tensor(value: object) -> TensorEntry:
    match value:
        case {
            "name": str(name),
            "dtype": str(dtype),
            "shape": [*shape],
            "digest": str(digest),
        } if dtype in ITEM_BYTES and all(type(n) is int and n >= 0 for n in shape):
            return TensorEntry(name, dtype, tuple(shape), BlobId(_hex(digest)))
        case _:
            message = "a tensor is not name, dtype, shape and digest"
    raise ValueError(message)


def _hex(text: object) -> bytes:
    """Return the digest or key that lower-case hexadecimal text says."""
    if isinstance(text, str) and len(text) == 2 * DIGEST_BYTES:
        return bytes.fromhex(text)
    message = f"{text!r:.80} is not {DIGEST_BYTES} bytes in hexadecimal"
    raise ValueError(message)


def _ascending(
    items: Iterable[Item], key: Callable[[Item], str | bytes]
) -> tuple[Item, ...]:
    """Return the items, which must be sorted and unique."""
    found = tuple(items)
    if any(key(a) >= key(b) for a, b in pairwise(found)):  # type: ignore[operator]
        message = "contributions, tensors or evaluations are not sorted and unique"
        raise ValueError(message)
    return found
