"""Stories that a cluster must survive, each ending in a settled set.

Owns what happens and when. Does not own the waiting (`settling`), nor what agreeing means
(`checkers`). The story in which everything happens at once is `swarm`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from crdtmerge.digest import ContentId
from crdtmerge.errors import UnknownNameError
from crdtmerge.sync.session import FEED_WITHOUT_CURSOR_MAX
from nodes.quotas import DEFAULT, Quotas
from simulations.checking.checkers import (
    NotConvergedError,
    check_settled,
    disagreement,
    repeatable,
)
from simulations.checking.settling import STEP_S, Settled, gather, settle
from simulations.checking.watching import keep_watch
from simulations.cluster import Cluster
from simulations.faults import FAULTS, Faults, Only, only_options
from simulations.liars.flooding import TIGHT, Flooder
from simulations.limits import NODES_MAX, check_run
from simulations.outcome import Outcome, outcome_of
from simulations.weather.disks import WITHIN
from simulations.world import TICK_S, Machine

from . import alone
from .attesting import liar_attests
from .compacting import stale_member
from .crowd import CROWD_MAX, ROUGH_CROWD, Crowd, crowd
from .forking import equivocating_author


def everyone_contributes(cluster: Cluster, count: int) -> Settled:
    """All contribute at about the same time; two contribute the same model."""
    gather(cluster, count)
    for machine in cluster.machines:
        cluster.contribute(machine)
        cluster.run(cluster.rng.uniform(0, STEP_S))
    for machine in cluster.machines[:2]:
        cluster.contribute(machine, "the same model")
    settled = settle(cluster)
    _expect_visible(cluster, cluster.machines, count + 1)
    return settled


def islands_heal(cluster: Cluster, count: int) -> Settled:
    """Two islands work apart, each with adds and a remove; then the partition heals."""
    gather(cluster, count)
    for machine in cluster.machines:
        cluster.contribute(machine)
    cluster.run(3 * TICK_S)
    _split(cluster)
    cluster.run(TICK_S)
    for machine in cluster.machines:
        cluster.contribute(machine)
    for machine in cluster.rng.sample(cluster.machines, 2):
        mine = machine.author.public
        visible = machine.spaces.view(cluster.space).visible
        adds = next(v.adds for v in visible if v.authors == (mine,))
        cluster.commit(machine, cluster.replica(machine).remove(adds))
    cluster.run(20 * TICK_S)
    if not disagreement(cluster, cluster.machines):
        raise NotConvergedError(f"seed {cluster.seed}: news crossed a partition")
    cluster.network.heal()
    settled = settle(cluster)
    _expect_visible(cluster, cluster.machines, 2 * count - 2)
    return settled


def crash_and_restart(cluster: Cluster, count: int) -> Settled:
    """Nodes crash amid the work; one keeps its disk, one comes back with an empty one."""
    gather(cluster, count)
    kept, emptied = cluster.rng.sample(cluster.machines[1:], 2)
    for machine in cluster.machines:
        cluster.contribute(machine)
    settle(cluster)  # what is on one disk only would be lost with it, by right
    cluster.crash(emptied)
    for machine in cluster.running:
        cluster.contribute(machine)
    cluster.crash(kept)  # before its news can have left it
    cluster.run(cluster.rng.uniform(0, 3 * TICK_S))
    cluster.restart(kept)
    cluster.contribute(kept)
    cluster.lose_disk(emptied)
    cluster.restart(emptied)
    settled = settle(cluster)
    _expect_visible(cluster, cluster.machines, 2 * count)
    return settled


def ban_in_partition(cluster: Cluster, count: int) -> Settled:
    """A poisoned model is banned on one island while the other adds it again."""
    gather(cluster, count)
    poisoner, admirer = cluster.machines[-2:]
    poison = cluster.contribute(poisoner, "poison")
    for machine in cluster.machines[:-2]:
        cluster.contribute(machine)
    cluster.run(4 * TICK_S)
    cluster.network.partition([poisoner.transport, admirer.transport])
    owner = cluster.owner
    cluster.commit(owner, cluster.replica(owner).ban("content", poison))
    cluster.run(2 * TICK_S)
    cluster.contribute(admirer, "poison")
    cluster.contribute(admirer)
    cluster.run(5 * TICK_S)
    cluster.network.heal()
    settled = settle(cluster)
    _expect_banned(cluster, cluster.machines, poison)
    _expect_visible(cluster, cluster.machines, count - 1)
    return settled


def banned_author(cluster: Cluster, count: int) -> Settled:
    """The author of a node is banned: the others cut the node off and go on."""
    gather(cluster, count)
    banned, *others = reversed(cluster.machines)
    for machine in cluster.machines:
        cluster.contribute(machine)
    settle(cluster)
    owner = cluster.owner
    ban = cluster.replica(owner).ban("author", banned.author.public)
    cluster.commit(owner, ban)
    settle(cluster, others)
    before = banned.spaces.opset(cluster.space).root
    for machine in others:
        cluster.contribute(machine)
    settled = settle(cluster, others)
    cluster.run(20 * TICK_S)
    check_settled(cluster, others)
    _expect_visible(cluster, others, 2 * len(others))
    if banned.spaces.opset(cluster.space).root != before:
        raise NotConvergedError(f"seed {cluster.seed}: a banned node still gets news")
    return settled


def late_joiner(cluster: Cluster, count: int) -> Settled:
    """A node joins a large set while another is down, and comes back without cursors."""
    gather(cluster, count - 1)
    for machine in cluster.machines:
        cluster.contribute(machine)
    cluster.fill(cluster.owner, FEED_WITHOUT_CURSOR_MAX)
    settle(cluster)
    contributed = len(cluster.owner.spaces.view(cluster.space).visible)
    away = cluster.machines[-1]
    cluster.crash(away)
    joiner = cluster.join()
    cluster.run(2 * TICK_S)
    cluster.contribute(joiner)
    cluster.run(5 * TICK_S)
    cluster.restart(away)
    settled = settle(cluster)
    _expect_visible(cluster, cluster.machines, contributed + 1)
    return settled


def flaky_links(cluster: Cluster, count: int) -> Settled:
    """Links break again and again while all work, and never quite stop breaking."""
    gather(cluster, count)
    for _ in range(10):
        for machine in cluster.machines:
            if cluster.rng.random() < 0.3:
                cluster.contribute(machine)
        for one, other in sorted(cluster.network.links):
            if cluster.rng.random() < 0.3:
                cluster.network.cut(one, other)
        cluster.run(TICK_S)
    return settle(cluster)


def flooding_member(cluster: Cluster, count: int) -> Settled:
    """A member floods with records, huge adds and questions; the others hardly feel it.

    What they say reaches all of them while the flood lasts, no author's records are more
    than its quota allows, and the flooder's arrive in the end.
    """
    gather(cluster, count)
    flooder = Flooder(cluster, cluster.machines[-1])
    honest = cluster.machines[:-1]
    slowest = 0.0
    for round_ in range(FLOOD_ROUNDS):
        flooder.flood()
        said = cluster.contribute(honest[round_ % len(honest)])
        slowest = max(slowest, _rounds_until_all_see(cluster, honest, said))
    _expect_held_back(cluster, flooder.machine, honest)
    flooder.stop()
    settled = settle(cluster)
    _expect_visible(cluster, cluster.machines, FLOOD_ROUNDS)
    if slowest > NEWS_ROUNDS_MAX:
        raise NotConvergedError(
            f"seed {cluster.seed}: amid a flood news took {slowest:.2f} rounds"
        )
    return settled


def _rounds_until_all_see(
    cluster: Cluster, machines: Sequence[Machine], content: ContentId
) -> float:
    """Let at least a round pass, and more until all see a contribution."""
    begun, seen = cluster.clock.now, 0.0
    while not seen or cluster.clock.now - begun < TICK_S:
        cluster.run(STEP_S / 5)
        views = (machine.spaces.view(cluster.space) for machine in machines)
        everywhere = all(content in {v.content for v in view.visible} for view in views)
        if everywhere and not seen:
            seen = (cluster.clock.now - begun) / TICK_S
        if not seen and cluster.clock.now - begun > 10 * NEWS_ROUNDS_MAX * TICK_S:
            raise NotConvergedError(f"seed {cluster.seed}: news is lost in a flood")
    return seen


def _expect_held_back(
    cluster: Cluster, flooder: Machine, machines: Sequence[Machine]
) -> None:
    """No node holds more of an author than its quota lets in, nor remembers much of it."""
    quotas = cluster.quotas
    allowed = quotas.author_rate * (quotas.burst_s + cluster.clock.now)
    for machine in machines:
        assert machine.node is not None
        said = machine.spaces.said(flooder.author.public)
        if said > allowed or len(machine.node.accounts) > len(cluster.machines):
            raise NotConvergedError(
                f"seed {cluster.seed}: {machine.name} took {said} records of a flood"
            )
    nodes = [machine.node for machine in machines if machine.node is not None]
    held = sum(node.holding.held.total() for node in nodes)
    if not held or not all(node.accounts.pauses for node in nodes):
        raise NotConvergedError(f"seed {cluster.seed}: the flood met no quota")


def power_loss(cluster: Cluster, count: int) -> Settled:
    """Machines lose power amid their writes, and their disks what was not synced."""
    gather(cluster, count)
    for _ in range(4):
        for machine in cluster.running:
            machine.storage.cut_power(cluster.rng.randrange(WITHIN["power_loss"]))
            with cluster.powered(machine):
                cluster.contribute(machine)
            cluster.run(cluster.rng.uniform(0, STEP_S))
        cluster.run(cluster.rng.uniform(0, 2 * TICK_S))
        _bring_back(cluster)
    settled = settle(cluster)
    if not cluster.power_losses:
        raise NotConvergedError(f"seed {cluster.seed}: no machine lost its power")
    kinds = [signed.record.kind for signed in cluster.ledger.values()]
    _expect_visible(cluster, cluster.machines, kinds.count("add"))
    return settled


def _bring_back(cluster: Cluster) -> None:
    """Let all machines run, and none of them lose its power before it is let again."""
    for machine in cluster.machines:
        machine.storage.cut_power(None)
        if machine.node is None:
            cluster.restart(machine)


def _split(cluster: Cluster) -> None:
    """Put a random half of the machines on an island."""
    half = cluster.rng.sample(cluster.machines, len(cluster.machines) // 2)
    cluster.network.partition([machine.transport for machine in half])


def _expect_visible(
    cluster: Cluster, machines: Sequence[Machine], expected: int
) -> None:
    """Agreeing is not enough: they could all have lost the same."""
    for machine in machines:
        found = len(machine.spaces.view(cluster.space).visible)
        if found != expected:
            raise NotConvergedError(
                f"seed {cluster.seed}: {machine.name} sees {found}"
                f" contributions, not {expected}"
            )


def _expect_banned(
    cluster: Cluster, machines: Sequence[Machine], content: ContentId
) -> None:
    for machine in machines:
        visible = machine.spaces.view(cluster.space).visible
        if any(v.content == content for v in visible):
            raise NotConvergedError(
                f"seed {cluster.seed}: {machine.name} sees a banned model"
            )


Scenario = Callable[[Cluster, int], Settled]

ALONE: Final[Mapping[str, str]] = {
    f"fault-{name.replace('_', '-')}": name for name in FAULTS if name in alone.KINDS
}
"""The stories of one kind of fault alone, and the kind of each."""
SCENARIOS: Final[Mapping[str, Scenario]] = {
    "everyone-contributes": everyone_contributes,
    "islands-heal": islands_heal,
    "crash-and-restart": crash_and_restart,
    "ban-in-partition": ban_in_partition,
    "banned-author": banned_author,
    "late-joiner": late_joiner,
    "flaky-links": flaky_links,
    "flooding-member": flooding_member,
    "power-loss": power_loss,
    "liar-attests": liar_attests,
    "equivocating-author": equivocating_author,
    "stale-member": stale_member,
    "crowd": crowd,
    **{story: alone.story(kind) for story, kind in ALONE.items()},
}
QUOTAS: Final[Mapping[str, Quotas]] = {"flooding-member": TIGHT}
"""What machines hold their peers to, where it is not what nodes do by default."""
FLOOD_ROUNDS: Final = 4
NEWS_ROUNDS_MAX: Final = 1.0
"""Rounds that news may take to all amid a flood; 0.15 were seen, as without one."""
ON_DISKS: Final = frozenset(
    {
        "power-loss",
        *(story for story, kind in ALONE.items() if FAULTS[kind].area == "disk"),
    }
)
"""Told to machines that keep all by the code of real nodes, on simulated disks."""
QUARANTINED: Final = frozenset({"equivocating-author"})
"""Told of spaces that cut off who signs two records of one number."""
CROWDS: Final[Mapping[str, Faults]] = {"crowd": ROUGH_CROWD}
"""Told to machines that share what they have in common, and what goes wrong meanwhile."""
NODES_MIN: Final = 4
"""Below, there is nobody to be apart from whom the story needs apart."""


def known(name: str) -> str:
    """Return the name of a story as it is listed; kinds of faults may have a `_`.

    Raises:
        UnknownNameError: there is no such story; names those that there are.
    """
    if (found := name.replace("_", "-")) not in SCENARIOS:
        hint = f"known: {', '.join(SCENARIOS)}"
        raise UnknownNameError(f"there is no scenario {name!r}", hint=hint)
    return found


def run_scenario(
    name: str,
    seed: int,
    nodes: int,
    *,
    only: Only | None = None,
    watch: Callable[[Cluster], None] = lambda _: None,
) -> Outcome:
    """Run one scenario; the same arguments give the same outcome.

    `watch` is lent the cluster before anything happens.

    Raises:
        NotConvergedError: a promise does not hold under this seed.
        UnknownNameError: there is no such scenario.
        BadInputError: seed or nodes are out of range.
    """
    name = known(name)
    check_run(seed, nodes, NODES_MIN, CROWD_MAX if name in CROWDS else NODES_MAX)
    command = f"{name} --nodes {nodes} --seed {seed}"
    if only is not None:
        command += f" {only_options(only)}"
    with repeatable(command):
        cluster = _cluster(name, seed, only)
        watch(cluster)
        keep_watch(cluster)
        return outcome_of(command, cluster, SCENARIOS[name](cluster, nodes))


def _cluster(name: str, seed: int, only: Only | None) -> Cluster:
    """Return the machines to which a story is told."""
    if name in CROWDS:
        return Crowd(seed, CROWDS[name], only)
    quotas, cut = QUOTAS.get(name, DEFAULT), name in QUARANTINED
    disks = name in ON_DISKS
    return Cluster(seed, only=only, quotas=quotas, disks=disks, quarantine=cut)
