"""The running node: performs effects, and alone reads clock and entropy.

Owns the event loop, the order in which inputs reach the node, the tick, start and stop.
Does not own any decision: those are `Node`'s; nor streams (`links`), blobs (`fetching`),
what the command line asks for (`commands`, `operations`), or how long a node runs
(`service`, `errand`).
"""

import asyncio
import os
import random
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from crdtmerge import __version__
from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import VersionsApartError
from crdtmerge.faults import Fault
from crdtmerge.sync.messages import Heartbeat, Message
from crdtmerge.sync.transfer import Wanted

from .attesting import Attested
from .commands import Commands
from .counting import Sources
from .doubts import Doubts
from .effects import (
    BlobsNeeded,
    Close,
    Dial,
    Effect,
    Fetch,
    Input,
    MoreSources,
    Pause,
    PeerMoved,
    QuotasChanged,
    RecordsCommitted,
    Send,
    TensorsWanted,
    Ticked,
    Trust,
)
from .fetching import Fetching
from .forks import Forks
from .health import Health
from .holding import Held
from .home import Home
from .inspection import Inspection
from .join import Doorkeeper
from .links import Link, Links, SendMessage
from .metrics import exposition
from .needs import Needs
from .node import Node
from .operations.limiting import quotas_of
from .operations.membership import JOIN_ADDRESSES
from .operations.verbs import Answer, Operations
from .quotas import Quotas
from .server import ControlServer, JoinServer, ReplicaServer
from .spaces import Spaces
from .tls import Leaf, make_leaf
from .traffic import Limits
from .turns import OWN, Turn, Turns
from .twins import Twins
from .upkeep.keeping import Keeper, Upkeep
from .upkeep.packing import base_manifest
from .upkeep.references import check_references
from .witness import Witness

T = TypeVar("T")

TICK_S: Final = 1.0
GRACE_S: Final = 1.0
DRAIN_S: Final = 5.0
"""How long peers may go on with what they fetch from here once the node is to stop."""
PART_S: Final = 1.0
"""How long a peer may take to read what waits for it, and that we leave."""
LEAF_DAYS: Final = 3650


def entropy(count: int) -> bytes:
    """Return `count` bytes of the system's entropy."""
    return os.urandom(count)


def wall_clock() -> float:
    """Return the seconds of the system's clock, which go on while nothing runs."""
    return time.time()


def run_here(work: Coroutine[Any, Any, T]) -> T:
    """Run one piece of asynchronous work where no node runs."""
    return asyncio.run(work)


class Runtime:
    """One node on one home, from start to stop."""

    def __init__(
        self,
        home: Home,
        leaf: Leaf,
        upkeep: Upkeep | None = None,
        limits: Limits | None = None,
        own_quotas: Mapping[str, float] | None = None,
    ) -> None:
        self.home = home
        self.me = home.node.public
        home.blobs.forget_lost()
        self.spaces = Spaces(home.records, home.blobs)
        check_references(home, self.spaces)
        bootstrap = _bootstrap(home, self.spaces)
        self.spaces.added = _added(home)
        rng = random.Random(entropy(32))  # noqa: S311  choices of peers are no secrets
        agent = f"crdtmerge/{__version__}"
        self.own_quotas = own_quotas or {}
        self.quotas = self._quotas(quotas_of(home))
        self.node = Node(
            self.me, self.spaces, rng, agent, bootstrap, quotas=self.quotas
        )
        self.trusted = self.spaces.members()
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()
        self.draining = asyncio.Event()
        self.failure: BaseException | None = None
        self.loop = asyncio.get_running_loop()
        self.turns = Turns(self._handle, self._perform, time.monotonic)
        self.keeper = Keeper(home, self.spaces, upkeep or Upkeep())
        self.keeping = ThreadPoolExecutor(1, "upkeep")
        self.links = Links(self.me, leaf, self.submit)
        channels = self.links.channels
        inspection = Inspection(self.spaces, home.blobs, self._show_fault)
        self.fetching = Fetching(
            home.blobs,
            self.spaces,
            channels,
            self.submit,
            time.monotonic,
            limits=limits or Limits(),
        )
        self.fetching.inspection = inspection
        base = partial(base_manifest, home)
        self.fetching.use_twins(Twins(self.spaces, base, home.blobs.has))
        self.needs = Needs(self._needed)
        self.commands = Commands()
        self.health = Health()
        loans = self.fetching.loans
        self.sync_server = ReplicaServer(self, leaf, self.health, loans.serve)
        self.links.lends = self.fetch
        self.doorkeeper = Doorkeeper(home, self.spaces, entropy)
        self.join_server = JoinServer(self.doorkeeper, leaf)
        self.control_server = ControlServer(self, self.health)
        self.addresses: tuple[str, ...] = ()
        self.join_addresses: tuple[str, ...] = ()
        self.spaces.on_publish = self._published
        self.operations = Operations(
            home,
            self.spaces,
            entropy=entropy,
            run=self.commands.run,
            live=self,
            clock=wall_clock,
        )
        self.witness = Witness(home)
        self.doubts = Doubts(home, self.spaces, self._reports)
        self.spaces.on_returned = self.doubts.returned
        self.forks = Forks(self.spaces, home.author.public, self.operations.report_fork)
        self.spaces.on_refused = self.forks.refused

    # --- start and stop -----------------------------------------------------------------

    async def start(
        self, listen: str, join_listen: str, advertise: str, *, lasting: bool = True
    ) -> None:
        """Open the ports and the control socket, and say where we are.

        A node that is not `lasting` runs for one command: nobody is told where it
        listens, and the next start does not listen there again.

        Raises:
            ConflictError: a port is in use.
        """
        await self.health.start()
        self.sync_server.set_members(self.trusted | {self.me})
        host, port = _split(listen)
        bound = await self.sync_server.start(host, port)
        join_host, join_port = _split(join_listen)
        join_bound = await self.join_server.start(join_host, join_port)
        await self.control_server.start(self.home.control_socket)
        if lasting:
            self.addresses = (f"{advertise or host}:{bound}",)
            self.join_addresses = (f"{advertise or join_host}:{join_bound}",)
            keep = self.home.local.set_value
            keep("listen", f"{host}:{bound}".encode())
            keep("join_listen", f"{join_host}:{join_bound}".encode())
            keep("advertise", advertise.encode())
            keep(JOIN_ADDRESSES, " ".join(self.join_addresses).encode())
            self.spawn(self._keep())
        self._announce()
        self.spawn(self.turns.run())
        self.spawn(self._tick())
        await self._tell_health()
        self.spawn(self._watch_health())

    def _announce(self) -> None:
        """Say where we are, or at least who, in spaces where that is not known."""
        self.doubts.warn()
        if self.addresses:
            self.operations.announce_node(self.me, self.addresses)
        else:
            self.operations.name_node(self.me)

    async def drain(self) -> None:
        """Take nothing new, let what is under way end within a bound, and say goodbye.

        Peers end what they fetch from here, if it takes no longer than `DRAIN_S`; what this
        node fetches is left, and found again at the next start. Peers that were told do not
        take the end for a failure, nor dial us at once.
        """
        self.draining.set()
        self.links.stopping = True
        await self._tell_health()
        await self.sync_server.drain(DRAIN_S)
        await self.links.part(PART_S)

    async def stop(self) -> None:
        """Close the ports and wait for what is under way to end: nothing may outlive us.

        Who has the home's lock next must find nobody else writing.
        """
        self.stopping.set()
        self.keeper.stop()
        await self.links.part(PART_S)
        await self.control_server.stop(GRACE_S)
        await self.commands.stop()
        await self.join_server.stop(GRACE_S)
        await self.sync_server.stop(GRACE_S)
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.turns.close()
        await asyncio.to_thread(self.keeping.shutdown, wait=True)
        await asyncio.to_thread(self.fetching.close)
        await self.links.channels.close()

    async def _tick(self) -> None:
        while True:
            await self.submit(lambda: [Ticked()])
            if self.witness.changed():
                news = await asyncio.to_thread(self.witness.news)
                self.submit(partial(list[Input], news))
            if await self.doubts.end():
                await asyncio.to_thread(self._announce)
            await asyncio.to_thread(self.forks.turn)
            await asyncio.sleep(TICK_S)

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self._tell_health()

    async def _tell_health(self) -> None:
        serves = not (self.draining.is_set() or self.stopping.is_set())
        await self.health.tell(serves=serves, busy_s=self.turns.busy())

    async def _keep(self) -> None:
        """Let the keeper do a little now and then, in a thread of its own."""
        try:
            while True:
                await asyncio.sleep(TICK_S)
                await self.loop.run_in_executor(
                    self.keeping, self.keeper.turn, time.monotonic(), time.time()
                )
        finally:
            self.keeping.submit(self.keeper.end)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task and keep it until it ends; a failed one stops the node."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Stop if a task failed: after a bug, or on a bad disk, nothing goes on."""
        self.tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.failure = self.failure or failure
            self.stopping.set()

    # --- inputs and effects -------------------------------------------------------------

    def submit(self, turn: Turn, flow: bytes = OWN) -> asyncio.Future[None]:
        """Hand inputs to the node when it is their turn; done once all is performed."""
        return self.turns.submit(turn, flow)

    def _handle(self, item: Input, now: float) -> Sequence[Effect]:
        return self.node.handle(item, now)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send(peer, message):
                self.links.send(peer, message)
            case Dial():
                self.spawn(self.links.dial(effect))
            case Close(peer):
                self.links.close(peer)
            case Pause(peer, seconds):
                self.links.pause(peer, seconds)
            case Fetch():
                self.spawn(self.fetching.bring(effect))
            case MoreSources():
                self.fetching.add_sources(effect)
            case Trust(members):
                self.trusted = members
                self.sync_server.set_members(members | {self.me})
                self.spawn(self.links.channels.keep_only(members))

    def _show_fault(self, space: SpaceId, fault: Fault) -> None:
        """Tell the space that a contribution can never be merged, from whatever thread."""
        self.operations.report_fault(space, fault)

    def _needed(self, blobs: frozenset[BlobId]) -> None:
        """Tell the node what commands wait for, from whatever thread."""
        item = BlobsNeeded(tuple(sorted(blobs)))
        self.loop.call_soon_threadsafe(self.submit, lambda: [item])

    def _published(self, space: SpaceId, records: tuple[RecordId, ...]) -> None:
        """Tell the node of records that a command made, from whatever thread."""
        item = RecordsCommitted(space, records)
        self.loop.call_soon_threadsafe(self.submit, lambda: [item])

    def _quotas(self, kept: Quotas) -> Quotas:
        """Return the quotas of the home, but for those that this run was given."""
        given: dict[str, Any] = dict(self.own_quotas)
        return replace(kept, **given)

    # --- what the servers ask -----------------------------------------------------------

    def members(self) -> frozenset[bytes]:
        """Return the transport keys that may call us now."""
        return self.trusted

    async def stream(
        self, peer: bytes, incoming: AsyncIterator[Message], send: SendMessage
    ) -> None:
        """Serve a stream that a peer opened."""
        await self.links.serve(Link(peer, dialler=peer), incoming, send)

    def fetch(
        self, peer: bytes, space: bytes, blob: bytes, wanted: Wanted
    ) -> AsyncIterator[bytes]:
        """Serve the bytes of a blob; raises as `Serving.serve` does."""
        return self.fetching.serving.serve(peer, SpaceId(space), BlobId(blob), wanted)

    def call(self, request: bytes) -> AsyncIterator[bytes]:
        """Run one command of the control socket; yield its progress and its result."""
        return self.commands.call(self.operations, request)

    # --- what commands ask (the port `operations.Live`) -----------------------------------

    def connected(self) -> list[bytes]:
        """Return the peers with an open stream."""
        return self.links.peers()

    def apart(self) -> Mapping[bytes, VersionsApartError]:
        """Return the peers with which we share no version of the protocol, and why."""
        return dict(self.node.apart)

    def moved(self, node: bytes) -> None:
        """Take up what the home knows of where nodes listen, and try `node` at once."""
        self.spaces.added = _added(self.home)
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
        self.quotas = self._quotas(quotas)
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

    def now(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Let time pass, in a command's thread; raises as `Commands.pause` does."""
        self.commands.pause(seconds)


def _bootstrap(home: Home, spaces: Spaces) -> dict[bytes, tuple[str, ...]]:
    peers = (facts for space in spaces.all() for facts in home.local.peers(space))
    return {facts.node: facts.addresses for facts in peers}


def _added(home: Home) -> dict[bytes, tuple[str, ...]]:
    return {facts.node: facts.addresses for facts in home.local.addresses()}


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def runtime_on(
    home: Home,
    upkeep: Upkeep | None = None,
    limits: Limits | None = None,
    own_quotas: Mapping[str, float] | None = None,
) -> Runtime:
    """Return a node on an open home that has not started, with a fresh TLS leaf."""
    now = datetime.now(UTC)
    leaf = make_leaf(
        home.node.unlock(), now - timedelta(days=1), now + timedelta(days=LEAF_DAYS)
    )
    return Runtime(home, leaf, upkeep, limits, own_quotas)
