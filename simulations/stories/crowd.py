"""A story for many: a thousand nodes in one run, in memory that has a bound.

Owns its course, how its machines share what they hold in common (`sharing`), and the bounds
that are watched. Does not own what agreeing means (`checkers`), nor what fails (`weather`).

Most are members when it begins; the others join in waves amid the work, and some contribute
and take back, while messages are lost, links cut and machines crash. At the end the
records of every node are read again from its own store, and must have the one root. Visible
root, merge id and merged bytes are found anew, from what a node itself keeps, in its own
order, on `ALONE` nodes drawn by chance, or on all if there are fewer: the others hold the
same value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from crdtmerge.policy import Rank
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica
from nodes.choices import FETCHES_MAX
from nodes.spaces import Spaces
from simulations.checking.checkers import AGREED, NotConvergedError
from simulations.checking.settling import Settled, settle
from simulations.cluster import Cluster
from simulations.disks.storage import Storage
from simulations.faults import Faults
from simulations.sharing import STEPS_MAX, Inserts, SharedSpaces
from simulations.weather import Weather
from simulations.world import TICK_S, Machine

CROWD_MAX: Final = 2000
"""Every node holds all records, whose number grows with the nodes."""
LATE: Final = 16
"""One in so many joins amid the work, and not before."""
CONTRIBUTORS_MAX: Final = 16
"""How many contribute, however many there are: each node gets all of their models."""
TAKEN_BACK: Final = 4
"""One in so many takes its contribution back."""
ROUNDS: Final = 8
PATIENCE_ROUNDS: Final = 300
ALONE: Final = 64
RECORDS_BESIDE: Final = 1
"""Beside a grant and a node for each member, adds and removes: genesis and recipe, less the
grant that the owner has not."""
COMING_MAX: Final = 400
"""Events that wait for their time, a node; messages under way are among them."""
UNREAD_MAX: Final = 100
"""Messages that wait with their senders, a node."""
STREAMS_MAX: Final = 64
ROUGH_CROWD: Final = Faults.of(0.1, loss=0.1, refuse=0.02, cut=0.01, crash=0.005)
"""What goes wrong meanwhile: of a thousand nodes, five crash and eighty links are cut in
every round, and one message in ten is lost, to the end."""


@dataclass
class Crowd(Cluster):
    """A cluster whose machines hold a set that they have in common as one value."""

    inserts: Inserts = field(default_factory=Inserts)
    most: dict[str, int] = field(default_factory=dict)
    """The most that was ever held of what is bounded (`Watch`)."""

    def open_spaces(self, storage: Storage) -> Spaces:
        """Return the spaces that a machine keeps, whose sets are shared."""
        spaces = SharedSpaces(storage.records, storage.blobs)
        spaces.share(self.inserts)
        return spaces

    def enrol(self, count: int) -> None:
        """Let `count` machines join at once, each with what was known before it came."""
        if count <= 0:
            return
        owner = self.owner
        machines = [self._equip() for _ in range(count)]
        opset, grants = owner.spaces.opset(self.space), list[SignedRecord]()
        for machine in machines:
            replica = Replica(opset, owner.author)
            grants.append(replica.grant(machine.author.public, Rank.CONTRIBUTOR))
            opset = opset.insert(grants[-1:])
        self.commit(owner, *grants)
        granted = tuple(owner.spaces.opset(self.space).signed.values())
        announced = []
        for machine in machines:
            machine.spaces.commit(self.space, granted)
            announced.append(self._announce(machine))
        self.commit(owner, *announced)
        for machine in machines:
            self.welcome(machine)
            self.start(machine)


@dataclass
class Watch:
    """What a crowd holds, and its bounds."""

    crowd: Crowd

    def run(self, seconds: float) -> None:
        """Let time pass, and look a few times a round.

        Raises:
            NotConvergedError: something is above its bound.
        """
        left = seconds
        while left > 0:
            self.crowd.run(min(left, TICK_S / 4))
            left -= TICK_S / 4
            self.look()

    def look(self) -> None:
        """Compare what is held now with the bounds.

        Raises:
            NotConvergedError: something is above its bound.
        """
        crowd, nodes = self.crowd, len(self.crowd.machines)
        links = crowd.network.links.values()
        running = [m.node for m in crowd.machines if m.node is not None]
        bounds = {
            "records": (len(crowd.ledger), _records_max(nodes)),
            "coming": (crowd.clock.waiting, COMING_MAX * nodes),
            "unread": (
                sum(len(queue) for link in links for queue in link.unread.values()),
                UNREAD_MAX * nodes,
            ),
            "streams": (max(len(n.sessions) for n in running), STREAMS_MAX),
            "fetches": (max(len(m.downloads) for m in crowd.machines), FETCHES_MAX),
            "steps": (len(crowd.inserts.steps), STEPS_MAX),
        }
        for name, (found, most) in bounds.items():
            crowd.most[name] = max(found, crowd.most.get(name, 0))
            if found > most:
                raise NotConvergedError(
                    f"seed {crowd.seed}, {crowd.clock.now:.1f} s: {found} {name},"
                    f" and no more than {most} may be"
                )


def crowd(cluster: Cluster, count: int) -> Settled:
    """Many nodes join, contribute and take back, while links lose and machines crash."""
    assert isinstance(cluster, Crowd)
    late = count // LATE
    cluster.enrol(count - late - 1)
    watch, weather = Watch(cluster), Weather(cluster)
    watch.run(4 * TICK_S)
    contributors = cluster.rng.sample(cluster.machines, _contributors(count - late))
    waiting, takers = list(contributors), contributors[::TAKEN_BACK]
    for done in range(1, ROUNDS + 1):
        weather.strike()
        if cluster.owner.node is not None:
            cluster.enrol(
                late * done // ROUNDS - (len(cluster.machines) - count + late)
            )
        while len(waiting) > len(contributors) * (ROUNDS - done) // ROUNDS:
            cluster.contribute(waiting.pop())
        watch.run(cluster.rng.uniform(TICK_S / 2, TICK_S))
    weather.pass_over()
    cluster.enrol(count - len(cluster.machines))
    for machine in takers:
        _take_back(cluster, machine)
    watch.look()
    alone = cluster.rng.sample(cluster.machines, min(ALONE, count))
    settled = settle(cluster, patience_rounds=PATIENCE_ROUNDS, merging=alone)
    watch.look()
    expect_kept(cluster, alone, len(contributors) - len(takers))
    return settled


def _contributors(count: int) -> int:
    return min(count, CONTRIBUTORS_MAX)


def _records_max(nodes: int) -> int:
    adds = _contributors(nodes)
    return RECORDS_BESIDE + 2 * nodes + adds + adds // TAKEN_BACK + 1


def _take_back(cluster: Cluster, machine: Machine) -> None:
    """Remove what the author of `machine` contributed."""
    mine = machine.author.public
    visible = machine.spaces.view(cluster.space).visible
    adds = [add for v in visible if v.authors == (mine,) for add in v.adds]
    cluster.commit(machine, cluster.replica(machine).remove(adds))


def expect_kept(cluster: Cluster, machines: Sequence[Machine], visible: int) -> None:
    """Find anew, from what each machine keeps, what it holds as a shared value."""
    for machine in machines:
        alone = Spaces(machine.records, machine.blobs)
        for name, reading in AGREED.items():
            if reading(alone, cluster.space) != reading(machine.spaces, cluster.space):
                raise NotConvergedError(
                    f"seed {cluster.seed}: {machine.name} keeps another {name}"
                )
        if (found := len(alone.view(cluster.space).visible)) != visible:
            raise NotConvergedError(
                f"seed {cluster.seed}: {machine.name} sees {found}"
                f" contributions, not {visible}"
            )
