"""Models and data as users have them: folders, functions of their own, files of samples.

Owns how they are read, and whose fault it is if they cannot be. Does not own what is
computed (`computing`).
"""

import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch.nn import Module

from crdtmerge.errors import BadInputError, MachineError, NotFoundError

from .losses import LABELS, Batch

LENGTH_MAX: Final = 512
"""Tokens of one text that are read, where the model's own limit is not smaller."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model, and what its parameters are called in its files; None: as they are."""

    module: Module
    names: Mapping[str, str] | None


def attribute(told: str) -> Callable[..., Any]:
    """Return what `module:function` names; modules in the working folder are found.

    Raises:
        BadInputError: there is no such thing, or its module fails.
    """
    module, colon, name = told.partition(":")
    if not colon or not name:
        raise BadInputError(f"{told!r} is not of the form module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = getattr(importlib.import_module(module), name, None)
    except Exception as e:
        raise BadInputError(f"{told}: {type(e).__name__}: {e}") from e
    if not callable(found):
        raise BadInputError(f"{told}: {module} has no function {name}")
    return cast("Callable[..., Any]", found)


def load_model(folder: Path, made_by: str | None, device: str) -> Loaded:
    """Return the model of a folder: as transformers loads it, or as a function makes it.

    Raises:
        NotFoundError: there is no such folder.
        MachineError: transformers is needed and not installed, or there is no device.
        BadInputError: the folder, or the function, gives no model.
    """
    if not folder.exists():
        raise NotFoundError(f"{folder}: there is no such model")
    try:
        module = _made(folder, made_by) if made_by else _of_transformers(folder)
    except (BadInputError, MachineError):
        raise
    except Exception as e:
        raise BadInputError(
            f"{folder.name}: it does not load: {type(e).__name__}: {e}"
        ) from e
    try:
        module = module.to(device)
    except (RuntimeError, AssertionError) as e:
        raise MachineError(f"{device}: torch cannot use it here") from e
    stored = stored_names(folder)
    called = module.named_parameters(remove_duplicate=False)
    names = None if not stored else {n: n for n, _ in called if n in stored}
    if names is not None and not names:
        raise BadInputError(
            f"{folder.name}: no parameter has the name of a tensor in its files",
            hint="evidence is named after tensors: name the module's parameters so",
        )
    return Loaded(module, names)


def _made(folder: Path, made_by: str) -> Module:
    module = attribute(made_by)(folder)
    if not isinstance(module, Module):
        raise BadInputError(
            f"{made_by} returns {type(module).__name__}, and no torch module"
        )
    return module


def _of_transformers(folder: Path) -> Module:
    transformers = _transformers()
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    named = getattr(transformers, (config.architectures or ["AutoModel"])[0], None)
    architecture = named or transformers.AutoModel
    found: Module = architecture.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    )
    return found


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as e:
        raise MachineError(
            "this needs transformers, which is not installed",
            hint="pip install 'crdtmerge[evidence]', or give --module module:function",
        ) from e


def stored_names(folder: Path) -> frozenset[str]:
    """Return the names of all tensors in a model's safetensors files."""
    files = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
    names: set[str] = set()
    for path in files:
        if path.suffix != ".safetensors":
            continue
        try:
            with safe_open(path, framework="pt") as opened:
                names |= set(opened.keys())
        except (SafetensorError, OSError) as e:
            raise BadInputError(f"{path.name}: {e}") from e
    return frozenset(names)


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one file, read in batches."""

    count: int
    batch: Callable[[int, int], Batch]

    def batches(self, size: int, device: str) -> Iterator[Batch]:
        """Yield all samples, so many at once."""
        for first in range(0, self.count, size):
            made = self.batch(first, min(first + size, self.count))
            yield {name: value.to(device) for name, value in made.items()}


def load_data(
    path: Path, model: Path, labels_of: Mapping[str, int], most: int | None
) -> Samples:
    """Return the samples of a file: arrays, or texts for the tokenizer of `model`.

    Raises:
        NotFoundError: there is no such file.
        BadInputError: it is none that is known, or not whole.
        MachineError: transformers is needed and not installed.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: there is no such file")
    if path.suffix == ".jsonl":
        return _texts(path, model, labels_of, most)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as opened:
                arrays = {n: torch.from_numpy(opened[n]) for n in opened.files}
        elif path.suffix == ".safetensors":
            arrays = load_file(path)
        else:
            raise BadInputError(
                f"{path.name}: not known by its name",
                hint="give .jsonl (text, label), or .npz or .safetensors (x, y)",
            )
    except (SafetensorError, OSError, ValueError, TypeError) as e:
        raise BadInputError(f"{path.name}: {e}") from e
    return _arrays(path, arrays, most)


def _arrays(
    path: Path, arrays: Mapping[str, torch.Tensor], most: int | None
) -> Samples:
    found = {(LABELS if name == "y" else name): v for name, v in arrays.items()}
    counts = {len(value) if value.dim() else 0 for value in found.values()}
    if len(counts) != 1:
        raise BadInputError(f"{path.name}: its arrays are not of equally many samples")
    if not found.keys() - {LABELS}:
        raise BadInputError(f"{path.name}: there is nothing in it but labels")
    (count,) = counts

    def batch(first: int, end: int) -> Batch:
        return {name: value[first:end] for name, value in found.items()}

    return Samples(count if most is None else min(count, most), batch)


def _texts(
    path: Path, model: Path, labels_of: Mapping[str, int], most: int | None
) -> Samples:
    rows = list(_rows(path, most))
    tokenizer = _transformers().AutoTokenizer.from_pretrained(
        model, local_files_only=True
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    length = min(LENGTH_MAX, int(tokenizer.model_max_length))
    labels = [_label(row, labels_of) for row in rows]
    if None in labels and set(labels) != {None}:
        raise BadInputError(f"{path.name}: some lines have a label and some do not")

    def batch(first: int, end: int) -> Batch:
        made = tokenizer(
            [row["text"] for row in rows[first:end]],
            padding=True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        found = dict(made)
        if rows and labels[0] is not None:
            found[LABELS] = torch.tensor(labels[first:end])
        return found

    return Samples(len(rows), batch)


def _rows(path: Path, most: int | None) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if most is not None and number > most:
                return
            try:
                row = json.loads(line)
            except ValueError as e:
                raise BadInputError(f"{path.name}, line {number}: no JSON") from e
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise BadInputError(f"{path.name}, line {number}: it has no text")
            yield row


def _label(row: Mapping[str, Any], labels_of: Mapping[str, int]) -> float | None:
    label = row.get("label")
    if isinstance(label, str):
        if label not in labels_of:
            raise BadInputError(
                f"the model knows no label {label!r}",
                hint="give numbers, or labels of the model's config.json (label2id)",
            )
        return labels_of[label]
    if label is None or isinstance(label, int | float):
        return label
    raise BadInputError("a label is neither a number nor a word")


def labels_of(module: Module) -> Mapping[str, int]:
    """Return the numbers of labels by their words, as the model's config tells them."""
    found = getattr(getattr(module, "config", None), "label2id", None)
    return found if isinstance(found, Mapping) else {}
