"""The process that sends: a raw socket, a plain server and one with mutual TLS.

    python -m benchmarks.transfer.server FOLDER MIB LIMIT

Makes a home's store in FOLDER with one blob of MIB chunks, or a reference to a sparse file
of that size if MIB is negative. Prints its ports as JSON, and serves until its input ends.
"""

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.transfer.parts import (
    CLIENT,
    HOST,
    MIB,
    SERVER,
    PlainServer,
    home_at,
    leaf_of,
    pattern,
)
from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.sync.pace import Pace
from crdtmerge.sync.transfer import Wanted
from nodes.memory import keep_freed
from nodes.server import ReplicaServer
from nodes.serving import Serving
from nodes.store.blobs import FileBlobs
from nodes.traffic import Traffic


class Handler:
    """Serves the blobs of a store to everybody."""

    def __init__(self, blobs: FileBlobs, limit: float) -> None:
        self._serving = Serving(
            lambda _, __, blob: blobs.outgoing(blob),
            Traffic(),
            Pace(total=limit),
            time.monotonic,
        )

    def members(self) -> frozenset[bytes]:
        """Return the one member."""
        return frozenset({CLIENT.public})

    async def stream(self, *_: object) -> None:
        """Nobody syncs here."""

    def fetch(
        self, peer: bytes, space: bytes, blob: bytes, wanted: Wanted
    ) -> AsyncIterator[bytes]:
        """Serve a blob."""
        return self._serving.serve(peer, SpaceId(space), BlobId(blob), wanted)


def raw_server() -> int:
    """Send to each caller as many MiB as it asks for, 1 MiB at a time; return the port."""
    listener = socket.socket()
    listener.bind((HOST, 0))
    listener.listen()
    piece = pattern(7)

    def serve() -> None:
        while True:
            caller, _ = listener.accept()
            with caller:
                for _ in range(int.from_bytes(caller.recv(8), "big")):
                    caller.sendall(piece)

    threading.Thread(target=serve, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def fill(blobs: FileBlobs, folder: Path, mib: int) -> tuple[str, int]:
    """Put the blob into the store; return its id and size."""
    source = folder / "source"
    if mib < 0:
        size = -mib * MIB
        with source.open("wb") as file:
            file.truncate(size)
        return blobs.reference_range(source, 0, size).hex(), size
    with source.open("wb") as file:
        for index in range(mib):
            file.write(pattern(index))
    blob = blobs.import_range(source, 0, mib * MIB)
    source.unlink()
    return blob.hex(), mib * MIB


async def main(folder: Path, mib: int, limit: float) -> None:
    """Serve until the input ends."""
    keep_freed()
    blobs = home_at(folder).blobs
    blob, size = fill(blobs, folder, mib)
    handler = Handler(blobs, limit)
    plain = PlainServer(handler, leaf_of(SERVER))
    mutual = ReplicaServer(handler, leaf_of(SERVER))
    mutual.set_members(handler.members())
    ports = {
        "raw": raw_server(),
        "plain": await plain.start_plain(),
        "mtls": await mutual.start(HOST, 0),
    }
    print(json.dumps({"ports": ports, "blob": blob, "size": size}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await plain.stop(0.0)
    await mutual.stop(0.0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
