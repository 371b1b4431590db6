"""Tier 1, phase 2: the laws of the two layers together, for one strategy, by bytes.

Owns the four laws as the paper counts them: commutative, associative, idempotent, and that
three replicas converge. Does not own the states (`histories`), nor joins (`replicas`).

A join takes two states that are bytes and gives a third: a new replica is made of the bytes
of one, another of those of the other, and they exchange over real frames. So no object is
compared with itself, and nothing is equal that did not survive the wire. What is compared
is the set of signed records and the merged model, byte by byte. `Join` is an argument, so
that the tests of these laws can give one that is broken.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations
from typing import Final, TypeAlias

from crdtmerge.errors import CrdtMergeError
from simulations.checking.merging import Merged, merge

from .catalogue import Choice
from .histories import MODELS, Parted, parted
from .replicas import State, Traffic, opened, push, saved

LAWS: Final = ("commutative", "associative", "idempotent", "convergence")

Join: TypeAlias = Callable[[State, State], State]
"""Returns what the replica of the first state holds once it has taken the second's."""


@dataclass(slots=True)
class Wire:
    """The join of real replicas over real frames, and what crossed meanwhile."""

    traffic: Traffic = field(default_factory=Traffic)

    def __call__(self, ours: State, theirs: State) -> State:
        """Return `ours` joined with `theirs`."""
        receiver, sender = opened(ours), opened(theirs)
        push(sender, receiver, ours.space, self.traffic)
        return saved(receiver, ours.space)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one state holds and comes to, in a form that compares by bytes."""

    records: tuple[tuple[bytes, bytes], ...]
    root: bytes
    visible: frozenset[bytes]
    model: Merged | None


@dataclass(slots=True)
class Audit:
    """The laws of one strategy under one join; `failed` says by law what does not hold."""

    apart: Parted
    join: Join
    failed: dict[str, str] = field(default_factory=dict)
    comparisons: int = 0

    def run(self, orders: int) -> dict[str, bool]:
        """Return which laws hold; convergence is tried in so many of the six orders."""
        checks: tuple[Callable[[], str], ...] = (
            self._commutes,
            self._associates,
            self._is_idempotent,
            lambda: self._converges(orders),
        )
        for law, check in zip(LAWS, checks, strict=True):
            try:
                problem = check()
            except CrdtMergeError as e:
                problem = f"{type(e).__name__}: {e}"
            if problem:
                self.failed[law] = problem
        return {law: law not in self.failed for law in LAWS}

    def _commutes(self) -> str:
        x, y, z = self.apart.states
        pairs = ((x, y), (y, z), (z, x))
        found = (self._differ(self.join(a, b), self.join(b, a)) for a, b in pairs)
        return next(filter(None, found), "")

    def _associates(self) -> str:
        x, y, z = self.apart.states
        left = self.join(self.join(x, y), z)
        return self._differ(left, self.join(x, self.join(y, z)))

    def _is_idempotent(self) -> str:
        for state in self.apart.states:
            if problem := self._differ(self.join(state, state), state):
                return problem
        return ""

    def _converges(self, orders: int) -> str:
        """Let replicas take from one another in some orders; look at each at the end."""
        every: list[Seen] = []
        for first, second, third in list(permutations(self.apart.states))[:orders]:
            all_of_it = self.join(self.join(first, second), third)
            later = self.join(second, all_of_it)
            last = self.join(third, later)
            every += [self._seen(state) for state in (all_of_it, later, last)]
        expected = self._oracle()
        for found in every:
            self.comparisons += 1
            if problem := _difference(found, expected):
                return problem
            if found.visible != self.apart.expected:
                return "other contributions count than those that should"
        return ""

    def _oracle(self) -> Seen:
        """Return the union of the three states as bytes, with no join."""
        states = self.apart.states
        records = {(r.data, r.signature): r for s in states for r in s.records}
        blobs = {blob: data for s in states for blob, data in s.blobs}
        union = State(
            "oracle",
            self.apart.space,
            tuple(records[key] for key in sorted(records, reverse=True)),
            tuple(sorted(blobs.items())),
        )
        return self._seen(union)

    def _differ(self, one: State, other: State) -> str:
        self.comparisons += 1
        return _difference(self._seen(one), self._seen(other))

    def _seen(self, state: State) -> Seen:
        """Return what a replica made anew of the bytes of a state says and resolves."""
        peer, space = opened(state), self.apart.space
        view = peer.spaces.view(space)
        return Seen(
            tuple(sorted((r.data, r.signature) for r in state.records)),
            peer.spaces.opset(space).root,
            frozenset(visible.content for visible in view.visible),
            merge(peer.spaces, space, self.apart.base),
        )


def _difference(one: Seen, other: Seen) -> str:
    if one.records != other.records or one.root != other.root:
        return f"{len(one.records)} records here, {len(other.records)} there"
    if one.visible != other.visible:
        return "other contributions count"
    return "" if one.model == other.model else "other bytes of the merged model"


def audit(choice: Choice, join: Join, orders: int = 6) -> Audit:
    """Return the laws of one strategy, audited."""
    found = Audit(parted(choice.recipe(MODELS)), join)
    found.run(orders)
    return found
