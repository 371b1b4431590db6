"""Layers watched while a model runs: what goes into them and what comes out.

Owns which calls tell of which tensor, and the sums that are kept of them, in float64. Does
not own what is made of the sums (`computing`).

SUBTLE: calls of torch's functions are watched, not modules: a layer is told by the
parameter that it is called with. So a weight that several layers share is summed over all
of them, and code without `nn.Linear` is seen too; what torch fuses into one call of its
own (`nn.MultiheadAttention`) is not. Norms that a model writes out itself, such as the
RMSNorm of a Llama, are modules with hooks, which are taken off again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

import torch
from torch.nn import Module
from torch.nn.functional import (
    conv1d,
    conv2d,
    layer_norm,
    linear,
    pad,
    rms_norm,
    unfold,
)
from torch.overrides import TorchFunctionMode

Sums: TypeAlias = dict[str, torch.Tensor]
Kinds: TypeAlias = frozenset[str]

EPSILON: Final = 1e-6


@dataclass
class Seen:
    """Sums over all rows that a layer was called with, by kind, and how many they were."""

    rows: int = 0
    sums: Sums = field(default_factory=dict)

    def add(self, kind: str, value: torch.Tensor) -> None:
        """Add to the sum of a kind."""
        held = self.sums.get(kind)
        self.sums[kind] = value if held is None else held.add_(value)


class Watch(TorchFunctionMode):
    """Context manager: sums what calls with the named parameters are given and return."""

    def __init__(self, names: Mapping[int, str], kinds: Iterable[str]) -> None:
        """Watch parameters, by their `id`, for these kinds."""
        super().__init__()
        self._names = names
        self._kinds: Kinds = frozenset(kinds)
        self.seen: dict[str, Seen] = {}
        self.mask: torch.Tensor | None = None
        """Which tokens are no padding, of the batch that runs; None if all."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a call of torch, and take note of it."""
        del types
        given = dict(kwargs or {})
        made = func(*args, **given)
        look = _LOOKS.get(func)
        if look is not None:
            look(self, made, *args, **given)
        return made

    def name_of(self, weight: object) -> str | None:
        """Return the name of a parameter that is watched."""
        return self._names.get(id(weight))

    def wants(self, *kinds: str) -> bool:
        """Tell whether one of these is asked for."""
        return not self._kinds.isdisjoint(kinds)

    def note(self, name: str, inputs: torch.Tensor, outputs: torch.Tensor) -> None:
        """Add rows of inputs, and outputs whose last dimension tells the channels."""
        seen = self.seen.setdefault(name, Seen())
        rows = inputs.detach().double()
        seen.rows += len(rows)
        if self.wants("gram"):
            seen.add("gram", rows.T @ rows)
        if self.wants("inputs"):
            seen.add("inputs", rows.sum(dim=0))
        if self.wants("magnitude"):
            seen.add("magnitude", rows.abs().sum(dim=0))
        if self.wants("outputs"):
            seen.add("outputs", outputs.detach().double().sum(dim=0))

    def note_norm(self, name: str, normalised: torch.Tensor) -> None:
        """Add the squares of what a norm scales."""
        rows = self.rows_of(normalised).double()
        seen = self.seen.setdefault(name, Seen())
        seen.rows += len(rows)
        seen.add("energy", (rows * rows).sum(dim=0))

    def rows_of(self, values: torch.Tensor) -> torch.Tensor:
        """Return the last dimension of each token, or of each sample; padding left out."""
        flat = values.detach().reshape(-1, values.shape[-1])
        mask = self.mask
        if mask is None or len(flat) != mask.numel():
            return flat
        whole = values.dim() == 2 or values.shape[:2] == mask.shape
        return flat[mask.reshape(-1).bool()] if whole else flat

    @contextmanager
    def norms(self, model: Module) -> Iterator[None]:
        """Hook the norms that a model writes out itself, and take the hooks off again."""
        with ExitStack() as stack:
            for module in model.modules():
                if self.wants("energy") and _is_own_norm(module):
                    hook = module.register_forward_pre_hook(partial(_own_norm, self))
                    stack.callback(hook.remove)
            yield


def _is_own_norm(module: Module) -> bool:
    if isinstance(module, torch.nn.RMSNorm | torch.nn.LayerNorm):
        return False
    weight = getattr(module, "weight", None)
    told = type(module).__name__.lower()
    return "rmsnorm" in told and isinstance(weight, torch.Tensor) and weight.dim() == 1


def _own_norm(watch: Watch, module: Module, given: tuple[Any, ...]) -> None:
    name = watch.name_of(module.weight)
    if name is None or not given:
        return
    values = given[0].detach().double()
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", EPSILON))
    mean = (values * values).mean(dim=-1, keepdim=True)
    watch.note_norm(name, values * torch.rsqrt(mean + epsilon))


def _linear(
    watch: Watch,
    made: torch.Tensor,
    input: torch.Tensor,  # noqa: A002  torch's name, which callers may use
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> None:
    del bias
    name = watch.name_of(weight)
    if name is not None and watch.wants("gram", "inputs", "magnitude", "outputs"):
        watch.note(name, watch.rows_of(input), watch.rows_of(made))


def _conv(
    watch: Watch,
    made: torch.Tensor,
    input: torch.Tensor,  # noqa: A002  torch's name, which callers may use
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> None:
    """Note the patches that a convolution multiplies its rows with.

    One of several groups has no one matrix, so there is nothing to tell of it.
    """
    del bias
    name = watch.name_of(weight)
    if name is None or groups != 1:
        return
    if not watch.wants("gram", "inputs", "magnitude", "outputs"):
        return
    places = weight.dim() - 2
    values = input.detach() if input.dim() == weight.dim() else input.detach()[None]
    outputs = made.detach() if made.dim() == weight.dim() else made.detach()[None]
    size = tuple(weight.shape[2:])
    steps, spread = _each(stride, places), _each(dilation, places)
    values = pad(values, _sides(padding, size, spread))
    if places == 1:
        values, size, steps, spread = (
            values[:, :, None],
            (1, *size),
            (1, *steps),
            (1, *spread),
        )
    patches = unfold(values.double(), size, dilation=spread, stride=steps)
    rows = patches.transpose(1, 2).reshape(-1, patches.shape[1])
    told = outputs.flatten(2).transpose(1, 2).reshape(-1, outputs.shape[1])
    watch.note(name, rows, told)


def _each(value: Any, places: int) -> tuple[int, ...]:
    found = tuple(value) if isinstance(value, Sequence) else (value,)
    return found * places if len(found) == 1 else found


def _sides(
    padding: Any, size: tuple[int, ...], spread: tuple[int, ...]
) -> tuple[int, ...]:
    """Return how much is added before and after each dimension, the last one first."""
    if padding == "valid":
        return (0, 0) * len(size)
    if padding == "same":
        whole = [reach * (side - 1) for side, reach in zip(size, spread, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in whole]
    else:
        pairs = [(one, one) for one in _each(padding, len(size))]
    return tuple(side for pair in reversed(pairs) for side in pair)


def _layer_norm(
    watch: Watch,
    _made: torch.Tensor,
    input: torch.Tensor,  # noqa: A002  torch's name, which callers may use
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> None:
    del bias
    name = watch.name_of(weight)
    if name is not None and watch.wants("energy") and len(normalized_shape) == 1:
        values = input.detach().double()
        watch.note_norm(name, layer_norm(values, tuple(normalized_shape), eps=eps))


def _rms_norm(
    watch: Watch,
    _made: torch.Tensor,
    input: torch.Tensor,  # noqa: A002  torch's name, which callers may use
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    eps: float | None = None,
) -> None:
    name = watch.name_of(weight)
    if name is not None and watch.wants("energy") and len(normalized_shape) == 1:
        epsilon = torch.finfo(input.dtype).eps if eps is None else eps
        values = input.detach().double()
        watch.note_norm(name, rms_norm(values, tuple(normalized_shape), eps=epsilon))


_LOOKS: Final[Mapping[object, Callable[..., None]]] = {
    linear: _linear,
    conv1d: _conv,
    conv2d: _conv,
    layer_norm: _layer_norm,
    rms_norm: _rms_norm,
}
