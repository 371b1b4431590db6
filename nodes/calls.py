"""The calls that peers have open with a server: how many, whose, and how each ends.

Owns running the work of a call so that it can be cut off, and the status it ends with. Does
not own what the work is (`server`).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final, Never

import grpc

from crdtmerge.errors import CrdtMergeError

from .channel import status_of

PEER_CALLS_MAX: Final = 16
"""Calls of one peer at once: its sync stream, and fetches."""

Context = grpc.aio.ServicerContext[Any, Any]

_log: Final = logging.getLogger(__name__)


class Calls:
    """The work that is under way, by peer."""

    def __init__(self) -> None:
        """Start with none."""
        self._peers: dict[asyncio.Task[None], bytes] = {}
        self._lasting: set[asyncio.Task[None]] = set()
        self._closing = False
        self.refused = 0
        """Calls that were one too many of their peer, since the start."""

    async def run(
        self,
        context: Context,
        peer: bytes,
        work: Coroutine[Any, Any, None],
        *,
        lasting: bool = False,
    ) -> None:
        """Run `work` as the call of `peer`, and end the call as the work ended.

        What is `lasting` ends when somebody says so, and a drain does not wait for it.
        """
        if Counter(self._peers.values())[peer] >= PEER_CALLS_MAX:
            work.close()
            self.refused += 1
            text = f"more than {PEER_CALLS_MAX} calls of one peer at once"
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        task = asyncio.ensure_future(work)
        self._peers[task] = peer
        if lasting:
            self._lasting.add(task)
        try:
            await asyncio.wait({task})
        finally:
            del self._peers[task]
            self._lasting.discard(task)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            await context.abort(*self._why_cut())
        await _conclude(context, task.exception())

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` for the calls that end by themselves."""
        if passing := self._peers.keys() - self._lasting:
            await asyncio.wait(passing, timeout=seconds)

    def cut(self, allowed: Callable[[bytes], bool]) -> None:
        """Cut off the calls of peers that are not `allowed` any more."""
        for task, peer in self._peers.items():
            if not allowed(peer):
                task.cancel()

    def close(self) -> None:
        """Cut off every call: the server stops."""
        self._closing = True
        self.cut(lambda _: False)

    def _why_cut(self) -> tuple[grpc.StatusCode, str]:
        if self._closing:
            return grpc.StatusCode.UNAVAILABLE, "the node stops"
        return grpc.StatusCode.PERMISSION_DENIED, "the caller is no member any more"


async def _conclude(context: Context, error: BaseException | None) -> None:
    """End a call as its work ended; a bug is logged here and kept from the caller."""
    if error is None:
        return
    if isinstance(error, CrdtMergeError):
        await refuse(context, error)
    _log.error("a call failed", exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "something is wrong on this node")


async def refuse(context: Context, error: CrdtMergeError) -> Never:
    """End a call with what its caller is told of `error`."""
    code, text = status_of(error)
    if code is grpc.StatusCode.INTERNAL:
        _log.warning("a call failed: %s", error)
    await context.abort(code, text)
