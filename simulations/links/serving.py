"""What one simulated machine sends another of a blob, as `nodes.serving` does.

Owns who is served. Does not own the course of a download (`downloads`).
"""

from contextlib import suppress

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import CrdtMergeError
from crdtmerge.sync.transfer import Wanted
from simulations.machine import Machine

from .downloads import Reply
from .network import Network


def served(
    network: Network,
    machine: Machine,
    peer: Machine,
    space: SpaceId,
    blob: BlobId,
    *,
    wanted: Wanted,
) -> Reply:
    """Return what a peer of `machine` would send it now.

    A stream ends with the process that serves it: one that came up again knows of none. It
    stands while either process does, or while one does not hear the other.
    """
    life, ends = peer.life, (machine.transport, peer.transport)
    runs_now = peer.node is not None

    def reached() -> bool:
        linked = network.ways is None or network.linked(*ends)
        # Whoever is down now comes up with the same life, and with other blobs.
        runs = runs_now and peer.node is not None and peer.life == life
        return runs and linked and not network.parted(*ends)

    def stands() -> bool:
        return peer.still is not None or not network.reaches(*ends)

    def has() -> bool:
        spaces = peer.spaces
        with suppress(CrdtMergeError):  # its disk failed: its next tick finds out
            shared = space in spaces.shared_with(machine.transport)
            return shared and spaces.serves(space, blob) and peer.blobs.has(blob)
        return False

    def travel(size: int) -> float:
        return network.travel(peer.transport, machine.transport, size)

    reply = Reply(reached, stands, has, travel, peer.blobs, network, wanted)
    return reply if peer.liar is None else peer.liar.serves(machine.transport, reply)
