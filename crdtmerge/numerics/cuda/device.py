"""Where torch computes, bytes on the way there and back, and operations with traps.

Owns the choice of the device, the blocks that its memory is bounded by, and the only
forms of division by a number and of square roots that the backend uses. Does not own what
bytes mean (`formats`).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.errors import BackendError
from crdtmerge.numerics.backends import forget
from crdtmerge.numerics.reference.dtypes import ITEM_BYTES, Data

try:
    import torch
    from torch import Tensor
except ImportError as e:
    message = f"torch cannot be imported: {e}"
    hint = 'the cuda backend needs it: install "crdtmerge[cuda]"'
    raise BackendError(message, hint=hint) from e

BLOCK_ITEMS: Final = 1 << 22
"""Items worked on at once: 32 MiB in float64, and about ten such buffers live."""

NAME: Final = "cuda"


@dataclass(slots=True)
class _Chosen:
    device: torch.device | None = None


_chosen: Final = _Chosen()


def current() -> torch.device:
    """Return the device that kernels compute on: a GPU, but within `on_device`.

    Raises:
        BackendError: there is none.
    """
    if _chosen.device is not None:
        return _chosen.device
    if not torch.cuda.is_available():
        message = f"torch {torch.__version__} finds no CUDA device"
        hint = (
            "it takes an NVIDIA GPU, its driver, and a torch built for CUDA; without"
            " them the cpu backend gives the same bytes"
        )
        raise BackendError(message, hint=hint)
    return torch.device(NAME)


@contextmanager
def on_device(name: str) -> Iterator[None]:
    """Compute on the torch device `name`, such as "cpu", whatever there is.

    For tests and the portability harness: the operations are those that a GPU is given,
    so their order and roundings are tested without one. What was found out about the
    backend on another device is forgotten before and after.
    """
    before, _chosen.device = _chosen.device, torch.device(name)
    forget(NAME)
    try:
        yield
    finally:
        _chosen.device = before
        forget(NAME)


def blocks_of(part: range, step: int = 0) -> Iterator[range]:
    """Yield the blocks that a range of items is worked on in; no bit depends on them.

    They are of `step` items, or of `BLOCK_ITEMS` where that is 0.
    """
    size = step or BLOCK_ITEMS
    for start in range(part.start, part.stop, size):
        yield range(start, min(start + size, part.stop))


def shared_step(buffers: int) -> int:
    """Return how many items of each of so many vectors fill a block together."""
    return max(1, BLOCK_ITEMS // buffers)


def moved(data: Data, dtype: str, part: range) -> Tensor:
    """Return the bytes of the items of `part`, on the device.

    They pass through a buffer of torch's own, page-locked for a GPU: so data may be
    read-only and lie at any address, and what comes out is aligned.
    """
    width, device = ITEM_BYTES[dtype], current()
    raw = np.frombuffer(data, np.uint8)[part.start * width : part.stop * width]
    pinned = device.type == NAME
    staged = torch.empty(raw.size, dtype=torch.uint8, pin_memory=pinned)
    staged.numpy()[:] = raw
    return staged.to(device, non_blocking=pinned)


def moved_array(values: NDArray[Any]) -> Tensor:
    """Return a copy of an array on the device; the array may be read-only."""
    return torch.tensor(np.ascontiguousarray(values), device=current())


def number(value: float) -> Tensor:
    """Return a number as a tensor of one float64 on the device.

    SUBTLE: where torch has to choose between two numbers it takes them for float32.
    """
    return torch.full((1,), value, dtype=torch.float64, device=current())


def divided(x: Tensor, divisor: float) -> Tensor:
    """Return x / divisor, one rounding.

    SUBTLE: given the number, or a tensor of no dimension on the host, CUDA multiplies by
    the rounded reciprocal. A tensor on the device is divided by.
    """
    return x / number(divisor)


def square_root(x: Tensor) -> Tensor:
    """Return the square roots, each rounded once.

    SUBTLE: on the CPU torch gives float64 square roots to a vector library, which has one
    of 77 wrong in the last bit (torch 2.13, every instruction set); NumPy takes the
    processor's. On a GPU torch takes CUDA's `sqrt`, which is correctly rounded.
    """
    if x.device.type == "cpu":
        return torch.from_numpy(np.sqrt(x.numpy()))
    return torch.sqrt(x)


if sys.byteorder != "little":
    raise BackendError("the cuda backend needs a little-endian machine")
