"""Many whole nodes in one process, which all know one other: the peers of `connections`.

    python -m benchmarks.cluster.crowd SPACE HOME...

Owns running them, and telling how they are: it answers lines of JSON with lines of JSON.
"""

import asyncio
import contextlib
import json
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from crdtmerge.bodies import SpaceId
from crdtmerge.replica import Replica
from nodes.descriptors import raise_limit
from nodes.home import Home, open_home
from nodes.memory import keep_freed
from nodes.runtime import Runtime, runtime_on
from tests.integration.living import tensors

ANY_PORT: Final = "127.0.0.1:0"
POLL_S: Final = 0.02


class Crowd:
    """The nodes, and what can be asked of them."""

    def __init__(self, space: SpaceId, nodes: Sequence[Runtime]) -> None:
        self._space = space
        self._nodes = nodes

    async def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return what one line asks for."""
        match asked["ask"]:
            case "status":
                return self._status()
            case "await":
                return await self._await(asked["records"], asked["seconds"])
            case "publish":
                await asyncio.to_thread(self._publish)
                return {"at": time.monotonic()}
            case other:
                raise SystemExit(f"what is {other}?")

    def _status(self) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "connected": sum(bool(node.connected()) for node in self._nodes),
            "dials": sum(node.links.dials.total() for node in self._nodes),
            "opened": sum(node.links.opened.total() for node in self._nodes),
            "heard_goodbye": sum(n.links.ended["heard goodbye"] for n in self._nodes),
            "records": min(len(n.spaces.opset(self._space)) for n in self._nodes),
            "cpu_s": used.ru_utime + used.ru_stime,
            "memory_mib": used.ru_maxrss / 1024,
        }

    async def _await(self, records: int, seconds: float) -> dict[str, Any]:
        """Wait until all nodes have so many records; tell when each had."""
        end = time.monotonic() + seconds
        came: dict[int, float] = {}
        while len(came) < len(self._nodes) and time.monotonic() < end:
            for number, node in enumerate(self._nodes):
                here = len(node.spaces.opset(self._space))
                if number not in came and here >= records:
                    came[number] = time.monotonic()
            await asyncio.sleep(POLL_S)
        times = sorted(came.values())
        return {
            "reached": len(times),
            "median": statistics.median(times) if times else None,
            "last": times[-1] if times else None,
        }

    def _publish(self) -> None:
        """Let the first node add a small model."""
        node = self._nodes[0]
        home = node.home
        manifest = tensors(b"news")
        home.blobs.put(b"news")
        home.blobs.put(manifest.encode())
        replica = Replica(node.spaces.opset(self._space), home.author)
        signed = replica.contribute(manifest, weight=10**9, note=str(time.time()))
        node.spaces.publish(self._space, [signed])


@contextlib.asynccontextmanager
async def _running(homes: Sequence[Home]) -> AsyncIterator[list[Runtime]]:
    """Run a node on each home; nobody is told where it listens."""
    nodes = []
    try:
        for home in homes:
            node = runtime_on(home)
            nodes.append(node)
            await node.start(ANY_PORT, ANY_PORT, "", lasting=False)
        yield nodes
    finally:
        await asyncio.gather(*(node.stop() for node in nodes))


async def run(space: SpaceId, paths: Sequence[Path]) -> None:
    """Run nodes on the homes at `paths` until nothing more is asked."""
    with contextlib.ExitStack() as stack:
        homes = [open_home(path, write=True, purpose="node") for path in paths]
        for home in homes:
            stack.callback(home.close)
        async with _running(homes) as nodes:
            crowd = Crowd(space, nodes)
            print(json.dumps({"ready": len(nodes)}), flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                print(json.dumps(await crowd.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    keep_freed()
    raise_limit()
    asyncio.run(run(SpaceId(bytes.fromhex(sys.argv[1])), list(map(Path, sys.argv[2:]))))
