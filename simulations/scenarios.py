"""Stories that a cluster must survive, each ending in a settled set.

Owns what happens and when, and how long nodes may take to agree. Does not own what
agreeing means (`checkers`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crdtmerge.digest import ContentId
from crdtmerge.sync.session import FEED_WITHOUT_CURSOR_MAX

from .checkers import NotConvergedError, check_settled, disagreement, same_records
from .cluster import TICK_S, Cluster, Machine

ROUNDS_MAX: Final = 120
"""Rounds that nodes get to agree: the longest back-off, twice, and the gossip itself."""
STEP_S: Final = 0.25
CALM_ROUNDS: Final = 3
"""Rounds to go on for once nodes agree: agreement must last."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Rounds until all had the same records, and until all had all contents too."""

    record_rounds: float
    rounds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a scenario came to, counted from the last disturbance."""

    scenario: str
    seed: int
    nodes: int
    settled: Settled
    messages: int
    message_bytes: int
    blob_bytes: int
    records: int
    events: int
    log_digest: str
    kinds: Mapping[str, int]


def settle(cluster: Cluster, machines: Sequence[Machine] = ()) -> Settled:
    """Let time pass until `machines` (all, unless given) agree; return how long it took.

    Raises:
        NotConvergedError: they do not agree in time, or lost something.
    """
    chosen = machines or cluster.machines
    begun = cluster.clock.now
    records = -1.0
    while problem := disagreement(cluster, chosen):
        if records < 0 and same_records(cluster, chosen):
            records = cluster.clock.now - begun
        if cluster.clock.now - begun > ROUNDS_MAX * TICK_S:
            raise NotConvergedError(
                f"seed {cluster.seed}: after {ROUNDS_MAX} rounds, {problem}"
            )
        cluster.run(STEP_S)
    contents = cluster.clock.now - begun
    cluster.run(CALM_ROUNDS * TICK_S)
    check_settled(cluster, chosen)
    records = contents if records < 0 else records
    return Settled(records / TICK_S, contents / TICK_S)


def _gather(cluster: Cluster, count: int) -> None:
    """Let machines join until there are `count`, and meet."""
    while len(cluster.machines) < count:
        cluster.join()
        cluster.run(cluster.rng.uniform(0, TICK_S))
    cluster.run(2 * TICK_S)


def everyone_contributes(cluster: Cluster, count: int) -> Settled:
    """All contribute at about the same time; two contribute the same model."""
    _gather(cluster, count)
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
    _gather(cluster, count)
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
    _gather(cluster, count)
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
    _gather(cluster, count)
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
    _gather(cluster, count)
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
    _gather(cluster, count - 1)
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
    _gather(cluster, count)
    for _ in range(10):
        for machine in cluster.machines:
            if cluster.rng.random() < 0.3:
                cluster.contribute(machine)
        for one, other in sorted(cluster.network.links):
            if cluster.rng.random() < 0.3:
                cluster.network.cut(one, other)
        cluster.run(TICK_S)
    return settle(cluster)


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

SCENARIOS: Final[Mapping[str, Scenario]] = {
    "everyone-contributes": everyone_contributes,
    "islands-heal": islands_heal,
    "crash-and-restart": crash_and_restart,
    "ban-in-partition": ban_in_partition,
    "banned-author": banned_author,
    "late-joiner": late_joiner,
    "flaky-links": flaky_links,
}
NODES_MIN: Final = 4


def run_scenario(name: str, seed: int, nodes: int) -> Outcome:
    """Run one scenario; the same arguments give the same outcome.

    Raises:
        NotConvergedError: a promise does not hold under this seed.
        ValueError: there are too few nodes for the story.
    """
    if nodes < NODES_MIN:
        raise ValueError(f"a scenario needs {NODES_MIN} nodes, not {nodes}")
    cluster = Cluster(seed)
    settled = SCENARIOS[name](cluster, nodes)
    traffic = cluster.network.traffic
    return Outcome(
        scenario=name,
        seed=seed,
        nodes=nodes,
        settled=settled,
        messages=traffic.messages,
        message_bytes=traffic.message_bytes,
        blob_bytes=traffic.blob_bytes,
        records=len(cluster.ledger),
        events=cluster.events,
        log_digest=cluster.log_digest,
        kinds=dict(traffic.kinds),
    )
