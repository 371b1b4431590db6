"""What is said when the system ends a read: a mapped file was cut, or its disk failed.

Owns the answer to SIGBUS. Does not own mapping (`crdtmerge.formats.folder`), nor how an
error is printed (`output`).

Models are mapped where they lie. If one is cut meanwhile, the system has no bytes to give
and sends SIGBUS, which by itself ends a process without a word. Python's own handlers are
of no use: they run once the read is done, which it never is.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from crdtmerge.errors import BadInputError

from .output import report

_Handler: Final = ctypes.CFUNCTYPE(None, ctypes.c_int)
_kept: list[object] = []
"""Handlers that the system calls; Python must not free them."""


def tell_of_cut_files(*, as_json: bool) -> None:
    """Have SIGBUS end this process with an error and its exit code."""
    if sys.platform == "win32":  # there, a mapped file cannot be cut
        return
    handler = _Handler(_answer(as_json=as_json))
    _kept.append(handler)
    system = ctypes.CDLL(None).signal
    system.argtypes, system.restype = [ctypes.c_int, _Handler], ctypes.c_void_p
    system(signal.SIGBUS, handler)


def _answer(*, as_json: bool) -> Callable[[int], None]:
    """Return what to do.

    SUBTLE: it runs in the thread that reads, in the middle of that, and must not return.
    The fault is a load from mapped memory, so no lock of the C library is held.
    """

    def answer(_number: int) -> None:
        code = BadInputError.exit_code
        try:
            message = (
                "a file that is in use was cut while it was read, or its disk failed"
            )
            hint = (
                "do not write to a model that is in use; run it again once it is whole"
            )
            code = report(BadInputError(message, hint=hint), as_json=as_json)
            sys.stderr.flush()
        finally:
            os._exit(code)

    return answer
