"""What commands ask of the node that runs: the port `operations.live.Live`.

Owns the answers. Does not own the node (`runtime`), nor any command.

Commands run in threads of their own: what they tell the node goes through its loop.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import VersionsApartError
from crdtmerge.sync.messages import Heartbeat, ProbeReply

from .attesting import Attested
from .commands import Commands
from .counting import Sources
from .effects import Input, PeerMoved, ProbesWanted, QuotasChanged, TensorsWanted
from .fetching import Fetching
from .finding import Finding
from .forks import Forks
from .holding import Held
from .home import Home
from .links import Links
from .metrics import exposition
from .needs import Needs
from .node import Node
from .operations.verbs import Answer
from .quotas import Quotas
from .server import JoinServer, ReplicaServer
from .spaces import Spaces
from .turns import OWN, Turn, Turns
from .upkeep.keeping import Keeper


class Live:
    """The part of a running node that its commands see."""

    home: Home
    spaces: Spaces
    node: Node
    links: Links
    fetching: Fetching
    commands: Commands
    keeper: Keeper
    forks: Forks
    turns: Turns
    needs: Needs
    quotas: Quotas
    finding: Finding
    sync_server: ReplicaServer
    join_server: JoinServer
    loop: asyncio.AbstractEventLoop

    def submit(self, turn: Turn, flow: bytes = OWN) -> asyncio.Future[None]:
        """Hand inputs to the node when it is their turn; done once all is performed."""
        return self.turns.submit(turn, flow)

    def held_to(self, kept: Quotas) -> Quotas:
        """Return the quotas of the home, but for those that this run was given."""
        raise NotImplementedError

    def connected(self) -> list[bytes]:
        """Return the peers with an open stream."""
        return self.links.peers()

    def listed(self) -> Mapping[bytes, tuple[str, ...]]:
        """Return where the list of this run says that nodes listen."""
        return self.finding.listed

    def apart(self) -> Mapping[bytes, VersionsApartError]:
        """Return the peers with which we share no version of the protocol, and why."""
        return dict(self.node.apart)

    def moved(self, node: bytes) -> None:
        """Take up what the home knows of where nodes listen, and try `node` at once."""
        self.spaces.added = added(self.home)
        item = PeerMoved(node)
        self.loop.call_soon_threadsafe(self.submit, lambda: [item])

    def reports(self, space: SpaceId) -> Mapping[bytes, Heartbeat | None]:
        """Return the peers that share `space`, and where each last said it stands."""
        return self.commands.run(self._reports(space))

    async def _reports(self, space: SpaceId) -> Mapping[bytes, Heartbeat | None]:
        """Ask the node between two of its inputs: nobody else touches it then."""
        found: dict[bytes, Heartbeat | None] = {}

        def look() -> Sequence[Input]:
            found.update(self.node.reports(space))
            return ()

        await self.submit(look)
        return found

    def attested(self, space: SpaceId) -> Attested:
        """Return who attests what of a space, as this node has heard."""
        return self.node.attesting.known(space)

    def want_tensors(self, space: SpaceId, node: bytes) -> None:
        """Ask `node` for the tensors behind what it attests, once it is connected."""
        item = TensorsWanted(space, node)
        self.loop.call_soon_threadsafe(self.submit, lambda: [item])

    def want_probes(self) -> None:
        """Ask a few peers to try our addresses; forget what they found before."""
        self.commands.run(self._ask_probes())

    async def _ask_probes(self) -> None:
        await self.submit(lambda: [ProbesWanted()])

    def probed(self) -> Mapping[bytes, ProbeReply | None]:
        """Return who was asked, and what each found; None until it says so."""
        return dict(self.node.probing.told)

    def brought(self) -> int:
        """Return how many bytes came from peers since the start."""
        return self.fetching.brought

    def arriving(self) -> Mapping[BlobId, int]:
        """Return the blobs that are coming now, and how much of each is here."""
        return self.fetching.arriving()

    def metrics(self) -> Answer:
        """Return what this node counts, as text and as JSON."""
        return exposition(
            Sources(
                self.home,
                self.spaces,
                self.node,
                self.links,
                self.fetching,
                self.commands,
                self.keeper,
                self.forks,
                self.turns,
                self.sync_server,
                self.join_server,
            )
        )

    def limit(self, quotas: Quotas) -> None:
        """Hold to other quotas of the home from now on, from whatever thread."""
        self.quotas = self.held_to(quotas)
        item = QuotasChanged(self.quotas)
        self.loop.call_soon_threadsafe(self.submit, lambda: [item])

    def waiting(self, space: SpaceId) -> Sequence[Held]:
        """Return how many records of each author wait."""
        return self.node.holding.in_space(space)

    def upkeep(self) -> Answer:
        """Return what was done for the store since the start."""
        return self.keeper.facts()

    def needing(self) -> AbstractContextManager[Callable[[Iterable[BlobId]], None]]:
        """Lend what says which blobs a command waits for: they come first."""
        return self.needs.waiting()

    def pause(self, seconds: float) -> None:
        """Let time pass, in a command's thread; raises as `Commands.pause` does."""
        self.commands.pause(seconds)


def added(home: Home) -> dict[bytes, tuple[str, ...]]:
    """Return the addresses that the user named, by node."""
    return {facts.node: facts.addresses for facts in home.local.addresses()}
