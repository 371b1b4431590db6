"""Adapters as PEFT loads them: which tensors, under which names, with which config.

Owns the layout of an adapter that is written. Does not own its numbers
(`resolve.adapter`), nor reading (`adapter`). Every pair has the scale 1: its alpha is its
rank.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crdtmerge.errors import BadInputError
from crdtmerge.formats.adapter import NAME_PREFIX
from crdtmerge.manifest import TensorEntry

_WEIGHT: Final = ".weight"
_BIAS: Final = ".bias"
_HINT: Final = "resolve the whole model instead, without --as adapter"


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the factors of one merged weight go.

    `layer` says how the layer keeps its weight, `shape` is the weight's, and the product
    of the factors is `rows` x `columns`: (out, in).
    """

    target: str
    layer: str
    shape: tuple[int, ...]
    rank: int

    @property
    def module(self) -> str:
        """The module that PEFT adapts."""
        return self.target.removesuffix(_WEIGHT)

    @property
    def transposed(self) -> bool:
        """Tell whether the weight is kept as (in, out)."""
        return self.layer != "linear"

    @property
    def rows(self) -> int:
        """Number of outputs."""
        return self.shape[1] if self.transposed else self.shape[0]

    @property
    def columns(self) -> int:
        """Number of inputs, a kernel's items included."""
        return math.prod(self.shape) // self.rows if self.rows else 0

    @property
    def a(self) -> tuple[str, str, tuple[int, ...]]:
        """Name, dtype and shape of the factor on the side of the inputs."""
        tail = (self.columns,) if self.transposed else self.shape[1:]
        return self._name("A"), "F32", (self.rank, *tail)

    @property
    def b(self) -> tuple[str, str, tuple[int, ...]]:
        """Name, dtype and shape of the factor on the side of the outputs."""
        kernel = (1,) * (0 if self.transposed else len(self.shape) - 2)
        return self._name("B"), "F32", (self.rows, self.rank, *kernel)

    def _name(self, factor: str) -> str:
        if self.layer == "embedding":
            return f"{NAME_PREFIX}{self.module}.lora_embedding_{factor}"
        return f"{NAME_PREFIX}{self.module}.lora_{factor}.weight"


@dataclass(frozen=True, slots=True)
class Layout:
    """All tensors of an adapter: pairs of factors, and those that it holds whole.

    `whole` maps the base's name of a tensor to its name in the adapter; `modules` are
    saved whole, `others` are all that the base has.
    """

    rank: int
    slots: tuple[Slot, ...]
    whole: Mapping[str, str]
    modules: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def config(self) -> bytes:
        """The text of `adapter_config.json`; equal layouts give equal bytes."""
        low = {_exactly(s.module): s.rank for s in self.slots if s.rank != self.rank}
        biases = [n for n in self.whole if n.rpartition(".")[0] not in self.modules]
        value = {
            "peft_type": "LORA",
            "base_model_name_or_path": None,
            "bias": "all" if biases else "none",
            "fan_in_fan_out": any(slot.layer == "fan_in" for slot in self.slots),
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": self.rank,
            "lora_dropout": 0.0,
            "modules_to_save": list(self.modules) or None,
            "r": self.rank,
            "rank_pattern": low,
            "alpha_pattern": low,
            "target_modules": self._targets(),
            "task_type": None,
            "use_rslora": False,
        }
        return (json.dumps(value, sort_keys=True, indent=2) + "\n").encode()

    def _targets(self) -> list[str] | str:
        """Return the adapted modules; as one pattern, if names would hit others too.

        PEFT takes a name for all modules that end in it, and a text for a pattern.
        """
        names = [slot.module for slot in self.slots]
        if any(_ends(other, name) for name in names for other in self.others):
            return "|".join(re.escape(name) for name in names)
        return names


def _exactly(module: str) -> str:
    """Return the pattern of one module, where PEFT takes those that end in a name too."""
    return "^" + re.escape(module)


def _ends(module: str, name: str) -> bool:
    return module.endswith("." + name)


def lay_out_adapter(
    pairs: Iterable[tuple[TensorEntry, str]],
    whole: Sequence[str],
    base: Iterable[str],
    rank: int,
) -> Layout:
    """Return the layout for merged weights with their layers, and whole tensors.

    `base` names all tensors of the base: a module is saved whole, or not at all.

    Raises:
        BadInputError: PEFT has no place for a tensor.
    """
    slots = tuple(_slot(entry, layer, rank) for entry, layer in pairs)
    if not slots:
        message = "no contribution changes a weight by factors or a delta"
        raise BadInputError(message, hint=_HINT)
    rank = max(slot.rank for slot in slots)  # no more than any of them can use
    adapted = {slot.module for slot in slots}
    parts: dict[str, set[str]] = {}
    for name in base:
        parts.setdefault(name.rpartition(".")[0], set()).add(name)
    modules, names = _modules(set(whole), parts, adapted)
    return Layout(rank, slots, names, modules, tuple(sorted(parts)))


def _slot(entry: TensorEntry, layer: str, rank: int) -> Slot:
    if len(entry.shape) < 2 or not entry.name.endswith(_WEIGHT) or not entry.items:
        message = f"tensor {entry.name!r} of shape {list(entry.shape)} is no weight"
        raise BadInputError(
            f"{message} that a pair of factors could change", hint=_HINT
        )
    slot = Slot(entry.name, layer, entry.shape, rank)
    largest = min(slot.rows, slot.columns)
    return Slot(entry.name, layer, entry.shape, min(rank, largest))


def _modules(
    whole: set[str], parts: Mapping[str, set[str]], adapted: set[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the modules saved whole, and all whole tensors' names in the adapter.

    `parts` are the names of all tensors of each module of the base; integer ones (counters)
    are merged by none, so their modules cannot be saved whole.
    """
    modules = sorted(
        module
        for module, names in parts.items()
        if module and module not in adapted and names <= whole
    )
    for module in modules:
        if hit := [m for m in parts if _ends(m, module) and m not in modules]:
            message = f"PEFT would save {hit[0]!r} along with {module!r}"
            raise BadInputError(message, hint=_HINT)
    names: dict[str, str] = {}
    for name in sorted(whole):
        module = name.rpartition(".")[0]
        inner = ".base_layer" if module in adapted else ""
        if module not in modules and not name.endswith(_BIAS):
            message = (
                f"tensor {name!r} is given whole, others of its module are not, or are"
                " integers"
            )
            raise BadInputError(message, hint=_HINT)
        names[name] = f"{NAME_PREFIX}{module}{inner}{name[len(module) :]}"
    return tuple(modules), names
