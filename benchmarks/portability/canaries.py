"""Operations whose bits are known to move with the platform: one for each switch.

Owns them. Does not own the rows that they watch over (`rows`): a row counts only where
its canary has moved, for else nobody knows whether the switch did anything at all. What
they do is what the code under test must not.
"""

import math
import platform
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.portability.job import Job
from benchmarks.portability.layouts import laid

Singles = NDArray[np.float32]


def digest(*parts: Any) -> str:
    """Return a short digest of arrays (their bytes) and of other values (their text)."""
    made = sha256()
    for part in parts:
        exact = isinstance(part, np.ndarray | np.generic)
        made.update(part.tobytes() if exact else repr(part).encode())
    return made.hexdigest()[:16]


def singles(count: int) -> Singles:
    """Return `count` float32 values of many magnitudes; the same on every platform.

    Single IEEE operations only, so that a canary moves by what it does, not by its input.
    """
    words = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)
    words ^= words >> np.uint64(29)
    words *= np.uint64(0xBF58_476D_1CE4_E5B9)
    x = (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23)
    x -= np.float32(1)
    cubes: Singles = x * x * x / np.float32(3)
    return cubes


def _square(items: int) -> Singles:
    return singles(items * items).reshape(items, items)


def blas(_: Job) -> str:
    """Multiply and measure by the BLAS that NumPy brings, in both precisions."""
    found: list[Any] = []
    square: Any
    for square in (_square(300), _square(300).astype(np.float64)):
        long = np.resize(square, 1 << 20)
        found += [square @ square, square @ square[0], long @ long[::-1].copy()]
        found += [np.linalg.norm(long)]
    return digest(*found)


def vector_math(_: Job) -> str:
    """Take exp, log, sin, tanh, powers and sums by NumPy's own vector loops."""
    found: list[Any] = []
    for x in (singles(20_000), singles(20_000).astype(np.float64)):
        y = np.abs(x) + x.dtype.type(1e-3)
        found += [np.exp(x), np.log(y), np.sin(x), np.tanh(x), np.power(y, x), x.sum()]
    return digest(*found)


def numpy_release(job: Job) -> str:
    """Do what NumPy's releases do in other ways: variance, percentile, arctan2, inverse."""
    x = singles(20_000)
    wide = x.astype(np.float64)
    found = [x.var(), np.percentile(x, 37), np.arctan2(wide, wide[::-1])]
    return digest(*found, np.linalg.inv(_square(64)), vector_math(job))


def libm(_: Job) -> str:
    """Take exp, sin, cos, tan, log and pow of the C library, value by value."""
    values = [float(v) for v in singles(20_000)]
    found = [[f(v) for v in values] for f in (math.exp, math.sin, math.cos, math.tan)]
    found.append([math.log(abs(v) + 1e-3) for v in values])
    found.append([math.pow(1.7 + v / 3, 17.3 * v) for v in values])
    return digest(np.array(found))


def aten(_: Job) -> str:
    """Run torch's loops that ATen has for each instruction set: sums, and fused terms."""
    import torch

    x = torch.from_numpy(singles(1 << 20))
    back, wide = x.flip(0).contiguous(), x.double()
    found = [torch.add(x, back, alpha=0.3), torch.addcmul(x, back, back), x.sum()]
    found += [x.softmax(0), wide.softmax(0), wide.sigmoid(), torch.lerp(x, back, 0.3)]
    return digest(*(tensor.numpy() for tensor in found))


def mkl(_: Job) -> str:
    """Multiply and factor float32 by torch, which asks MKL."""
    import torch

    x = torch.from_numpy(_square(512))
    return digest((x @ x).numpy(), (x @ x[0]).numpy(), torch.linalg.qr(x).R.numpy())


def numba_sum(_: Job) -> str:
    """Sum squares in a loop that may be reordered, compiled for the CPU that is named."""
    import numba

    def total(x: Singles) -> Any:
        found = np.float32(0)
        for value in x:
            found += value * value
        return found

    return digest(np.float32(numba.njit(fastmath=True)(total)(singles(10_000))))


def hash_order(_: Job) -> str:
    """Iterate over a set of words, and hash one."""
    return digest(list({"base", "theta", "tau", "weight"}), hash("crdtmerge"))


def python_sum(_: Job) -> str:
    """Sum floats by the interpreter, which compensates since 3.12."""
    return digest(sum(float(v) for v in singles(1000)))


def machine(job: Job) -> str:
    """Do what differs from one kind of CPU to another: NaN bits, casts, products, exp."""
    with np.errstate(all="ignore"):
        infinite = np.array([np.inf, 1.0], np.float32)
        nan = infinite - infinite
        cast = (singles(64) * np.float32(1e20)).astype(np.int32)
        products = blas(job)
    return digest(platform.machine(), nan, cast, products, vector_math(job))


def block_sum(job: Job) -> str:
    """Sum float32 a block at a time."""
    x = singles((1 << 22) + 4099)
    total = np.float32(0)
    step = job.block or x.size
    for start in range(0, x.size, step):
        total += x[start : start + step].sum()
    return digest(total)


def layout_sum(job: Job) -> str:
    """Sum and multiply float32 that lie as the job lays them."""
    x = laid(singles(100_003), job.layout)
    data = laid(singles(100_003).tobytes(), job.layout)
    return digest(x @ x, x.sum(), np.frombuffer(data, "<f4").sum())


CANARIES: Final[Mapping[str, Callable[[Job], str]]] = {
    "blas": blas,
    "vector math": vector_math,
    "numpy release": numpy_release,
    "libm": libm,
    "aten": aten,
    "mkl": mkl,
    "numba sum": numba_sum,
    "hash order": hash_order,
    "python sum": python_sum,
    "machine": machine,
    "block sum": block_sum,
    "layout sum": layout_sum,
}
