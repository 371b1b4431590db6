"""How inputs lie in memory: as they come, at an odd address, or with gaps.

Owns laying out bytes and arrays anew, and a face of a backend that does so with every
argument. Does not own the kernels. Values stay the same, so results must.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final

import numpy as np

LAYOUTS: Final = ("plain", "offset", "strided")
"""As it comes; one byte behind where it would lie; every second item (arrays only)."""


def laid(value: Any, layout: str) -> Any:
    """Return bytes or an array laid out anew, and what holds them; all else as it is."""
    found = value
    if layout == "plain" or isinstance(value, type):
        pass
    elif isinstance(value, Laid):
        found = value.inner
    elif isinstance(value, bytes | bytearray | memoryview):
        found = memoryview(b"\0" + value)[1:] if layout == "offset" else value
    elif isinstance(value, np.ndarray):
        found = _array(value, layout)
    elif type(value) in (list, tuple):
        found = type(value)(laid(item, layout) for item in value)
    elif is_dataclass(value):
        assert not isinstance(value, type), "types went their way above"
        named = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
        found = replace(value, **{n: laid(v, layout) for n, v in named.items()})
    elif callable(value):
        found = _relay(value, layout)
    return found


def _array(array: Any, layout: str) -> Any:
    """Return a copy of an array that lies as the layout says, aligned or not."""
    if not array.ndim or not array.size:
        return array
    if layout == "offset":
        data = bytearray(1 + array.nbytes)
        found = np.frombuffer(data, array.dtype, array.size, offset=1)
        found = found.reshape(array.shape)
    else:
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        found = wide[..., ::2]
    found[...] = array
    return found


def _relay(function: Callable[..., Any], layout: str) -> Callable[..., Any]:
    """Return a function that lays out what `function` gives: it is an argument."""
    return lambda *arguments: laid(function(*arguments), layout)


class Laid:
    """A module, or an object one gave, every call of which has its arguments laid out."""

    def __init__(self, inner: Any, layout: str) -> None:
        self.inner = inner
        self._layout = layout

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return self._wrapped(found) if callable(found) else found

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            given = [laid(value, self._layout) for value in arguments]
            also = {name: laid(value, self._layout) for name, value in named.items()}
            result = function(*given, **also)
            stateful = isinstance(function, type) and hasattr(result, "add")
            return Laid(result, self._layout) if stateful else result

        return call
