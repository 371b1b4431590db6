"""A world of simulated machines: processes, and the performer of what their nodes decide.

Owns what `nodes.runtime` owns in a real process (ticks, dials, fetches, trust), and crashes
and restarts. Does not own the wires (`network`), nor what people do (`cluster`).
"""

import random
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, assert_never

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId, Domain, digest
from crdtmerge.errors import MachineError
from crdtmerge.identity import SigningKey
from crdtmerge.sync.messages import (
    GENERATION_BYTES,
    Goodbye,
    Message,
    Outcome,
    Probed,
)
from crdtmerge.sync.transfer import Wanted
from nodes.effects import (
    BlobFailed,
    BlobStored,
    Close,
    Dial,
    DialEnded,
    Effect,
    Fetch,
    Input,
    MessageReceived,
    MoreSources,
    Pause,
    PeerClosed,
    PeerOpened,
    Probe,
    ProbeEnded,
    Send,
    Ticked,
    Trust,
)
from nodes.gossip import RUMOUR_FANOUT, interval
from nodes.node import Node
from nodes.quotas import DEFAULT, Quotas
from nodes.spaces import Spaces
from nodes.steady import Steady
from simulations.disks.power_loss import Losing, Loss, PowerLossError
from simulations.disks.storage import DiskStorage, MemoryStorage, Storage
from simulations.links.downloads import Download, Reply
from simulations.links.network import Network
from simulations.links.serving import served

from .clock import Clock
from .faults import CALM, Dice, Faults, Strike
from .log import EventLog
from .machine import Interruption, Liar, Machine
from .releases import NEEDS, NotUnderstoodError

__all__ = ["TICK_S", "Interruption", "Liar", "Machine", "World"]

LOSING: Final[tuple[Losing, ...]] = ("some", "torn", "all", "some")
"""What power losses take, drawn from these."""
KILLED: Final = Loss("none")
"""What a process loses that ends while its system goes on."""
TICK_S: Final = 1.0
DIAL_TIMEOUT_S: Final = 1.0


@dataclass
class World:
    """All machines, their network and their clock, from one seed."""

    seed: int
    faults: Faults = CALM
    only: Mapping[str, frozenset[int]] | None = None
    """Which hits of each kind of fault strike (`Dice`)."""
    quotas: Quotas = DEFAULT
    rumours: int = RUMOUR_FANOUT
    """Peers that a node pushes a new record to."""
    disks: bool = False
    """Whether machines keep all on simulated disks, by the code of real nodes."""
    clock: Clock = field(default_factory=Clock)
    machines: list[Machine] = field(default_factory=list)
    network: Network = field(init=False)
    dice: Dice = field(init=False)
    crashes: int = 0
    power_losses: int = 0
    accused: list[str] = field(default_factory=list)
    """Honest machines that an honest one took for liars, and why: it must stay empty."""
    excused: set[tuple[str, bytes]] = field(default_factory=set)
    """Who may take whom for a liar: it was brought other bytes than those sent."""
    forgotten: list[str] = field(default_factory=list)
    """Who did not find again what it had acknowledged: it must stay empty too."""
    caught: Counter[str] = field(default_factory=Counter)
    """How often an honest machine cut off a liar, by the rule that this one broke."""
    _log: EventLog = field(init=False)
    _by_transport: dict[bytes, Machine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Build the network that carries messages between the machines."""
        self._log = EventLog(self.clock)
        self.dice = Dice(self.faults, self.random, self.only, self._log.strike)
        self.network = Network(
            self.clock,
            self.random("network"),
            self.dice,
            self._deliver,
            self._closed,
        )

    # --- machines -----------------------------------------------------------------------

    @property
    def running(self) -> list[Machine]:
        """The machines whose process runs."""
        return [machine for machine in self.machines if machine.node is not None]

    @property
    def awake(self) -> list[Machine]:
        """The machines whose process runs, and does not stand still."""
        return [machine for machine in self.machines if machine.runs]

    @property
    def honest(self) -> list[Machine]:
        """The machines that no liar uses."""
        return [machine for machine in self.machines if machine.liar is None]

    def add_machine(self) -> Machine:
        """Set up one more machine with keys and an empty disk; it does not run yet."""
        name = f"node{len(self.machines)}"
        storage = self._empty_storage(self.draw(f"{name}/generation"))
        machine = Machine(
            name,
            SigningKey(self.draw(f"{name}/author")),
            SigningKey(self.draw(f"{name}/transport")),
            storage,
            Spaces(storage.records, storage.blobs),
        )
        self._let_use(machine)
        self.machines.append(machine)
        self._by_transport[machine.transport] = machine
        return machine

    def start(self, machine: Machine) -> None:
        """Start the process of `machine`, and its ticks at a phase of its own."""
        rng = self.random(f"{machine.name}/{machine.life}")
        # The clock of a system counts from its start: no process ever begins below zero.
        machine.ahead = max(machine.ahead, -self.clock.now)
        machine.now = Steady(lambda: self.clock.now + machine.ahead)
        machine.now()  # from here on a step back is one
        machine.node = Node(
            machine.transport,
            machine.spaces,
            rng,
            "simulated/1",
            quotas=self.quotas,
            rumours=self.rumours,
        )
        self._note(machine, "start")
        life = machine.life
        if machine.attested is not None:
            self.submit(machine, machine.attested)

        def tick() -> None:
            if machine.life == life:
                self.submit(machine, Ticked())
                self._look_for_forks(machine)
                self._compare(machine)
                self.clock.after(interval(TICK_S, rng), tick)

        self.clock.after(rng.uniform(0, TICK_S), tick)

    def _look_for_forks(self, machine: Machine) -> None:
        if machine.node is not None and machine.forks is not None:
            with self.powered(machine):
                machine.forks.turn()

    def leave(self, machine: Machine) -> None:
        """End the process of `machine` in order: it says goodbye to who knows the word."""
        goodbye = NEEDS[Goodbye]
        if machine.release.features & goodbye:
            self.network.part(
                machine.transport,
                lambda peer: bool(self._by_transport[peer].release.features & goodbye),
            )
        self.crash(machine)

    def _compare(self, machine: Machine) -> None:
        """End the doubts of a machine where a peer has its record root (`nodes.doubts`)."""
        with self.powered(machine):
            for space in machine.storage.doubted() if machine.node else ():
                ours = machine.spaces.heartbeat(space).root
                reports = machine.node.reports(space) if machine.node else {}
                if any(said and said.root == ours for said in reports.values()):
                    machine.storage.compared(space)

    def crash(self, machine: Machine, loss: Loss = KILLED) -> None:
        """End the process of `machine`; its disk stays, but for what a `loss` takes."""
        machine.node = machine.interruption = machine.still = None
        machine.downloads.clear()
        machine.life += 1
        self.crashes += 1
        machine.storage.lose_power(loss)
        self.network.cut_all(machine.transport)
        self._note(machine, "crash")

    @contextmanager
    def powered(self, machine: Machine) -> Iterator[None]:
        """Run what the process of `machine` does; if its disk fails it amid that, it ends.

        So does a real one: what a disk refuses is never tried again by the same process.
        """
        try:
            yield
        except PowerLossError:
            self.lose_power(machine)
        except MachineError as e:
            self.fail(machine, e)
        except Exception as e:
            if not machine.storage.harmed:
                raise
            self.fail(machine, e)

    def fail(self, machine: Machine, error: Exception) -> None:
        """End the process of `machine`, which met an error of its disk.

        After a failed sync the whole machine starts again: what its system took to be on
        the disk is not.
        """
        self._note(machine, f"failed: {type(error).__name__}")
        machine.storage.refused(error)
        if machine.storage.shaken:
            self.lose_power(machine)
        else:
            self.crash(machine)

    def lose_power(self, machine: Machine) -> None:
        """Crash `machine`, and let its disk lose what was not synced."""
        self.power_losses += 1
        seed = int.from_bytes(self.draw(f"{machine.name}/{machine.life}/loss")[:8])
        losing = machine.storage.losing or LOSING[seed % len(LOSING)]
        self.crash(machine, Loss(losing, seed))

    def restart(self, machine: Machine) -> None:
        """Start `machine` again from its disk; it ends at once if that refuses."""
        assert machine.node is None
        with self.powered(machine):
            lost = machine.storage.open()
            if lost and not machine.storage.harmed:
                self.forgotten.append(f"{machine.name}: {len(lost)} things")
            self._let_use(machine)
            self.start(machine)

    def _let_use(self, machine: Machine) -> None:
        machine.spaces = self.open_spaces(machine.storage)
        machine.spaces.author = machine.author.public
        machine.storage.watch(machine.spaces)

    def empty_disk(self, machine: Machine) -> None:
        """Give a crashed `machine` an empty disk."""
        assert machine.node is None
        machine.attested = None
        machine.storage.close()
        machine.storage = self._empty_storage(
            self.draw(f"{machine.name}/{machine.life}")
        )
        self._let_use(machine)

    def open_spaces(self, storage: Storage) -> Spaces:
        """Return the spaces that a machine keeps."""
        return Spaces(storage.records, storage.blobs)

    def _empty_storage(self, drawn: bytes) -> Storage:
        generation = drawn[:GENERATION_BYTES]
        if not self.disks:
            return MemoryStorage(generation)
        return DiskStorage(generation, self.dice.count)

    def close(self) -> None:
        """End it: nothing is asked of its machines any more."""
        for machine in self.machines:
            machine.storage.close()

    # --- time and chance ----------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let `seconds` of virtual time pass."""
        self.clock.run_until(self.clock.now + seconds)

    def random(self, label: str) -> random.Random:
        """Return a generator that the seed and `label` decide."""
        return random.Random(self.draw(label))  # noqa: S311  a seed decides it all

    def draw(self, label: str) -> bytes:
        """Return 32 bytes that the seed and `label` decide."""
        return digest(Domain.SEED, f"simulation {self.seed} {label}".encode())

    @property
    def log_digest(self) -> str:
        """Digest of all that happened, in its order."""
        return self._log.digest

    @property
    def strikes(self) -> list[Strike]:
        """The faults that happened, in their order."""
        return self._log.strikes

    @property
    def events(self) -> int:
        """How many lines the log has."""
        return self._log.events

    def _note(self, machine: Machine, what: str) -> None:
        """Log what happens to a process."""
        self._log.write(f"{machine.name} {what}")

    # --- performing effects -------------------------------------------------------------

    def submit(self, machine: Machine, item: Input) -> None:
        """Hand one input to a node that runs, and perform what follows."""
        self._note(machine, repr(item))  # inputs hold no set: one order
        if machine.still is not None:
            machine.still.append(item)
        elif machine.node is not None:
            self._handle(machine, item)

    def _handle(self, machine: Machine, item: Input) -> None:
        assert machine.node is not None
        with self.powered(machine):
            effects = machine.node.handle(item, machine.now())
            self._perform_all(machine, effects)

    def _perform_all(self, machine: Machine, effects: Iterable[Effect]) -> None:
        """Perform effects in their order; a process may end or stand still amid them."""
        life = machine.life
        for effect in effects:
            if machine.life != life:
                return
            self._interrupt(machine)
            if machine.still is not None:
                machine.still.append(effect)
            elif machine.life == life:
                self._perform(machine, effect)

    def _interrupt(self, machine: Machine) -> None:
        coming = machine.interruption
        if coming is None:
            return
        coming.effects -= 1
        if coming.effects <= 0:
            machine.interruption = None
            coming.action()

    def pause(self, machine: Machine, seconds: float) -> None:
        """Let a process stand still; then it does what it had to, in order."""
        if machine.node is None or machine.still is not None:
            return
        machine.still = deque()
        life = machine.life

        def resume() -> None:
            if machine.life == life:
                self.wake(machine)

        self.clock.after(seconds, resume)

    def wake(self, machine: Machine) -> None:
        """Let a process that stands still go on."""
        life = machine.life
        waiting, machine.still = machine.still or deque(), None
        while waiting and machine.life == life:
            self._go_on(machine, waiting.popleft())

    def _go_on(self, machine: Machine, item: Input | Effect) -> None:
        if isinstance(item, Effect):
            with self.powered(machine):
                self._perform_all(machine, [item])
        elif machine.still is not None:
            machine.still.append(item)
        else:
            self._handle(machine, item)

    def _perform(self, machine: Machine, effect: Effect) -> None:  # noqa: C901  one case an effect
        match effect:
            case Send(peer, message):
                told = machine.liar.says(peer, message) if machine.liar else (message,)
                for said in told:
                    known = machine.release.says(said)
                    self.network.send(machine.transport, peer, known)
            case Dial():
                self._dial(machine, effect)
            case Close(peer, reason, broke_rules):
                end = f"{machine.name} closed on {self._by_transport[peer].name}"
                blamed = self._by_transport[peer]
                excused = blamed.storage.harmed or (machine.name, peer) in self.excused
                if broke_rules and machine.liar is None and not excused:
                    self._accuse(blamed, f"{end}: {reason}", reason)
                self._note(machine, f"{end}: {reason}")
                self.network.leave(machine.transport, peer)
            case Pause(peer, seconds):
                self.network.pause(peer, machine.transport, seconds)
            case Fetch():
                self._fetch(machine, effect)
            case MoreSources(blob, sources):
                if blob in machine.downloads:
                    machine.downloads[blob].add(sources)
            case Probe(peer, addresses):
                there = self.network.reaches(machine.transport, peer)
                outcome = Outcome.REACHED if there else Outcome.SILENT
                found = tuple(Probed(address, int(outcome)) for address in addresses)
                self.submit(machine, ProbeEnded(peer, found, ""))
            case Trust(members):
                machine.members = members
            case _:
                assert_never(effect)

    def _accuse(self, peer: Machine, line: str, reason: str) -> None:
        if peer.liar is None:
            self.accused.append(line)
        else:
            self.caught[reason.partition(":")[0]] += 1

    def _dial(self, machine: Machine, dial: Dial) -> None:
        me, peer = machine.transport, dial.peer
        callee, life = self._by_transport[peer], machine.life

        def serves() -> bool:
            here = callee.address in dial.addresses and callee.runs
            return here and self.network.can_dial(me, peer)

        def ended() -> None:
            if machine.life != life or self.network.holds(me, peer):
                return  # it crashed, or the peer's own dial was quicker
            if machine.still is not None:
                # Nor does a stream open: what waits to be sent belongs to the one before.
                self.clock.after(DIAL_TIMEOUT_S, ended)
                return
            if not answers or not serves():
                self.submit(machine, DialEnded(peer, dial.addresses))
                return
            if not self.network.open(me, peer):
                self.submit(machine, DialEnded(peer, ()))
                return
            if me in callee.members and peer in machine.members:
                self.submit(machine, PeerOpened(peer, callee.address))
                self.submit(callee, PeerOpened(me))
            else:
                self.network.cut(me, peer)

        answers = serves() and not self.network.refuses(me, peer)
        self.clock.after(self.network.delay(0) if answers else DIAL_TIMEOUT_S, ended)

    def _fetch(self, machine: Machine, fetch: Fetch) -> None:
        """Begin a download, which goes on as the network and its sources let it."""
        life = machine.life

        def submit(item: Input) -> None:
            if machine.life != life:
                return
            if isinstance(item, BlobStored | BlobFailed):
                del machine.downloads[item.blob]
                self.network.traffic.blobs += isinstance(item, BlobStored)
            self.submit(machine, item)

        def serve(peer: bytes, space: SpaceId, blob: BlobId, wanted: Wanted) -> Reply:
            sender = self._by_transport[peer]
            return served(self.network, machine, sender, space, blob, wanted=wanted)

        download = Download(
            fetch,
            machine.blobs,
            self.clock,
            serve,
            submit,
            lambda: self.powered(machine),
            machine.now,
            lambda: machine.still is not None,
            lambda peer: self.excused.add((machine.name, peer)),
            lambda what: self._note(machine, what),
        )
        machine.downloads[fetch.blob] = download
        download.start(lambda: machine.life == life)

    def _deliver(self, sender: bytes, receiver: bytes, message: Message) -> None:
        machine = self._by_transport[receiver]
        try:
            heard = machine.release.hears(message)
        except NotUnderstoodError:
            if self._by_transport[sender].liar is None:
                raise
            self.network.leave(receiver, sender)
            return
        if machine.liar is None or machine.liar.hears(sender, heard):
            self.submit(machine, MessageReceived(sender, heard))

    def _closed(self, one: bytes, other: bytes, left: bool) -> None:
        self.submit(self._by_transport[one], PeerClosed(other, left=left))
