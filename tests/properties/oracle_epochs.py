"""The naive evaluator's cellar: which facts are dead, and what is left to know of them.

Owns a second reading of epochs (docs/adr/0049): every list is looked through for every
fact. Shares no code with `policy`. Slow on purpose.
"""

from collections import Counter
from typing import Any

from tests.properties.oracle_standing import Fact

Place = tuple[bytes, int, bytes, bytes]


def waiting_epochs(facts: dict[bytes, Fact]) -> dict[bytes, set[bytes]]:
    """Return the epochs that too few owners signed, and who did."""
    needed = _rules(_genesis(facts))[0]
    return {
        f.id: _signers(f, facts)
        for f in facts.values()
        if f.kind == "epoch" and len(_signers(f, facts)) < needed
    }


def without_dead(
    facts: dict[bytes, Fact],
) -> tuple[dict[bytes, Fact], dict[bytes, Fact]]:
    """Return the living facts, and a shadow of each that is listed and is none of them."""
    waiting = waiting_epochs(facts)
    lists = [
        line
        for f in facts.values()
        if f.kind == "epoch" and f.id not in waiting
        for line in _lines(f.body)
    ]
    owners = _genesis(facts).body[3]
    dead = {
        f.id
        for f in facts.values()
        if f.kind in {"add", "remove", "recipe", "node"}
        and f.author not in owners
        and _rank(f, facts) < 3
        and (f.id, (f.author, f.seq, f.prev, f.auth)) in lists
    }
    alive = {name: f for name, f in facts.items() if name not in dead}
    shadows: dict[bytes, Fact] = {}
    said = Counter(name for name, _ in set(lists))
    for name, place in lists:
        if name not in alive and said[name] == 1:
            author, number, prev, auth = place
            shadows[name] = Fact(name, author, number, prev, auth, "shadow", None)
    return alive, shadows


def _lines(body: Any) -> list[tuple[bytes, Place]]:
    """Return each listed id with what is said of it."""
    lines: list[tuple[bytes, Place]] = []
    for author, auth, runs in body:
        for number, before, ids in runs:
            prev, seq = before, number
            for at in range(0, len(ids), 32):
                name = ids[at : at + 32]
                lines.append((name, (author, seq, prev, auth)))
                prev, seq = name, seq + 1
    return lines


def _signers(epoch: Fact, facts: dict[bytes, Fact]) -> set[bytes]:
    """Return the owners of genesis that the signatures go back to."""
    approvals = [f for f in facts.values() if f.kind == "approve"]
    signed = [epoch, *(f for f in approvals if f.body == [epoch.id])]
    return {_first(f, facts) for f in signed}


def _first(fact: Fact, facts: dict[bytes, Fact]) -> bytes:
    above = facts[fact.auth]
    return fact.author if above.kind == "genesis" else _first(above, facts)


def _rank(fact: Fact, facts: dict[bytes, Fact]) -> int:
    above = facts[fact.auth]
    if above.kind == "grant":
        return int(above.body[1])
    if above.kind == "successor":
        return _rank(above, facts)
    return 3 if fact.author in above.body[3] else 1


def _genesis(facts: dict[bytes, Fact]) -> Fact:
    return next(f for f in facts.values() if f.kind == "genesis")


def _rules(genesis: Fact) -> tuple[int, int]:
    threshold, quarantine = (genesis.body[5:] or [[1, 0]])[0]
    return threshold, quarantine
