"""Asking the node that runs on a home, over its control socket.

Owns finding out whether one listens, and turning its replies into answers and errors. Does
not own the channel (`client`), nor the choice of where a verb runs (`executor`).
"""

import contextlib
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from crdtmerge import errors
from crdtmerge.errors import (
    ConflictError,
    CrdtMergeError,
    NodeNeededError,
    UnreachableError,
)

from .output import warn
from .progress import Tell

if TYPE_CHECKING:
    from ..client import ControlClient

_GONE: Final = "the running node stopped before it answered"
_UNWELL: Final = "it may be starting or stopping; what `node run` prints says more"
_RETRY: Final = "see `crdtmerge status` for what was done, then try again"


def ask_node(
    home: Path, verb: str, arguments: Mapping[str, object], tell: Tell
) -> dict[str, object] | None:
    """Run a verb in the node that runs on `home`; return None if none listens.

    Raises:
        ConflictError: the node went away while it worked.
        CrdtMergeError: what the verb refuses.
    """
    from ..home import CONTROL_SOCKET

    path = home / CONTROL_SOCKET
    if not _listens(path):
        return None
    import asyncio

    request = json.dumps({"verb": verb, "arguments": dict(arguments)}).encode()
    try:
        reply = asyncio.run(_converse(path, request, tell))
    except KeyboardInterrupt:
        warn("the running node may still finish this; `crdtmerge status` shows it")
        raise
    match reply:
        case {"result": dict(answer)}:
            return answer
        case {"error": dict(facts)}:
            raise _error(facts)
        case _:
            raise ConflictError(_GONE, hint=_RETRY)


def _listens(path: Path) -> bool:
    """Tell whether a node listens at `path`; a killed one leaves a dead socket."""
    if not path.exists():
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.connect(str(path))
    except OSError:
        return False
    return True


def node_health(home: Path, seconds: float) -> dict[str, bool]:
    """Return how the node that runs on `home` is, part by part.

    Raises:
        NodeNeededError: none does.
        ConflictError: it did not answer within `seconds`, or a part is not well.
    """
    from ..home import CONTROL_SOCKET

    path = home / CONTROL_SOCKET
    if not _listens(path):
        raise NodeNeededError(
            "no node runs here", hint="start one: `crdtmerge node run`"
        )
    import asyncio

    try:
        parts = asyncio.run(_health(path, seconds))
    except UnreachableError as e:
        raise ConflictError(
            f"the node did not say how it is within {seconds:g} s", hint=_UNWELL
        ) from e
    if ill := [part for part, well in parts.items() if part and not well]:
        named = " and ".join(ill)
        raise ConflictError(f"the node runs, but not well: {named}", hint=_UNWELL)
    return parts


async def _health(path: Path, seconds: float) -> dict[str, bool]:
    from ..client import ControlClient

    async with ControlClient(path) as client:
        return await client.health(seconds)


async def _converse(path: Path, request: bytes, tell: Tell) -> object:
    """Send one request, pass progress on, and return the reply that ends it."""
    from ..client import ControlClient

    async with ControlClient(path) as client:
        try:
            return await _last_reply(client, request, tell)
        except UnreachableError as e:
            raise ConflictError(_GONE, hint=_RETRY) from e


async def _last_reply(client: "ControlClient", request: bytes, tell: Tell) -> object:
    async with contextlib.aclosing(client.call(request)) as replies:
        async for data in replies:
            match json.loads(data):
                case {"progress": dict(done)}:
                    tell(done)
                case reply:
                    return reply
    return None


def _error(facts: Mapping[str, object]) -> CrdtMergeError:
    """Return the error that a verb raised in the node, as if it were raised here.

    SUBTLE: leaves take other arguments than a message, so their `__init__` is passed by.
    """
    name, code = str(facts.get("type")), facts.get("exit_code")
    known = getattr(errors, name, None)
    leaf: type[CrdtMergeError] = (
        known
        if isinstance(known, type) and issubclass(known, CrdtMergeError)
        else type(name, (CrdtMergeError,), {"exit_code": code})
    )
    error = leaf.__new__(leaf)
    message, hint = str(facts.get("message", "")), str(facts.get("hint", ""))
    CrdtMergeError.__init__(error, message, hint=hint)
    return error
