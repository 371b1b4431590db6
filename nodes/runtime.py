"""The running node: performs effects, and alone reads clock and entropy.

Owns the event loop, the streams to peers, fetches, the tick, start and stop. Does not own
any decision: those are `Node`'s; nor what the command line asks for: that is `operations`.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from crdtmerge import __version__
from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import CHUNK_BYTES, BlobId
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    CrdtMergeError,
    MachineError,
    MalformedMessageError,
    NotFoundError,
    UnreachableError,
)
from crdtmerge.sync.messages import Message
from crdtmerge.sync.transfer import Incoming, announce

from .client import ReplicaClient
from .effects import (
    BlobFailed,
    BlobStored,
    Close,
    Dial,
    DialEnded,
    Effect,
    Fetch,
    Input,
    MessageReceived,
    PeerClosed,
    PeerOpened,
    RecordsCommitted,
    Send,
    Ticked,
    Trust,
)
from .home import Home, open_home
from .join import Doorkeeper
from .node import Node
from .operations import Operations
from .operations.membership import JOIN_ADDRESSES
from .server import ControlServer, JoinServer, ReplicaServer
from .spaces import Spaces
from .tls import Leaf, make_leaf

T = TypeVar("T")
Send_ = Callable[[Message], Awaitable[None]]

TICK_S: Final = 1.0
OUTGOING_MAX: Final = 1024
"""Messages waiting for one peer; a peer that reads slower is cut off, and dials again."""
GRACE_S: Final = 1.0
LEAF_DAYS: Final = 3650
COMMANDS_MAX: Final = 4
"""Commands of the control socket at work at once."""


def entropy(count: int) -> bytes:
    """Return `count` bytes of the system's entropy."""
    return os.urandom(count)


def run_here(work: Coroutine[Any, Any, T]) -> T:
    """Run one piece of asynchronous work where no node runs."""
    return asyncio.run(work)


@dataclass(slots=True, eq=False)
class Link:
    """One open stream with a peer."""

    peer: bytes
    dialler: bytes
    outgoing: asyncio.Queue[Message] = field(
        default_factory=lambda: asyncio.Queue(OUTGOING_MAX)
    )
    closed: asyncio.Event = field(default_factory=asyncio.Event)


class Runtime:
    """One node on one home, from start to stop."""

    def __init__(self, home: Home, leaf: Leaf) -> None:
        self.home = home
        self.leaf = leaf
        self.me = home.node.public
        self.spaces = Spaces(home.records, home.blobs)
        bootstrap = {
            facts.node: facts.addresses
            for space in self.spaces.all()
            for facts in home.local.peers(space)
        }
        rng = random.Random(entropy(32))  # noqa: S311  choices of peers are no secrets
        agent = f"crdtmerge/{__version__}"
        self.node = Node(self.me, self.spaces, rng, agent, bootstrap)
        self.links: dict[bytes, Link] = {}
        self.clients: dict[bytes, ReplicaClient] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()
        self.failure: BaseException | None = None
        self.loop = asyncio.get_running_loop()
        self.commands = ThreadPoolExecutor(COMMANDS_MAX, "command")
        self.sync_server = ReplicaServer(self, leaf)
        self.doorkeeper = Doorkeeper(home, self.spaces, entropy)
        self.join_server = JoinServer(self.doorkeeper, leaf)
        self.control_server = ControlServer(self)
        self.addresses: tuple[str, ...] = ()
        self.join_addresses: tuple[str, ...] = ()
        self.spaces.on_publish = self._published
        self.operations = Operations(
            home, self.spaces, entropy=entropy, run=self._run_from_thread, live=self
        )

    # --- start and stop -----------------------------------------------------------------

    async def start(self, listen: str, join_listen: str, advertise: str) -> None:
        """Open the ports and the control socket, and say where we are.

        Raises:
            ConflictError: a port is in use.
        """
        host, port = _split(listen)
        bound = await self.sync_server.start(host, port)
        join_host, join_port = _split(join_listen)
        join_bound = await self.join_server.start(join_host, join_port)
        self.addresses = (f"{advertise or host}:{bound}",)
        self.join_addresses = (f"{advertise or join_host}:{join_bound}",)
        await self.control_server.start(self.home.control_socket)
        keep = self.home.local.set_value
        keep("listen", f"{host}:{bound}".encode())
        keep("join_listen", f"{join_host}:{join_bound}".encode())
        keep(JOIN_ADDRESSES, " ".join(self.join_addresses).encode())
        self.operations.announce_node(self.me, self.addresses)
        self.submit(Ticked())
        self.spawn(self._tick())

    async def stop(self) -> None:
        """Close the ports and wait for what is under way to end."""
        self.stopping.set()
        for link in self.links.values():
            link.closed.set()
        await self.control_server.stop(GRACE_S)
        await self.join_server.stop(GRACE_S)
        await self.sync_server.stop(GRACE_S)
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for client in self.clients.values():
            await client.close()
        self.commands.shutdown(wait=False, cancel_futures=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.submit(Ticked())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task and keep it until it ends; a failed one stops the node."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._fail(failure)

    def _fail(self, failure: BaseException) -> None:
        """Stop: a store that failed, or a bug, must not go on half done."""
        self.failure = self.failure or failure
        self.stopping.set()

    # --- inputs and effects -------------------------------------------------------------

    def submit(self, item: Input) -> None:
        """Hand one input to the node and perform what follows, in order."""
        try:
            for effect in self.node.handle(item, time.monotonic()):
                self._perform(effect)
        except MachineError as e:
            self._fail(e)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send(peer, message):
                self._send(peer, message)
            case Dial():
                self.spawn(self._dial(effect))
            case Close(peer):
                if peer in self.links:
                    self.links[peer].closed.set()
            case Fetch():
                self.spawn(self._fetch(effect))
            case Trust(members):
                self.sync_server.set_members(members | {self.me})

    def _send(self, peer: bytes, message: Message) -> None:
        link = self.links.get(peer)
        if link is None:
            return
        try:
            link.outgoing.put_nowait(message)
        except asyncio.QueueFull:
            link.closed.set()

    def _published(self, space: SpaceId, records: tuple[RecordId, ...]) -> None:
        """Tell the node of records that a command made, from whatever thread."""
        item = RecordsCommitted(space, records)
        self.loop.call_soon_threadsafe(self.submit, item)

    # --- streams ------------------------------------------------------------------------

    def members(self) -> frozenset[bytes]:
        """Return the transport keys that may call us now."""
        return self.spaces.members()

    async def stream(
        self, peer: bytes, incoming: AsyncIterator[Message], send: Send_
    ) -> None:
        """Serve a stream that a peer opened."""
        await self._serve(Link(peer, dialler=peer), incoming, send)

    async def _serve(
        self, link: Link, incoming: AsyncIterator[Message], send: Send_
    ) -> None:
        """Run one stream until either side ends it.

        Two peers that dial each other at once keep the stream of the lower key; both
        sides decide alike. The same dialler twice means that it lost the first.
        """
        old = self.links.get(link.peer)
        if old is not None:
            preferred = min(self.me, link.peer)
            if old.dialler == preferred != link.dialler:
                return
            old.closed.set()
            self.submit(PeerClosed(link.peer))
        self.links[link.peer] = link
        self.submit(PeerOpened(link.peer))
        tasks = {
            self.loop.create_task(self._read(link, incoming)),
            self.loop.create_task(self._write(link, send)),
            self.loop.create_task(_until(link.closed)),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self.links.get(link.peer) is link:
                del self.links[link.peer]
                self.submit(PeerClosed(link.peer))

    async def _read(self, link: Link, incoming: AsyncIterator[Message]) -> None:
        async for message in incoming:
            if self.links.get(link.peer) is not link:
                return
            self.submit(MessageReceived(link.peer, message))

    async def _write(self, link: Link, send: Send_) -> None:
        while True:
            await send(await link.outgoing.get())

    async def _dial(self, dial: Dial) -> None:
        """Open a stream at the first address that answers, and serve it to its end."""
        for address in dial.addresses:
            client = ReplicaClient(address, dial.peer, self.leaf)
            with contextlib.suppress(CrdtMergeError):
                if await self._talk(client, dial.peer):
                    break
            await client.close()
        self.submit(DialEnded(dial.peer))

    async def _talk(self, client: ReplicaClient, peer: bytes) -> bool:
        """Serve a stream that we open; tell whether the peer let us in."""
        let_in = False

        async def handler(incoming: AsyncIterator[Message], send: Send_) -> None:
            nonlocal let_in
            let_in = True
            await self._keep(peer, client)
            await self._serve(Link(peer, dialler=self.me), incoming, send)

        try:
            await client.open_stream(handler)
        except CrdtMergeError:
            if not let_in:
                raise
        return let_in

    async def _keep(self, peer: bytes, client: ReplicaClient) -> None:
        old = self.clients.get(peer)
        self.clients[peer] = client
        if old is not None and old is not client:
            await old.close()

    # --- contents -----------------------------------------------------------------------

    async def fetch(
        self,
        peer: bytes,
        space: bytes,
        blob: bytes,
        want_chunk_list: bool,
        first_chunk: int,
    ) -> AsyncIterator[bytes]:
        """Serve the bytes of a blob to a member of a space that we share.

        Raises:
            NotFoundError: we do not have it, or the peer is no member there.
        """
        if SpaceId(space) not in self.spaces.shared_with(peer):
            raise NotFoundError("no such blob")
        wanted = BlobId(blob)
        try:
            size, chunks = await asyncio.to_thread(self.home.blobs.chunk_list, wanted)
        except ContentMissingError as e:
            raise NotFoundError("no such blob here yet") from e
        for message in announce(size, chunks, want_chunk_list=want_chunk_list):
            yield message
        for index in range(first_chunk, len(chunks)):
            yield await asyncio.to_thread(self.home.blobs.read_chunk, wanted, index)

    async def _fetch(self, fetch: Fetch) -> None:
        """Bring one blob here; every chunk is verified before it counts."""
        try:
            client = await self._client(fetch.peer)
            await self._download(client, fetch)
        except (CorruptBlobError, MalformedMessageError):
            self.submit(BlobFailed(fetch.peer, fetch.blob, lied=True))
        except MachineError:
            raise
        except CrdtMergeError:
            self.submit(BlobFailed(fetch.peer, fetch.blob, lied=False))
        else:
            self.submit(BlobStored(fetch.peer, fetch.blob))

    async def _client(self, peer: bytes) -> ReplicaClient:
        """Return a channel to `peer`: the one we dialled, or a new one."""
        if peer not in self.clients:
            known = self.spaces.addresses().get(peer, ())
            if not known:
                raise UnreachableError(f"no address of peer {peer.hex()[:12]}")
            self.clients[peer] = ReplicaClient(known[0], peer, self.leaf)
        return self.clients[peer]

    async def _download(self, client: ReplicaClient, fetch: Fetch) -> None:
        blobs, blob = self.home.blobs, fetch.blob
        incoming = Incoming(blob, fetch.size)
        one_go = fetch.size <= CHUNK_BYTES
        await self._pump(client, fetch, incoming, first=0 if one_go else 2**62)
        if incoming.chunks is None:
            raise MalformedMessageError("the reply ended before the chunk list")
        if not incoming.chunks:
            await asyncio.to_thread(blobs.begin, blob, 0, [])
        if not one_go:
            first = await asyncio.to_thread(
                blobs.begin, blob, fetch.size, incoming.chunks
            )
            resumed = Incoming(blob, fetch.size, incoming.chunks, first)
            await self._pump(client, fetch, resumed, first=first)
        await asyncio.to_thread(blobs.finish, blob)

    async def _pump(
        self, client: ReplicaClient, fetch: Fetch, incoming: Incoming, first: int
    ) -> None:
        listed = incoming.chunks is None
        replies = client.fetch(
            fetch.space, fetch.blob, want_chunk_list=listed, first_chunk=first
        )
        async with contextlib.aclosing(replies):
            async for message in replies:
                chunk = incoming.take(message)
                if chunk is not None:
                    await asyncio.to_thread(self._store_chunk, incoming, *chunk)

    def _store_chunk(self, incoming: Incoming, index: int, data: bytes) -> None:
        if index == 0 and incoming.chunks is not None:
            self.home.blobs.begin(incoming.blob, incoming.size, incoming.chunks)
        self.home.blobs.write_chunk(incoming.blob, index, data)

    # --- commands -----------------------------------------------------------------------

    def _run_from_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """Run asynchronous work of a command on the node's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def call(self, request: bytes) -> AsyncIterator[bytes]:
        """Run one command of the control socket; yield its progress and its result."""
        replies: asyncio.Queue[Mapping[str, object] | None] = asyncio.Queue()

        def say(reply: Mapping[str, object]) -> None:
            self.loop.call_soon_threadsafe(replies.put_nowait, reply)

        def work() -> None:
            try:
                asked = json.loads(request)
                result = self.operations.call(
                    asked["verb"], asked["arguments"], lambda p: say({"progress": p})
                )
                say({"result": result})
            except CrdtMergeError as e:
                say({"error": error_facts(e)})
            finally:
                self.loop.call_soon_threadsafe(replies.put_nowait, None)

        done = self.loop.run_in_executor(self.commands, work)
        while (reply := await replies.get()) is not None:
            yield json.dumps(reply).encode()
        await done

    def connected(self) -> list[bytes]:
        """Return the peers with an open stream."""
        return sorted(self.links)


def error_facts(error: CrdtMergeError) -> dict[str, object]:
    """Return an error as JSON can carry it."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def run_node(
    path: Path,
    *,
    listen: str,
    join_listen: str,
    advertise: str,
    ready: Callable[[Mapping[str, object]], None],
) -> None:
    """Run a node on the home at `path` until SIGINT or SIGTERM.

    `ready` is told where the node listens, once it does.

    Raises:
        ConflictError: another node runs on this home, or a port is in use.
        MachineError: the store failed.
    """
    with open_home(path, write=True, purpose="node") as home:
        asyncio.run(_run(home, listen, join_listen, advertise, ready))


async def _run(
    home: Home,
    listen: str,
    join_listen: str,
    advertise: str,
    ready: Callable[[Mapping[str, object]], None],
) -> None:
    now = datetime.now(UTC)
    leaf = make_leaf(
        home.node, now - timedelta(days=1), now + timedelta(days=LEAF_DAYS)
    )
    runtime = Runtime(home, leaf)
    for name in (signal.SIGINT, signal.SIGTERM):
        runtime.loop.add_signal_handler(name, runtime.stopping.set)
    try:
        await runtime.start(listen, join_listen, advertise)
        ready(
            {
                "node": runtime.me.hex(),
                "addresses": list(runtime.addresses),
                "join_addresses": list(runtime.join_addresses),
            }
        )
        await runtime.stopping.wait()
    finally:
        await runtime.stop()
    if runtime.failure is not None:
        raise runtime.failure
