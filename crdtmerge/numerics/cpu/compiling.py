"""Compiling a loop: the options that keep its bits, and where the machine code may lie.

Owns the only use of numba's options. Does not own any loop.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from numba import carray, config, njit, types
from numba.extending import intrinsic
from platformdirs import user_cache_path

Loop = TypeVar("Loop", bound=Callable[..., Any])


def _folder() -> Path | None:
    """Return where machine code is kept: a folder of this user's alone, or nowhere.

    What lies there is run, so nobody else may be able to write it, nor to put another in
    its place. The name tells all sources that a loop can be made of: numba itself looks
    at the file of a loop, and would run old code of a function that it takes in from
    another.
    """
    sources = hashlib.blake2b(digest_size=8)
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        sources.update(path.read_bytes())
    try:
        # Links are followed now, so that nobody can make them lead elsewhere later.
        root = Path(config.CACHE_DIR or user_cache_path("crdtmerge") / "kernels")
        folder = root.resolve() / sources.hexdigest()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_closed(folder) or not all(map(_is_safe, folder.parents)):
            return None
        # SUBTLE: where numba cannot write it would look for another place by itself.
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        return None


def _is_closed(folder: Path) -> bool:
    """Tell whether only this user and root can write what lies in a folder."""
    found = folder.lstat()
    shared = found.st_mode & stat.S_IWGRP and found.st_gid not in {0, os.getgid()}
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid in {0, os.getuid()}
    return is_ours and not shared and not found.st_mode & stat.S_IWOTH


def _is_safe(parent: Path) -> bool:
    """Tell whether only this user and root can put another folder in place of its own.

    A sticky parent will do, as that of temporary files: entries stay their owner's.
    """
    found = parent.lstat()
    is_sticky = found.st_mode & stat.S_ISVTX and found.st_uid in {0, os.getuid()}
    return bool(is_sticky) or _is_closed(parent)


_FOLDER: Final = _folder()


def machine_code() -> Path | None:
    """Return where machine code is kept; None if every process compiles anew."""
    return _FOLDER


def compiled(loop: Loop) -> Loop:
    """Return `loop` compiled at its first call, kept on disk where that is safe.

    It releases the interpreter's lock, so threads of the caller run side by side. A loop
    is compiled for the types of its arguments; contiguous arrays only.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}
    kept: Any = None
    if _FOLDER is not None:
        before, config.CACHE_DIR = config.CACHE_DIR, str(_FOLDER)
        try:
            kept = njit(cache=True, **options)(loop)
        except (RuntimeError, OSError):  # the disk refuses: compile in every process
            kept = None
        finally:
            config.CACHE_DIR = before
    found: Loop = njit(**options)(loop) if kept is None else kept
    return found


def inlined(loop: Loop) -> Loop:
    """Return a function of single values, put in place before loops are looked at."""
    found: Loop = njit(inline="always", fastmath=False, error_model="numpy")(loop)
    return found


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
