"""The address book: which addresses of which nodes have worked, and how lately.

Owns the evidence of our own dials, its order and its decay. Does not own where addresses
come from (node records, tickets, the user, peers), nor the disk. What peers say is no
evidence: it enters the book once we tried it.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

ROWS_MAX: Final = 4096
"""Addresses that the book holds, of all nodes."""
ROWS_OF_NODE_MAX: Final = 16
"""Addresses of one node that the book holds."""
FEW: Final = 8
"""Up to so many addresses of a node are tried in the order that they came in."""
TIRED: Final = 3
"""Failures in a row after which an address that worked once is no better than others."""
LATELY_S: Final = 24 * 3600.0
"""Who worked within this time is known to be there."""
NEVER_S: Final = 3600.0
"""After so long what never worked is forgotten, and may be tried as if it were new."""
OLD_S: Final = 30 * 24 * 3600.0
"""After so long without a success an address is forgotten."""


@dataclass(slots=True)
class Tried:
    """What came of one address of one node; times in seconds of the caller's clock."""

    successes: int = 0
    failures: int = 0
    """Failures since the last success."""
    worked_at: float | None = None
    tried_at: float = 0.0
    local: bool = False
    """Whether it was found on the local network: others have no use for it."""


Place = tuple[bytes, str]
"""A node, and one of its addresses."""


class Book:
    """What we know of addresses by trying them."""

    def __init__(self) -> None:
        """Begin with no evidence."""
        self._rows: dict[bytes, dict[str, Tried]] = {}
        self._count = 0
        self._changed: set[Place] = set()

    def load(self, rows: Iterable[tuple[Place, Tried]]) -> None:
        """Take up what was kept, up to the limits."""
        for (node, address), tried in rows:
            self._rows.setdefault(node, {})[address] = tried
        self._count = sum(map(len, self._rows.values()))
        self._bound()
        self._changed.clear()

    def worked(
        self, node: bytes, address: str, now: float, *, local: bool = False
    ) -> None:
        """Note that `node` answered at `address`, and proved its key there."""
        tried = self._row(node, address)
        tried.successes += 1
        tried.failures, tried.worked_at, tried.tried_at = 0, now, now
        tried.local = local
        self._bound()

    def failed(self, node: bytes, address: str, now: float) -> None:
        """Note that `node` was not found at `address`."""
        tried = self._row(node, address)
        tried.failures, tried.tried_at = tried.failures + 1, now
        self._bound()

    def of(self, node: bytes) -> dict[str, Tried]:
        """Return what is known of the addresses of `node`."""
        return dict(self._rows.get(node, {}))

    def order(
        self, node: bytes, addresses: Iterable[str], rng: random.Random
    ) -> list[str]:
        """Return `addresses`, best first: what worked last, the untried, the failing.

        Among equals the order stays; where there are many it is drawn, so that a claim of
        many that lead nowhere hides none for long.
        """
        rows = self._rows.get(node, {})

        def rank(address: str) -> tuple[int, float]:
            tried = rows.get(address)
            if tried is None:
                return 1, 0.0
            if tried.worked_at is not None and tried.failures < TIRED:
                return 0, -tried.worked_at
            return 2, float(tried.failures)

        known = list(dict.fromkeys(addresses))
        if len(known) > FEW:
            rng.shuffle(known)
        return sorted(known, key=rank)

    def age(self, node: bytes, now: float) -> float | None:
        """Return how many seconds ago `node` last answered.

        None if it did not lately, or has not been found since where it was.
        """
        times = [
            tried.worked_at
            for tried in self._rows.get(node, {}).values()
            if tried.worked_at is not None and tried.failures == 0
        ]
        age = now - max(times) if times else LATELY_S
        return max(0.0, age) if age < LATELY_S else None

    def shareable(self, node: bytes, now: float) -> list[str]:
        """Return the addresses of `node` that worked lately, not on our network alone."""
        rows = self._rows.get(node, {})
        good = [
            (-tried.worked_at, address)
            for address, tried in rows.items()
            if tried.worked_at is not None
            and tried.failures == 0
            and now - tried.worked_at < LATELY_S
            and not tried.local
        ]
        return [address for _, address in sorted(good)]

    def lately(self, now: float) -> list[bytes]:
        """Return the nodes that answered lately, sorted."""
        return sorted(node for node in self._rows if self.age(node, now) is not None)

    def decay(self, members: Iterable[bytes], now: float) -> None:
        """Forget who is no member, what never worked, and what did long ago."""
        kept = frozenset(members)
        for node in sorted(self._rows):
            for address, tried in sorted(self._rows[node].items()):
                since = tried.tried_at if tried.worked_at is None else tried.worked_at
                limit = NEVER_S if tried.worked_at is None else OLD_S
                if node not in kept or now - since > limit:
                    self._forget(node, address)

    def take_changes(self) -> list[tuple[Place, Tried | None]]:
        """Return what changed since this was last asked; None stands for what is gone."""
        changed, self._changed = sorted(self._changed), set()
        return [(place, self._found(place)) for place in changed]

    def _found(self, place: Place) -> Tried | None:
        return self._rows.get(place[0], {}).get(place[1])

    def _row(self, node: bytes, address: str) -> Tried:
        self._changed.add((node, address))
        rows = self._rows.setdefault(node, {})
        if address not in rows and len(rows) >= ROWS_OF_NODE_MAX:
            self._forget(node, min(rows, key=lambda a: (_worth(rows[a]), a)))
        rows = self._rows.setdefault(node, {})  # it went, if that was its last
        if address not in rows:
            rows[address] = Tried()
            self._count += 1
        return rows[address]

    def _bound(self) -> None:
        """Forget the least useful rows above the limit, some at once."""
        if self._count <= ROWS_MAX:
            return
        places = [(n, a) for n, rows in self._rows.items() for a in rows]
        places.sort(key=lambda p: (_worth(self._rows[p[0]][p[1]]), p))
        for node, address in places[: len(places) - ROWS_MAX * 7 // 8]:
            self._forget(node, address)

    def _forget(self, node: bytes, address: str) -> None:
        self._changed.add((node, address))
        del self._rows[node][address]
        self._count -= 1
        if not self._rows[node]:
            del self._rows[node]


def _worth(tried: Tried) -> tuple[bool, float]:
    """Return what decides which rows go first: those that never worked."""
    if tried.worked_at is None:
        return False, tried.tried_at
    return True, tried.worked_at
