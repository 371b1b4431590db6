"""How one record after another spreads among the peers of a graph, message by message.

Owns the peers' behaviour as the model has it: exchanges, feeds and rumours as in
`crdtmerge.sync.session` and `nodes.node`, for sets that differ in one record at most. Peers
are rows of arrays, and time goes in steps of 5 ms, within which the order is fixed. Does
not own the graph, nor what a message costs (`calibration`).

A new stream is an old one that has forgotten: the graph stays. Left out, and looked for by
`check`: most of what a repair by trie takes (`doubted` counts what would begin some), the
order within a stream, and all that a busy processor or a full line would add.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from crdtmerge.sync.pulls import ASK_AGAIN_BEATS
from crdtmerge.sync.session import DOUBTS_MAX
from nodes.gossip import RUMOUR_FANOUT, TICK_JITTER
from nodes.neighbours import ROTATE_S
from simulations.faults import CALM
from simulations.links.network import DELAY_MIN_S
from simulations.town import MEET_TICKS
from simulations.world import TICK_S

from .graph import Generator, Graph, Numbers, draw_graph

STEP_S: Final = DELAY_MIN_S
"""No message takes less, so none that is sent in a step arrives in it."""
PERIOD: Final = round(TICK_S / STEP_S)
DELAY_MAX: Final = round(CALM.delay / STEP_S)
"""Steps that a message takes at most: one to so many, each as likely."""
UNREAD: Final = -1
"""The cursor of a peer whose feed we never read."""
PATIENCE: Final = 400 * PERIOD
"""Steps after which a record that is not everywhere is given up."""

BEAT, ECHO, QUESTION, REPLY, RUMOUR = "beat", "echo", "question", "reply", "rumour"
HELLO, THANKS = "hello", "thanks"
"""A hello, and one that says that the other's was heard."""
KINDS: Final = (BEAT, ECHO, QUESTION, REPLY, RUMOUR, HELLO, THANKS)
RECORDS: Final = "records"
"""What answers carried, beside the messages in a count."""
HEARD: Final = "heard"
"""How many peers had the record by a rumour, and not by an answer."""
ORDER: Final = (THANKS, HELLO, RUMOUR, REPLY, QUESTION, ECHO, BEAT)
"""In which order messages count that arrive in one step."""


class NeverEverywhereError(RuntimeError):
    """A record that did not reach all in time: what the model says of it is nothing."""


@dataclass(frozen=True, slots=True)
class Told:
    """How one record spread: periods until so many had it, and messages by kind."""

    half: float
    most: float
    """Until 99 of a hundred had it."""
    all: float
    periods: float
    """Periods that were watched."""
    sent: Counter[str]
    """Messages by kind, and `RECORDS` and `HEARD`."""


@dataclass(slots=True)
class Calendar:
    """What happens in the next steps."""

    rng: Generator
    loss: float
    sent: Counter[str] = field(default_factory=Counter)
    _due: list[list[tuple[str, Any, Any]]] = field(
        default_factory=lambda: [[] for _ in range(DELAY_MAX + 1)]
    )
    _step: int = 0

    def post(self, kind: str, edges: Numbers, said: Numbers) -> None:
        """Send a message along each of some edges."""
        if not len(edges):
            return
        self.sent[kind] += len(edges)
        if self.loss:
            arrives = self.rng.random(len(edges)) >= self.loss
            edges, said = edges[arrives], said[arrives]
        if not len(edges):
            return
        delays = self.rng.integers(1, DELAY_MAX + 1, len(edges))
        order = np.argsort(delays, kind="stable")
        counts = np.bincount(delays)
        ends = np.cumsum(counts)
        for delay in np.flatnonzero(counts).tolist():
            chosen = order[ends[delay] - counts[delay] : ends[delay]]
            place = (self._step + delay) % len(self._due)
            self._due[place].append((kind, edges[chosen], said[chosen]))

    def arrived(self) -> dict[str, tuple[Numbers, Numbers]]:
        """Go on by a step; return what arrives in it, by kind."""
        self._step += 1
        place = self._step % len(self._due)
        due, self._due[place] = self._due[place], []
        found: dict[str, tuple[Numbers, Numbers]] = {}
        for kind in ORDER:
            parts = [(edges, said) for which, edges, said in due if which == kind]
            if parts:
                edges, said = zip(*parts, strict=True)
                found[kind] = np.concatenate(edges), np.concatenate(said)
        return found


class Gossip:
    """Peers that have met, and hold the same.

    Of each edge, `cursors` to `doubts` tell how the peer at its beginning stands with what
    it pulls from the one at its end.
    """

    def __init__(
        self, graph: Graph, loss: float, rng: Generator, rumours: int = RUMOUR_FANOUT
    ) -> None:
        """Let all peers of `graph` begin with the same set, each at a phase of its own."""
        self.graph, self.rng, self.rumours = graph, rng, rumours
        self.calendar = Calendar(rng, loss)
        peers, edges = graph.peers, len(graph.ends)
        self.held = np.zeros(peers, np.int32)
        """How many records each peer holds."""
        self.cursors = np.zeros(edges, np.int32)
        self.asked = np.zeros(edges, bool)
        self.answered = np.ones(edges, bool)
        self.beats = np.zeros(edges, np.uint8)
        self.doubts = np.zeros(edges, np.uint8)
        self.deaf = rng.random(edges) < loss
        """Whether the peer at the beginning has not heard the other's hello."""
        self.doubted = 0
        """How many repairs would have begun."""
        self.step = 0
        self._times: list[tuple[int, int]] = []
        longest = round(PERIOD * (1 + TICK_JITTER))
        self._ticks: list[list[Numbers]] = [[] for _ in range(longest + 1)]
        self._plan(np.arange(peers, dtype=np.int32), rng.integers(1, PERIOD + 1, peers))

    # --- what is measured ---------------------------------------------------------------

    def idle(self, periods: int) -> Counter[str]:
        """Return what is sent while nothing happens."""
        before = self.calendar.sent.copy()
        for _ in range(periods * PERIOD):
            self._go_on()
        return self.calendar.sent - before

    def tell(self) -> Told:
        """Let somebody say something; go on until all have it, and then a little.

        Raises:
            NeverEverywhereError: not all have it in time.
        """
        peers, began = self.graph.peers, self.step
        before, self._times = self.calendar.sent.copy(), []
        speaker = self.rng.integers(0, peers, 1).astype(np.int32)
        self._learn(speaker, np.full(1, -1, np.int32))
        known = 1
        while known < peers:
            self._go_on()
            known = sum(count for _, count in self._times)
            if self.step - began > PATIENCE:
                raise NeverEverywhereError(f"{peers - known} of {peers} never heard")
        steps = np.repeat(*np.array(self._times).T)
        shares = (np.ceil(share * peers).astype(int) - 1 for share in (0.5, 0.99, 1))
        half, most, last = ((int(steps[place]) - began) / PERIOD for place in shares)
        for _ in range(int(self.rng.integers(PERIOD, 2 * PERIOD))):
            self._go_on()
        periods = (self.step - began) / PERIOD
        return Told(half, most, last, periods, self.calendar.sent - before)

    # --- one step -----------------------------------------------------------------------

    def _go_on(self) -> None:
        self.step += 1
        arrived = self.calendar.arrived()
        if self.graph.partial:
            self._renew()
        handlers = {
            THANKS: self._greet,
            HELLO: self._greeted,
            RUMOUR: self._hear,
            REPLY: self._take,
            QUESTION: self._answer,
            ECHO: self._echoed,
            BEAT: self._beaten,
        }
        for kind, (edges, said) in arrived.items():
            handlers[kind](edges, said)
        due = self._ticks[self.step % len(self._ticks)]
        self._ticks[self.step % len(self._ticks)] = []
        if due:
            self._tick(np.concatenate(due))

    def _renew(self) -> None:
        """Let a few streams be as new: each peer exchanges a neighbour now and then.

        SUBTLE: the graph stays as it is. What counts is what a new stream lacks.
        """
        pairs = len(self.graph.ends) // 2
        often = self.graph.peers / (round(ROTATE_S / TICK_S) * PERIOD)
        count = min(int(self.rng.poisson(often)), pairs)
        if not count:
            return
        one = np.unique(self.rng.integers(0, 2 * pairs, count)).astype(np.int32)
        both = np.concatenate([one, self.graph.back[one]])
        lost = self.calendar.loss
        self.deaf[both] = self.rng.random(len(both)) < lost
        greeted = ~self.deaf[both] & (self.rng.random(len(both)) >= lost)
        self.cursors[both[~greeted]] = UNREAD
        self.asked[both], self.answered[both], self.doubts[both] = False, True, 0
        self.calendar.sent[HELLO] += len(both)
        heard = both[greeted]
        said = self.held[self.graph.ends[heard]]
        same = said == self.held[self.graph.ends[self.graph.back[heard]]]
        self.cursors[heard] = np.where(same, said, UNREAD)
        self.calendar.sent[BEAT] += len(both)

    def _plan(self, peers: Numbers, delays: Any) -> None:
        order = np.argsort(delays, kind="stable")
        places, begins = np.unique(delays[order], return_index=True)
        for delay, some in zip(places, np.split(peers[order], begins[1:]), strict=True):
            self._ticks[(self.step + int(delay)) % len(self._ticks)].append(some)

    def _tick(self, peers: Numbers) -> None:
        """Begin an exchange with one neighbour each (`Neighbours.partner`)."""
        graph, rng = self.graph, self.rng
        span = graph.first[peers + 1] - graph.first[peers]
        if graph.partial:
            own = rng.random(len(peers)) < 0.5
            span = np.where(own, graph.chosen[peers], span)
        edges = graph.first[peers] + (rng.random(len(peers)) * span).astype(np.int32)
        self._beat(BEAT, edges)
        least, most = (round(PERIOD * (1 + j)) for j in (-TICK_JITTER, TICK_JITTER))
        self._plan(peers, rng.integers(least, most + 1, len(peers)))

    # --- messages -----------------------------------------------------------------------

    def _greeted(self, edges: Numbers, _said: Numbers) -> None:
        """Take a hello; if we knew the other, it cannot have heard ours."""
        pulls = self.graph.back[edges]
        knew = pulls[~self.deaf[pulls]]
        self.deaf[pulls] = False
        self.calendar.post(THANKS, knew, knew)
        self._beat(BEAT, knew)

    def _greet(self, edges: Numbers, _said: Numbers) -> None:
        self.deaf[self.graph.back[edges]] = False

    def _awake(self, edges: Numbers, said: Numbers) -> tuple[Numbers, Numbers]:
        """Return what is heard of heartbeats; who is deaf asks for a hello."""
        deaf = self.deaf[self.graph.back[edges]]
        asks = self.graph.back[edges[deaf]]
        self.calendar.post(HELLO, asks, asks)
        return edges[~deaf], said[~deaf]

    def _beat(self, kind: str, edges: Numbers) -> None:
        """Say how many one holds, and whether the last question was answered."""
        pulls = self.graph.back[edges]
        said = 2 * self.held[self.graph.ends[pulls]] + self.answered[pulls]
        self.calendar.post(kind, edges, said)

    def _beaten(self, edges: Numbers, said: Numbers) -> None:
        """Take a heartbeat; if it differs, tell ours too (`Session._take_beat`)."""
        edges, said = self._awake(edges, said)
        pulls = self.graph.back[edges]
        differs = said // 2 != self.held[self.graph.ends[edges]]
        self._beat(ECHO, pulls[differs])
        self._compare(edges, said)

    def _echoed(self, edges: Numbers, said: Numbers) -> None:
        self._compare(*self._awake(edges, said))

    def _compare(self, edges: Numbers, said: Numbers) -> None:
        """Begin a pull, or go on waiting for one (`Session._compare`, `Pulls.wait`)."""
        pulls, theirs = self.graph.back[edges], said // 2
        waits = self.asked[pulls]
        waiting, told = pulls[waits], said[waits] % 2 == 1
        self.beats[waiting] += 1
        again = told | (self.beats[waiting] % ASK_AGAIN_BEATS == 0)
        self.answered[waiting[told]] = False  # it is asked under a new number
        self._ask(waiting[again])
        idle, theirs = pulls[~waits], theirs[~waits]
        same = theirs == self.held[self.graph.ends[edges[~waits]]]
        self.cursors[idle[same]] = theirs[same]
        self.doubts[idle[same]] = 0
        new = ~same & (self.cursors[idle] == UNREAD)  # repaired, in as many messages
        ours = self.held[self.graph.ends[edges[~waits]]]
        self.cursors[idle[new]] = np.minimum(ours, theirs)[new]
        behind = new | (~same & (self.cursors[idle] < theirs))
        asks = idle[behind]
        self.asked[asks], self.answered[asks], self.beats[asks] = True, False, 0
        self._ask(asks)
        doubts = idle[~same & ~behind]
        self.doubts[doubts] += 1
        self.doubted += int((self.doubts[doubts] == DOUBTS_MAX).sum())

    def _ask(self, pulls: Numbers) -> None:
        self.calendar.post(QUESTION, pulls, pulls)

    def _answer(self, pulls: Numbers, _said: Numbers) -> None:
        """Answer each question once (`Serving.answer`)."""
        hears = ~self.deaf[self.graph.back[pulls]]
        fresh = np.unique(pulls[hears & ~self.answered[pulls]])
        self.answered[fresh] = True
        holds = self.held[self.graph.ends[fresh]]
        self.calendar.sent[RECORDS] += int((holds - self.cursors[fresh]).sum())
        self.calendar.post(REPLY, fresh, holds)

    def _take(self, pulls: Numbers, said: Numbers) -> None:
        """Take an answer that one waits for (`Feeding.take`)."""
        waits = self.asked[pulls]
        pulls, said = pulls[waits], said[waits]
        self.asked[pulls] = False
        self.cursors[pulls] = said
        takers = self.graph.ends[self.graph.back[pulls]]
        self._learn(*self._new(takers, pulls, said > self.held[takers]))

    def _hear(self, edges: Numbers, said: Numbers) -> None:
        """Take a rumour, if it is news."""
        hearers = self.graph.ends[edges]
        news = (said > self.held[hearers]) & ~self.deaf[self.graph.back[edges]]
        found, tellers = self._new(hearers, self.graph.back[edges], news)
        self.calendar.sent[HEARD] += len(found)
        self._learn(found, tellers)

    @staticmethod
    def _new(peers: Numbers, edges: Numbers, news: Any) -> tuple[Numbers, Numbers]:
        """Return who has news, each once, and the edge to the first who told it."""
        found, places = np.unique(peers[news], return_index=True)
        return found, edges[news][places]

    def _learn(self, peers: Numbers, tellers: Numbers) -> None:
        """Hold one record more, and push it to a few others than who told it."""
        if not len(peers):
            return
        self.held[peers] += 1
        self._times.append((self.step, len(peers)))
        first = self.graph.first[peers]
        taken = [np.where(tellers < 0, -1, tellers - first)]
        for turn in range(self.rumours):
            span = self.graph.first[peers + 1] - first
            if self.graph.partial and turn < (self.rumours + 1) // 2:
                span = self.graph.chosen[peers]  # half of them or more are one's choice
            taken.append(self._another(span, taken))
            self.calendar.post(RUMOUR, first + taken[-1], self.held[peers])

    def _another(self, span: Numbers, taken: list[Numbers]) -> Numbers:
        """Draw a place below `span` each, other than those that were taken."""
        drawn = np.full(len(span), -1, np.int32)
        left = np.arange(len(span))
        while len(left):
            drawn[left] = (self.rng.random(len(left)) * span[left]).astype(np.int32)
            used = [places[left] == drawn[left] for places in taken]
            left = left[np.logical_or.reduce(used)]
        return drawn


def make_gossip(peers: int, loss: float, seed: int) -> Gossip:
    """Return peers that have met; the same arguments give the same run."""
    name = [seed, peers, round(loss * 1_000_000)]
    rng = np.random.default_rng(name)  # noqa: TID251  its seed decides all of it
    gossip = Gossip(draw_graph(peers, rng), loss, rng)
    gossip.idle(
        MEET_TICKS
    )  # what was lost when streams began is made up for, or not yet
    return gossip
