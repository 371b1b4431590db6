"""The set in memory: join, root and seed, as multiples of what the machine cannot avoid.

    python benchmarks/set.py [--count 1000] [--rounds 200] [--json OUT]

Signatures are checked before, as in a node, which checks each once when it arrives. A root
is computed when it is asked for, so a join does not pay for it; `join and root` does. The
floor of each figure is measured in the same run: the union of two plain dicts of the same
keys and values, or one pass of the hash over the same digests. Quote medians.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from crdtmerge.bodies import Add, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId, ContentId, Domain, digest
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import Visible
from crdtmerge.record import SignedRecord, make_record, sign_record
from crdtmerge.replica import found_space
from crdtmerge.resolve.plan import tensor_seed
from crdtmerge.strategies import make_recipe
from crdtmerge.trie import Trie

AUTHORS = 10
RESOLVED = 100
"""Contributions of a resolve, as in the paper's figure for sort, root and seed."""


def key_of(number: int) -> SigningKey:
    """Return the key of an author."""
    return SigningKey(digest(Domain.SEED, b"author %d" % number))


def make_records(count: int) -> tuple[SignedRecord, list[SignedRecord]]:
    """Return the genesis of an open space, and `count` contributions of ten authors."""
    genesis = found_space(
        key_of(0), name="set", mode="open", base=ContentId(bytes(32)), nonce=bytes(16)
    )
    space = genesis.record.id
    last = dict.fromkeys(range(AUTHORS), (0, space))
    records = []
    for number in range(count):
        author = number % AUTHORS
        seq, prev = last[author]
        content = digest(Domain.CONTENT, number.to_bytes(8, "little"))
        body = Add(
            content=ContentId(content),
            content_bytes=1 << 30,
            manifest=BlobId(content[::-1]),
            manifest_bytes=1 << 16,
            weight=DECIMAL_UNIT,
            evidence=b"",
            note="",
        )
        record = make_record(
            space=space,
            author=key_of(author).public,
            author_seq=seq + 1,
            prev=prev,
            auth=space,
            body=body,
        )
        last[author] = (seq + 1, record.id)
        records.append(sign_record(record, key_of(author)))
    return genesis, records


def median(
    work: Callable[[], object], rounds: int, prepare: Callable[[], object] | None = None
) -> float:
    """Return the median seconds of `work`; `prepare` runs before each, unmeasured."""
    spans = []
    for _ in range(rounds):
        if prepare:
            prepare()
        began = time.perf_counter()
        work()
        spans.append(time.perf_counter() - began)
    return statistics.median(spans)


def joins(count: int, rounds: int) -> dict[str, tuple[float, float, float]]:
    """Measure joins of two sets of `count` contributions: (seconds, floor, goal)."""
    genesis, records = make_records(2 * count)
    empty = OpSet(SpaceId(genesis.record.id)).insert([genesis])
    left = empty.insert(records[:count])
    cases = {
        "disjoint": empty.insert(records[count:]),
        "half in common": empty.insert(records[count // 2 : count + count // 2]),
        "the same": empty.insert(records[:count]),
    }
    _ = left.root
    figures = {}
    for name, right in cases.items():
        _ = right.root
        floor = median(lambda r=right: {**left.signed, **r.signed}, rounds)  # type: ignore[misc]
        span = median(lambda r=right: left.join(r), rounds)  # type: ignore[misc]
        figures[f"join, {name}"] = (span, floor, 1e-3)
        rooted = median(lambda r=right: left.join(r).root, rounds)  # type: ignore[misc]
        figures[f"join and root, {name}"] = (rooted, floor, 0.0)
    fresh = records[count : 2 * count]
    floor = median(lambda: {s.record.id: s for s in fresh}, rounds)
    span = median(lambda: left.insert(fresh), rounds)
    figures[f"insert of {count}, admission checked"] = (span, floor, 0.0)
    one = records[count : count + 1]
    floor = median(lambda: dict(left.signed), rounds)
    span = median(lambda: left.insert(one).root, rounds)
    figures["insert of one, and the root"] = (span, floor, 1e-4)
    return figures


def resolving(rounds: int) -> dict[str, tuple[float, float, float]]:
    """Measure what resolve does before tensors: sort, visible root, seed."""
    recipe = make_recipe("dare_ties", {})
    visible = [
        Visible(
            content=ContentId(digest(Domain.CONTENT, number.to_bytes(8, "little"))),
            weight=DECIMAL_UNIT,
            evidence=b"",
            adds=(),
            authors=(),
            manifests=(),
            notes=(),
        )
        for number in range(RESOLVED)
    ]
    random.Random(0).shuffle(visible)

    def work() -> tuple[bytes, bytes]:
        ordered = sorted(visible, key=lambda item: item.content)
        root = Trie.build(item.leaf for item in ordered).root
        return root, tensor_seed(recipe, "weight", [v.content for v in ordered])

    joined = b"".join(sorted(item.content for item in visible))
    floor = median(lambda: digest(Domain.VISIBLE, joined), rounds)
    name = f"sort, visible root and seed of {RESOLVED}"
    return {name: (median(work, rounds), floor, 5e-4)}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures = {**joins(given.count, given.rounds), **resolving(given.rounds)}
    print(f"{'':44}{'median':>10}{'goal':>10}{'floor':>10}{'ratio':>8}")
    for name, (span, floor, goal) in figures.items():
        wanted = f"{goal * 1e3:.3f} ms" if goal else "-"
        print(
            f"{name:44}{span * 1e3:7.3f} ms{wanted:>10}{floor * 1e3:7.3f} ms"
            f"{span / floor:8.1f}"
        )
    if given.json:
        named = {
            name: {"seconds": span, "floor_seconds": floor, "goal_seconds": goal}
            for name, (span, floor, goal) in figures.items()
        }
        given.json.write_text(json.dumps(named, indent=2) + "\n")


if __name__ == "__main__":
    main()
