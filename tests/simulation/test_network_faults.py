"""Links and streams fail as the catalogue says, at the smallest size that shows it."""

import random
from itertools import pairwise

import pytest

from crdtmerge.sync.messages import Heartbeat, Message, Rumour
from nodes.choices import LIED_S
from simulations.checking.settling import gather, settle
from simulations.clock import Clock
from simulations.cluster import Cluster
from simulations.faults import CALM, Dice, Faults
from simulations.links import network as wires
from simulations.links.network import NOTICE_S, SILENT_S, TAIL_MAX_S, Network
from simulations.links.walls import Wall, Walls, around
from simulations.stories.scenarios import run_scenario
from simulations.weather import Weather
from simulations.weather.links import FLAPS

A, B, C, D = (bytes([n]) * 32 for n in range(1, 5))


class Wires:
    """A network of nodes that only listen."""

    def __init__(self, **chances: float) -> None:
        """Let these faults strike it."""
        self.clock = Clock()
        self.heard: list[tuple[float, bytes, bytes, Message]] = []
        self.told: list[tuple[float, bytes, bytes, bool]] = []
        generators: dict[str, random.Random] = {}

        def generator(label: str) -> random.Random:
            return generators.setdefault(label, random.Random(label))

        self.dice = Dice(Faults.of(0.1, **chances), generator)
        self.network = Network(
            self.clock,
            random.Random(1),
            self.dice,
            lambda *said: self.heard.append((self.clock.now, *said)),
            lambda *ended: self.told.append((self.clock.now, *ended)),
        )

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run_until(self.clock.now + seconds)

    def say(self, sender: bytes, receiver: bytes, number: int = 0) -> None:
        """Send a message that is known again by its number."""
        beat = Heartbeat(bytes(32), bytes(32), number, bytes(16), number)
        self.network.send(sender, receiver, beat)

    def numbers(self, receiver: bytes = B) -> list[int]:
        """Return the numbers that a node heard, in order."""
        return [
            said.count
            for _, _, who, said in self.heard
            if who == receiver and isinstance(said, Heartbeat)
        ]


# --- messages --------------------------------------------------------------------------


def test_some_messages_take_many_times_as_long_and_none_overtakes_them() -> None:
    """The tail is heavy, and has an end."""
    wires = Wires(tail=0.1)
    wires.network.open(A, B)
    waits = []
    for number in range(500):
        wires.say(A, B, number)
        sent = wires.clock.now
        wires.run(2 * TAIL_MAX_S)
        waits.append(wires.heard[-1][0] - sent)
    assert wires.numbers() == list(range(500))
    assert sorted(waits)[250] < 0.1  # most take no longer than ever
    assert sum(wait > 1.0 for wait in waits) >= 3
    assert max(waits) <= TAIL_MAX_S + 0.1
    wires.say(A, B, 500)
    for number in range(501, 700):
        wires.say(A, B, number)
    wires.run(2 * TAIL_MAX_S)
    assert wires.numbers() == list(range(700))


def test_flipped_bits_end_the_link_and_are_heard_by_nobody() -> None:
    """The real decoder gets each frame, and refuses it or reads another message."""
    wires = Wires(corrupt=0.5)
    for number in range(400):
        if not wires.network.linked(A, B):
            wires.network.open(A, B)
        wires.say(A, B, number)
        wires.network.send(B, A, Rumour(bytes(32), ()))
        wires.run(1.0)
    struck = wires.dice.struck["corrupt"]
    assert struck > 100
    assert 0 < wires.network.traffic.refused < struck
    assert len(wires.told) == 2 * struck  # either end, of each link
    assert set(wires.numbers()) < set(range(400))


def test_a_frame_whose_link_is_gone_is_not_corrupted() -> None:
    """A fault that does not happen is not counted."""
    wires = Wires(corrupt=0.5)
    wires.network.open(A, B)
    while not wires.dice.hits["corrupt"]:
        wires.say(A, B)
    wires.network.cut(A, B)
    wires.run(1.0)
    assert wires.dice.hits["corrupt"] == 1
    assert not wires.dice.struck["corrupt"]


def test_an_error_of_the_decoder_that_is_no_refusal_ends_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing but a clean refusal is let pass."""
    wires_ = Wires(corrupt=0.5)
    wires_.network.open(A, B)

    def broken(_data: bytes) -> Message:
        raise IndexError

    monkeypatch.setattr(wires, "decode", broken)
    while not wires_.dice.hits["corrupt"]:
        wires_.say(A, B)
    with pytest.raises(IndexError):
        wires_.run(1.0)


# --- slow and silent links -------------------------------------------------------------


def test_a_slow_link_carries_few_bytes_a_second_for_a_time() -> None:
    """What is sent waits for what was sent before; afterwards all goes at once."""
    wires = Wires()
    wires.network.open(A, B)
    assert wires.network.slow(A, B, rate=100.0, seconds=10.0)
    assert not wires.network.slow(A, B, rate=100.0, seconds=10.0)  # it is slow already
    for number in range(30):
        wires.say(A, B, number)
    wires.run(20.0)
    times = [time for time, *_ in wires.heard]
    gaps = [after - before for before, after in pairwise(times)]
    assert wires.numbers() == list(range(30))
    assert times[-1] <= 10.0 + 0.1
    assert 0.5 < gaps[0] < 2.0  # about a hundred bytes each
    assert gaps[-1] == 0.0
    assert wires.network.travel(A, B, 1000) < 1.0
    wires.network.slow(A, B, rate=100.0, seconds=60.0)
    assert wires.network.travel(A, B, 1000) == pytest.approx(10.0)


def test_a_half_open_link_is_silent_one_way_until_pings_go_unanswered() -> None:
    """Nobody is told; each end gives it up within the time that gRPC takes."""
    wires = Wires()
    wires.network.open(A, B)
    assert wires.network.silence(A, B)
    assert not wires.network.silence(A, B)
    wires.say(A, B)
    wires.say(B, A)
    wires.run(SILENT_S[0] - 0.1)
    assert not wires.numbers(B)
    assert wires.numbers(A) == [0]
    assert not wires.told
    wires.run(SILENT_S[1] - SILENT_S[0] + 0.2)
    assert {(one, other) for _, one, other, _ in wires.told} == {(A, B), (B, A)}
    assert not wires.network.linked(A, B)


@pytest.mark.parametrize(("dialler", "taken"), [(A, False), (B, True)])
def test_a_new_stream_replaces_a_half_open_one_by_the_rule_of_links(
    dialler: bytes, *, taken: bool
) -> None:
    """Who still believes in the old one keeps it, if the lower key dialled it."""
    wires = Wires()
    wires.network.open(dialler, B if dialler == A else A)
    assert wires.network.silence(B, A)
    wires.network.leave(B, A)  # of which A hears nothing
    wires.run(2 * NOTICE_S)
    assert [told[1:3] for told in wires.told] == [(B, A)]
    assert wires.network.holds(A, B)
    assert not wires.network.holds(B, A)
    assert wires.network.open(B, A) is taken
    assert wires.network.holds(B, A) is taken
    assert (A in {one for _, one, _, _ in wires.told}) is taken


# --- walls -----------------------------------------------------------------------------


def test_walls_overlap_and_each_goes_by_itself() -> None:
    """Reachability is of a direction, and of all walls that stand."""
    walls = Walls()
    island, one_way = around([A, B]), Wall(frozenset({A}), both_ways=False)
    walls.put_up(island)
    walls.put_up(one_way)
    assert walls.stop(A, C)
    assert walls.stop(C, A)
    assert walls.stop(A, B)
    assert not walls.stop(B, A)
    assert not walls.stop(C, D)
    walls.take_down(island)
    assert walls.stop(A, C)
    assert not walls.stop(C, A)
    walls.take_down(one_way)
    walls.take_down(one_way)
    assert not any(walls.stop(x, y) for x in (A, B, C, D) for y in (A, B, C, D))


def test_a_bridge_reaches_both_islands() -> None:
    """Two sides of a wall do not reach each other; who is on neither reaches all."""
    wires = Wires()
    wires.network.put_up(Wall(frozenset({A}), frozenset({B, C})))
    assert not wires.network.reaches(A, B)
    assert not wires.network.reaches(C, A)
    assert all(wires.network.reaches(D, node) for node in (A, B, C))


def test_a_partition_cuts_the_links_across_it_and_no_others() -> None:
    """Both ends of each notice; nobody dials across it."""
    wires = Wires()
    for one, other in ((A, B), (A, C), (C, D)):
        wires.network.open(one, other)
    wires.network.partition([A, B])
    wires.run(1.0)
    assert sorted(wires.network.links) == [(A, B), (C, D)]
    assert sorted(told[1:3] for told in wires.told) == [(A, C), (C, A)]
    assert not wires.network.can_dial(A, D)
    wires.network.heal()
    assert wires.network.can_dial(A, D)


def test_a_one_way_wall_holds_messages_back_and_lets_the_others_pass() -> None:
    """They arrive in order once it is gone: who sent them sends them again till then."""
    wires = Wires()
    wires.network.open(A, B)
    wall = Wall(frozenset({A}), both_ways=False)
    wires.network.put_up(wall)
    for number in range(5):
        wires.say(A, B, number)
        wires.say(B, A, number)
        wires.run(1.0)
    assert wires.numbers(A) == [0, 1, 2, 3, 4]
    assert not wires.numbers(B)
    assert not wires.network.can_dial(B, A)  # it would hear no answer
    wires.network.take_down(wall)
    wires.say(A, B, 5)
    wires.run(60.0)
    assert wires.numbers(B) == [0, 1, 2, 3, 4, 5]
    assert not wires.told


def test_a_one_way_wall_that_stays_ends_the_links_across_it() -> None:
    """Who is not heard is given up, by either end, though it hears the other."""
    wires = Wires()
    wires.network.open(A, B)
    wires.network.put_up(Wall(frozenset({A}), both_ways=False))
    wires.run(SILENT_S[1] + 2 * NOTICE_S)
    assert {told[1] for told in wires.told} == {A, B}
    assert not wires.network.links


def test_an_end_that_nobody_heard_of_is_heard_of_once_the_wall_is_gone() -> None:
    """Else one side would take a link for open that the other has closed."""
    wires = Wires()
    wires.network.open(A, B)
    wall = Wall(frozenset({A}), both_ways=False)
    wires.network.put_up(wall)
    wires.network.leave(A, B)
    wires.run(2 * NOTICE_S)
    assert [told[1] for told in wires.told] == [A]
    wires.network.take_down(wall)
    wires.run(2 * NOTICE_S)
    assert [told[1] for told in wires.told] == [A, B]
    assert not wires.network.links


def test_a_link_that_flaps_is_lost_several_times_and_found_again() -> None:
    """One strike is several losses; once the weather is over, none comes any more."""
    cluster = Cluster(3)
    gather(cluster, 2)
    weather = Weather(cluster)
    cluster.dice.faults = Faults.of(flap=0.5)
    while not cluster.dice.struck["flap"]:
        weather.strike()
    cluster.dice.faults = CALM
    one, other = (machine.transport for machine in cluster.machines)
    states = []
    for _ in range(600):
        cluster.run(0.05)
        states.append(cluster.network.reaches(one, other))
    losses = sum(before and not after for before, after in pairwise([True, *states]))
    assert FLAPS[0] <= losses <= FLAPS[1]
    assert cluster.network.reaches(one, other)
    settle(cluster)


def test_a_link_flaps_no_more_once_the_weather_is_over() -> None:
    """Though it was to be lost again."""
    cluster = Cluster(3)
    gather(cluster, 2)
    weather = Weather(cluster)
    cluster.dice.faults = Faults.of(flap=0.5)
    while not cluster.dice.struck["flap"]:
        weather.strike()
    one, other = (machine.transport for machine in cluster.machines)
    while not cluster.network.reaches(one, other):
        cluster.run(0.01)
    weather.pass_over()
    for _ in range(100):
        cluster.run(0.05)
        assert cluster.network.reaches(one, other)


# --- streams of blobs ------------------------------------------------------------------


def _fetches(seed: int, **chances: float) -> Cluster:
    """Return two machines, of which one fetches what the other contributed."""
    cluster = Cluster(seed)
    gather(cluster, 2)
    settle(cluster)
    cluster.dice.faults = Faults.of(**chances)
    cluster.contribute(cluster.owner)
    return cluster


def test_a_stream_that_ends_early_is_asked_for_again_soon() -> None:
    """A source that went away is no liar."""
    cluster = _fetches(1, cut_stream=0.5)
    assert settle(cluster).rounds < 60
    assert cluster.dice.struck["cut_stream"]


def test_a_stream_that_stands_still_is_dropped_and_asked_for_again() -> None:
    """By the swarm's own deadline: nobody tells it."""
    cluster = _fetches(1, stalled_stream=0.5)
    cluster.run(30.0)
    stalled = cluster.machines[1].spaces.missing(cluster.space)
    assert stalled
    cluster.dice.faults = CALM
    settle(cluster)
    assert cluster.dice.struck["stalled_stream"]


def test_who_brought_other_bytes_is_asked_again_after_a_time() -> None:
    """It alone has the blob; and whose bytes were changed on the way is not accused."""
    cluster = _fetches(0, bad_chunk=0.5)
    while not cluster.dice.struck["bad_chunk"]:
        cluster.run(1.0)
    cluster.dice.faults = CALM
    began = cluster.clock.now
    cluster.run(60.0)
    assert cluster.machines[1].spaces.missing(cluster.space)
    settle(cluster, patience_rounds=int(LIED_S) + 60)
    assert cluster.clock.now - began > LIED_S - 60
    assert not cluster.accused


# --- the stories -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["half_open", "one_way", "stalled_stream"])
def test_the_same_seed_gives_the_same_log(kind: str) -> None:
    """What a fault does is drawn from the seed, too."""
    once, again = (run_scenario(f"fault-{kind}", 5, 4) for _ in range(2))
    assert once == again
