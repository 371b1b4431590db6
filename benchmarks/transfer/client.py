"""The process that receives: one kind of measurement, some rounds of it, as JSON.

    python -m benchmarks.transfer.client KIND FOLDER ROUNDS SERVER...

SERVER is what a server printed.
"""

import asyncio
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.transfer.parts import (
    CLIENT,
    HOST,
    MIB,
    SERVER,
    SPACE,
    PlainClient,
    home_at,
    leaf_of,
    pattern,
)
from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId, chunk_digest
from crdtmerge.errors import CorruptBlobError
from crdtmerge.sync.pace import Pace
from crdtmerge.sync.transfer import Wanted
from nodes.client import ReplicaClient
from nodes.effects import Fetch, Source
from nodes.memory import keep_freed
from nodes.receiving import Arriving, Receiving, Works
from nodes.store.blobs import FileBlobs
from nodes.traffic import Traffic

Served = dict[str, Any]
GB: Final = 1e9
PAYLOAD_MIB: Final = 512
"""What the raw socket sends, and the disk is given."""


class Verified:
    """Checks every chunk and keeps none: what a blob costs on its way into memory."""

    def require_room(self, blob: BlobId, size: int) -> None:
        """There is always room."""

    def resumable(self, _: BlobId) -> None:
        """Nothing is kept."""
        return

    def has_part(self, _: BlobId) -> bool:
        """Nothing is kept."""
        return False

    def read_chunk(self, blob: BlobId, index: int) -> bytes:
        """Nothing is kept."""
        raise NotImplementedError

    def begin(self, _: BlobId, __: int, chunks: Sequence[bytes]) -> int:
        """Keep the list."""
        self._chunks = chunks
        return 0

    def missing_chunks(self, _: BlobId) -> Sequence[int]:
        """Return all."""
        return range(len(self._chunks))

    def add_chunk(self, _: BlobId, index: int, data: bytes) -> bool:
        """Check a chunk."""
        if chunk_digest(data) != self._chunks[index]:
            raise CorruptBlobError("another digest")
        return False

    def vouch(self, blob: BlobId) -> None:
        """Nothing is kept."""

    def finish(self, blob: BlobId) -> None:
        """All was checked."""


async def receive(
    served: Sequence[Served], kind: str, store: Arriving, traffic: Traffic
) -> float:
    """Bring the blob from these servers into `store`; return the seconds."""
    clients: dict[bytes, ReplicaClient] = {}
    for number, server in enumerate(served):
        address = f"{HOST}:{server['ports'][kind]}"
        clients[bytes([number])] = (
            PlainClient(address)
            if kind == "plain"
            else ReplicaClient(address, SERVER.public, leaf_of(CLIENT))
        )

    async def open_stream(
        peer: bytes, space: SpaceId, blob: BlobId, wanted: Wanted
    ) -> AsyncGenerator[bytes, None]:
        async for message in clients[peer].fetch(space, blob, wanted):
            yield message

    works = Works(store, open_stream, traffic, Pace(), time.monotonic)
    blob, size = BlobId(bytes.fromhex(served[0]["blob"])), served[0]["size"]
    sources = tuple(Source(peer, SPACE) for peer in clients)
    for client in clients.values():  # the connection is there, as it is in a node
        async for _ in client.fetch(SPACE, blob, Wanted(False, ())):
            pass
    began = time.perf_counter()
    work = Receiving(Fetch(blob, size, sources), works, lambda _: None)
    assert await work.run(lambda _: False)
    took = time.perf_counter() - began
    for client in clients.values():
        await client.close()
    works.close()
    return took


def raw(served: Served) -> float:
    """Return GB/s of a raw socket, received into one buffer of 1 MiB."""
    with socket.create_connection((HOST, served["ports"]["raw"])) as sock:
        began = time.perf_counter()
        sock.sendall(PAYLOAD_MIB.to_bytes(8, "big"))
        buffer, got = bytearray(MIB), 0
        while count := sock.recv_into(buffer):
            got += count
        assert got == PAYLOAD_MIB * MIB
        return got / (time.perf_counter() - began) / GB


def written(folder: Path) -> float:
    """Return GB/s of writing the same bytes and syncing them once."""
    path = folder / "written"
    pieces = [pattern(index) for index in range(PAYLOAD_MIB)]
    began = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for piece in pieces:
            file.write(piece)
        os.fsync(file.fileno())
    took = time.perf_counter() - began
    path.unlink()
    return PAYLOAD_MIB * MIB / took / GB


def hashed() -> float:
    """Return GB/s of hashing chunks with one thread."""
    pieces = [pattern(index) for index in range(16)]
    began = time.perf_counter()
    for _ in range(16):
        for piece in pieces:
            chunk_digest(piece)
    return 256 * MIB / (time.perf_counter() - began) / GB


async def into_memory(served: Sequence[Served], kind: str) -> float:
    """Return GB/s of one verified stream into memory."""
    took = await receive(served, kind, Verified(), Traffic())
    return float(served[0]["size"] / took / GB)


async def into_files(served: Sequence[Served], blobs: FileBlobs) -> float:
    """Return GB/s of one verified stream into files that are synced."""
    took = await receive(served, "plain", blobs, Traffic())
    blob = BlobId(bytes.fromhex(served[0]["blob"]))
    assert blobs.has(blob)
    blobs.forget(blob)
    return float(served[0]["size"] / took / GB)


async def streams(folder: Path, rounds: int, served: list[Served]) -> dict[str, Any]:
    """Measure one stream against the socket, round by round."""
    del folder
    found: dict[str, list[float]] = {"raw": [], "plain": [], "mtls": [], "hashing": []}
    await into_memory(served, "plain")
    for _ in range(rounds):
        found["raw"].append(await asyncio.to_thread(raw, served[0]))
        found["plain"].append(await into_memory(served, "plain"))
        found["mtls"].append(await into_memory(served, "mtls"))
        found["hashing"].append(hashed())
    return found


async def files(folder: Path, rounds: int, served: list[Served]) -> dict[str, Any]:
    """Measure one stream into files against writing them, round by round."""
    blobs = home_at(folder / "files").blobs
    found: dict[str, list[float]] = {"fsync": [], "files": []}
    for _ in range(rounds):
        found["fsync"].append(await asyncio.to_thread(written, folder))
        found["files"].append(await into_files(served, blobs))
    return found


async def sources(folder: Path, rounds: int, served: list[Served]) -> dict[str, Any]:
    """Measure several throttled sources together."""
    del folder
    took = [await into_memory(served, "plain") * 1e3 for _ in range(rounds)]
    return {"mb_s": took}


async def peak(folder: Path, rounds: int, served: list[Served]) -> dict[str, Any]:
    """Measure by how much the peak of this process grows while a blob comes."""
    blobs = home_at(folder / "peak").blobs
    grown = []
    for _ in range(rounds):
        _forget_peak()
        before = _status("VmHWM")
        await into_files(served, blobs)
        grown.append((_status("VmHWM") - before) / 1024)
    return {"mib": grown}


async def large(folder: Path, rounds: int, served: list[Served]) -> dict[str, Any]:
    """Bring a blob of more than 4 GiB into files; return whether it is whole."""
    del rounds
    blobs = home_at(folder / "large").blobs
    took = await receive(served, "plain", blobs, Traffic())
    blob, size = BlobId(bytes.fromhex(served[0]["blob"])), served[0]["size"]
    whole = len(blobs.read(blob, size)) == size  # all of it is verified again
    return {"whole": whole, "bytes": size, "seconds": took}


def _forget_peak() -> None:
    """Let the peak begin anew, at what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    """Return a figure of this process in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


KINDS: Final[
    dict[str, Callable[[Path, int, list[Served]], Awaitable[dict[str, Any]]]]
] = {
    "streams": streams,
    "files": files,
    "sources": sources,
    "peak": peak,
    "large": large,
}


async def main(kind: str, folder: Path, rounds: int, served: list[Served]) -> None:
    """Measure, and print what was found and its medians."""
    keep_freed()
    found = await KINDS[kind](folder, rounds, served)
    medians = {
        name: statistics.median(values)
        for name, values in found.items()
        if isinstance(values, list)
    }
    print(json.dumps({"rounds": found, "medians": medians}))


if __name__ == "__main__":
    asyncio.run(
        main(
            sys.argv[1],
            Path(sys.argv[2]),
            int(sys.argv[3]),
            [json.loads(text) for text in sys.argv[4:]],
        )
    )
