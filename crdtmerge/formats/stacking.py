"""Models of layers of others: their tensors and their configuration, under new numbers.

Owns what a stack holds, once its layout is known. Does not own the layout
(`mergekit_stack`), nor reading and naming tensors (`folder`, `ingest`): a stack is a model
folder whose tensors lie in the files of others.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import ModelFolder
from crdtmerge.formats.json_text import json_bytes
from crdtmerge.formats.mergekit_stack import Cut, Layout, Span

DEPTH_KEYS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""How `config.json` calls the number of layers; the first that it has counts."""
NUMBERED_KEYS: Final = (
    "mlp_only_layers",
    "attn_layer_indices",
    "hybrid_layer_ids",
    "full_attn_idxs",
)
"""Lists of the numbers of some layers, whatever their length."""
_NOT_BY_LAYER: Final = ("architectures", "_token_id", "_token_ids")
_INNER: Final = "_config"
"""How the keys end under which a model of several parts keeps theirs."""

Json: TypeAlias = dict[str, object]
Step: TypeAlias = tuple[Path, int]
"""What one layer of the output is: a model, and the number of its layer."""


def stacked_folders(
    layout: Layout, models: Mapping[Path, ModelFolder]
) -> tuple[ModelFolder, tuple[ModelFolder, ...]]:
    """Return the base of a stack, and its contributions.

    Where a contribution gives nothing, the base's tensor stands.
    """
    held = {p: {t.name: t for t in folder.tensors} for p, folder in models.items()}

    def made(pick: Callable[[Cut], Span]) -> ModelFolder:
        tensors = layout.picked(pick, held)
        named = (replace(tensor, name=name) for name, tensor in tensors.items())
        return ModelFolder(pick(layout.cuts[0]).path, tuple(named))

    def source(slot: int) -> Callable[[Cut], Span]:
        return lambda cut: cut.sources[slot] or cut.ground

    base = made(lambda cut: cut.ground)
    return base, tuple(made(source(slot)) for slot in range(layout.slots))


def stacked_config(layout: Layout, texts: Mapping[Path, bytes], whose: Path) -> bytes:
    """Return the `config.json` of a stack: that of the model at `whose`, for its layers.

    `texts` are those of all models that have one. The number of layers, and lists with a
    value for each layer, are those of the stack; a layer keeps the values that it has in
    its model (that of the base, where a slice has several).

    Raises:
        BadInputError: it does not say how many layers there are.
    """
    steps = _steps(layout)
    values = {path: _parsed(text) for path, text in texts.items()}
    value = _restacked(values[whose], values, steps)
    if value is None:
        message = "config.json does not say how many layers the model has"
        keys = " nor ".join(DEPTH_KEYS)
        raise BadInputError(f"{message}: there is neither {keys}", hint="add it")
    return json_bytes(value)


def _steps(layout: Layout) -> list[Step]:
    return [
        (cut.ground.path, cut.ground.first + layer)
        for cut in layout.cuts
        for layer in range(cut.count)
    ]


def _parsed(text: bytes) -> Json:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise BadInputError("config.json is not JSON") from e
    if not isinstance(value, dict):
        raise BadInputError("config.json is no JSON object")
    return value


def _restacked(
    value: Json, others: Mapping[Path, Json], steps: Sequence[Step]
) -> Json | None:
    """Return a configuration for other layers, None if it does not speak of layers.

    One of several parts speaks of them in one of these.
    """
    key = next((k for k in DEPTH_KEYS if type(value.get(k)) is int), None)
    if key is None:
        for inner, item in value.items():
            if not inner.endswith(_INNER) or not isinstance(item, dict):
                continue
            theirs = {p: found for p, v in others.items() if (found := _in(v, inner))}
            made = _restacked(item, theirs, steps)
            if made is not None:
                return {**value, inner: made}
        return None
    found = {**value, key: len(steps)}
    for name, item in value.items():
        if not isinstance(item, list) or name.endswith(_NOT_BY_LAYER):
            continue
        if name in NUMBERED_KEYS:
            found[name] = [
                n for n, (p, i) in enumerate(steps) if i in _list(others, p, name, item)
            ]
        elif len(item) == value[key]:
            found[name] = [_of(others, step, name, item) for step in steps]
    return found


def _in(value: Json, key: str) -> Json:
    item = value.get(key)
    return item if isinstance(item, dict) else {}


def _list(
    others: Mapping[Path, Json], path: Path, name: str, ours: Sequence[object]
) -> Sequence[object]:
    theirs = others.get(path, {}).get(name)
    return theirs if isinstance(theirs, list) else ours


def _of(
    others: Mapping[Path, Json], step: Step, name: str, ours: Sequence[object]
) -> object:
    """Return what a list says of one layer.

    Raises:
        BadInputError: no model's list reaches that far.
    """
    path, layer = step
    theirs = _list(others, path, name, ours)
    if layer < len(theirs):
        return theirs[layer]
    message = f"config.json: {name} has {len(theirs)} values, none for layer {layer}"
    raise BadInputError(message, hint=f"complete {name} in {path.name}")
