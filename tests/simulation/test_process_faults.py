"""Processes end, stand still and come back as the catalogue says, and clocks jump."""

import pytest

from crdtmerge.sync.messages import FEATURES, CompareRequest, Goodbye, Hello, Probes
from nodes.effects import Effect, Input, MessageReceived, PeerClosed, Send, Ticked
from nodes.gossip import BACKOFF_LAST_S
from simulations import world as worlds
from simulations.checking.checkers import NotConvergedError
from simulations.checking.settling import gather, settle
from simulations.cluster import Cluster
from simulations.faults import Faults
from simulations.liars.flooding import Flooder
from simulations.releases import (
    CURRENT,
    NEEDS,
    RELEASES,
    NotUnderstoodError,
    Release,
)
from simulations.stories.scenarios import run_scenario
from simulations.weather import Weather
from simulations.weather.processes import JUMP_S, LOOPS, PAUSE_S
from simulations.world import Interruption, Machine

OLD, TOO_NEW = RELEASES[0], RELEASES[-1]
DAY_S = 86_400.0


def _met(seed: int = 1, count: int = 2) -> Cluster:
    cluster = Cluster(seed)
    gather(cluster, count)
    settle(cluster)
    return cluster


def _struck(kind: str, seed: int = 1, count: int = 3) -> tuple[Cluster, Weather]:
    """Return a cluster that one kind has just struck, once or more in one round."""
    cluster = _met(seed, count)
    weather = Weather(cluster)
    cluster.dice.faults = Faults.of(**{kind: 0.3})
    while not cluster.dice.hits[kind]:
        weather.strike()
    cluster.dice.faults = Faults.of()
    return cluster, weather


def _run_seeds(story: str, count: int) -> None:
    for seed in range(count):
        run_scenario(story, seed, 4)


class Watched:
    """What one machine hears, and what it performs."""

    def __init__(self, cluster: Cluster, machine: Machine) -> None:
        """Watch from now on."""
        self.heard: list[Input] = []
        self.done: list[Effect] = []
        submit, perform = cluster.submit, cluster._perform

        def watch(who: Machine, item: Input) -> None:
            if who is machine:
                self.heard.append(item)
            submit(who, item)

        def watch_effect(who: Machine, effect: Effect) -> None:
            if who is machine:
                self.done.append(effect)
            perform(who, effect)

        cluster.submit = watch  # type: ignore[method-assign, assignment]
        cluster._perform = watch_effect  # type: ignore[method-assign, assignment]


# --- ends and pauses amid effects ------------------------------------------------------


def test_a_process_is_killed_amid_the_effects_of_one_input() -> None:
    """Some of them are performed, the others never; its disk has what was committed."""
    cluster = _met(count=4)
    owner, watched = cluster.owner, Watched(cluster, cluster.owner)
    owner.interruption = Interruption(3, lambda: cluster.crash(owner))
    cluster.contribute(owner)  # three rumours
    assert len([e for e in watched.done if isinstance(e, Send)]) == 2
    assert owner not in cluster.running
    cluster.restart(owner)
    settle(cluster)


def test_a_process_that_stands_still_does_later_what_it_had_to() -> None:
    """The rest of its effects first, then what reached it meanwhile, in order."""
    cluster = _met(count=4)
    owner, watched = cluster.owner, Watched(cluster, cluster.owner)
    owner.interruption = Interruption(3, lambda: cluster.pause(owner, 5.0))
    cluster.contribute(owner)
    assert owner not in cluster.awake
    assert owner in cluster.running
    cluster.run(4.0)
    assert len(watched.done) == 2
    assert owner.still
    assert isinstance(owner.still[0], Send)
    assert any(isinstance(item, Ticked) for item in owner.still)
    cluster.run(2.0)
    assert owner in cluster.awake
    assert len(watched.done) > 3
    settle(cluster)


def test_a_process_that_stands_still_serves_and_fetches_nothing() -> None:
    """Its streams stand, and nobody is told."""
    cluster = _met()
    owner, other = cluster.machines
    for paused in (owner, other):
        cluster.contribute(owner)
        while not other.spaces.missing(cluster.space):
            cluster.run(0.01)
        cluster.pause(paused, 10.0)
        lacking = list(other.spaces.missing(cluster.space))
        cluster.run(8.0)
        assert other.blobs.missing(lacking) == lacking
        settle(cluster)


def test_a_process_that_stands_still_takes_up_no_stream() -> None:
    """Found by a swarm: what it had to say on the last one went out on the next."""
    cluster = _met()
    owner, other = cluster.machines
    cluster.pause(owner, 15.0)
    cluster.network.cut(owner.transport, other.transport)
    for _ in range(14):
        cluster.run(1.0)
        assert not cluster.network.linked(owner.transport, other.transport)
    settle(cluster)
    assert cluster.network.linked(owner.transport, other.transport)
    assert not cluster.accused


@pytest.mark.parametrize("kind", ["crash_amid", "pause"])
def test_what_strikes_amid_effects_counts_once_it_happens(kind: str) -> None:
    """Not when it is drawn: the process may never come so far."""
    cluster, weather = _struck(kind)
    waiting = [m for m in cluster.machines if m.interruption is not None]
    assert waiting
    assert not cluster.dice.struck[kind]
    cluster.run(PAUSE_S[1] + 5.0)
    assert cluster.dice.struck[kind] == len(waiting)
    weather.pass_over()
    settle(cluster)


def test_who_is_killed_amid_its_flood_asks_nothing_more() -> None:
    """Found by a swarm: members that lie are killed amid effects, too."""
    cluster = _met()
    flooder = Flooder(cluster, cluster.machines[1])
    asked = cluster.network.traffic.messages
    cluster.crash(cluster.machines[1])
    flooder.ask()
    assert cluster.network.traffic.messages == asked


def test_what_is_still_to_strike_is_called_off_with_the_weather() -> None:
    """And who stands still goes on."""
    cluster, weather = _struck("pause")
    weather.pass_over()
    assert not any(machine.interruption for machine in cluster.machines)
    cluster.pause(cluster.owner, 60.0)
    weather.pass_over()
    assert cluster.awake == cluster.machines


def test_a_restart_loop_kills_a_process_again_after_each_of_several_starts() -> None:
    """One strike is several ends, and then it stays up."""
    cluster, _ = _struck("restart_loop")
    cluster.run(20.0)
    loops = cluster.dice.struck["restart_loop"]
    assert loops >= 1
    assert (1 + LOOPS[0]) * loops <= cluster.crashes <= (1 + LOOPS[1]) * loops
    assert cluster.running == cluster.machines
    settle(cluster)


def test_a_restart_loop_ends_with_the_weather() -> None:
    """Whoever is up is not killed any more."""
    cluster, weather = _struck("restart_loop")
    while cluster.running != cluster.machines:
        cluster.run(0.01)
    weather.pass_over()
    ended = cluster.crashes
    cluster.run(20.0)
    assert cluster.crashes == ended


# --- releases --------------------------------------------------------------------------


def test_an_old_release_speaks_and_hears_less() -> None:
    """Both hellos name only what both know; an unknown message is no matter of luck."""
    hello = Hello(1, "agent", features=FEATURES, oldest=1, newest=1)
    said, heard = OLD.says(hello), OLD.hears(hello)
    assert isinstance(said, Hello)
    assert isinstance(heard, Hello)
    assert (said.features, said.spoken) == (0, (1, 1))
    assert (said.oldest, heard.features) == (0, 0)
    question = CompareRequest(bytes(32), bytes(8), (), 1)
    assert CURRENT.hears(question) is question
    with pytest.raises(NotUnderstoodError, match="knows no CompareRequest"):
        OLD.hears(question)


def test_every_message_that_needs_a_feature_is_known_to_need_it() -> None:
    """Each feature but loans, which are calls of their own, has messages."""
    bits = set(NEEDS.values())
    assert sum(bits) | RELEASES[3].features ^ FEATURES == FEATURES
    assert all(kind in NEEDS for kind in Probes.__args__)


def _apart(release: Release) -> Cluster:
    """Return machines that are down, each with news, and no cursors in a large set.

    One of them comes up again as `release`.
    """
    cluster = _met(count=3)
    cluster.fill(cluster.owner, 100)
    settle(cluster)
    for machine in cluster.machines:
        cluster.leave(machine)
        cluster.contribute(machine)
    cluster.machines[1].release = release
    return cluster


@pytest.mark.parametrize("release", RELEASES[:-1], ids=lambda release: release.name)
def test_releases_that_follow_each_other_agree(release: Release) -> None:
    """Whoever is upgraded first, in either direction, and large sets are repaired too."""
    cluster = _apart(release)
    for machine in cluster.machines:
        cluster.restart(machine)
    settle(cluster)
    features = {s.features for s in cluster.owner.node.sessions.values()}  # type: ignore[union-attr]
    assert features == {FEATURES, release.features}


def test_who_is_too_new_hears_nothing_until_it_is_of_this_release_again() -> None:
    """The others try again now and then, and it catches up."""
    cluster = _met(count=3)
    machine = cluster.machines[1]
    cluster.leave(machine)
    machine.release = TOO_NEW
    cluster.restart(machine)
    cluster.run(10.0)
    cluster.contribute(cluster.owner)
    cluster.run(20.0)
    assert cluster.owner.node is not None
    assert machine.transport in cluster.owner.node.apart
    assert machine.spaces.opset(cluster.space) != cluster.owner.spaces.opset(
        cluster.space
    )
    Weather(cluster).pass_over()
    assert machine.release is CURRENT
    settle(cluster)


def test_a_message_that_an_old_release_does_not_know_ends_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If a node spoke of what its peer did not name, this would find it."""
    monkeypatch.setattr(Release, "says", lambda _self, message: message)
    cluster = _apart(OLD)
    for machine in cluster.machines:
        cluster.restart(machine)
    with pytest.raises(NotUnderstoodError, match="knows no CompareRequest"):
        cluster.run(30.0)


@pytest.mark.parametrize("release", [OLD, CURRENT])
def test_who_leaves_says_goodbye_to_those_who_know_the_word(release: Release) -> None:
    """They do not take it for a failure; an old release only hangs up."""
    cluster = _met()
    owner, other = cluster.machines
    cluster.leave(other)
    other.release = release
    cluster.restart(other)
    cluster.run(20.0)
    watched = Watched(cluster, owner)
    cluster.leave(other)
    cluster.run(1.0)
    ends = [item for item in watched.heard if isinstance(item, PeerClosed)]
    knows = release is CURRENT
    assert ends == [PeerClosed(other.transport, left=knows)]
    assert not any(
        isinstance(item, MessageReceived) and isinstance(item.message, Goodbye)
        for item in watched.heard
    )


# --- clocks ----------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [DAY_S, -DAY_S])
def test_a_jump_of_a_clock_keeps_nobody_apart(jump: float) -> None:
    """Back-offs, pauses and downloads that began before it end no later."""
    cluster = _met()
    owner, other = cluster.machines
    owner.ahead = DAY_S
    cluster.run(1.0)
    cluster.network.partition([owner.transport])
    cluster.contribute(other)
    cluster.run(30.0)  # its dials have failed, and wait
    owner.ahead += jump
    cluster.network.heal()
    assert settle(cluster).rounds < 2 * BACKOFF_LAST_S


def test_a_clock_that_is_believed_keeps_machines_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the steady clock the story of a clock set back fails: it sees such harm."""
    monkeypatch.setattr(worlds, "Steady", lambda clock: clock)
    with pytest.raises(NotConvergedError, match=r"after \d+ rounds"):
        _run_seeds("fault-clock-back", 10)


def test_jumps_are_of_a_second_to_a_day() -> None:
    """In either direction, as its kind says."""
    for kind, sign in (("clock_ahead", 1), ("clock_back", -1)):
        cluster, _ = _struck(kind)
        jumps = [sign * m.ahead for m in cluster.machines if m.ahead]
        assert jumps
        assert all(JUMP_S[0] <= jump <= JUMP_S[1] for jump in jumps)


def test_no_process_begins_with_a_clock_below_zero() -> None:
    """A system's clock counts from its start."""
    cluster = _met()
    cluster.owner.ahead = -DAY_S
    cluster.crash(cluster.owner)
    cluster.restart(cluster.owner)
    assert cluster.owner.now() == 0.0


def test_a_step_back_before_a_process_does_anything_is_one_too() -> None:
    """Found by a swarm: its downloads would have waited for as long."""
    cluster = _met()
    machine = cluster.join()
    before = machine.now()
    machine.ahead -= DAY_S
    assert machine.now() == pytest.approx(before)
    settle(cluster)


def test_the_same_seed_gives_the_same_log() -> None:
    """What a fault does is drawn from the seed, too."""
    for kind in ("restart-loop", "upgrade"):
        once, again = (run_scenario(f"fault-{kind}", 5, 4) for _ in range(2))
        assert once == again
