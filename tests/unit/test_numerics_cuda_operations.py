"""Which operations the CUDA backend asks torch for: those that every device rounds alike.

A GPU rounds some operations otherwise than the CPU does, which no test on the CPU can see
in the bits. So this looks at the operations themselves, as torch is given them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from crdtmerge.numerics.cases import KERNELS, Case, cases_of
from crdtmerge.numerics.cuda.device import on_device

MOVING = {
    "_local_scalar_dense", "_to_copy", "alias", "arange", "cat", "clone", "copy_",
    "detach", "empty", "expand", "full", "full_like", "gather", "index",
    "lift_fresh", "new_full", "new_zeros", "ones_like", "permute", "scalar_tensor",
    "scatter", "select", "slice", "stack", "transpose", "unbind", "unsqueeze",
    "view", "where", "zeros", "zeros_like",
}  # fmt: skip
"""Operations that move items, or cast them; casts are looked at apart."""

COMPARING = {"eq", "ne", "lt", "le", "gt", "ge", "all", "amax", "amin", "sort", "clamp"}

LOGICAL = {
    "__lshift__", "__rshift__", "bitwise_and", "bitwise_not", "bitwise_or",
    "bitwise_or_", "bitwise_xor", "bincount",
}  # fmt: skip

ARITHMETIC = {
    "abs", "add", "add_", "copysign", "div", "mul", "neg", "round", "rsub", "sub",
}  # fmt: skip
"""Single IEEE operations, in float64 (or exact ones, on integers)."""

COUNTING = {"cumsum", "sum"}
"""Exact on integers alone."""

CASTS = ({torch.float32, torch.float64}, {torch.int64, torch.float64})
"""Exact, or (float64 to float32) one rounding to nearest."""


class Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses an operation that is not known to be rounded alike on every device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func.name().removeprefix("aten::").split(".")[0]
        check(name, args, kwargs or {}, made)
        return made


def check(name: str, args: Any, kwargs: Any, made: Any) -> None:
    """Refuse an operation, its dtypes, or how numbers are given to it."""
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    dtypes = {tensor.dtype for tensor in tensors}
    known = MOVING | COMPARING | LOGICAL | ARITHMETIC | COUNTING | {"mm"}
    assert name in known, f"{name} is not known to be exact"
    assert "alpha" not in kwargs, f"{name} scales an operand"
    if name in ARITHMETIC:
        assert dtypes <= {torch.float64, torch.int16, torch.int32, torch.int64}, name
    if name == "div":  # a number, or a tensor of none on the host: by the reciprocal
        assert len(tensors) == 2
        assert all(tensor.dim() for tensor in tensors)
    if name in COUNTING | LOGICAL:
        assert not any(dtype.is_floating_point for dtype in dtypes), name
    if name == "where" and made.dtype.is_floating_point:  # numbers alone are float32
        assert made.dtype == torch.float64
    if name == "_to_copy":
        cast = {args[0].dtype, made.dtype}
        floats = any(dtype.is_floating_point for dtype in cast)
        assert not floats or len(cast) == 1 or cast in CASTS, name
    if name == "mm":
        _check_exact(*args)


def _check_exact(left: Tensor, right: Tensor) -> None:
    """Refuse a product of matrices of which a partial sum is not an integer to 2**53."""
    for operand in (left, right):
        assert operand.dtype == torch.float64
        assert (operand == operand.round()).all()
    assert (left.abs().numpy() @ right.abs().numpy()).max(initial=0) <= 2.0**53


LARGE = {"65535", "65537", "196609", "70001"}
"""Sizes that show no operation which smaller ones do not show."""


def one_of_each(kernel: str) -> Iterator[Case]:
    """Yield a case of each kind of a kernel's."""
    kinds = {}
    for case in cases_of(kernel):
        words = set(case.title.replace(",", "").split())
        if not words & LARGE:
            kinds[frozenset(word for word in words if not word.isdigit())] = case
    yield from kinds.values()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_uses_operations_that_every_device_rounds_alike(kernel: str) -> None:
    """Names, dtypes, and numbers given where a GPU would use a reciprocal."""
    with on_device("cpu"):
        from crdtmerge.numerics.cuda import kernels

        for case in one_of_each(kernel):
            if hasattr(kernels, kernel):
                with Watched():
                    case.run(kernels)


def test_products_of_matrices_are_of_integers_that_stay_exact() -> None:
    """Partial sums are below 2**53 whatever the order."""
    x = np.linspace(-1, 1, 99)
    with on_device("cpu"):
        from crdtmerge.numerics.cuda import kernels

        with Watched():
            kernels.matmul(np.outer(x, x), np.outer(x, 8 * x))


ONE = torch.ones(3, dtype=torch.float64)
REFUSED: dict[str, Callable[[], Any]] = {
    "a number's reciprocal": lambda: ONE / 3.0,
    "the reciprocal of a tensor of none": lambda: ONE / torch.tensor(3.0).double(),
    "a scaled operand": lambda: torch.add(ONE, ONE, alpha=3),
    "a fused product": lambda: torch.addcmul(ONE, ONE, ONE),
    "an interpolation": lambda: torch.lerp(ONE, ONE, 0.5),
    "a sum of floats": ONE.sum,
    "a mean": ONE.mean,
    "a norm": lambda: torch.linalg.vector_norm(ONE),
    "a dot product": lambda: ONE @ ONE,
    "a library's exponential": lambda: torch.exp(ONE),
    "a library's square root": lambda: torch.sqrt(ONE),
    "a cast that rounds twice": lambda: ONE.to(torch.bfloat16),
    "arithmetic in float32": lambda: ONE.to(torch.float32) * 2,
    "a choice of two numbers": lambda: torch.where(ONE > 0, 0.1, 0.2),
    "a product of fractions": lambda: (ONE * 0.1)[None] @ ONE[:, None],
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_operation_that_devices_round_otherwise_is_refused(name: str) -> None:
    """The watch itself: it sees each of what the backend must not use."""
    with pytest.raises(AssertionError), Watched():
        REFUSED[name]()
