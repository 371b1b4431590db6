"""A node that runs for one command, where none runs: start, do it, stop.

Owns when such a node ends. Does not own the node (`runtime`), nor what the command does
(`operations`). It listens where a node last did on this home, if that is free, and tells
nobody; other commands reach it over the control socket, as they would any node.
"""

import asyncio
import signal
from typing import Final

from crdtmerge.errors import BadInputError, ConflictError

from .home import Home
from .operations.live import Answer, Arguments, Tell
from .runtime import Runtime, runtime_on

LOOPBACK: Final = "127.0.0.1:0"
STOPS: Final = (
    "the node that ran for this has stopped: peers fetch what you contributed only while"
    " one runs here (`crdtmerge node run`)"
)


def run_errand(home: Home, verb: str, asked: Arguments, tell: Tell) -> Answer:
    """Run one verb in a node on the open `home`, whose lock the caller holds.

    Raises:
        CrdtMergeError: what the verb refuses, or why the node could not run.
        KeyboardInterrupt: Ctrl-C, once the node has stopped.
    """
    answer = asyncio.run(_run(home, verb, asked, tell))
    if answer is None:
        raise KeyboardInterrupt
    notes = answer.get("notes")
    return {**answer, "notes": [*(notes if isinstance(notes, list) else []), STOPS]}


async def _run(home: Home, verb: str, asked: Arguments, tell: Tell) -> "Answer | None":
    """Return what the verb answers; None if Ctrl-C came first.

    SUBTLE: Ctrl-C must not break into the start, as it would by cancelling us: a server
    that is half started cannot be stopped.
    """
    interrupt = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupt.set)
    runtime = await _started(home)
    ends = [asyncio.ensure_future(e.wait()) for e in (runtime.stopping, interrupt)]
    work = asyncio.to_thread(runtime.operations.call, verb, asked, tell)
    call = asyncio.ensure_future(work)
    try:
        await asyncio.wait({call, *ends}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()
        answered = call.done()
        await runtime.stop()  # a command that still waits is told so, and ends
        await asyncio.gather(call, return_exceptions=True)
    if runtime.failure is not None:
        raise runtime.failure
    return None if interrupt.is_set() and not answered else call.result()


async def _started(home: Home) -> Runtime:
    """Start where peers know this node, else at any port of this machine."""
    known = (home.local.get_value(key) for key in ("listen", "join_listen"))
    listen, join_listen = (value.decode() if value else LOOPBACK for value in known)
    try:
        return await _started_at(home, listen, join_listen)
    except (ConflictError, BadInputError):
        return await _started_at(home, LOOPBACK, LOOPBACK)


async def _started_at(home: Home, listen: str, join_listen: str) -> Runtime:
    runtime = runtime_on(home)
    try:
        await runtime.start(listen, join_listen, "", lasting=False)
    except BaseException:
        await runtime.stop()
        raise
    return runtime
