"""Compiling a loop: the options that keep its bits, and where the machine code may lie.

Owns the only use of numba's options. Does not own any loop.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import carray, njit, types
from numba.extending import intrinsic

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(loop: Loop) -> Loop:
    """Return `loop` compiled at its first call, kept on disk where that is safe.

    It releases the interpreter's lock, so threads of the caller run side by side. A loop
    is compiled for the types of its arguments; contiguous arrays only.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}
    try:
        kept = njit(cache=True, **options)(loop)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        kept = None
    if kept is None or not _is_private(Path(kept.stats.cache_path)):
        kept = njit(**options)(loop)
    found: Loop = kept
    return found


def inlined(loop: Loop) -> Loop:
    """Return a function of single values, which the code generator puts in place."""
    found: Loop = njit(nogil=True, fastmath=False, error_model="numpy")(loop)
    return found


def _is_private(folder: Path) -> bool:
    """Tell whether nobody else can put code there: what lies there is run.

    The nearest folder that exists counts; the rest is made by us.
    """
    while not folder.exists():
        folder = folder.parent
    found = folder.stat()
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return not others and found.st_uid in {0, os.getuid()}


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(_context: Any, _address: Any, dtype: Any) -> Any:
    signature = types.CPointer(dtype.dtype)(types.uint64, dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(signature.return_type)
        return builder.inttoptr(arguments[0], kind)

    return signature, generate


@inlined
def at(address: Any, dtype: Any, items: int) -> Any:
    """Return the array of `items` that lies at an address; the caller keeps it alive.

    So a loop sees any number of tensors without being compiled for each number.
    """
    return carray(_pointer(address, dtype), (items,))
