"""Which backend computes: equal bits from each, so the choice is one of speed alone.

Owns loading a backend, finding its bits equal to the reference's before it serves, and
falling back. Does not own any kernel. What is chosen here is the process's, not the
caller's: it changes no bit of any result.

A fast backend serves a kernel only after that kernel's cases (`cases`) gave the bytes of
the reference, once a process, when the kernel is first wanted. If it fails, or cannot be
loaded, the reference serves and one warning says so. Short vectors always go to the
reference: it costs them less than loading a fast backend would.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

from crdtmerge.errors import BackendError, CrdtMergeError

REFERENCE: Final = "reference"
BACKENDS: Final = (REFERENCE, "cpu", "cuda")
DEFAULT: Final = "cpu"

FAST_ITEMS: Final = 1 << 16
"""Items below which the reference serves: a fast backend takes longer to be loaded."""


NO_FORM: Final = "it has no form of its own"
"""Why a backend does not serve what nobody wrote for it: nothing to warn of."""


class BackendWarning(UserWarning):
    """A fast backend is not used; results are the same, and take longer."""


@dataclass(slots=True)
class _State:
    """What this process has chosen, loaded and found out."""

    chosen: str = DEFAULT
    forced: bool = False
    threads: int = 1
    lock: threading.RLock = field(default_factory=threading.RLock)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    warned: bool = False


_state: Final = _State()


def load(backend: str) -> Any:
    """Return the module whose functions are the kernels of `backend`.

    Raises:
        BackendError: there is no such backend, or it does not work on this machine.
    """
    if backend not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise BackendError(f"there is no backend {backend!r}", hint=f"known: {known}")
    try:
        return import_module(f"crdtmerge.numerics.{backend}.kernels")
    except (ImportError, OSError, RuntimeError) as e:
        message = f"the {backend} backend cannot be loaded here: {e}"
        raise BackendError(message) from e


def choose(backend: str, threads: int = 1) -> None:
    """Let `backend` serve this process, with the reference for what it cannot.

    One kernel may use so many `threads`; more than one helps a caller whose own threads
    have nothing to do.

    Raises:
        BackendError: it does not work on this machine.
    """
    load(backend)
    _state.chosen, _state.forced, _state.threads = backend, False, threads


def chosen() -> str:
    """Return the name of the backend that serves long vectors."""
    return _state.chosen


def threads() -> int:
    """Return how many threads one kernel may use."""
    return _state.threads


@contextmanager
def forced(backend: str, threads: int = 1) -> Iterator[None]:
    """Have every kernel served by `backend`, whatever the length, or raise.

    For tests and benchmarks: a silent fall-back would compare the reference with itself.
    What a backend has no form of, by design, the reference computes here too. It holds for
    the process: threads that force two backends at once get one of them.

    Raises:
        BackendError: there is no such backend, or it does not work on this machine.
    """
    load(backend)
    before = _state.chosen, _state.forced, _state.threads
    _state.chosen, _state.forced, _state.threads = backend, True, threads
    try:
        yield
    finally:
        _state.chosen, _state.forced, _state.threads = before


def serving(kernel: str, items: int) -> Any:
    """Return the module that computes `kernel` on vectors of so many items.

    Raises:
        BackendError: a backend is forced that cannot serve.
    """
    if _state.forced:
        reason = why_not(_state.chosen, kernel)
        if reason == NO_FORM:
            return load(REFERENCE)
        if reason:
            raise BackendError(f"{_state.chosen} cannot serve {kernel}: {reason}")
        return load(_state.chosen)
    if items < FAST_ITEMS or why_not(_state.chosen, kernel):
        return load(REFERENCE)
    return load(_state.chosen)


def why_not(backend: str, kernel: str) -> str:
    """Return why `backend` does not serve `kernel`; empty if it does.

    The first question tests the backend's bits, later ones are answered from memory.
    """
    if backend == REFERENCE:
        return ""
    key = (backend, kernel)
    if key not in _state.reasons:
        with _state.lock:
            if key not in _state.reasons:
                _state.reasons[key] = _tested(backend, kernel)
    return _state.reasons[key]


def forget(backend: str) -> None:
    """Forget what was found out about a backend: what it runs on has changed."""
    with _state.lock:
        for key in [key for key in _state.reasons if key[0] == backend]:
            del _state.reasons[key]


def _tested(backend: str, kernel: str) -> str:
    """Return what is wrong with a backend's kernel, and warn of the first such thing."""
    try:
        module = load(backend)
        if not hasattr(module, kernel):
            return NO_FORM
        reason = _difference(module, kernel)
    except CrdtMergeError as e:
        reason = str(e)
    except Exception as e:  # noqa: BLE001  a backend's own failure must not stop a merge
        reason = f"{type(e).__name__}: {e}"
    if reason and not _state.warned:
        _state.warned = True
        message = (
            f"the {backend} backend does not serve {kernel} ({reason}): results are the"
            " same, computed by the slower reference; `crdtmerge doctor` tells more"
        )
        warnings.warn(message, BackendWarning, stacklevel=2)
    return reason


def _difference(module: Any, kernel: str) -> str:
    """Return the first case in which a module's bytes are not the reference's."""
    from crdtmerge.numerics.cases import cases_of

    reference = load(REFERENCE)
    for case in cases_of(kernel):
        if case.run(module) != case.run(reference):
            return f"its bits differ from the reference's in {case.title!r}"
    return ""
