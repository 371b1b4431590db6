"""A model of many small tensors, from one whole node to another in another process.

    python -m benchmarks.transfer.small owner FOLDER
    python -m benchmarks.transfer.small guest FOLDER ROUNDS

The guest starts the owner, lets it contribute, and waits until all is here and durable.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import IO, Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import blob_id_of
from crdtmerge.manifest import Manifest, TensorEntry
from nodes.home import open_home
from nodes.memory import keep_freed
from nodes.runtime import Runtime
from tests.integration.living import BASE, admit, found, homes, living, offer

TENSORS: Final = 500
TENSOR_BYTES: Final = 4096


def tensor(number: int, index: int) -> bytes:
    """Return the bytes of a tensor of the model `number`."""
    return (number * TENSORS + index).to_bytes(8, "big") * (TENSOR_BYTES // 8)


def manifest_of(number: int) -> Manifest:
    """Return what the model `number` consists of."""
    entries = tuple(
        TensorEntry(f"t{i:03}", "U8", (TENSOR_BYTES,), blob_id_of(tensor(number, i)))
        for i in range(TENSORS)
    )
    return Manifest("full", BASE, entries)


async def own(folder: Path) -> None:
    """Be the owner: contribute the model whose number is read, line by line."""
    keep_freed()
    with homes(folder, "owner", "guest") as (owner, guest):
        space = found(owner)
        admit(owner, space, guest)
        guest.close()
        async with living(owner) as node:
            told = {"space": space.hex(), "node": node.me.hex()}
            print(json.dumps({**told, "addresses": node.addresses}), flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                number = int(line)
                manifest = manifest_of(number)
                for index in range(TENSORS):
                    owner.blobs.put(tensor(number, index))
                record = offer(owner, space, manifest)
                print("ready", flush=True)
                await asyncio.to_thread(node.spaces.publish, space, [record])


async def take(folder: Path, rounds: int) -> None:
    """Be the guest: print how long each model took."""
    keep_freed()
    command = [sys.executable, "-m", "benchmarks.transfer.small", "owner", str(folder)]
    with subprocess.Popen(  # noqa: ASYNC220  nothing else runs yet
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        told = json.loads(owner.stdout.readline())
        space, peer = bytes.fromhex(told["space"]), bytes.fromhex(told["node"])
        with closing(open_home(folder / "guest", write=True, purpose="node")) as home:
            home.local.add_peer(SpaceId(space), peer, told["addresses"])
            async with living(home) as node:
                while not node.connected():  # noqa: ASYNC110  seen from outside
                    await asyncio.sleep(0.01)
                took = [
                    await _round(node, number, owner.stdin, owner.stdout)
                    for number in range(rounds)
                ]
        owner.stdin.close()
    print(
        json.dumps({"rounds": {"s": took}, "medians": {"s": statistics.median(took)}})
    )


async def _round(node: Runtime, number: int, asks: IO[str], answers: IO[str]) -> float:
    """Return how long one model takes from its record being said to its last byte."""
    blobs = manifest_of(number).blobs()
    asks.write(f"{number}\n")
    asks.flush()
    await asyncio.to_thread(answers.readline)
    began = time.perf_counter()
    while not all(map(node.home.blobs.has, blobs)):  # noqa: ASYNC110  as above
        await asyncio.sleep(0.01)
    return time.perf_counter() - began


if __name__ == "__main__":
    if sys.argv[1] == "owner":
        asyncio.run(own(Path(sys.argv[2])))
    else:
        asyncio.run(take(Path(sys.argv[2]), int(sys.argv[3])))
