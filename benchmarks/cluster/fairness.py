"""`python -m benchmarks fairness`: how long news wait while others keep a node busy.

    python -m benchmarks fairness [--json] [--spaces 20] [--records 5000] [--peers 8]

Twice, once with all queues in plain order: many large spaces that one peer repairs while
news of a small one come from the same peer; and many peers whose records a node lacks,
while one more peer has news. Whole nodes over mutual TLS, all in this process. Owns what is
measured. Does not own the order (`nodes.fairness`, `nodes.asking`).
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from crdtmerge.bodies import SpaceId
from nodes import asking, links, outgoing, turns
from nodes.fairness import FairQueue
from nodes.home import Home
from nodes.runtime import Runtime
from tests.integration.living import admit, found, homes, living, offer, tensors

from .making import adds

GIVE_UP_S: Final = 300.0
BETWEEN_S: Final = 0.5
POLL_S: Final = 0.005


class Plain(FairQueue[Any]):
    """What comes first goes first, whosever it is."""

    def put(self, flow: bytes, item: Any) -> None:
        """Let it wait behind all that wait."""
        super().put(b"", (flow, item))

    def take(self) -> tuple[bytes, Any]:
        """Return what has waited longest."""
        flow, item = super().take()[1]
        return flow, item

    def charge(self, _flow: bytes, cost: float) -> None:
        """Count it for all."""
        super().charge(b"", cost)


def main(argv: Sequence[str]) -> int:
    """Measure, and print JSON or a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks fairness")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--spaces", type=int, default=20)
    parser.add_argument(
        "--records", type=int, default=5000, help="of each space, or peer"
    )
    parser.add_argument("--peers", type=int, default=8)
    options = parser.parse_args(argv)
    rows = []
    for fair in (True, False):
        with contextlib.nullcontext() if fair else _in_plain_order():
            for kind, work in (
                ("spaces", _spaces(options.spaces, options.records)),
                ("peers", _peers(options.peers, options.records)),
            ):
                waits = asyncio.run(asyncio.wait_for(work, GIVE_UP_S))
                rows.append(_row(kind, waits, fair=fair))
    if options.json:
        print(json.dumps({"rows": rows}, indent=1))
    else:
        for row in rows:
            print("  ".join(f"{name} {value}" for name, value in row.items()))
    return 0


def _row(kind: str, waits: Sequence[float], *, fair: bool) -> dict[str, Any]:
    return {
        "among": kind,
        "order": "fair" if fair else "plain",
        "news": len(waits),
        "median_s": round(statistics.median(waits), 3),
        "most_s": round(max(waits), 3),
    }


@contextlib.contextmanager
def _in_plain_order() -> Iterator[None]:
    """Let every queue be a plain one, and any number of questions be out."""
    modules = (asking, links, outgoing, turns)
    before = asking.ASKED_MAX
    try:
        for module in modules:
            module.FairQueue = Plain  # type: ignore[attr-defined]
        asking.ASKED_MAX = 1 << 30  # type: ignore[misc]
        yield
    finally:
        for module in modules:
            module.FairQueue = FairQueue  # type: ignore[attr-defined]
        asking.ASKED_MAX = before  # type: ignore[misc]


async def _spaces(count: int, records: int) -> list[float]:
    """Return how long news of a small space take while large ones are repaired."""
    with tempfile.TemporaryDirectory() as folder, _pair(Path(folder)) as (owner, guest):
        small = found(owner, "small")
        large = [found(owner, f"large {n}") for n in range(count)]
        for space in (small, *large):
            admit(owner, space, guest)
        for space in large:
            owner.records.append(space, adds(owner, space, records))
        async with living(owner) as host, living(guest, host) as joiner:

            def busy() -> bool:
                return any(len(joiner.spaces.opset(space)) < records for space in large)

            return [w async for w in _news(host, joiner, small, busy)]


async def _peers(count: int, records: int) -> list[float]:
    """Return how long news of one peer take while a node learns what others have."""
    names = ("hub", "light", *(f"busy{n}" for n in range(count)))
    with tempfile.TemporaryDirectory() as folder, homes(Path(folder), *names) as all_:
        hub, light, *busy = all_
        spaces = [found(hub, home.path.name) for home in (light, *busy)]
        for space, home in zip(spaces, (light, *busy), strict=True):
            admit(hub, space, home)
        for space, home in zip(spaces[1:], busy, strict=True):
            home.records.append(space, adds(home, space, records))
        async with contextlib.AsyncExitStack() as stack:
            host = await stack.enter_async_context(living(hub))
            node = await stack.enter_async_context(living(light, host))
            for home in busy:
                await stack.enter_async_context(living(home, host))

            def works() -> bool:
                return any(
                    len(host.spaces.opset(space)) < records for space in spaces[1:]
                )

            return [w async for w in _news(node, host, spaces[0], works)]


@contextlib.contextmanager
def _pair(folder: Path) -> Iterator[tuple[Home, Home]]:
    with homes(folder, "owner", "guest") as (owner, guest):
        yield owner, guest


async def _news(
    here: Runtime, there: Runtime, space: SpaceId, busy: Callable[[], bool]
) -> AsyncIterator[float]:
    """Publish at one node while the other is busy; yield how long each took."""
    while not there.connected():  # noqa: ASYNC110  seen from outside
        await asyncio.sleep(POLL_S)
    await asyncio.sleep(1)
    number = 0
    while busy() or not number:
        data = b"news %d" % number
        here.home.blobs.put(data)
        record = offer(here.home, space, tensors(data))
        began = time.monotonic()
        await asyncio.to_thread(here.spaces.publish, space, [record])
        while record.record.id not in there.spaces.opset(space):  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        yield time.monotonic() - began
        number += 1
        await asyncio.sleep(BETWEEN_S)
