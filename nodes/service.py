"""A node that runs until it is told to stop: what `crdtmerge node run` is.

Owns how it comes to its home, and when it ends. Does not own the node (`runtime`), nor one
that runs for a single command (`errand`).
"""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from crdtmerge.errors import BusyError

from .descriptors import raise_limit
from .finding import Finding
from .home import Home, open_home
from .memory import keep_freed, pass_once
from .passphrase import AskPassphrase, no_passphrase
from .runtime import Runtime, runtime_on, steady_clock
from .traffic import Limits
from .upkeep.keeping import Upkeep

WAITS_MAX: Final = 100
"""How often a starting node waits for a command that holds its home: ten seconds."""
WAIT_S: Final = 0.1


def run_node(
    path: Path,
    *,
    listen: str,
    join_listen: str,
    advertise: str,
    ready: Callable[[Mapping[str, object]], None],
    ask: AskPassphrase = no_passphrase,
    upkeep: Upkeep | None = None,
    limits: Limits | None = None,
    own_quotas: Mapping[str, float] | None = None,
    finding: Finding | None = None,
) -> None:
    """Run a node on the home at `path` until SIGINT or SIGTERM; a second one hurries it.

    `ask` finds the passphrase, at the start: a node must sign whenever peers want it to.
    `ready` is told where the node listens, once it does. `upkeep` says what it does for
    its store by itself, `limits` how fast blobs may come and go; `own_quotas` are quotas
    that hold for this run in place of those of the home, and `finding` where it looks for
    peers.

    Raises:
        ConflictError: another node runs on this home, or a port is in use.
        BadInputError: the passphrase is wrong, or there is none.
        MachineError: the store failed.
    """
    with _patiently_open(path, ask) as home:
        for key in (home.author, home.node):
            key.ready()
        keep_freed()
        pass_once(steady_clock)
        raise_limit()
        make = partial(runtime_on, home, upkeep, limits, own_quotas, finding=finding)
        asyncio.run(_run(make, (listen, join_listen, advertise), ready))


def _patiently_open(path: Path, ask: AskPassphrase) -> Home:
    """Open the home once a command that holds it is done; one takes seconds at most."""
    opened = partial(open_home, path, write=True, purpose="node", ask=ask)
    for _ in range(WAITS_MAX):
        try:
            return opened()
        except BusyError:
            time.sleep(WAIT_S)
    return opened()


async def _run(
    make: Callable[[], Runtime],
    where: tuple[str, str, str],
    ready: Callable[[Mapping[str, object]], None],
) -> None:
    """Run what `make` returns, which needs a running loop, until a signal."""
    runtime = make()
    hurry = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        runtime.loop.add_signal_handler(name, _told_to_stop, runtime.stopping, hurry)
    try:
        await runtime.start(*where)
        ready(
            {
                "node": runtime.me.hex(),
                "addresses": list(runtime.addresses),
                "join_addresses": list(runtime.join_addresses),
            }
        )
        await runtime.stopping.wait()
        if runtime.failure is None:
            await _drained(runtime, hurry)
    finally:
        await runtime.stop()
    if runtime.failure is not None:
        raise runtime.failure


def _told_to_stop(stopping: asyncio.Event, hurry: asyncio.Event) -> None:
    """Stop in order; who is told twice stops at once."""
    (hurry if stopping.is_set() else stopping).set()


async def _drained(runtime: Runtime, hurry: asyncio.Event) -> None:
    """Let what is under way end, within the bounds of `Runtime.drain`, or of patience."""
    works = [asyncio.ensure_future(work) for work in (runtime.drain(), hurry.wait())]
    await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
    for work in works:
        work.cancel()
    await asyncio.gather(*works, return_exceptions=True)
