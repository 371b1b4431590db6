"""A rateless invertible Bloom lookup table (Yang, Gilad, Alizadeh: SIGCOMM 2024).

Owns the coded symbols, written from the paper, and their exchange: one side streams
symbols, the other takes its own from them and peels until the first is empty. What is coded
is a clue of 8 bytes of each id (SipHash-2-4 under the key of the session), with a checksum
of 4 and a count. The key is new in each session, or ids that collide could be made: so each
session passes over all ids, which come from the trie that holds them.

It is counted in its favour: symbols that are under way when the other side has enough are
left out, both sides make theirs at the same time, and compiling is not counted.
"""

from typing import Any, Final

import numba
import numpy as np

from crdtmerge.trie import Trie

from .counting import Cost
from .pairs import Pair

SYMBOL_BYTES: Final = 8 + 4 + 2
"""Sum, checksum, count."""
FIRST: Final = 32
"""Symbols of the first part; each further one is an eighth more of all."""
ASKING_BYTES: Final = 60
"""A question, or an end, with space, key and number."""
KEY: Final = (0x0123456789ABCDEF, 0xFEDCBA9876543210)

_U = np.uint64


@numba.njit  # type: ignore[untyped-decorator]  # numba is half typed
def clues_of(words: Any, k0: Any, k1: Any) -> Any:
    """Return SipHash-2-4 of each row of four words."""
    out = np.empty(len(words), np.uint64)
    for row in range(len(words)):
        v0, v1 = k0 ^ _U(0x736F6D6570736575), k1 ^ _U(0x646F72616E646F6D)
        v2, v3 = k0 ^ _U(0x6C7967656E657261), k1 ^ _U(0x7465646279746573)
        for step in range(6):
            word = _U(32) << _U(56)
            if step < 4:
                word = words[row, step]
            rounds = 2
            if step < 5:
                v3 ^= word
            else:
                v2 ^= _U(0xFF)
                rounds = 4
            for _ in range(rounds):
                v0 += v1
                v1 = (v1 << _U(13)) | (v1 >> _U(51))
                v1 ^= v0
                v0 = (v0 << _U(32)) | (v0 >> _U(32))
                v2 += v3
                v3 = (v3 << _U(16)) | (v3 >> _U(48))
                v3 ^= v2
                v0 += v3
                v3 = (v3 << _U(21)) | (v3 >> _U(43))
                v3 ^= v0
                v2 += v1
                v1 = (v1 << _U(17)) | (v1 >> _U(47))
                v1 ^= v2
                v2 = (v2 << _U(32)) | (v2 >> _U(32))
            if step < 5:
                v0 ^= word
        out[row] = v0 ^ v1 ^ v2 ^ v3
    return out


@numba.njit  # type: ignore[untyped-decorator]
def _mixed(value: Any) -> Any:
    value ^= value >> _U(30)
    value *= _U(0xBF58476D1CE4E5B9)
    value ^= value >> _U(27)
    value *= _U(0x94D049BB133111EB)
    return value ^ (value >> _U(31))


@numba.njit  # type: ignore[untyped-decorator]
def _next(place: Any, state: Any) -> Any:
    """Return the next symbol that holds an item: the i-th does with 1 in 1 + i/2."""
    drawn = (np.float64(state >> _U(11)) + 1.0) / 9007199254740993.0
    gap = np.ceil((np.float64(place) + 1.5) * (1.0 / np.sqrt(drawn) - 1.0))
    return place + max(np.int64(1), np.int64(min(gap, 1e15)))


@numba.njit  # type: ignore[untyped-decorator]
def _check_of(clue: Any) -> Any:
    return _mixed(clue + _U(0x9E3779B97F4A7C15)) & _U(0xFFFFFFFF)


@numba.njit  # type: ignore[untyped-decorator]
def _stepped(place: Any, state: Any) -> Any:
    state = _mixed(state + _U(0x9E3779B97F4A7C15))
    return _next(place, state), state


@numba.njit  # type: ignore[untyped-decorator]
def code(items: Any, symbols: Any, sign: int) -> None:
    """Add items to symbols, or take them out; each goes on from where it stands."""
    clues, signs, places, states = items
    sums, checks, counts = symbols
    for i in range(len(clues)):
        place, state = places[i], states[i]
        check = _check_of(clues[i])
        while place < len(counts):
            sums[place] ^= clues[i]
            checks[place] ^= check
            counts[place] += sign * signs[i]
            place, state = _stepped(place, state)
        places[i], states[i] = place, state


@numba.njit  # type: ignore[untyped-decorator]
def peel(items: Any, symbols: Any, known: int) -> int:
    """Take single items out of the symbols; return how many are known now."""
    clues, signs, places, states = items
    sums, checks, counts = symbols
    queue = np.empty(8 * len(counts), np.int64)
    head = tail = 0
    for place in range(len(counts)):
        if abs(counts[place]) == 1:
            queue[tail] = place
            tail += 1
    while head < tail:
        place = queue[head]
        head += 1
        clue, sign = sums[place], counts[place]
        if abs(sign) != 1 or _check_of(clue) != checks[place]:
            continue
        if known == len(clues):
            return known
        clues[known], signs[known] = clue, sign
        at, state = np.int64(0), clue
        while at < len(counts):
            sums[at] ^= clue
            checks[at] ^= _check_of(clue)
            counts[at] -= sign
            if abs(counts[at]) == 1 and tail < len(queue):
                queue[tail] = at
                tail += 1
            at, state = _stepped(at, state)
        places[known], states[known] = at, state
        known += 1
    return known


class Items:
    """Clues, on which side each is, and where in the stream each goes on."""

    def __init__(self, clues: Any) -> None:
        """Start at the first symbol, which holds every item."""
        self.clues, self.signs = clues, np.ones(len(clues), np.int64)
        self.places, self.states = np.zeros(len(clues), np.int64), clues.copy()

    def first(self, count: int) -> Any:
        """Return the first items, as the loops take them."""
        fields = (self.clues, self.signs, self.places, self.states)
        return tuple(values[:count] for values in fields)


class Symbols:
    """A stream of coded symbols: sums, checksums, counts."""

    def __init__(self) -> None:
        """Begin with none."""
        self.sums, self.checks = np.zeros(0, np.uint64), np.zeros(0, np.uint64)
        self.counts = np.zeros(0, np.int64)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.counts)

    @property
    def fields(self) -> Any:
        """The symbols, as the loops take them."""
        return self.sums, self.checks, self.counts

    def extend(self, sums: Any, checks: Any, counts: Any) -> None:
        """Put further symbols behind."""
        self.sums = np.concatenate([self.sums, sums])
        self.checks = np.concatenate([self.checks, checks])
        self.counts = np.concatenate([self.counts, counts])

    def empty(self, count: int) -> None:
        """Put empty symbols behind."""
        none = np.zeros(count, np.uint64)
        self.extend(none, none, np.zeros(count, np.int64))


class Coder:
    """One side: its ids, and as many symbols as were asked for so far."""

    def __init__(self, trie: Trie, cost: Cost) -> None:
        """Pass over all ids."""
        with cost.working("gather"):
            self.ids = np.frombuffer(b"".join(trie), np.uint8).reshape(-1, 32)
        with cost.working("hash"):
            clues = clues_of(self.ids.view(np.uint64), *map(_U, KEY))
            self.items, self.symbols = Items(clues), Symbols()

    def extend(self, count: int) -> None:
        """Make further symbols."""
        self.symbols.empty(count)
        code(self.items.first(len(self.ids)), self.symbols.fields, 1)


class Decoder:
    """Who takes one stream from the other, and single items out of what is left."""

    def __init__(self, room: int) -> None:
        """Make room for so many items."""
        self.items, self.left, self.known = (
            Items(np.zeros(room, np.uint64)),
            Symbols(),
            0,
        )

    def take(self, theirs: Symbols, ours: Symbols) -> None:
        """Take the symbols that were made since."""
        start = len(self.left)
        self.left.extend(
            theirs.sums[start:] ^ ours.sums[start:],
            theirs.checks[start:] ^ ours.checks[start:],
            theirs.counts[start:] - ours.counts[start:],
        )
        # What is known already is in the new symbols too.
        code(self.items.first(self.known), self.left.fields, -1)
        self.known = peel(
            self.items.first(len(self.items.clues)), self.left.fields, self.known
        )

    @property
    def done(self) -> bool:
        """Whether all differences are known: then the first symbol is empty."""
        return bool(len(self.left)) and not any(int(f[0]) for f in self.left.fields)

    def of(self, sign: int) -> Any:
        """Return the clues that one side has alone."""
        clues, signs, *_ = self.items.first(self.known)
        return clues[signs == sign]


def reconcile(pair: Pair) -> Cost:
    """Stream symbols until who asks knows both differences."""
    cost = Cost()
    theirs, ours = Coder(pair.theirs, cost), Coder(pair.ours, cost)
    decoder = Decoder(2 * pair.differences + 1024)
    while not decoder.done:
        more = max(FIRST, len(decoder.left) // 8)
        with cost.working("code"):
            theirs.extend(more)
            ours.extend(more)
        with cost.working("peel"):
            decoder.take(theirs.symbols, ours.symbols)
    cost.parallel_s = (cost.cpu_s - cost.parts["peel"]) / 2
    cost.sizes = [ASKING_BYTES, len(decoder.left) * SYMBOL_BYTES]
    lacks = theirs.ids[np.isin(theirs.items.clues, decoder.of(1))]
    alone = ours.ids[np.isin(ours.items.clues, decoder.of(-1))]
    if {*map(bytes, lacks)} != pair.we_lack or {*map(bytes, alone)} != pair.they_lack:
        raise SystemExit("the symbols did not lead to the difference")
    return cost
