"""The running node: performs effects, and alone reads clock and entropy.

Owns the event loop, the tick, start and stop. Does not own any decision: those are
`Node`'s; nor the order of its inputs (`turns`), streams (`links`), blobs (`fetching`), what
commands ask for (`live`, `commands`, `operations`), or how long a node runs (`service`,
`errand`).
"""

import asyncio
import os
import random
import time
from collections.abc import (
    AsyncIterator,
    Coroutine,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from crdtmerge import __version__
from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.faults import Fault
from crdtmerge.sync.messages import Message
from crdtmerge.sync.transfer import Wanted

from .book import Place, Tried
from .commands import Commands
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
    PeerFound,
    Probe,
    ProbeEnded,
    RecordsCommitted,
    Send,
    Ticked,
    Trust,
)
from .fetching import Fetching
from .finding import Finding
from .forks import Forks
from .gossip import interval
from .health import Health
from .home import Home
from .inspection import Inspection
from .join import Doorkeeper
from .links import Link, Links, SendMessage
from .live import Live, added
from .local_network import LocalNetwork
from .needs import Needs
from .node import Node
from .operations.limiting import quotas_of
from .operations.membership import JOIN_ADDRESSES
from .operations.verbs import Operations
from .quotas import Quotas
from .reaching import Trial, host_in, tried
from .remembering import SAVE_S, Remembering
from .server import ControlServer, JoinServer, ReplicaServer
from .spaces import Spaces
from .steady import Steady
from .tls import Leaf, make_leaf
from .traffic import Limits
from .turns import Turns
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
AGENT: Final = f"crdtmerge/{__version__}"


def entropy(count: int) -> bytes:
    """Return `count` bytes of the system's entropy."""
    return os.urandom(count)


def wall_clock() -> float:
    """Return the seconds of the system's clock, which go on while nothing runs."""
    return time.time()


def steady_clock() -> float:
    """Return seconds that only grow."""
    return time.monotonic()


def run_here(work: Coroutine[Any, Any, T]) -> T:
    """Run one piece of asynchronous work where no node runs."""
    return asyncio.run(work)


class Runtime(Live):
    """One node on one home, from start to stop."""

    def __init__(
        self,
        home: Home,
        leaf: Leaf,
        upkeep: Upkeep | None = None,
        limits: Limits | None = None,
        own_quotas: Mapping[str, float] | None = None,
        *,
        finding: Finding | None = None,
    ) -> None:
        self.home = home
        self.clock = Steady(time.monotonic)
        self.finding = finding or Finding()
        self.me = home.node.public
        home.blobs.forget_lost()
        self.spaces = Spaces(home.records, home.blobs)
        check_references(home, self.spaces)
        bootstrap = _bootstrap(home, self.spaces, self.finding.listed)
        self.spaces.added = added(home)
        rng = random.Random(entropy(32))  # noqa: S311  choices of peers are no secrets
        self.own_quotas = own_quotas or {}
        self.quotas = self.held_to(quotas_of(home))
        self.node = Node(
            self.me, self.spaces, rng, AGENT, bootstrap, quotas=self.quotas
        )
        self.remembering = Remembering(home.local, self.clock, time.time)
        self.book = self.node.neighbours.book
        self.remembering.load(self.book)
        self.rng = random.Random(entropy(32))  # noqa: S311  lengths of ticks
        self.trusted = self.spaces.members()
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()
        self.draining = asyncio.Event()
        self.failure: BaseException | None = None
        self.loop = asyncio.get_running_loop()
        self.turns = Turns(self._handle, self._perform, self.clock)
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
            self.clock,
            limits=limits or Limits(),
        )
        self.fetching.inspection = inspection
        base = partial(base_manifest, home)
        self.fetching.use_twins(Twins(self.spaces, base, home.blobs.has))
        self.needs = Needs(self._needed)
        self.commands = Commands()
        self.health = Health()
        self.sync_server = ReplicaServer(
            self, leaf, self.health, self.fetching.loans.serve
        )
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
        self.spawn(self._remember())
        if self.finding.mdns and lasting:
            self.spawn(self._local_network().run(bound))
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
        if self.failure is None:
            changes = self.book.take_changes()  # nobody else touches it any more
            await asyncio.to_thread(self.remembering.save, changes)
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
            await asyncio.sleep(interval(TICK_S, self.rng))

    def _local_network(self) -> LocalNetwork:
        """Return what announces this node on the local network, and looks for members."""

        def members() -> dict[SpaceId, list[bytes]]:
            spaces = self.spaces
            return {space: list(spaces.view(space).nodes) for space in spaces.all()}

        def found(peer: bytes, addresses: tuple[str, ...]) -> None:
            self.submit(lambda: [PeerFound(peer, addresses)])

        secret = random.Random(entropy(32))  # noqa: S311  seeded with entropy enough
        return LocalNetwork(self.me, members, found, secret)

    async def _remember(self) -> None:
        """Keep the address book on disk as it changes."""
        while True:
            await asyncio.sleep(SAVE_S)
            await self._save_book()

    async def _save_book(self) -> None:
        changes: list[tuple[Place, Tried | None]] = []

        def look() -> Sequence[Input]:
            changes.extend(self.book.take_changes())
            return ()

        await self.submit(look)
        await asyncio.to_thread(self.remembering.save, changes)

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
                    self.keeping, self.keeper.turn, self.clock(), time.time()
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
            case Probe():
                self.spawn(self._try(effect))
            case Trust(members):
                self.trusted = members
                self.sync_server.set_members(members | {self.me})
                self.spawn(self.links.channels.keep_only(members))

    async def _try(self, probe: Probe) -> None:
        """Try the addresses of a peer, and tell the node what was found."""
        origin = host_in(self.sync_server.origin(probe.peer))
        here = self.links.found_at(probe.peer)
        trial = Trial(probe.peer, origin, here, self.links.leaf)
        found = await tried(trial, probe.addresses)
        item = ProbeEnded(probe.peer, tuple(found), origin)
        self.submit(lambda: [item])

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

    def held_to(self, kept: Quotas) -> Quotas:
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

    def now(self) -> float:
        """Return seconds that only grow."""
        return self.clock()


def _bootstrap(
    home: Home, spaces: Spaces, listed: Mapping[bytes, tuple[str, ...]]
) -> dict[bytes, tuple[str, ...]]:
    """Return where tickets and the list of this run say that nodes listen."""
    known = dict(listed)
    for space in spaces.all():
        for facts in home.local.peers(space):
            before = known.get(facts.node, ())
            known[facts.node] = tuple(dict.fromkeys((*before, *facts.addresses)))
    known.pop(home.node.public, None)
    return known


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def runtime_on(
    home: Home,
    upkeep: Upkeep | None = None,
    limits: Limits | None = None,
    own_quotas: Mapping[str, float] | None = None,
    *,
    finding: Finding | None = None,
) -> Runtime:
    """Return a node on an open home that has not started, with a fresh TLS leaf."""
    now = datetime.now(UTC)
    leaf = make_leaf(
        home.node.unlock(), now - timedelta(days=1), now + timedelta(days=LEAF_DAYS)
    )
    return Runtime(home, leaf, upkeep, limits, own_quotas, finding=finding)
